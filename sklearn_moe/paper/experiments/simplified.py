"""What noise in the router and normalized gradients are good for: training without them."""

import numpy as np

from .._experiment import Experiment, Finding
from ._theory import COLORS
from .models import TRACE, mixture, problem

__all__ = ["simplified"]

_PUBLISHED, _QUIET = "as published", "no noise"
_PLAIN, _NEITHER = "no normalization", "neither"
# The gradient of a cubic expert is of the second order in its weights: from the published start,
# |<w, v_k>| of 2e-4, plain steps leave zero after about 100 / rate steps. Hence other rates and a
# larger start, the best of those tried: rates .001, .1, .3, .5, 1 and 10; .03, .1 and .3 with the
# larger start. They train to the end: a loss that jumps at a large rate would stop them early.
_RATES = {
    "": {},
    ", rate 0.3": {"learning_rate_init": 0.3, "callbacks": None},
    ", rate 0.1, start x 100": {"learning_rate_init": 0.1, "init_scale": 0.1, "callbacks": None},
}
_LINES = dict(zip(_RATES, ("-", "--", ":"), strict=True))
_WIDTHS = {_PUBLISHED: 2, _QUIET: 2, _PLAIN: 4, _NEITHER: 1.5}  # one shows below the other


def simplified(protocol="code", data="fixed"):
    """Return nonlinear mixtures with and without noise and normalization, on settings 1 and 2."""
    models = {_PUBLISHED: {}, _QUIET: {"router__noise": None}}
    for suffix, rates in _RATES.items():
        models[_PLAIN + suffix] = {"solver": "sgd", **rates}
    for suffix, rates in _RATES.items():
        models[_NEITHER + suffix] = {"solver": "sgd", "router__noise": None, **rates}
    return Experiment(
        name="simplified",
        title="Without noise, without normalization",
        question=(
            "Does a mixture of nonlinear experts need the noise of the router and the normalized "
            "gradients of Algorithm 1? Without noise, small random weights of the router tell the "
            "experts apart; without normalization, experts are trained by plain gradient descent. "
            "4,000 samples to train on."
        ),
        problems=tuple(problem(setting, data, n_train=4000, n_test=8000) for setting in (1, 2)),
        models={name: _mixture(protocol, **changes) for name, changes in models.items()},
        max_runs=5,
        measures=("accuracy", "entropy", "steps"),
        trace=TRACE,
        draw=_draw,
        findings=_findings,
    )


def _mixture(protocol, init_scale=None, **changes):
    model = mixture(protocol, True, **changes)
    if init_scale is not None:
        model.expert = model.expert.with_options(init_scale=init_scale)
    return model


def _findings(results):
    for setting in results.settings:
        cells = {cell.labels["model"]: cell for cell in results.select(setting=setting)}
        yield _needed(setting, "noise", cells[_PUBLISHED], [cells[_QUIET]])
        for name, left_out in ((_PLAIN, "normalization"), (_NEITHER, "noise or normalization")):
            tried = [cell for model, cell in cells.items() if model.startswith(name)]
            yield _needed(setting, left_out, cells[_PUBLISHED], tried)
        yield _stuck(setting, cells[_PLAIN])


def _needed(setting, left_out, published, tried):
    """Compare with the best of what was tried, run by run: seeds are the same."""
    best = max(tried, key=lambda cell: cell.summary("accuracy").mean)
    change = published.interval("accuracy", minus=best.values("accuracy"))
    of = f", best of {len(tried)} rates here ({best.labels['model']})" if len(tried) > 1 else ""
    return Finding(
        f"Setting {setting}: {left_out} is needed. Without it{of}, accuracy is {change.mean:.2f} "
        f"points ({change.text(2)}) lower, {best.summary('accuracy').mean:.2f} % against "
        f"{published.summary('accuracy').mean:.2f} %; entropy {best.summary('entropy').mean:.3f} "
        f"against {published.summary('entropy').mean:.3f}.",
        change.above(0),
    )


def _stuck(setting, cell):
    """Say how far plain gradient descent gets at the published rate."""
    growth = [np.divide(*np.take(run["curve"]["expert_features"], [-1, 0])) for run in cell.runs]
    return Finding(
        f"Setting {setting}: without normalization, at the published rate, experts stay where they "
        f"started: their strongest |<w, v_k>| grows by a factor of {np.max(growth):.3f} at most, "
        f"accuracy {cell.summary('accuracy').mean:.2f} %.",
        bool(np.max(growth) < 2),
    )


def _draw(results):
    """Draw a row per setting: accuracy and entropy of every run, and how the experts grow."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    settings = results.settings
    figure = Figure(figsize=(11, 3.6 * len(settings)), layout="constrained")
    axes = figure.subplots(len(settings), 3, squeeze=False, sharex="col")
    for row, setting in zip(axes, settings, strict=True):
        cells = results.select(setting=setting)
        _draw_runs(row[0], cells, "accuracy")
        _draw_runs(row[1], cells, "entropy")
        row[1].set_yticklabels([])
        _draw_growth(row[2], cells)
        for ax in row:
            ax.set_title(f"setting {setting}")
            ax.tick_params(labelbottom=True)
        row[0].set_xlabel("test accuracy (%)")
        row[1].set_xlabel("dispatch entropy (nats)")
        row[2].set(xlabel="step", ylabel=r"strongest $|\langle w, v_k\rangle|$, first run")
    marks = {"one run": {"marker": "."}, "mean": {"marker": "|", "ms": 14, "mew": 2}}
    handles = [Line2D([], [], color="0.3", ls="", label=name, **m) for name, m in marks.items()]
    handles += [Line2D([], [], label=name, **_style(name)) for name in _WIDTHS]
    handles += [
        Line2D([], [], color="0.3", ls=line, label=rate.removeprefix(", ") or "published rate")
        for rate, line in _LINES.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _style(model):
    """Return the line of a model: what is left out, and at which rate."""
    name, _, rate = model.partition(",")
    color = dict(zip(_WIDTHS, ("black", *COLORS), strict=False))[name]
    return {"color": color, "lw": _WIDTHS[name], "ls": _LINES[f",{rate}" if rate else ""]}


def _draw_runs(ax, cells, measure):
    for row, cell in enumerate(cells):
        values, color = cell.values(measure), _style(cell.labels["model"])["color"]
        ax.plot(values, [row] * len(values), ".", color=color, alpha=0.5)
        ax.plot(values.mean(), row, "|", color=color, markersize=14, markeredgewidth=2)
    ax.set_yticks(range(len(cells)), [cell.labels["model"] for cell in cells], fontsize=9)
    ax.set_ylim(len(cells) - 0.5, -0.5)
    ax.grid(axis="x", color="0.9")


def _draw_growth(ax, cells):
    """Draw the first run of every model, from start to end."""
    for cell in cells:
        curve = cell.runs[0]["curve"]
        ax.plot(curve["step"], curve["expert_features"], **_style(cell.labels["model"]))
    ax.set_yscale("log")
    ax.grid(color="0.9")
