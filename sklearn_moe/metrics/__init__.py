"""How samples are shared among the experts, and whether the experts have specialized.

All metrics take arrays, such as those that a fitted :class:`~sklearn_moe.MoEClassifier` or
:class:`~sklearn_moe.MoERegressor` returns.
:func:`specialization_report` and :func:`cluster_test` take the estimator itself.
"""

from ._cluster_test import cluster_test
from ._report import SpecializationReport, specialization_report
from ._routing import dispatch_entropy, routing_matrix

__all__ = [
    "SpecializationReport",
    "cluster_test",
    "dispatch_entropy",
    "routing_matrix",
    "specialization_report",
]
