"""Plots of what a mixture of experts has learned."""

from ._alignment import AlignmentDisplay
from ._entropy import DispatchEntropyDisplay
from ._expert_count import ExpertCountDisplay
from ._load import LoadDisplay
from ._plotting import expert_colors
from ._regions import DecisionRegionDisplay
from ._routing import RoutingDisplay

__all__ = [
    "AlignmentDisplay",
    "DecisionRegionDisplay",
    "DispatchEntropyDisplay",
    "ExpertCountDisplay",
    "LoadDisplay",
    "RoutingDisplay",
    "expert_colors",
]
