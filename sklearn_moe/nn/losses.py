"""Weighted means over the samples of a batch and over those of each expert."""

import torch
from torch import Tensor

from .routers import Route

__all__ = ["expert_means", "weighted_mean"]


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return sum(w v) / sum(w), over the samples."""
    return weight @ values / weight.sum()


def expert_means(values: Tensor, weight: Tensor, route: Route) -> Tensor:
    """Return the weighted mean of `values` over each expert's share, 0 where it has none.

    Parameters
    ----------
    values, weight : (n_samples,)
    route : Route

    Returns
    -------
    (n_experts,)
    """
    load = route.per_expert(weight)
    return route.per_expert(weight * values) / load.clamp(min=torch.finfo(load.dtype).tiny)
