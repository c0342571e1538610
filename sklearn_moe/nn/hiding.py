"""Masks that keep samples out of the training of some experts, for out-of-bag evaluation."""

import torch
from torch import Tensor

from .routers.noise import hash_rows

__all__ = ["hide", "hide_at_random"]


def hide(x: Tensor, n_experts: int, n_hidden: int) -> Tensor:
    """Return 1 for the experts that a sample is shown to, 0 for others, (n_samples, n_experts).

    Every sample is hidden from `n_hidden` experts, equal samples from the same ones: an expert that
    has seen one of two equal samples is no test of the other.
    """
    # In float64 the hash does not depend on how the samples are grouped.
    ranks = hash_rows(x.double(), n_experts, torch.Generator(x.device).manual_seed(0))
    return _first(ranks, n_hidden).to(x.dtype)


def hide_at_random(n_samples: int, n_experts: int, n_hidden: int) -> Tensor:
    """Return the same at random, for tables of few distinct rows."""
    generator = torch.Generator().manual_seed(0)
    return _first(torch.rand(n_samples, n_experts, generator=generator), n_hidden)


def _first(ranks: Tensor, n_hidden: int) -> Tensor:
    chosen = ranks.topk(n_hidden, dim=1).indices
    return torch.ones_like(ranks).scatter_(1, chosen, 0.0)
