"""Figure 1: samples in the plane, their experts and the predicted classes during training."""

import numpy as np
from sklearn.base import clone
from sklearn.manifold import TSNE

from ...inspection import DecisionRegionDisplay, expert_colors
from ...metrics import dispatch_entropy
from .._experiment import Experiment, Finding
from .._run import one_thread
from .models import ACTIVATION, mixture, problem

__all__ = ["fig1"]

_N_EXPERTS = 4
_COLORS = np.array([0, 1, 3, 7])  # of expert_colors: crosses are thin, the first four too alike
_STEPS = (1, 61, 501)  # the second is the authors' middle moment
_SHOWN = 800  # training samples in the picture
_SPECIALIZED = 0.1  # nats: nearly every cluster has experts of its own


def fig1(protocol="code", data="fixed"):
    """Return four experts on the data of the visualization, at three moments of training."""
    return Experiment(
        name="fig1",
        title="Figure 1: what the experts specialize in",
        question=(
            "How does a mixture of four experts divide four clusters, at the start, in the middle "
            "and at the end of training? Training from the same seed takes the same path: fewer "
            "steps are an earlier moment. The picture shows the run whose nonlinear mixture ends "
            "with the lowest entropy, and the linear mixture of the same seed. Color is the "
            "expert, marker the class, background the predicted class. It is a t-SNE "
            "embedding of 800 training samples with the patches of each put in order (feature, "
            "center, noise, feature noise), as in the authors' notebook: models get them shuffled."
        ),
        problems=(problem("visualization", data, n_train=1600, n_test=1600),),
        models={
            f"mixture {activation}": mixture(protocol, nonlinear, n_experts=_N_EXPERTS)
            for nonlinear, activation in ACTIVATION.items()
        },
        grid={"max_iter": list(_STEPS)},
        max_runs=10,
        draw=_draw,
        findings=_findings,
    )


def _last(results, model):
    """Return the cell of a mixture at the end of training."""
    return results.cell(model=model, max_iter=results.experiment.grid["max_iter"][-1])


def _draw(results):
    from matplotlib.figure import Figure

    experiment = results.experiment
    entropies = _last(results, "mixture cubic").values("entropy")
    seed = int(_last(results, "mixture cubic").values("seed")[entropies.argmin()])
    runs = [cell.runs[0] for cell in experiment.cells(1, seed, device="cpu")]
    samples = runs[0].problem.draw(runs[0].seed)
    points = _embed(samples, min(_SHOWN, runs[0].problem.n_train))
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(len(experiment.models), len(experiment.grid["max_iter"]), squeeze=False)
    for ax, run in zip(axes.flat, runs, strict=True):
        _draw_moment(run, samples, points, ax)
    for ax in axes[-1]:
        ax.set_xlabel("t-SNE 1")
    for ax in axes[:, 0]:
        ax.set_ylabel("t-SNE 2")
    _explain(figure, np.unique(samples.y))
    return figure


def _draw_moment(run, samples, points, ax):
    """Fit once more, as results hold numbers only, and draw the first training samples."""
    X, y, clusters = (part[: run.problem.n_train] for part in samples[:3])
    with one_thread():
        model = clone(run.estimator).set_params(random_state=run.seed).fit(X, y)
        experts, predicted, shown = model.apply(X), model.predict(X), slice(len(points))
    DecisionRegionDisplay.from_predictions(
        points, y[shown], _COLORS[experts[shown]], predicted[shown], ax=ax, scatter_kw={"s": 14}
    )
    for legend in (*ax.artists, ax.get_legend()):  # one for the figure will do
        legend.remove()
    entropy, accuracy = dispatch_entropy(clusters, experts), np.mean(predicted == y)
    name = "linear" if run.estimator.activation == "linear" else "nonlinear"
    ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    ax.set_title(
        f"{name.capitalize()}, step {model.n_iter_}\n"
        f"entropy {entropy:.2f}, training accuracy {100 * accuracy:.1f} %",
        fontsize="medium",
    )


def _explain(figure, classes):
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colors = expert_colors(max(_COLORS) + 1)[_COLORS]
    entries = [("o", color, f"expert {m}") for m, color in enumerate(colors)]
    # The markers that DecisionRegionDisplay gives to two classes.
    entries += [(m, "0.3", f"class {label}") for m, label in zip("ox", classes, strict=True)]
    handles = [
        Line2D([], [], marker=marker, linestyle="none", color=color, label=label)
        for marker, color, label in entries
    ]
    handles += [
        Patch(facecolor=face, edgecolor="0.5", label=f"predicted class {label}")
        for face, label in zip(("white", "0.85"), classes, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _embed(samples, n_shown):
    """Return t-SNE points of the first samples, the patches of each in one order."""
    X, clusters = samples.X[:n_shown], samples.clusters[:n_shown]
    patches = np.take_along_axis(X, _order(X, clusters, samples.dictionary)[..., None], axis=1)
    perplexity = min(30, (n_shown - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
    return tsne.fit_transform(patches.reshape(n_shown, -1))


def _order(X, clusters, dictionary):
    """Return which patch is the feature, the center, the noise and the feature noise."""
    features, centers = (np.abs(X @ vectors.T) for vectors in dictionary)  # (n, P, K)
    own, center = (
        np.take_along_axis(products, clusters[:, None, None], axis=2)[..., 0]
        for products in (features, centers)
    )
    others = features.sum(2) - own
    noise = -(features + centers).sum(2)  # orthogonal to the dictionary
    return np.stack([own, center, noise, others], axis=1).argmax(2)


def _findings(results):
    """Yield how far the mixtures are specialized in the end."""
    linear, cubic = (_last(results, f"mixture {activation}") for activation in ACTIVATION.values())
    gap = linear.interval("entropy", minus=cubic.values("entropy"))  # paired by seed
    yield Finding(
        "At the end the nonlinear mixture is more specialized than the linear one: entropy "
        f"{cubic.summary('entropy').mean:.3f} against {linear.summary('entropy').mean:.3f}, a "
        f"difference of {gap.mean:.3f} ({gap.text(3)}).",
        gap.above(0),
    )
    values = cubic.values("entropy")
    yield Finding(
        f"{(values < _SPECIALIZED).sum()} of {len(values)} nonlinear runs end below an entropy of "
        f"{_SPECIALIZED}: four experts for four clusters have none to spare."
    )
    yield Finding(
        f"Test accuracy at the end: nonlinear {cubic.summary('accuracy').mean:.2f} %, linear "
        f"{linear.summary('accuracy').mean:.2f} %."
    )
