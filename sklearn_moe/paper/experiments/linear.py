"""Linear experts: do they fail, or was it initialization, loss and step sizes."""

import numpy as np

from ..._classifier import MoEClassifier
from .._experiment import Experiment, Finding
from .._protocols import expert
from .models import problem

__all__ = ["linear"]

_GRID = {
    "activation": ["linear", "cubic"],
    "init_scale": {scale: {"expert": expert("patch", scale)} for scale in (0.001, 1.0)},
    "router_learning_rate_init": [0.1, 0.01],
    "gate": ["softmax", "logit"],
    "loss": ["log_loss", "probabilities"],
}


def linear(protocol="code", data="fixed"):
    """Return the grid of what might decide whether linear experts specialize."""
    mixture = MoEClassifier(  # what both protocols share
        solver="normalized_sgd",
        learning_rate="constant",
        learning_rate_init=0.001,
        batch_size=None,
        max_iter=501,
        tol=None,
    )
    return Experiment(
        name="linear",
        title="Do linear experts fail?",
        question=(
            "The paper finds that mixtures of linear experts do not specialize; no theorem says "
            "so. Activation, initial scale, router rate, gate and loss are varied together, in "
            "the paper's regime of 501 normalized full-batch steps of 0.001 and 8 experts; 4,000 "
            "samples to train on."
        ),
        problems=tuple(problem(setting, data, n_train=4000, n_test=4000) for setting in (1, 2)),
        models={"mixture": mixture},
        grid=_GRID,
        max_runs=5,
        draw=_draw,
        findings=_findings,
    )


def _findings(results):
    """Yield what every choice does to linear experts, averaged over all others."""
    for setting in results.settings:
        spans = {}
        for name, values in _GRID.items():
            if name == "activation":
                continue
            entropies = [_mean(results, "entropy", setting, name, value) for value in values]
            accuracies = [_mean(results, "accuracy", setting, name, value) for value in values]
            spans[name] = max(entropies) - min(entropies)
            yield Finding(
                f"Setting {setting}, linear experts, {name} "
                + ", ".join(
                    f"{value}: {accuracy:.2f} %, entropy {entropy:.3f}"
                    for value, accuracy, entropy in zip(values, accuracies, entropies, strict=True)
                )
                + "."
            )
        strongest = max(spans, key=spans.get)
        yield Finding(
            f"Setting {setting}: {strongest} moves the entropy of linear experts most "
            f"(by {spans[strongest]:.2f} nats)."
        )
        cells = results.select(setting=setting, activation="linear")
        best = min(cells, key=lambda cell: cell.summary("entropy").mean)
        entropy, accuracy = best.interval("entropy"), best.summary("accuracy")
        yield Finding(
            f"Setting {setting}: linear experts fail to specialize whatever the choice: the "
            f"entropy stays above log 4 / 2 = {np.log(4) / 2:.3f}. In the best cell it is "
            f"{entropy.mean:.3f} ({entropy.text(3)}), with {accuracy.mean:.2f} %.",
            entropy.above(np.log(4) / 2),
        )


def _mean(results, measure, setting, name, value):
    cells = results.select(setting=setting, activation="linear", **{name: value})
    return float(np.mean([cell.summary(measure).mean for cell in cells]))


def _draw(results):
    """Draw entropy against accuracy: a point per cell, color for activation and initial scale."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    colors = {
        ("linear", 0.001): "#D55E00",
        ("linear", 1.0): "#E69F00",
        ("cubic", 0.001): "#0072B2",
        ("cubic", 1.0): "#56B4E9",
    }
    markers = {"log_loss": "o", "probabilities": "^"}
    settings = results.settings
    figure = Figure(figsize=(5.2 * len(settings), 4.8), layout="constrained")
    axes = figure.subplots(1, len(settings), squeeze=False)[0]
    for setting, ax in zip(settings, axes, strict=True):
        for cell in results.select(setting=setting):
            labels = cell.labels
            color = colors[labels["activation"], labels["init_scale"]]
            ax.plot(
                cell.summary("entropy").mean,
                cell.summary("accuracy").mean,
                markers[labels["loss"]],
                color=color,
                mfc=color if labels["gate"] == "softmax" else "white",
                ms=7 if labels["router_learning_rate_init"] == 0.1 else 4.5,
            )
        ax.axvline(np.log(4), color="0.6", lw=0.8, ls="--")
        ax.set(
            title=f"Setting {setting}",
            xlabel="Dispatch entropy (nats), mean over seeds",
            ylabel="Test accuracy (%)",
        )
    handles = [
        Line2D([], [], ls="", marker="o", color=c, label=f"{a}, initial scale {s:g}")
        for (a, s), c in colors.items()
    ]
    handles += [
        Line2D([], [], ls="", marker=m, color="0.3", label=f"loss {loss}")
        for loss, m in markers.items()
    ]
    handles += [
        Line2D([], [], ls="", marker="o", color="0.3", mfc="0.3", label="gate softmax"),
        Line2D([], [], ls="", marker="o", color="0.3", mfc="white", label="gate raw score"),
        Line2D([], [], ls="", marker="o", color="0.3", ms=7, label="router rate 0.1"),
        Line2D([], [], ls="", marker="o", color="0.3", ms=4.5, label="router rate 0.01"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure
