"""From the paper to its code, one change at a time."""

import re

import numpy as np

from .._experiment import Experiment, Finding
from .._protocols import NOISY_AT_TEST, SUM_OF_NORMS, NotebookStopping, expert
from .._statistics import UNDECIDED
from ._theory import COLORS
from .models import TRACE, mixture, problem

__all__ = ["CHANGES", "departures"]

CHANGES = {  # in the order in which they are made
    "router rate .1": {"router__learning_rate": 0.1},
    "two logits": {"loss": "log_loss"},
    "biases, uniform init": {"expert": expert("patch_conv", 0.001)},
    "sum of norms": {"solver": SUM_OF_NORMS},
    "raw noisy gate": {"router__gate": "logit"},
    "noise at test": {"router": NOISY_AT_TEST},
    "softmax twice": {"loss": "probabilities"},
    "early stop": {"callbacks": [NotebookStopping()]},
}


def departures(protocol="paper", data="fixed"):
    """Return the path from the paper to the code, and every change of the paper alone."""
    path, alone, parameters = {"paper": mixture("paper", True)}, {}, {}
    for name, change in CHANGES.items():
        parameters |= change
        path[f"... + {name}"] = mixture("paper", True, **parameters)
        alone[f"paper + {name}"] = mixture("paper", True, **change)
    del alone[f"paper + {next(iter(CHANGES))}"]  # the first step of the path
    return Experiment(
        name="departures",
        title="Which departures of the code matter",
        question=(
            "The authors' code departs from the text of the paper. Lines with ... add one change "
            "to the line before, until they arrive at the code; the others are the paper with one "
            "change alone. Nonlinear mixtures; 4,000 samples to train on."
        ),
        problems=tuple(problem(setting, data, n_train=4000) for setting in (1, 2)),
        models=path | alone,
        max_runs=5,
        measures=("accuracy", "entropy", "steps"),
        trace=TRACE,
        draw=_draw,
        findings=_findings,
    )


def _findings(results):
    """Yield what the protocols differ by, and which steps of the path make the difference."""
    for setting in results.settings:
        path = results.select(setting=setting)[: len(CHANGES) + 1]
        total = _effect(path[0], path[-1])
        yield Finding(
            f"Setting {setting}: from the paper to the code accuracy changes by {total.mean:+.2f} "
            f"points ({total.text(2)})."
        )
        effects = dict(zip(CHANGES, map(_effect, path, path[1:]), strict=True))
        matter = [
            f"{name} {change.mean:+.2f} ({change.text(2)})"
            for name, change in effects.items()
            if change.above(0) is not UNDECIDED
        ]
        yield Finding(
            f"Setting {setting}: steps whose effect has an interval without zero: "
            f"{', '.join(matter) or 'none'}."
        )


def _effect(before, after):
    """Return the interval of what a change does to the accuracy, paired by seed."""
    return after.interval("accuracy", minus=before.values("accuracy"))


def _draw(results):
    """Draw accuracy and entropy of every line: a row for the path, one for changes alone."""
    from matplotlib.figure import Figure

    names = list(results.experiment.models)
    path, alone = slice(len(CHANGES) + 1), slice(len(CHANGES) + 1, None)
    figure = Figure(figsize=(10, 0.36 * len(names) + 1.6), layout="constrained")
    heights = [len(names[path]), len(names[alone])]
    axes = figure.subplots(2, 2, sharex="col", sharey="row", height_ratios=heights)
    for rows, part in zip(axes, (path, alone), strict=True):
        for ax, measure in zip(rows, ("accuracy", "entropy"), strict=True):
            _draw_part(ax, results, part, measure)
        labels = [re.sub(r"^.* (?=\+)", "", name) for name in names[part]]
        rows[0].set(yticks=range(len(labels)), yticklabels=labels)
        rows[0].invert_yaxis()
    axes[0, 0].set_ylabel("one change after the other,\nfrom the paper to its code")
    axes[1, 0].set_ylabel("the paper with\none change alone")
    axes[1, 0].set_xlabel("test accuracy (%)")
    axes[1, 1].set_xlabel("dispatch entropy (nats)")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        title="mean and 95 % interval over the runs",
        loc="outside upper right",
        ncols=2,
        frameon=False,
    )
    return figure


def _draw_part(ax, results, part, measure):
    for i, (setting, color) in enumerate(zip(results.settings, COLORS, strict=False)):
        rows = [cell.summary(measure) for cell in results.select(setting=setting)[part]]
        means = np.array([row.mean for row in rows])
        ends = np.array([[row.low, row.high] for row in rows]).T.clip(0, 100)
        ax.errorbar(
            means,
            np.arange(len(rows)) + 0.2 * (i - 0.5),
            xerr=np.nan_to_num(np.abs(ends - means)),
            fmt="os"[i],
            color=color,
            ms=4,
            lw=1,
            label=f"setting {setting}",
        )
    ax.grid(axis="x", alpha=0.3)
