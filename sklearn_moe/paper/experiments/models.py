"""The models and problems that experiments share."""

from ..._classifier import MoEClassifier
from .._problem import DATA_SEEDS, Problem
from .._protocols import paper_classifier

__all__ = [
    "ACTIVATION",
    "KINDS",
    "TRACE",
    "default",
    "mixture",
    "problem",
    "single",
    "single_with",
]

KINDS = ("linear", "cubic", "relu", "celu", "gelu", "tanh")  # of the activation check
ACTIVATION = {False: "linear", True: "cubic"}  # by nonlinear
TRACE = 5  # steps between two looks: the same everywhere, so that experiments share their runs


def problem(setting, data="fixed", **sizes):
    """Return a setting; `data` is "fixed" (the notebooks' one data set) or "fresh" per run."""
    return Problem(setting, data_seed=DATA_SEEDS[setting] if data == "fixed" else None, **sizes)


def single(nonlinear, filters=128, **parameters):
    """Return the notebooks' single expert with that many filters, half of them per class."""
    return paper_classifier("code", nonlinear, 1, expert_width=filters // 2, **parameters)


def single_with(activation, filters=128, **parameters):
    """Return the single expert of the notebooks' activation check."""
    return single(
        activation != "linear",
        filters,
        activation=activation,
        learning_rate_init=0.001 if activation == "linear" else 0.01,
        **parameters,
    )


def mixture(protocol, nonlinear, **parameters):
    """Return the paper's mixture of eight experts."""
    return paper_classifier(protocol, nonlinear, **parameters)


def default(nonlinear=True, **parameters):
    """Return this library's mixture with nothing but the activation chosen."""
    return MoEClassifier().set_params(activation=ACTIVATION[nonlinear], **parameters)
