"""Pictures of what a mixture of experts has learned."""

from ._alignment import AlignmentDisplay
from ._colors import expert_colors
from ._entropy import DispatchEntropyDisplay
from ._expert_count import ExpertCountDisplay
from ._load import LoadDisplay
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
