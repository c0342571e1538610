"""Mixture of experts as a scikit-learn estimator.

Fit a mixture of neural experts with `MoEClassifier` or `MoERegressor`, make the paper's problem
with `sklearn_moe.datasets`, measure which expert handles which samples with `sklearn_moe.metrics`,
and see it with `sklearn_moe.inspection`.
"""

from ._base.pruning import prune_experts
from ._classifier import MoEClassifier
from ._compat import __version__
from ._mixtures import MixtureClassifier, MixtureRegressor
from ._parameters.estimator_params import BalanceParams, FitCheckpoint, RouterParams, SolverParams
from ._persistence import trusted_types
from ._regressor import MoERegressor

__all__ = [
    "BalanceParams",
    "FitCheckpoint",
    "MixtureClassifier",
    "MixtureRegressor",
    "MoEClassifier",
    "MoERegressor",
    "RouterParams",
    "SolverParams",
    "__version__",
    "prune_experts",
    "trusted_types",
]
