"""Setting 1 in two minutes: single experts and mixtures, beside the paper's numbers."""

from .._artificial_runs import DispatchRun
from .._experiment import Experiment
from .._protocols import paper_classifier
from .._published import TABLE_1
from .common import asked, default, problems
from .drawing import draw_dispatch, panels


def demo(protocol="code", data="fixed"):
    """Return single experts and mixtures on setting 1, one run each.

    What do single experts and mixtures learn, as published and by this library's defaults? The
    figure shows which experts of the default mixtures get the test samples of which cluster.
    """
    models, published = {}, {}
    for nonlinear, kind in ((False, "linear"), (True, "nonlinear")):
        own = {
            f"single {kind}": paper_classifier(protocol, nonlinear, 1),
            f"mixture {kind}, as published": paper_classifier(protocol, nonlinear),
            f"mixture {kind}, our default": default(nonlinear),
        }
        models |= own
        published |= {(1, name): TABLE_1[1, name.split()[0], nonlinear] for name in own}
    return Experiment(
        name="demo",
        title="Setting 1, one run of each",
        question=asked(demo),
        problems=problems((1,), data),
        models=models,
        once=tuple(models),
        published=published,
        run=DispatchRun,
        draw=_draw,
    )


def _draw(results):
    figure, axes = panels(1, 2, (10, 3.6))
    for ax, kind in zip(axes[0], ("linear", "nonlinear"), strict=True):
        cell = results.cell(model=f"mixture {kind}, our default")
        draw_dispatch(ax, cell)
        entropy = cell.mean("test_entropy")
        ax.set_title(f"{kind.capitalize()} experts, dispatch entropy {entropy:.3f}")
    figure.colorbar(ax.images[0], ax=axes, label="Share of the cluster")
    return figure
