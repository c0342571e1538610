"""Sums over the samples of a batch, of which other processes, its ranks, may hold a part.

A loss that is computed from such sums is the loss of the whole batch, or this rank's part of it;
either way its gradients have to be summed over the ranks, once. Without ranks nothing is done.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Part", "batch_size", "batch_weight", "draw_rows", "holding", "sum_over_ranks"]


class Part(NamedTuple):
    """What this process holds of a batch."""

    rows: slice  # of the batch
    n_samples: int  # in the whole batch
    weight: Tensor  # of the whole batch, ()
    add_up: Callable[[Tensor], Tensor]  # over the ranks


_PART: ContextVar[Part | None] = ContextVar("part", default=None)


@contextmanager
def holding(part: Part) -> Iterator[None]:
    """Within this context samples are a part of a batch."""
    token = _PART.set(part)
    try:
        yield
    finally:
        _PART.reset(token)


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum over a whole batch, given that over the samples at hand.

    Its gradient is that of the samples at hand: those of other ranks are theirs.
    """
    part = _PART.get()
    return value if part is None else _Sum.apply(value, part.add_up)


def batch_weight(weight: Tensor) -> Tensor:
    """Return the weight of a whole batch, given those of the samples at hand."""
    part = _PART.get()
    return weight.sum() if part is None else part.weight.to(weight.dtype)


def batch_size(weight: Tensor) -> int:
    """Return the number of samples of a whole batch, given the weights of those at hand."""
    part = _PART.get()
    return len(weight) if part is None else part.n_samples


def draw_rows(draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> Tensor:
    """Return random numbers, a row per sample at hand, of `draw(shape)` for the whole batch."""
    part = _PART.get()
    return draw(shape) if part is None else draw((part.n_samples, *shape[1:]))[part.rows]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, add_up):
        return add_up(value)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None
