"""Mixture of experts as a scikit-learn estimator.

Fit a mixture of neural experts with `MoEClassifier` or `MoERegressor`, make the paper's problem
with `sklearn_moe.datasets`, measure who answers what with `sklearn_moe.metrics`, and see it with
`sklearn_moe.inspection`.
"""

from ._classifier import MoEClassifier
from ._compat import __version__
from ._regressor import MoERegressor
from ._trusted import trusted_types

__all__ = ["MoEClassifier", "MoERegressor", "__version__", "trusted_types"]
