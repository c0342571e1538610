"""Setting 1 in two minutes: single experts and mixtures, beside the paper's numbers."""

from .._artificial_runs import DispatchRun
from .common import ACTIVATION, default, experiment, mixtures, problems, published_mixtures, single
from .drawing import draw_dispatch, panels


def demo(protocol="code", data="fixed"):
    """Return single experts and mixtures on setting 1, one run each.

    What do single experts and mixtures learn, as published and by this library's defaults? The
    figure shows which experts of the default mixtures get the test samples of which cluster.
    """
    models = {f"single {kind}": single(nonlinear) for nonlinear, kind in ACTIVATION.items()}
    models |= mixtures(protocol)
    models |= {f"default {kind}": default(nonlinear) for nonlinear, kind in ACTIVATION.items()}
    return experiment(
        demo,
        "Setting 1, one run of each",
        problems=problems((1,), data),
        models=models,
        once=tuple(models),
        published=published_mixtures((1,)),
        run=DispatchRun,
        draw=_draw,
    )


def _draw(results):
    figure, axes = panels(1, 2, (10, 3.6))
    for ax, kind in zip(axes[0], ACTIVATION.values(), strict=True):
        cell = results.cell(model=f"default {kind}")
        draw_dispatch(ax, cell)
        ax.set_title(f"default {kind}, dispatch entropy {cell.mean('test_entropy'):.3f}")
    figure.colorbar(ax.images[0], ax=axes, label="Share of the cluster")
    return figure
