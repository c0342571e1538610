"""The samples of a fit as tensors, and batches cut from them."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import issparse

from ._devices import OutOfMemoryError, free_memory
from ._rows import SelectedRows

__all__ = ["Batches", "Rows", "SparseRows", "as_tensor", "pick", "storage_device"]


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

    Half of the memory that is free on a device is left to the training.
    """
    device = torch.device(device)
    if issparse(X) or (device.type != "cpu" and X.nbytes > free_memory(device) / 2):
        return torch.device("cpu")
    return device


class SparseRows:
    """Rows of a CSR matrix; those that are asked for come as a dense tensor."""

    def __init__(self, X):
        self.X = X
        self.shape = X.shape
        self.ndim = 2
        self.dtype = torch.from_numpy(np.empty(0, X.dtype)).dtype

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return torch.from_numpy(self.X[rows].toarray())

    def index_select(self, axis, index):
        """Return the rows of an index tensor, as tensors do."""
        return self[index.numpy()]


def _as_rows(X):
    """Return what gives the rows of X as tensors; nothing is copied."""
    if issparse(X):
        return SparseRows(X)
    if isinstance(X, SelectedRows):
        return SelectedRows(as_tensor(X.X), as_tensor(X.rows))
    return as_tensor(X)


def pick(column, index):
    """Return the rows of an index tensor, or of a range without copying them."""
    if not isinstance(index, range):
        return column.index_select(0, index)
    return column if len(index) == len(column) else column[index.start : index.stop]


class Rows(NamedTuple):
    """Samples, encoded labels and weights, row by row."""

    x: "torch.Tensor | SparseRows | SelectedRows"
    y: torch.Tensor
    weight: torch.Tensor
    # (n_samples, n_experts), bool: the experts that a sample is shown to.
    shown: torch.Tensor | None = None

    @classmethod
    def from_arrays(cls, X, y, weight, device):
        """Share the memory of the arrays on the host; elsewhere copy them if there is room."""
        rows = cls(_as_rows(X), as_tensor(y), as_tensor(weight))
        try:
            return rows if issparse(X) else rows._map(lambda column: column.to(device))
        except OutOfMemoryError:  # other processes took what was free
            return rows

    def _map(self, function):
        return Rows(*(None if column is None else function(column) for column in self))

    def take(self, index):
        """Return the rows of an index tensor, or of a range without copying them."""
        return self._map(lambda column: pick(column, index))

    def to(self, device):
        """Return the rows on a device; to a GPU they travel while the host goes on."""
        rows = self if isinstance(self.x, torch.Tensor) else self._replace(x=self.x[:])
        if self.y.device.type == device.type:
            return rows
        return rows._map(lambda column: column.pin_memory().to(device, non_blocking=True))


class Batches:
    """Cut rows into batches of nearly equal size, in a new random order each time.

    Rows that fit into one batch come as they are, and without a generator all do: no copy, no
    shuffling. Slicing whole tensors replaces a DataLoader, which would touch every sample in
    Python.
    """

    def __init__(self, rows, batch_size, generator, device):
        self.n_batches = max(1, math.ceil(len(rows.y) / batch_size))
        if self.n_batches == 1 and isinstance(rows.x, SelectedRows):
            rows = rows._replace(x=rows.x[:])  # gathered once
        self.rows = rows
        self.device = device
        self.generator = generator

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        for cut in self.cuts():
            yield self.rows.take(cut).to(self.device)

    def cuts(self):
        """Return the rows of each batch: ranges, or tensors in a new random order."""
        y = self.rows.y
        if self.generator is None or self.n_batches == 1:
            edges = np.linspace(0, len(y), self.n_batches + 1).astype(int)
            return [range(start, stop) for start, stop in pairwise(edges)]
        order = torch.randperm(len(y), generator=self.generator, device=y.device)
        return order.tensor_split(self.n_batches)

    def indices(self):
        """Return the same as tensors."""
        device = self.rows.y.device
        return [
            torch.arange(cut.start, cut.stop, device=device) if isinstance(cut, range) else cut
            for cut in self.cuts()
        ]
