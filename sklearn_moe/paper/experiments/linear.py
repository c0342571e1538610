"""Linear experts: do they fail, or was it initialization, loss and step sizes."""

import numpy as np

from ... import SolverParams
from ..._classifier import MoEClassifier
from .._experiment import Experiment, Finding
from .._protocols import expert
from ._theory import COLORS
from .models import problem

__all__ = ["linear"]

_GRID = {
    "activation": ["linear", "cubic"],
    "init_scale": {scale: {"expert": expert("patch", scale)} for scale in (0.001, 1.0)},
    "router__learning_rate": [0.1, 0.01],
    "router__gate": ["softmax", "logit"],
    "loss": ["log_loss", "probabilities"],
}
_SCALES = {0.001: "0.001 (the paper's)", 1.0: "1"}


def linear(protocol="code", data="fixed"):
    """Return the grid of what might decide whether linear experts specialize."""
    mixture = MoEClassifier(  # what both protocols share
        solver=SolverParams("normalized_sgd", schedule="constant"),
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
    """Draw the entropy by the initial scale: a line per choice of everything else."""
    from matplotlib.figure import Figure

    scales = sorted({cell.labels["init_scale"] for cell in results.cells})
    activations = list(dict.fromkeys(cell.labels["activation"] for cell in results.cells))
    figure = Figure(figsize=(4.2 * len(activations), 4.2), layout="constrained")
    axes = figure.subplots(1, len(activations), squeeze=False, sharey=True)[0]
    for activation, ax in zip(activations, axes, strict=True):
        for setting, color, marker in zip(results.settings, COLORS, "os", strict=False):
            style = {"color": color, "marker": marker, "lw": 1, "ms": 5, "alpha": 0.8}
            cells = results.select(setting=setting, activation=activation)
            for line in _alike(cells):
                entropies = [line[scale].summary("entropy").mean for scale in scales]
                ax.plot(range(len(scales)), entropies, **style)
            ax.plot([], [], label=f"setting {setting}", **style)
        ax.axhline(np.log(4), color="0.6", lw=0.8, ls="--")
        ax.set(
            title=f"{activation.capitalize()} experts",
            xlabel="initial weights, times torch's own",
            xticks=range(len(scales)),
            xticklabels=[_SCALES.get(scale, f"{scale:g}") for scale in scales],
            xlim=(-0.4, len(scales) - 0.6),
            ylim=(-0.05, 1.5),
        )
    axes[0].set_ylabel("dispatch entropy (nats)")
    axes[0].annotate("no expert knows a cluster: log 4", (-0.35, 1.4), va="bottom", size=9)
    axes[0].annotate("one cluster per expert: 0", (-0.35, -0.03), va="bottom", size=9)
    title = "mean over the runs,\na line per choice of all else"
    axes[-1].legend(title=title, frameon=False, loc=(0.02, 0.64), alignment="left")
    return figure


def _alike(cells):
    """Return cells that differ by the initial scale alone, by that scale."""
    lines = {}
    for cell in cells:
        rest = {name: value for name, value in cell.labels.items() if name != "init_scale"}
        lines.setdefault(tuple(rest.items()), {})[cell.labels["init_scale"]] = cell
    return lines.values()
