"""How samples are shared among the experts, and whether the experts have specialized.

All metrics take arrays, such as those that a fitted :class:`~sklearn_moe.MoEClassifier` or
:class:`~sklearn_moe.MoERegressor` returns.
:func:`specialization_report` and the scorers take the estimator itself.
"""

from ._experts import (
    ablation_accuracy,
    cross_evaluation_accuracy,
    expert_error_matrix,
    own_other_error,
)
from ._report import ClusterAgreement, SpecializationReport
from ._router import (
    dead_experts,
    expert_load,
    last_fluctuation,
    load_cv,
    max_violation,
    router_margin,
    routing_agreement,
    usage_entropy,
)
from ._routing import dispatch_entropy, mutual_information, purity, routing_matrix
from ._scorers import (
    RoutingScorer,
    cluster_nmi_scorer,
    neg_dead_experts_scorer,
    neg_dispatch_entropy_scorer,
    neg_load_cv_scorer,
)
from ._significance import DispatchEntropyTest, dispatch_entropy_test
from ._specialization import specialization_report
from ._split import SplitInformation, image_properties, split_information

# fmt: off
__all__ = [  # noqa: RUF022
    # clusters and experts
    "DispatchEntropyTest", "dispatch_entropy", "dispatch_entropy_test", "mutual_information",
    "purity", "routing_matrix",
    # the load and the router
    "dead_experts", "expert_load", "last_fluctuation", "load_cv", "max_violation",
    "router_margin", "routing_agreement", "usage_entropy",
    # what the experts are worth
    "ablation_accuracy", "cross_evaluation_accuracy", "expert_error_matrix", "own_other_error",
    # what a split follows
    "SplitInformation", "image_properties", "split_information",
    # all of it, and scorers
    "ClusterAgreement", "SpecializationReport", "specialization_report",
    "RoutingScorer", "cluster_nmi_scorer", "neg_dead_experts_scorer",
    "neg_dispatch_entropy_scorer", "neg_load_cv_scorer",
]
# fmt: on
