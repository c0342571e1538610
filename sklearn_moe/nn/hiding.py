"""Hiding samples from experts, so that what these say of them is an honest test."""

import torch
from torch import Tensor

from .routers.noise import hash_rows

__all__ = ["hide", "hide_at_random"]


def hide(x: Tensor, n_experts: int, n_hidden: int) -> Tensor:
    """Return 1 for the experts that a sample is shown to, 0 for others, (n_samples, n_experts).

    Every sample is hidden from `n_hidden` experts, equal ones from the same: what was seen once
    is not new the second time.
    """
    # In float64 the hash does not depend on how the samples are grouped.
    ranks = hash_rows(x.double(), n_experts, torch.Generator(x.device).manual_seed(0))
    return _first(ranks, n_hidden).to(x.dtype)


def hide_at_random(n_samples: int, n_experts: int, n_hidden: int) -> Tensor:
    """Return the same by the places of samples, which repeat themselves by nature."""
    generator = torch.Generator().manual_seed(0)
    return _first(torch.rand(n_samples, n_experts, generator=generator), n_hidden)


def _first(ranks: Tensor, n_hidden: int) -> Tensor:
    chosen = ranks.topk(n_hidden, dim=1).indices
    return torch.ones_like(ranks).scatter_(1, chosen, 0.0)
