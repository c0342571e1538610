"""What a mixture of experts has learned, in plots and in words."""

from ._explain import Explanation, explain
from ._plotting import expert_colors
from ._regions import DecisionRegionDisplay
from ._routing import RoutingDisplay
from ._rules import RegionRules, region_rules
from ._stability import RoutingStability, StabilityDisplay, routing_stability

__all__ = [
    "DecisionRegionDisplay",
    "Explanation",
    "RegionRules",
    "RoutingDisplay",
    "RoutingStability",
    "StabilityDisplay",
    "expert_colors",
    "explain",
    "region_rules",
    "routing_stability",
]
