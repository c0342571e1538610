"""Pictures of what a mixture of experts has learned."""

from ._routing import RoutingDisplay

__all__ = ["RoutingDisplay"]
