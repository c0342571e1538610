"""Setting 1 in one minute: single experts and mixtures, beside the paper's numbers."""

from pathlib import Path
from tempfile import TemporaryDirectory

from ._artificial_runs import DemoRun
from ._command import positive, require_extra, require_folder
from ._experiment import Experiment
from ._protocols import paper_classifier
from ._published import TABLE_1
from ._run import Problem
from ._runner import run_experiment
from .experiments.common import default
from .experiments.drawing import draw_dispatch, panels

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


def _experiment(n_samples):
    models, published = {}, {}
    for nonlinear, kind in ((False, "linear"), (True, "nonlinear")):
        own = {
            f"single {kind}": paper_classifier("code", nonlinear, 1),
            f"mixture {kind}, as published": paper_classifier("code", nonlinear),
            f"mixture {kind}, our default": default(nonlinear),
        }
        models |= own
        published |= {(1, name): TABLE_1[1, name.split()[0], nonlinear] for name in own}
    problems = (Problem(1, n_samples, n_samples),)
    options = {"published": published, "run": DemoRun}
    return Experiment("demo", "Setting 1, one run of each", "", problems, models, **options)


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
    results : Results
        A run of each model.
    """
    options = {"runs": 1, "seed": seed, "jobs": -1, "progress": progress}
    with TemporaryDirectory() as folder:
        results = run_experiment(_experiment(n_samples), folder, **options)
    print(_HEADER, *map(_line, results.cells), sep="\n")
    figure, axes = panels(1, 2, (10, 3.6))
    figure.suptitle("Setting 1, our default: which expert is selected for which cluster")
    for ax, kind in zip(axes[0], ("linear", "nonlinear"), strict=True):
        cell = results.cell(model=f"mixture {kind}, our default")
        draw_dispatch(ax, cell)
        entropy = cell.mean("test_entropy")
        ax.set_title(f"{kind.capitalize()} experts, dispatch entropy {entropy:.3f}")
    figure.colorbar(ax.images[0], ax=axes, label="Share of the cluster")
    figure.savefig(image, dpi=150)
    print(f"Routing of the two default mixtures: {image}")
    return results


def _line(cell):
    (run,) = cell.runs
    ours = f"{run['test_entropy']:.3f}" if "test_entropy" in run else "-"
    accuracy, entropy = (
        _spread(cell.published.value(measure), digits)
        for measure, digits in (("accuracy", 2), ("entropy", 3))
    )
    return (
        f"{cell.labels['model']:32}{run['accuracy']:11.2f}{accuracy:>14}"
        f"{ours:>10}{entropy:>14}{run['fit_seconds']:8.1f}"
    )


def _spread(value, digits):
    if value is None:
        return "-"
    mean, std = value
    return f"{mean:.{digits}f}" if std is None else f"{mean:.{digits}f}+-{std:.{digits}f}"
