"""What router and experts align with: inner products of their weights with v_k and c_k."""

import numpy as np

from ...inspection import AlignmentDisplay, expert_colors
from .._experiment import Experiment, Finding
from .._published import TABLE_1
from .._statistics import Interval, mean_interval
from .fig3 import runs_over_steps
from .models import ACTIVATION, TRACE, mixture, problem

__all__ = ["innerproducts"]

_NAMES = {"nonlinear": "mixture cubic", "linear": "mixture linear"}
_PARTS = (  # title, of the weights, keys of the curves with their symbol
    (
        "Router",
        {
            "router_centers": r"$\langle\theta_m, c_k\rangle$",
            "router_features": r"$\langle\theta_m, v_k\rangle$",
        },
    ),
    (
        "Experts",
        {
            "expert_features": r"$\langle w_m, v_k\rangle$",
            "expert_centers": r"$\langle w_m, c_k\rangle$",
        },
    ),
)
_VECTORS = {
    "router_centers": "centers c_k",
    "router_features": "features v_k",
    "expert_features": "features v_k",
    "expert_centers": "centers c_k",
}


def innerproducts(protocol="code", data="fixed"):
    """Return the inner products on setting 1; the runs are those of table1."""
    return Experiment(
        name="innerproducts",
        title="Inner products of the weights with features and centers",
        question=(
            "Does the router find the cluster centers c_k, and do the experts learn the features "
            "v_k (section 4)? Setting 1: inner products with the router's directions theta_m and "
            "with the strongest filter w_m of each expert. The curves are means over the experts "
            "of their largest inner product in magnitude, mean and 95 % interval over the runs; a "
            "run that stopped early is held at its last value."
        ),
        problems=(problem(1, data),),
        models={
            f"mixture {a}": mixture(protocol, nonlinear) for nonlinear, a in ACTIVATION.items()
        },
        published={
            (1, f"mixture {activation}"): TABLE_1[1, "mixture", nonlinear]
            for nonlinear, activation in ACTIVATION.items()
        },
        trace=TRACE,
        draw=_draw,
        findings=_findings,
    )


def _draw(results):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 10), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.3, 1))
    above.suptitle("Nonlinear experts, first run: inner products at the end")
    _draw_matrices(results.cell(model=_NAMES["nonlinear"]).runs[0], above.subplots(2, 2))
    below.suptitle(
        "Largest inner product in magnitude, mean over the experts; band: 95 % interval of the runs"
    )
    for ax, (title, symbols) in zip(below.subplots(1, 2), _PARTS, strict=True):
        _draw_curves(results, symbols, ax)
        ax.set(xlabel="Step", ylabel="Inner product")
        # Above the axes: no corner is free of curves.
        ax.legend(title=title, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    return figure


def _draw_matrices(run, axes):
    names = ("router_features", "router_centers", "expert_features", "expert_centers")
    matrices = {name: np.array(run[name]) for name in names}  # (M, K)
    for name in names[2:]:
        matrices[name] = matrices[name][:, None]  # one filter stands for an expert
    AlignmentDisplay(**matrices).plot(axes=axes)


def _draw_curves(results, symbols, ax):
    """Draw one part of the mixtures: color is the mixture, line style the kind of vector."""
    for color, (name, model) in zip(expert_colors(2), _NAMES.items(), strict=True):
        for style, (measure, symbol) in zip(("-", "--"), symbols.items(), strict=True):
            steps, values = runs_over_steps(results.cell(model=model), measure)
            mean, low, high = np.transpose([mean_interval(column) for column in values.T])
            ax.plot(steps, mean, style, color=color, label=f"{symbol}, {name}")
            ax.fill_between(steps, low, high, color=color, alpha=0.25, linewidth=0)
    ax.set_ylim(bottom=0)


def _findings(results):
    """Yield how many times as large one kind of inner product is as the other, at the end."""
    for name, model in _NAMES.items():
        cell = results.cell(model=model)
        for title, (strong, weak) in _PARTS:
            ratio = _ratio(cell, strong, weak)
            yield Finding(
                f"{title} of the {name} mixture: inner products with the {_VECTORS[strong]} are "
                f"{ratio.mean:.3g} times as large as those with the {_VECTORS[weak]} (geometric "
                f"mean over the runs, {ratio.text(1)}).",
                ratio.above(1) if name == "nonlinear" else None,  # what the theory is about
            )


def _ratio(cell, measure, other):
    """Return the geometric mean over the runs of a ratio at the end, with its interval."""
    ends = ({name: values[-1] for name, values in run["curve"].items()} for run in cell.runs)
    return Interval(*np.exp(mean_interval([np.log(end[measure] / end[other]) for end in ends])))
