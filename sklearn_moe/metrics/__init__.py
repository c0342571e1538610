"""How samples are shared among the experts, and whether the experts have specialized.

All metrics take arrays, such as those that a fitted :class:`~sklearn_moe.MoEClassifier` or
:class:`~sklearn_moe.MoERegressor` returns.
:func:`specialization_report` takes the estimator itself.
"""

from ._report import SpecializationReport, specialization_report
from ._routing import dispatch_entropy, routing_matrix

__all__ = [
    "SpecializationReport",
    "dispatch_entropy",
    "routing_matrix",
    "specialization_report",
]
