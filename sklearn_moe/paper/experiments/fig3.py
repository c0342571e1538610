"""Figure 3: the dispatch entropy in the course of training."""

from functools import partial

import numpy as np

from ...inspection import DispatchEntropyDisplay
from .._dynamics import crossing
from .._experiment import Experiment, Finding
from .._published import ENTROPY_CURVES, TABLE_1
from .models import ACTIVATION, TRACE, mixture, problem

__all__ = ["fig3", "runs_over_steps"]

_LEVEL = 0.7  # nats, half of the maximum: the moment at which the experts specialize
_CLOSE = 10  # steps
_NAMES = {"nonlinear": "cubic", "linear": "linear"}  # in the order of the picture


def fig3(protocol="code", data="fixed"):
    """Return the entropy curves of settings 1 and 2; the runs are those of table1."""
    settings = (1, 2)
    return Experiment(
        name="fig3",
        title="Figure 3: dispatch entropy per step",
        question=(
            "When do the experts specialize? Dispatch entropy of the training samples, in nats, "
            "at most log 4 = 1.386: mean and 95 % interval over the runs, beside the curves that "
            "the authors recorded. Their rule may stop a run early; it is held at its last value, "
            "so that every step is a mean over all runs."
        ),
        problems=tuple(problem(setting, data) for setting in settings),
        models={
            f"mixture {a}": mixture(protocol, nonlinear) for nonlinear, a in ACTIVATION.items()
        },
        published={
            (setting, f"mixture {activation}"): TABLE_1[setting, "mixture", nonlinear]
            for setting in settings
            for nonlinear, activation in ACTIVATION.items()
        },
        measures=("entropy",),
        trace=TRACE,
        draw=_draw,
        findings=partial(_findings, protocol),
    )


def runs_over_steps(cell, measure):
    """Return the recorded steps and a curve of every run; a stopped run keeps its last value.

    Parameters
    ----------
    cell : CellResult
        Of runs with a trace.
    measure : str
        A key of their "curve".

    Returns
    -------
    steps : ndarray of shape (n_records,)
        Those of the longest run.
    values : ndarray of shape (n_runs, n_records)
    """
    curves = [run["curve"] for run in cell.runs]
    steps = np.array(max((curve["step"] for curve in curves), key=len))
    return steps, np.stack([np.interp(steps, curve["step"], curve[measure]) for curve in curves])


def _draw(results):
    from matplotlib.figure import Figure

    settings = results.settings
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    axes = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    for ax, setting in zip(axes, settings, strict=True):
        lines = _draw_setting(results, setting, ax)
    figure.legend(
        lines.values(),
        lines.keys(),
        title=f"mean and 95 % interval over {len(results.cells[0].runs)} runs",
        loc="outside lower center",
        ncols=len(lines),
    )
    return figure


def _draw_setting(results, setting, ax):
    """Draw our curves and the recorded ones, and return the lines by their names."""
    lines = {}
    for name, activation in _NAMES.items():
        cell = results.cell(setting=setting, model=f"mixture {activation}")
        display = DispatchEntropyDisplay(*runs_over_steps(cell, "entropy"), n_clusters=4)
        ours = lines[f"{name} experts"] = display.plot(ax=ax).line_
        (lines[f"{name}, authors' record"],) = ax.plot(
            *ENTROPY_CURVES[setting, activation],
            "o--",
            color=ours.get_color(),
            markerfacecolor="white",
            linewidth=1,
        )
    ax.set(title=f"Setting {setting}", xlabel="Step")
    ax.label_outer()
    return lines


def _findings(protocol, results):
    """Yield when the mean curves fall to the level, beside the authors' record."""
    for setting in results.settings:
        for name, activation in _NAMES.items():
            cell = results.cell(setting=setting, model=f"mixture {activation}")
            steps, entropies = runs_over_steps(cell, "entropy")
            ours = _crossing(steps, entropies.mean(0))
            recorded = _crossing(*ENTROPY_CURVES[setting, activation])
            yield Finding(
                f"Setting {setting}: the entropy of {name} experts {_fall(ours)}; in the authors' "
                f"record it {_fall(recorded)}.",
                _alike(ours, recorded) if protocol == "code" else None,
            )
    lengths = [run["steps"] for cell in results.cells for run in cell.runs]
    stopped = [steps for steps in lengths if steps < max(lengths)]
    if stopped:
        yield Finding(
            f"{len(stopped)} of {len(lengths)} runs stopped before step {max(lengths)}, the first "
            f"at step {min(stopped)}: held at their last value."
        )


def _crossing(steps, values, level=_LEVEL):
    """Return the step at which a curve first falls to a level, None if it never does."""
    step = crossing(steps, -np.asarray(values), -level)
    return None if np.isnan(step) else step


def _fall(step):
    return f"never falls to {_LEVEL}" if step is None else f"falls to {_LEVEL} at step {step:.0f}"


def _alike(step, other):
    if step is None or other is None:
        return step is other
    return abs(step - other) <= _CLOSE
