"""How experts share the samples, and whether they have specialized.

All metrics take arrays, such as those a fitted :class:`~sklearn_moe.MoEClassifier` or
:class:`~sklearn_moe.MoERegressor` returns.
:func:`specialization_report` takes the estimator itself, as the scorers do.
"""

from ._agreement import mutual_information, purity, routing_agreement
from ._errors import expert_error_matrix, own_other_error
from ._exchange import expert_swap_accuracy, knock_out_accuracy
from ._load import dead_experts, expert_load, load_cv, usage_entropy
from ._pictures import picture_properties
from ._report import ClusterAgreement, SpecializationReport
from ._router import last_fluctuation, router_margin
from ._routing import dispatch_entropy, routing_matrix
from ._scorers import (
    RoutingScorer,
    cluster_nmi_scorer,
    neg_dead_experts_scorer,
    neg_dispatch_entropy_scorer,
    neg_load_cv_scorer,
)
from ._significance import DispatchEntropyTest, dispatch_entropy_test
from ._specialization import specialization_report
from ._split import SplitInformation, split_information

__all__ = [
    "ClusterAgreement",
    "DispatchEntropyTest",
    "RoutingScorer",
    "SpecializationReport",
    "SplitInformation",
    "cluster_nmi_scorer",
    "dead_experts",
    "dispatch_entropy",
    "dispatch_entropy_test",
    "expert_error_matrix",
    "expert_load",
    "expert_swap_accuracy",
    "knock_out_accuracy",
    "last_fluctuation",
    "load_cv",
    "mutual_information",
    "neg_dead_experts_scorer",
    "neg_dispatch_entropy_scorer",
    "neg_load_cv_scorer",
    "own_other_error",
    "picture_properties",
    "purity",
    "router_margin",
    "routing_agreement",
    "routing_matrix",
    "specialization_report",
    "split_information",
    "usage_entropy",
]
