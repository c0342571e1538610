"""The law of shares: a mixture of whole networks is a single network that is stopped earlier."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import joblib
import numpy as np
from sklearn.base import BaseEstimator

from .._experiment import Experiment, Finding
from .._run import Run
from .drawing import COLORS, draw_runs, labelled, legend, panels

_FOLDER = Path(__file__).parents[3] / "docs" / "results"
_GAPS = {"at_equal_epochs": "at equal epochs", "at_equal_images": "at equal images per expert"}
_SHOWN = {"setting": "cifar10", "result": "table2-cnn"}  # whose whole curve is looked at
_CONTROLS = {  # results that are read from the single networks of others
    "table2-long": "table2-cnn",
    "table2-random": "table2-cnn",
    "table2-softmax": "table2-rotate-short",
    "table2-softmax-resnet18": "table2-resnet18",
    "table2-top-1": "table2-cnn",
    "table2-trunk": "table2-library",
}
_MODELS = ("mixture", "random", "softmax", "top-1")  # that are read, among those of Table 2
_FIRST = 6  # epoch from which on every predicted point lies after the first one of the curve


@dataclass(frozen=True)
class Pair:
    """Single networks and mixtures of a task, as a stored result of Table 2 has them."""

    setting: str
    result: str

    @property
    def settings(self):
        """Return what identifies the pair: all that is stored of it."""
        stopped = self._cell(_CONTROLS.get(self.result, self.result), "single")
        return {
            "single": self._cell(self.result, "single") or stopped,
            "stopped": stopped,
            "mixture": self._cell(self.result, *_MODELS),
        }

    def _cell(self, result, *kinds):
        data = json.loads((_FOLDER / result / "table2.json").read_text(encoding="utf-8"))
        cells = [c for c in data["cells"] if c["labels"]["setting"] == self.setting]
        return next((c for c in cells if c["labels"]["model"].endswith(kinds)), None)

    @property
    def network(self):
        """Return the name of the network, and what is beside the single one if no mixture."""
        return self.settings["mixture"]["labels"]["model"].removesuffix(" mixture")


class ShareRun(Run):
    """A run that fits nothing: it reads the curve of a single network where the law says."""

    @cached_property
    def key(self):
        """Return a hash of the pair and the seed, which no estimator has."""
        return joblib.hash((type(self), self.problem.settings, self.seed))

    def fit(self, model):
        """Return the model as it is, and what the stored runs of this seed show."""
        single, stopped, mixture = map(self._stored, self.problem.settings.values())
        share = float(np.square(mixture.get("load", 1.0)).sum())
        epochs = np.arange(1, 1 + len(stopped["accuracy_curve"]))
        # The last epoch that the law places on the curve, and the last one that both have.
        n_read = min(len(mixture["accuracy_curve"]), int(len(epochs) / share))
        n_alike = min(len(mixture["accuracy_curve"]), len(single["accuracy_curve"]))
        got = mixture["accuracy_curve"][:n_read]
        points = share * np.arange(1, n_read + 1)
        curve, loss = (
            np.interp(points, epochs, stopped[name]) for name in ("accuracy_curve", "loss_curve")
        )
        of_alike = [cell["accuracy_curve"][:n_alike] for cell in (mixture, single)]
        return model, {
            "share": share,
            "accuracy": got[-1],
            "predicted_accuracy": float(curve[-1]),
            "at_equal_epochs": of_alike[0][-1] - of_alike[1][-1],
            "at_equal_images": got[-1] - float(curve[-1]),
            "in_best_epochs": max(of_alike[0]) - max(of_alike[1]),
            "loss": mixture["loss_curve"][n_read - 1],
            "predicted_loss": float(loss[-1]),
            "curve": got,
            "predicted_curve": curve.tolist(),
        }

    def _stored(self, cell):
        i = cell["seeds"].index(self.seed)
        return {name: values[i] for name, values in cell["values"].items()}


class StoredPairs(Experiment):
    """An experiment whose seeds are those that are stored of each mixture."""

    def cells(self, runs=None, seed=0, device="auto"):
        """Return the cells with the runs whose seed is stored."""
        stored = (pair.settings["mixture"]["seeds"] for pair in self.problems)
        cells = zip(super().cells(runs, seed, device), stored, strict=True)
        return [
            replace(cell, runs=[run for run in cell.runs if run.seed in seeds])
            for cell, seeds in cells
        ]


def shares(protocol="code", data="fixed"):
    """Return what a single network predicts of a mixture, from its curve and the loads alone.

    An expert of a top-1 mixture of whole networks sees the share of the images that it is sent, and
    answers for the same share: on average an image is answered by a network that has seen S =
    sum_m load_m^2 of them. If that is all that matters, the mixture after E epochs is a single
    network after S E epochs. The curve of the single network with the same seed is read there,
    linear between two epochs; nothing is fitted, and nothing is trained: curves and loads are those
    of all stored results of Table 2 with mixtures of whole networks by the code's protocol, whose
    rates are (nearly) constant. Loads are those of the end of the training. Controls are left out
    where intervals are counted. In `table2-random` the router stays at 0, so that noise sends a
    quarter of the images to each network. In `table2-long` mixtures train for 57 epochs, and are
    read in the last one that the law places within the 20 of single networks. In `table2-top-1`
    experts share convolutions, which see all images. In `table2-trunk` the training is the
    library's, whose rates fall to 0: it is read from single networks that were trained for seven
    epochs. Networks named softmax are single ones with the loss of the authors' mixtures, beside
    those with logits. At equal epochs is in the last one that both have.
    """
    found = [(path.parent.name, json.loads(path.read_text())) for path in _paths()]
    pairs = tuple(
        Pair(cell["labels"]["setting"], name)
        for name, result in found
        if "--protocol ours" not in result["command"] or name in _CONTROLS
        for cell in result["cells"]
        if cell["labels"]["model"].endswith(_MODELS)
    )
    return StoredPairs(
        name="shares",
        title="The law of shares",
        question=" ".join(shares.__doc__.partition("\n\n")[2].split()),
        problems=pairs,
        models={pair.network: BaseEstimator() for pair in pairs},
        only={pair: {pair.network} for pair in pairs},
        measures=(
            *("share", "accuracy", "predicted_accuracy", *_GAPS),
            *("in_best_epochs", "loss", "predicted_loss"),
        ),
        run=ShareRun,
        kept=("curve", "predicted_curve"),
        draw=_draw,
        findings=_findings,
    )


def _paths():
    """Return the stored results of Table 2, which a checkout has."""
    paths = sorted(_FOLDER.glob("*/table2.json"))
    if not paths:
        raise ValueError(
            "The law of shares is computed from the results in docs/results of a checkout, but "
            "there are none. Clone the repository and run the command there."
        )
    return paths


def _findings(results):
    compared = [cell for cell in results.cells if cell.labels["result"] not in _CONTROLS]
    for name, text in _GAPS.items():
        gaps = [cell.interval(name) for cell in compared]
        n_level = sum(not gap.low > 0 and not gap.high < 0 for gap in gaps)
        size = np.mean([abs(gap.mean) for gap in gaps])
        yield Finding(
            f"Mixture minus single network {text}: {n_level} of {len(gaps)} intervals hold 0; the "
            f"means are {size:.2f} points from 0 on average."
        )
    for cell in results.cells:
        whole, law, best = map(cell.interval, (*_GAPS, "in_best_epochs"))
        yield Finding(
            f"{', '.join(cell.labels.values())}: {whole.with_mean(2, 'points')} at equal epochs, "
            f"{best.with_mean(2)} in the best of these, {law.with_mean(2)} at equal images per "
            "expert; rule: the latter within 3 points.",
            law.within(3),
        )
    shown = results.cell(**_SHOWN)
    curves = [shown.values(name).mean(0) for name in ("predicted_curve", "curve")]
    points = [
        f"{epoch}: {curves[0][epoch - 1]:.1f}, {curves[1][epoch - 1]:.1f}"
        for epoch in range(_FIRST, len(curves[0]) + 1, 3)
    ]
    yield Finding(f"CNN on CIFAR-10 by epoch, predicted and got, in %: {'; '.join(points)}.")


def _draw(results):
    figure, (axes,) = panels(1, 2, (11, 5.2), grid="both", width_ratios=(3, 2))
    rows = ["{setting}: {model} ({result})".format(**cell.labels) for cell in results.cells]
    for (name, label), color, shift in zip(_GAPS.items(), COLORS, (-0.15, 0.15), strict=False):
        gaps = np.array([cell.interval(name) for cell in results.cells])
        errors = np.abs(gaps[:, 1:] - gaps[:, :1]).T
        y = np.arange(len(rows)) + shift
        axes[0].errorbar(gaps[:, 0], y, xerr=errors, fmt="o", ms=4, color=color, label=label)
    axes[0].set_yticks(range(len(rows)), [r.replace("table2-", "") for r in rows], fontsize=9)
    axes[0].axvline(0, color="black", lw=1)
    axes[0].set(ylim=(len(rows) - 0.5, -0.5), xlabel="minus the single network (points)")
    shown = results.cell(**_SHOWN)
    for name, label, color in (
        ("curve", "mixture", COLORS[2]),
        ("predicted_curve", "predicted from the single network", COLORS[3]),
    ):
        values = shown.values(name)[:, _FIRST - 1 :]
        draw_runs(axes[1], _FIRST + np.arange(values.shape[1]), values, color=color, label=label)
    axes[1].locator_params("x", integer=True)
    axes[1].set(title="CNN, CIFAR-10", xlabel="epoch", ylabel="test accuracy (%)")
    return legend(figure, [*labelled(axes[0]), *labelled(axes[1])])
