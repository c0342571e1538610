"""Whether training keeps the limit of one expert is a matter of rates: a flow, and networks."""

from itertools import permutations

import numpy as np
import torch
from scipy.special import expit

from ..._estimators.classifier import MoEClassifier
from ...nn import ExpertSpec
from .._experiment import Finding
from .._later_runs import ErrorHead, HandMade, HandMadeRun, Overlap, PatchNetwork
from .common import experiment
from .drawing import AXES, COLORS, labelled, legend, panels

RATES = {"1/2": 1 / 2, "1": 1, "2": 2, "8/3": 8 / 3, "4": 4, "8": 8}
# Strengths of the features and offsets of the centers, as made by hand, but for an offset of the
# first center: without one it stays 0, whatever its rate.
START = 0.5 * np.array([[22, 21, 18, 12], [0.5, 2, 5, 11]])
_STEP, _EPOCHS, _BATCH, _N_TRAIN = 0.1, 13, 4000, 64_000
_TIME = _STEP * _EPOCHS * _N_TRAIN / _BATCH
_KEPT = 86.5  # % accuracy
_LOG, _COUNT = "log loss", "count of errors"
PULLS = {_LOG: lambda m: expit(-m), _COUNT: lambda m: expit(m) * expit(-m)}  # minus derivatives


def margins(strengths, offsets):
    """Return y F(x) by pair of clusters (k, k'), by y eps, and by y; all are equally likely."""
    of, other = np.array([*permutations(range(len(strengths)), 2)]).T
    sign = np.array([1, -1])
    noise = sign[:, None] * strengths[other][:, None, None]
    return strengths[of][:, None, None] + noise + sign * offsets[of][:, None, None]


def flow(start, rate, time, loss=_LOG, step=0.05):
    """Return strengths and offsets after gradient descent on an expected loss.

    Parameters
    ----------
    start : array of shape (2, K)
        Strengths of the features, offsets of the centers.
    rate : float
        Of the offsets; that of the strengths is 1.
    time : float
        Steps times their size.
    loss : {"log loss", "count of errors"}, default="log loss"
    step : float, default=0.05
    """
    strengths, offsets = start
    of, other = np.array([*permutations(range(len(strengths)), 2)]).T
    sign = np.array([1, -1])
    for _ in range(round(time / step)):
        m = margins(strengths, offsets)
        pull = step * PULLS[loss](m) / m.size
        moves = np.zeros((2, len(strengths)))
        np.add.at(moves[0], of, pull.sum((1, 2)))
        np.add.at(moves[0], other, pull.sum(2) @ sign)
        np.add.at(moves[1], of, pull.sum(1) @ sign)
        strengths, offsets = strengths + moves[0], offsets + rate * moves[1]
    return np.array([strengths, offsets])


def accuracy(strengths, offsets):
    """Return the accuracy, in percent, of an expert without random noise."""
    return 100 * float((margins(strengths, offsets) > 0).mean())


def steep_sign(u):
    """Return the sign of a feature or a center, and 0 of random noise."""
    return ((3 * u - 15).tanh() + (3 * u + 15).tanh()) / 2  # features are at least 10


class CenterRate(HandMade):
    """Start from strengths and offsets, and train the offsets with a rate of their own.

    The expert has a unit for each feature and each center, and no bias of its output, which would
    take up the mean of the offsets.
    """

    def __init__(self, rate=1.0, problem=None, dictionary=None):
        super().__init__(problem, dictionary)
        self.rate = rate

    def on_train_begin(self, net, **kwargs):
        """Set all weights, and multiply gradients of the readout of the centers' units."""
        ((first, _, readout),) = net.module_.experts
        values = np.vstack(self.dictionary), np.zeros(START.size), START.reshape(1, -1), np.zeros(1)
        weights = first.weight, first.bias, readout.weight, readout.bias
        with torch.no_grad():
            for tensor, value in zip(weights, values, strict=True):
                tensor.copy_(torch.tensor(value))
        rates = torch.ones(START.shape)
        rates[1] = self.rate
        readout.weight.register_hook(lambda gradient: gradient * rates.reshape(1, -1))
        readout.bias.register_hook(torch.zeros_like)

    def on_train_end(self, net, **kwargs):
        """Leave what the training has found."""


class FlowRun(HandMadeRun):
    """A run beside what the flow predicts of it."""

    def measure(self, fitted, samples):
        """Return the accuracy at the end of the flow."""
        loss = _COUNT if fitted.loss is ErrorHead else _LOG
        end = flow(START, fitted.callbacks[0].rate, _TIME, loss)
        return {"predicted_accuracy": accuracy(*end)}


def basin(protocol="code", data="fixed"):
    """Return single experts that start at the limit, by loss and by the rate of their centers.

    A single expert that is at the limit of 87.5 % has a strength for each feature and an offset for
    each center. Is it kept by training? Gradient descent on the expected loss is a flow of these 8
    numbers (docs/limit_training.rst), which is integrated here. Beside it networks of 8 steep units
    start from the same numbers, and all their weights are trained, by {steps} steps of {batch:,} of
    {n:,} samples; gradients of the readout of the centers are multiplied by their rate. Two losses:
    the log loss, and a smooth count of errors, sigmoid(-y F). New data for each run, 16,000 samples
    to test on.
    """
    expert = MoEClassifier(
        1,
        expert=ExpertSpec(PatchNetwork, ndim=3, options={"n_layers": 1}),
        expert_width=START.size,
        activation=steep_sign,
        batch_size=_BATCH,
        learning_rate_init=_STEP,
        max_iter=_EPOCHS,
        tol=None,
    ).set_params(solver="sgd", solver__schedule="constant", solver__momentum=0.0)
    return experiment(
        basin,
        "The limit of one expert is kept or lost by rates",
        {"steps": _EPOCHS * _N_TRAIN // _BATCH, "batch": _BATCH, "n": _N_TRAIN},
        problems=(Overlap(1.0, n_train=_N_TRAIN, n_test=16_000),),
        models={"network": expert},
        grid={
            "loss": {_LOG: {"loss": "margin"}, _COUNT: {"loss": ErrorHead}},
            "rate": {name: {"callbacks": [CenterRate(rate)]} for name, rate in RATES.items()},
        },
        n_runs=5,
        measures=("accuracy", "predicted_accuracy"),
        run=FlowRun,
        draw=_draw,
        findings=_findings,
    )


def _findings(results):
    for loss in PULLS:
        cells = results.by("rate", loss=loss)
        got, predicted = (
            np.concatenate([cell.values(name) for cell in cells.values()]) >= _KEPT
            for name in results.experiment.measures
        )
        agree = got == predicted
        yield Finding(
            f"By the {loss} the flow predicts whether {_KEPT:g} % are kept, in {agree.sum()} of "
            f"{len(agree)} runs.",
            bool(agree.mean() > 0.9),
        )
        for name, cell in cells.items():
            yield Finding(
                f"By the {loss}, rate {name}: predicted "
                f"{cell.mean('predicted_accuracy'):.2f} %, got "
                f"{cell.interval('accuracy').with_mean(2, '%')}."
            )


def _draw(results):
    figure, ((ax,),) = panels(1, 1, (7.5, 4.2), grid="both")
    x = np.geomspace(min(RATES.values()), max(RATES.values()), 60)
    for loss, color in zip(PULLS, COLORS, strict=False):
        ends = [accuracy(*flow(START, rate, _TIME, loss, step=0.2)) for rate in x]
        ax.plot(x, ends, color=color, label=f"flow, {loss}")
        for name, cell in results.by("rate", loss=loss).items():
            runs = cell.values("accuracy")
            (dots,) = ax.plot(np.full(len(runs), RATES[name]), runs, "o", ms=4, color=color)
        dots.set_label("networks")
    ax.axhline(87.5, color="0.5", lw=0.8, ls="--", zorder=0, label="limit of one expert")
    ax.set_xscale("log")
    ax.set_xticks([*RATES.values()], [*RATES])
    ax.minorticks_off()
    ax.set(xlabel="rate of the centers, that of the features is 1", ylabel=AXES["accuracy"])
    return legend(figure, labelled(ax), ncols=3)
