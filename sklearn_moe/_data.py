"""The samples of a fit as tensors, and batches cut from them."""

import math
from typing import NamedTuple

import numpy as np
import torch

__all__ = ["Batches", "Rows", "as_tensor", "storage_device"]


class _Writable:
    """View of a read-only array that claims to be writeable, so that torch shares its memory.

    Never write to it.
    """

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


def storage_device(X, device):
    """Return where the samples of a fit live: on its device, or on the host if they are too big.

    Half of the memory that is free on a GPU is left to the training.
    """
    device = torch.device(device)
    if device.type == "cuda" and X.nbytes > torch.cuda.mem_get_info(device.index)[0] / 2:
        return torch.device("cpu")
    return device


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

    def to(self, device):
        """Return the rows on a device; to a GPU they travel while the host goes on."""
        if self.y.device.type == device.type:
            return self
        return Rows(*(column.pin_memory().to(device, non_blocking=True) for column in self))


class Batches:
    """Cut rows into batches of nearly equal size, in a new random order each time.

    Rows that fit into one batch come as they are, and without a generator all do: no copy, no
    shuffling. Slicing whole tensors replaces a DataLoader, which would touch every sample in
    Python.
    """

    def __init__(self, rows, batch_size, generator, device):
        self.rows = rows
        self.device = device
        self.n_batches = max(1, math.ceil(len(rows.y) / batch_size))
        self.generator = generator

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        if self.n_batches == 1:
            yield self.rows.to(self.device)
            return
        y = self.rows.y
        if self.generator is None:
            parts = zip(*(column.tensor_split(self.n_batches) for column in self.rows), strict=True)
            yield from (Rows(*part).to(self.device) for part in parts)
            return
        order = torch.randperm(len(y), generator=self.generator, device=y.device)
        for index in order.tensor_split(self.n_batches):
            yield self.rows.take(index).to(self.device)
