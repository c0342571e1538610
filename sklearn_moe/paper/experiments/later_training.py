"""Later claims about training: fewer experts, and one cluster after the other."""

import numpy as np

from ...callbacks import FreezeRouter
from .._experiment import Finding
from .._later_runs import ORDERS, ContinualRun, PruningRun, RareClusters
from .._statistics import mean_interval, share_interval
from .common import SIZES, default, experiment, problems
from .drawing import draw_curves, labelled, legend, panels

_N_EXPERTS, _N_KEPT = 16, 4
_KEPT_UP, _EQUAL = 95, 0.5  # percent of a cluster that is kept; points that count as equal
_BY = {"router": "by the router's norm", "load": "by load"}
_BY |= {"experts": "by the experts' norm", "random": "at random"}


def pruning(protocol="code", data="fixed"):
    """Return mixtures of 16 experts of which the least important ones are removed.

    Experts whose router has moved least are said to be those that can go (arXiv 2405.16646). Four
    orders: the norm of the router's row, which starts at 0; the load; the norm of the weights of
    the expert; at random. Setting 1 has four clusters of one size; the harder case is the same with
    two rare clusters, of 6 and 3 % of the samples, whose experts have little load. Four experts are
    left, one for each cluster, without further training. This library's default, 4,000 samples.
    """
    alike, rare = (RareClusters(1, **SIZES, rare=rare) for rare in ((), (0.06, 0.03)))
    return experiment(
        pruning,
        "Which experts can go",
        problems=(alike, rare),
        models={f"{_N_EXPERTS} experts": default(n_experts=_N_EXPERTS)},
        run=PruningRun,
        kept=("pruned",),
        draw=_draw_pruning,
        findings=_pruning_findings,
    )


def _left(cell, order, measure, n=_N_KEPT):
    """Return a measure of every run after pruning to n experts."""
    return np.array([run["pruned"][order][measure][n - 1] for run in cell.runs])


def _pruning_findings(results):
    for cell in results.cells:
        name = "rare clusters" if cell.labels["rare"] else "clusters of one size"
        measure = "worst" if cell.labels["rare"] else "accuracy"
        shown = "on the worst cluster" if cell.labels["rare"] else "of all samples"
        left = {order: _left(cell, order, measure) for order in ORDERS}
        means = ", ".join(f"{o} {mean_interval(v).with_mean(1, '%')}" for o, v in left.items())
        yield Finding(f"{name}, {_N_KEPT} of {_N_EXPERTS} experts left, accuracy {shown}: {means}.")
        gains = {o: mean_interval(left["router"] - left[o]) for o in ("random", "load")}
        if measure == "worst":
            # It is either near 50 % or near 98 %: a mean of these says little.
            for order, values in left.items():
                count, n = int((values >= _KEPT_UP).sum()), len(values)
                share = share_interval(count, n)
                yield Finding(
                    f"{name}: the worst cluster keeps {_KEPT_UP} % in most runs {_BY[order]}: in "
                    f"{count} of {n} ({share.text(2)}).",
                    share.above(0.5),
                )
            verdicts = {"random": None, "load": None}
        else:
            verdicts = {"random": gains["random"].above(0)}
            yield Finding(
                f"{name}: by the router's norm as much is left as by load, to {_EQUAL:g} points: "
                f"{gains['load'].with_mean(1, 'points')}.",
                gains["load"].within(_EQUAL),
            )
        for other, holds in verdicts.items():
            yield Finding(
                f"{name}: by the router's norm more is left than {_BY[other]}: "
                f"{gains[other].with_mean(1, 'points')}.",
                holds,
            )


def _draw_pruning(results):
    figure, axes = panels(1, 3, (11, 4), grid="both", sharey=True)
    alike, rare = results.cells
    shown = {
        "clusters of one size, accuracy (%)": (alike, "accuracy"),
        "two rare clusters, accuracy (%)": (rare, "accuracy"),
        "two rare clusters, the worst of four (%)": (rare, "worst"),
    }
    n_experts = range(1, _N_EXPERTS + 1)
    for ax, (title, (cell, measure)) in zip(axes[0], shown.items(), strict=True):
        orders = {
            _BY[order]: [_left(cell, order, measure, n) for n in n_experts] for order in ORDERS
        }
        draw_curves(ax, n_experts, orders, most=100)
        ax.axvline(_N_KEPT, color="0.5", lw=0.8, ls="--")
        ax.set(title=title, xlabel="experts that are kept", ylim=(40, 102))
    return legend(figure, labelled(axes[0, 0]), title="mean and 95 % interval over the runs")


_NEVER = "never"


def continual(protocol="code", data="fixed"):
    """Return mixtures that see one cluster at a time, four times, with a router that stops or not.

    With tasks that arrive one after the other the training of the router is said to have to end
    after enough rounds, so that experts do not forget (arXiv 2406.16437, for linear regressions).
    Here a task is a cluster of setting 1, learned for {epochs} epochs by `partial_fit`; there are
    four cycles of four tasks. The router is trained in all of them, or in the first, two, or three.
    Forgetting: accuracy on a task right after its last round minus that at the end.
    """
    per_cycle = 4 * ContinualRun.n_epochs
    stops = {f"after cycle {n}": [FreezeRouter(after=n * per_cycle)] for n in (1, 2, 3)}
    return experiment(
        continual,
        "One cluster after the other, with a router that stops",
        {"epochs": ContinualRun.n_epochs},
        problems=problems((1,), "fresh", **SIZES),
        models={"8 experts": default()},
        grid={"stop": {name: {"callbacks": c} for name, c in {_NEVER: None, **stops}.items()}},
        measures=("accuracy", "forgetting", "learned"),
        run=ContinualRun,
        kept=("rounds",),
        draw=_draw_continual,
        findings=_continual_findings,
    )


def _continual_findings(results):
    never, *stopped = results.by("stop").items()
    for name, cell in stopped:
        less, better = (
            cell.interval(measure, over=never[1]) for measure in ("forgetting", "accuracy")
        )
        yield Finding(
            f"A router that stops {name} forgets less: {cell.mean('forgetting'):.1f} against "
            f"{never[1].mean('forgetting'):.1f} points, {less.with_mean(1, sign='+')}; accuracy at "
            f"the end {cell.mean('accuracy'):.1f} against {never[1].mean('accuracy'):.1f} %, "
            f"{better.with_mean(1, sign='+')}.",
            less.below(0),
        )


def _draw_continual(results):
    figure, ((ax,),) = panels(1, 1, (8, 4), grid="both")
    stops = {
        f"the router stops {name}": np.array([run["rounds"] for run in cell.runs]).T
        for name, cell in results.by("stop").items()
    }
    draw_curves(ax, range(1, 17), stops)
    ax.set(xlabel="round (a cluster each)", ylabel="accuracy over all clusters (%)")
    return legend(figure, labelled(ax), ncols=2, title="mean and 95 % interval over the runs")
