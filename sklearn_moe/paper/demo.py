"""Setting 1 in one minute: single experts and mixtures, beside the paper's numbers."""

from pathlib import Path
from time import perf_counter

from joblib import Parallel, delayed

from .._classifier import MoEClassifier
from .._compat import progress_bar
from ..datasets import PAPER_SETTINGS, make_cluster_patches
from ..inspection import RoutingDisplay
from ..metrics import dispatch_entropy
from ._command import positive, require_extra, require_folder
from ._protocols import paper_classifier
from ._published import TABLE_1

__all__ = ["add_arguments", "run_command", "run_demo"]

_HEADER = (
    f"{'setting 1, one run of each':32}{'accuracy %':>11}{'paper':>14}"
    f"{'entropy':>10}{'paper':>14}{'fit s':>8}"
)


def add_arguments(parser):
    """Add the options of `demo` to a parser."""
    parser.add_argument("--image", type=Path, default=Path("routing.png"), help="PNG to write")
    parser.add_argument(
        "--n-samples", type=positive, default=16_000, help="to train on, and to test on"
    )
    parser.add_argument("--seed", type=int, default=0)


def run_command(options):
    """Run the demo with the options of the command line."""
    require_extra("plot")
    require_folder(options.image.parent)
    run_demo(options.image, n_samples=options.n_samples, seed=options.seed)


def _models(seed):
    """Yield (name, key of the published number, estimator)."""
    options = {"random_state": seed}
    for nonlinear, kind in ((False, "linear"), (True, "nonlinear")):
        single, mixture = (1, "single", nonlinear), (1, "mixture", nonlinear)
        code, default = f"mixture {kind}, as published", f"mixture {kind}, our default"
        yield f"single {kind}", single, paper_classifier("code", nonlinear, 1, **options)
        yield code, mixture, paper_classifier("code", nonlinear, **options)
        activation = "cubic" if nonlinear else "linear"
        yield default, mixture, MoEClassifier(activation=activation, **options)


def run_demo(image, *, n_samples=16_000, seed=0, progress=True):
    """Fit single experts and mixtures on setting 1, print a table and draw the routing.

    Each core fits one model at a time, with one thread.

    Parameters
    ----------
    image : path-like
        PNG to write: cluster x expert shares of the default mixtures of linear and of nonlinear
        experts, side by side.
    n_samples : int, default=16_000
        Samples to train on, and as many to test on.
    seed : int, default=0
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    rows : list of dict
        Model, accuracy (%), entropy, seconds and the published result of each line.
    """
    X, y, clusters = make_cluster_patches(
        2 * n_samples, random_state=seed, return_clusters=True, **PAPER_SETTINGS[1]
    )
    X_train, X_test = X[:n_samples], X[n_samples:]
    y_train, y_test, clusters = y[:n_samples], y[n_samples:], clusters[n_samples:]
    names, keys, models = zip(*_models(seed), strict=True)
    rows, fitted = [], {}
    print(_HEADER)
    bar = progress_bar(total=len(models), unit="model", disable=not progress)
    with bar, Parallel(n_jobs=-1, return_as="generator") as parallel:
        fits = parallel(delayed(_fit)(clf, X_train, y_train) for clf in models)
        for name, key, (clf, seconds) in zip(names, keys, fits, strict=True):
            routes = clf.n_experts > 1
            row = {"model": name, "accuracy": 100 * clf.score(X_test, y_test), "seconds": seconds}
            row["entropy"] = dispatch_entropy(clusters, clf.apply(X_test)) if routes else None
            rows.append(row | {"published": TABLE_1[key]})
            bar.write(_line(rows[-1]))
            bar.update()
            fitted[name] = clf
    _draw(fitted, X_test, clusters, image)
    print(f"Routing of the two default mixtures: {image}")
    return rows


def _fit(clf, X, y):
    """Return the fitted model and the seconds it took."""
    start = perf_counter()
    clf.fit(X, y)
    return clf, perf_counter() - start


def _line(row):
    published = row["published"]
    ours = "-" if row["entropy"] is None else f"{row['entropy']:.3f}"
    return (
        f"{row['model']:32}{row['accuracy']:11.2f}{_spread(published.value('accuracy'), 2):>14}"
        f"{ours:>10}{_spread(published.value('entropy'), 3):>14}{row['seconds']:8.1f}"
    )


def _spread(value, digits):
    if value is None:
        return "-"
    mean, std = value
    return f"{mean:.{digits}f}" if std is None else f"{mean:.{digits}f}+-{std:.{digits}f}"


def _draw(fitted, X, clusters, image):
    from matplotlib.figure import Figure

    # A figure of our own, not pyplot's: no window, no backend to choose.
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    figure.suptitle("Setting 1, our default: which expert is selected for which cluster")
    axes = figure.subplots(1, 2)
    for ax, kind in zip(axes, ("linear", "nonlinear"), strict=True):
        clf = fitted[f"mixture {kind}, our default"]
        display = RoutingDisplay.from_estimator(clf, X, clusters, ax=ax, colorbar=False)
        ax.set_title(f"{kind.capitalize()} experts, dispatch entropy {display.entropy:.3f}")
    figure.colorbar(display.im_, ax=axes, label="Share of the cluster")
    figure.savefig(image, dpi=150)
