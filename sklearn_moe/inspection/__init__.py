"""What a mixture of experts has learned, in plots and in words."""

from ._explain import explain
from ._explanation import Explanation
from ._rules import RegionRules, region_rules
from ._stability import RoutingStability, routing_stability

__all__ = [
    "Explanation",
    "RegionRules",
    "RoutingStability",
    "explain",
    "region_rules",
    "routing_stability",
]
