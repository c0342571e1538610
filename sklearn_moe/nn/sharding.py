"""Sums over a batch of which this process may hold only a shard.

A loss computed from such sums is the loss of the whole batch, or this process's part of it. In both
cases its gradients must be summed over the processes once. A single process needs none of this.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor


class BatchShard(NamedTuple):
    """The shard of a batch that this process holds."""

    rows: slice  # of the batch
    n_samples: int  # in the whole batch
    weight: Tensor  # of the whole batch, ()
    all_reduce: Callable[[Tensor], Tensor]  # the sum over the processes


_SHARD: ContextVar[BatchShard | None] = ContextVar("shard", default=None)


@contextmanager
def using_shard(shard: BatchShard) -> Iterator[None]:
    """Within this context the samples at hand are a shard of a batch."""
    token = _SHARD.set(shard)
    try:
        yield
    finally:
        _SHARD.reset(token)


def sum_over_shards(value: Tensor) -> Tensor:
    """Return the sum over a whole batch, given the sum over the samples at hand.

    Its gradient is that of the samples at hand; the other processes compute theirs.
    """
    shard = _SHARD.get()
    return value if shard is None else _AllReduce.apply(value, shard.all_reduce)


def batch_weight(weight: Tensor) -> Tensor:
    """Return the total weight of a whole batch, given the weights of the samples at hand."""
    shard = _SHARD.get()
    return weight.sum() if shard is None else shard.weight.to(weight.dtype)


def batch_size(weight: Tensor) -> int:
    """Return the number of samples of a whole batch, given the weights of those at hand."""
    shard = _SHARD.get()
    return len(weight) if shard is None else shard.n_samples


def draw_for_samples(draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> Tensor:
    """Draw `draw(shape)` for the whole batch and return the rows of the samples at hand."""
    shard = _SHARD.get()
    return draw(shape) if shard is None else draw((shard.n_samples, *shape[1:]))[shard.rows]


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, all_reduce):
        return all_reduce(value)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None
