"""Do linear experts specialize? What might decide it, varied together."""

from dataclasses import replace
from itertools import product

import numpy as np
from sklearn.base import clone

from ... import SolverParams
from ..._estimators.classifier import MoEClassifier
from .._artificial_runs import AlikeStart, EarlyRun
from .._experiment import Finding
from .._protocols import expert
from .._statistics import LEVEL, UNDECIDED, mean_interval, p_text
from .common import ACTIVATION, SPECIALIZED, TRACE, entropy_tests, experiment, problems
from .drawing import AXES, COLORS, draw_largest_entropy, labelled, legend, panels

_SMALL, _LARGE, _ALIKE = 0.001, 1.0, "1, alike"
_LOSSES = {"log_loss": "logits", "probabilities": "the code's double softmax"}
_GRID = {
    "init_scale": {
        _SMALL: {"expert": expert("patch", _SMALL)},
        _LARGE: {"expert": expert("patch", _LARGE)},
        _ALIKE: {"expert": expert("patch", _LARGE), "callbacks": [AlikeStart()]},
    },
    "router__learning_rate": [0.1, 0.01],
    "router__gate": ["softmax", "logit"],
    "loss": list(_LOSSES),
}
_STARTS = {_SMALL: "0.001\n(the paper's)", _LARGE: "1", _ALIKE: "1, all experts\nalike"}


def linear(protocol="code", data="fixed"):
    """Return the grid of what might decide whether linear experts specialize.

    The paper finds that mixtures of linear experts do not specialize; no theorem says so.
    Activation, initial weights, router rate, gate and loss (on logits, or on probabilities: the
    code's double softmax) are varied together, in the paper's regime of 501 normalized full-batch
    steps of 0.001 and 8 experts; 4,000 samples to train on. Mixtures of cubic experts are run once
    each. Initial weights are 0.001 times torch's own, as in the paper, torch's own, or these of the
    first expert for all of them, plus a thousandth of their own (alike). Difference: the share,
    after {steps} steps, of the experts' margins on the clusters in which they differ from their
    mean (sums of squares).
    """
    mixture = MoEClassifier(  # what both protocols share
        solver=SolverParams("normalized_sgd", schedule="constant"),
        learning_rate_init=0.001,
        batch_size=None,
        max_iter=501,
        tol=None,
    )
    return experiment(
        linear,
        "Do linear experts fail?",
        {"steps": TRACE},
        problems=problems((1, 2), data, n_train=4000, n_test=4000),
        models={a: clone(mixture).set_params(activation=a) for a in ACTIVATION.values()},
        grid=_GRID,
        once=("cubic",),  # they are for comparison
        n_runs=5,
        measures=("accuracy", "entropy", "difference"),
        trace=TRACE,
        run=EarlyRun,
        draw=_draw,
        findings=_findings,
    )


def _findings(results):
    """Yield what every choice does to linear experts, and whether they specialize."""
    for setting in results.settings:
        name = f"Setting {setting}, linear experts"
        linear = replace(results, cells=results.select(setting=setting, model="linear"))
        different = [cell for cell in linear.cells if cell.labels["init_scale"] != _ALIKE]
        own_starts = replace(linear, cells=different)
        yield from _specialized(name, own_starts)
        yield from _because_they_differ(name, linear)


def _specialized(name, results):
    """Yield in how many cells the entropy is below the mark, and the best one."""
    cells = results.cells
    p = entropy_tests(cells)
    below = [cell for cell in cells if cell.mean("entropy") < SPECIALIZED]
    sure = [cell for cell in below if p[cell] < LEVEL]
    counts = (
        f"{sum(cell in below for cell in of)} of {len(of)} ({sum(cell in sure for cell in of)}) "
        f"with {_LOSSES[loss]} from a start of {scale:g}"
        for scale, loss in product((_LARGE, _SMALL), _LOSSES)
        for of in [results.select(init_scale=scale, loss=loss)]
    )
    yield Finding(
        f"{name}, cells with a mean entropy below log 4 / 2 = {SPECIALIZED:.3f} (in brackets: "
        f"with p < {LEVEL} by Holm's correction for {len(cells)} cells): {', '.join(counts)}."
    )
    best = min(cells, key=lambda cell: cell.mean("entropy"))
    entropy = best.interval("entropy")
    yield Finding(
        f"{name} fail to specialize whatever the choice: the entropy stays above "
        f"{SPECIALIZED:.3f}. In the best of {len(cells)} cells it is {entropy.mean:.3f} "
        f"({entropy.text(3)}, uncorrected; {p_text(p[best])} corrected), with "
        f"{best.mean('accuracy'):.2f} %; {len(sure)} cells are below at p < {LEVEL} corrected.",
        False if sure else entropy.above(SPECIALIZED) is True or UNDECIDED,
    )


def _because_they_differ(name, results):
    """Put to the test that a large start helps because it makes the experts different."""
    for gate in _GRID["router__gate"]:
        starts = [results.select(init_scale=start, router__gate=gate) for start in _STARTS]
        shares, entropies = (  # means over the cells, by start and seed
            np.array([np.mean([cell.values(measure) for cell in of], axis=0) for of in starts])
            for measure in ("difference", "entropy")
        )
        more = mean_interval(entropies[2] - entropies[1])
        yield Finding(
            f"{name}, gate {gate}: a large start leads to a low entropy because experts differ "
            f"from the first step on. Alike experts have an entropy that is "
            f"{more.with_mean(3, sign='+')} beside that of different ones. Entropy from the "
            f"paper's start, the large one and the large one alike: {_list(entropies)}; "
            f"difference after {TRACE} steps: {_list(shares)}.",
            more.above(0),
        )


def _list(values):
    return ", ".join(f"{mean:.3f}" for mean in values.mean(1))


def _draw(results):
    """Draw the entropy by the start: a line per choice of everything else."""
    figure, axes = panels(1, len(ACTIVATION), (10, 4.4), grid="y", sharey=True)
    for model, ax in zip(results.experiment.models, axes[0], strict=True):
        for setting, color in zip(results.settings, COLORS, strict=False):
            by_start = (
                results.select(setting=setting, model=model, init_scale=start) for start in _STARTS
            )
            entropies = [[cell.mean("entropy") for cell in cells] for cells in by_start]
            ax.plot(range(len(_STARTS)), entropies, color=color, marker="o", lw=1)
            ax.plot([], [], color=color, marker="o", lw=1, label=f"setting {setting}")
        draw_largest_entropy(ax, 4)
        ax.set(title=f"{model.capitalize()} experts", xlabel="initial weights, times torch's own")
        ax.set_xticks(range(len(_STARTS)), _STARTS.values())
    axes[0, 0].set_ylabel(AXES["entropy"])
    title = "mean over the runs, a line per choice of all else"
    return legend(figure, labelled(axes[0, 0]), title=title)
