"""How samples are shared among the experts, and whether the experts have specialized.

All metrics take arrays, such as those that a fitted :class:`~sklearn_moe.MoEClassifier` or
:class:`~sklearn_moe.MoERegressor` returns.
:func:`specialization_report` and the scorers take the estimator itself.
"""

from ._load import dead_experts, expert_load, load_cv, max_violation, routing_agreement
from ._report import SpecializationReport, specialization_report
from ._routing import dispatch_entropy, routing_matrix
from ._scorers import RoutingScorer, cluster_nmi_scorer, neg_dispatch_entropy_scorer
from ._significance import DispatchEntropyTest, dispatch_entropy_test

__all__ = [
    "DispatchEntropyTest",
    "RoutingScorer",
    "SpecializationReport",
    "cluster_nmi_scorer",
    "dead_experts",
    "dispatch_entropy",
    "dispatch_entropy_test",
    "expert_load",
    "load_cv",
    "max_violation",
    "neg_dispatch_entropy_scorer",
    "routing_agreement",
    "routing_matrix",
    "specialization_report",
]
