"""How samples are shared among the experts, and whether the experts have specialized.

All metrics take arrays, such as those that a fitted :class:`~sklearn_moe.MoEClassifier` or
:class:`~sklearn_moe.MoERegressor` returns.
:func:`specialization_report`, :func:`cluster_test` and the scorer take the estimator itself.
"""

from ._cluster_test import cluster_test
from ._load import dead_experts, expert_load, load_cv
from ._report import SpecializationReport, specialization_report
from ._routing import dispatch_entropy, routing_matrix
from ._scorers import neg_dispatch_entropy_scorer

__all__ = [
    "SpecializationReport",
    "cluster_test",
    "dead_experts",
    "dispatch_entropy",
    "expert_load",
    "load_cv",
    "neg_dispatch_entropy_scorer",
    "routing_matrix",
    "specialization_report",
]
