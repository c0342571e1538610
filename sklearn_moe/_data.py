"""The samples of a fit as tensors, and batches cut from them."""

import math
from typing import NamedTuple

import numpy as np
import torch

__all__ = ["Batches", "Rows", "as_tensor"]


class _Writable:
    """A read-only array shown to torch as it is: we only read it, torch need not warn."""

    def __init__(self, array):
        self.array = array  # keeps the memory alive
        self.__array_interface__ = {
            **array.__array_interface__,
            "data": (array.__array_interface__["data"][0], False),
        }


def as_tensor(array):
    """Return a tensor that shares the memory of `array`, read-only memory maps included."""
    if any(stride < 0 for stride in array.strides):  # torch knows no reversed arrays
        array = np.ascontiguousarray(array)
    if not array.flags.writeable:
        array = np.asarray(_Writable(array))
    return torch.from_numpy(array)


class Rows(NamedTuple):
    """Samples, encoded labels and weights, row by row."""

    x: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor

    @classmethod
    def from_arrays(cls, X, y, weight, device):
        """Share the memory of the arrays where the device allows it."""
        return cls(*(as_tensor(array).to(device) for array in (X, y, weight)))

    def take(self, index):
        """Return the rows of an index tensor."""
        return Rows(*(column.index_select(0, index) for column in self))


class Batches:
    """Cut rows into batches of nearly equal size, in a new random order each time.

    Rows that fit into one batch come as they are: no copy, no shuffling. Slicing whole tensors
    replaces a DataLoader, which would touch every sample in Python.
    """

    def __init__(self, rows, batch_size, generator):
        self.rows = rows
        self.n_batches = math.ceil(len(rows.y) / batch_size)
        self.generator = generator

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        if self.n_batches == 1:
            yield self.rows
            return
        y = self.rows.y
        order = torch.randperm(len(y), generator=self.generator, device=y.device)
        for index in order.tensor_split(self.n_batches):
            yield self.rows.take(index)
