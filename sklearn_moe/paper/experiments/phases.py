"""When a mixture specializes: over degree, start and the rates of router and experts."""

import numpy as np

from .._experiment import Finding
from .._protocols import expert, paper_classifier
from .._statistics import LEVEL, UNDECIDED, p_text
from .common import SPECIALIZED, entropy_tests, experiment, problems
from .drawing import panels

_RATIOS = (1, 8, 64, 512, 4096)
_SCALES = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)


def square(z):
    """Return z |z|: a square that keeps the sign, without which no expert could tell classes."""
    return z * z.abs()


_DEGREES = {"degree 1": "linear", "degree 2": square, "degree 3": "cubic"}


def phases(protocol="code", data="fixed"):
    """Return a map of specialization: degree of the experts, their start, and the router's rate.

    The paper's claim is that experts specialize if they are nonlinear, for a small start (Theorem
    4.2: 0.001 and less) and a router that learns M^2 = 64 times as fast as the experts. Here the
    degree of the activation is 1, 2 (z |z|) or 3, the start 0.001 to 1 times torch's own, the rate
    of the router 1 to 4,096 times that of the experts; all else as in the paper's text. New data
    for each run, 2,000 samples to train on. A mixture is said to specialize where the entropy is
    below log 4 / 2.
    """
    return experiment(
        phases,
        "When a mixture specializes",
        problems=problems((1, 2), "fresh", n_train=2000, n_test=2000),
        models={name: paper_classifier("paper", activation=a) for name, a in _DEGREES.items()},
        grid={
            "init_scale": {scale: {"expert": expert("patch", scale)} for scale in _SCALES},
            "ratio": {r: {"router__learning_rate": r * 0.001} for r in _RATIOS},  # of the experts'
        },
        draw=_draw,
        findings=_findings,
    )


def _findings(results):
    for setting in results.settings:
        for degree in _DEGREES:
            cells = results.select(setting=setting, model=degree)
            p = entropy_tests(cells)
            sure = [cell for cell in cells if p[cell] < LEVEL]
            below = [cell for cell in sure if cell.mean("entropy") < SPECIALIZED]
            above = [cell for cell in sure if cell.mean("entropy") > SPECIALIZED]
            best = min(cells, key=lambda cell: cell.mean("entropy"))
            entropy, accuracy = best.interval("entropy"), best.interval("accuracy")
            text = (
                f"Setting {setting}, {degree}: of {len(cells)} starts and rates the mean entropy "
                f"is below {SPECIALIZED:.3f} in {len(below)} and above in {len(above)}, with p < "
                f"{LEVEL} by Holm's correction. The least is {entropy.with_mean(3)} "
                f"({p_text(p[best])} corrected), with {accuracy.with_mean(2, '%')}, at a start of "
                f"{best.labels['init_scale']:g} and a ratio of {best.labels['ratio']}"
            )
            yield Finding(f"{text}.")
            # Theorem 4.2 is about cubic experts; the linear ones fail in the paper.
            if degree == "degree 1":
                fails = len(above) == len(cells) or UNDECIDED
                yield Finding(
                    f"Setting {setting}: linear experts specialize at no start and no rate.",
                    False if below else fails,
                )
    yield from _theorem(results)


def _theorem(results):
    """Put to the test that cubic experts specialize at the start and the rate of Theorem 4.2."""
    for setting in results.settings:
        cell = results.cell(setting=setting, model="degree 3", init_scale=0.001, ratio=64)
        entropy = cell.interval("entropy")
        yield Finding(
            f"Setting {setting}: cubic experts specialize at a start of 0.001 and a ratio of 64: "
            f"{entropy.with_mean(3)}.",
            entropy.below(SPECIALIZED),
        )


def _draw(results):
    figure, axes = panels(2, len(_DEGREES), (10, 6.6), sharex=True, sharey=True)
    shape = (len(_SCALES), len(_RATIOS))
    for setting, row in zip(results.settings, axes, strict=True):
        for degree, ax in zip(_DEGREES, row, strict=True):
            cells = results.select(setting=setting, model=degree)
            runs = np.array([cell.values("entropy") < SPECIALIZED for cell in cells])
            shares = 100 * runs.mean(1).reshape(shape)
            image = ax.imshow(shares, vmin=0, vmax=100, cmap="Blues", origin="lower")
            accuracies = np.reshape([cell.mean("accuracy") for cell in cells], shape)
            for (i, j), accuracy in np.ndenumerate(accuracies):
                color = "white" if shares[i, j] > 60 else "black"
                ax.text(j, i, f"{accuracy:.0f}", ha="center", va="center", color=color, fontsize=8)
            ax.set_title(f"setting {setting}, {degree}")
            ax.set_xticks(range(shape[1]), list(map(str, _RATIOS)))
            ax.set_yticks(range(shape[0]), [f"{scale:g}" for scale in _SCALES])
    for ax in axes[-1]:
        ax.set_xlabel("rate of the router / of the experts")
    for ax in axes[:, 0]:
        ax.set_ylabel("initial weights, times torch's own")
    label = "runs with a dispatch entropy below log 4 / 2 (%); numbers: accuracy (%)"
    figure.colorbar(image, ax=axes.ravel().tolist(), label=label)
    return figure
