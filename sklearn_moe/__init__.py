"""Mixture of experts as a scikit-learn estimator.

Fit a mixture of neural experts with `MoEClassifier` or `MoERegressor`, make the paper's problem
with `sklearn_moe.datasets`, measure which expert handles which samples with `sklearn_moe.metrics`,
and see it with `sklearn_moe.inspection`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._compat import __version__

if TYPE_CHECKING:
    from ._estimators.classifier import MoEClassifier
    from ._estimators.regressor import MoERegressor
    from ._mixtures import MixtureClassifier, MixtureRegressor
    from ._parameters.parts import BalanceParams, RouterParams, SolverParams
    from ._persistence import trusted_types

__all__ = [
    "BalanceParams",
    "MixtureClassifier",
    "MixtureRegressor",
    "MoEClassifier",
    "MoERegressor",
    "RouterParams",
    "SolverParams",
    "__version__",
    "trusted_types",
]

# Where each name is: it is imported when it is asked for, as torch takes seconds.
_PLACES = {
    "BalanceParams": "_parameters.parts",
    "MixtureClassifier": "_mixtures",
    "MixtureRegressor": "_mixtures",
    "MoEClassifier": "_estimators.classifier",
    "MoERegressor": "_estimators.regressor",
    "RouterParams": "_parameters.parts",
    "SolverParams": "_parameters.parts",
    "trusted_types": "_persistence",
}
_MODULES = ("exceptions", "nn", "optim")


def __getattr__(name):
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _PLACES:
        return getattr(import_module(f".{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_PLACES, *_MODULES})
