"""Experts that are alike, with the weights of all in one tensor each."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

__all__ = ["Stack", "stacked"]


class Stack(nn.Module):
    """A sequence of experts as one module: what is done to all of them is done once.

    Entry m of the first axis of every parameter belongs to expert m. `stack[m]` is that expert. Its
    weights are views: what is written to them is written to the stack, and a gradient by them is a
    gradient of the stack. Subclasses map a batch to the answers of all, (n_samples, n_experts,
    n_outputs), and make an expert by `_expert(m)`.
    """

    def __len__(self) -> int:
        return len(next(self.parameters()))

    def __getitem__(self, index: int) -> nn.Module:
        return self._expert(range(len(self))[index])

    def __iter__(self) -> Iterator[nn.Module]:
        return (self[m] for m in range(len(self)))

    def _expert(self, m: int) -> nn.Module:
        raise NotImplementedError


def stacked(weights: Sequence[Tensor]) -> nn.Parameter:
    """Return a parameter of its own with the weights of each expert."""
    return nn.Parameter(torch.stack([weight.detach() for weight in weights]))
