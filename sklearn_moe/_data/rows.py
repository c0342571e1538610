"""Samples as tensors, and batches cut from them."""

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import issparse

from .._devices import free_memory
from .tables import IndexedView, draw_rows
from .validation import as_row_counts


def as_tensor(array):
    """Return a tensor that shares the memory of `array`, read-only memory maps included.

    Never write to it.
    """
    # Torch knows no reversed arrays, and no fields of structured ones.
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = np.ascontiguousarray(array)
    if not array.flags.writeable:
        # A view that claims to be writeable, and keeps the memory alive.
        view = {**array.__array_interface__, "data": (array.ctypes.data, False)}
        array = np.asarray(SimpleNamespace(__array_interface__=view, array=array))
    return torch.from_numpy(array)


def storage_device(X, device):
    """Return where the samples of a fit live: on its device, or on the host if they are too big.

    Half of the memory that is free on a device is left to the training.
    """
    device = torch.device(device)
    n_bytes = math.prod(X.shape) * X.dtype.itemsize
    if device.type != "cpu" and n_bytes > free_memory(device) / 2:
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


class Rows(NamedTuple):
    """Samples, encoded labels and weights, row by row."""

    x: "torch.Tensor | SparseRows | IndexedView"
    y: torch.Tensor
    weight: torch.Tensor
    # (n_samples, n_experts), bool: the experts that are trained on a sample.
    in_bag: torch.Tensor | None = None

    @classmethod
    def of(cls, samples, weights_seen, dtype, device, *, is_chunk=False):
        """Return samples as a training on a device keeps them.

        Memory is shared on the host; elsewhere arrays are copied if there is room. The weights get
        mean 1, see `sklearn_moe.nn.weighted_mean`; those of a chunk with the chunks before it.
        """
        X, y = samples.X, as_tensor(samples.y)
        weight = samples.weight / weights_seen.mean
        weight = weight if is_chunk else weight / weight.mean()
        weight = as_tensor(weight.astype(dtype))
        if issparse(X):
            return cls(SparseRows(X), y, weight)
        is_view = isinstance(X, IndexedView)
        x = IndexedView(as_tensor(X.X), as_tensor(X.rows)) if is_view else as_tensor(X)
        rows = cls(x, y, weight)
        device = storage_device(X, device)
        return rows._map(lambda column: column.to(device))

    @property
    def is_weighted(self):
        """Whether some weight differs from 1, their mean; it waits for the device."""
        return bool((self.weight != 1).any())

    def counts(self):
        """Return how many rows each weight stands for, an array."""
        return as_row_counts(self.weight.double().cpu().numpy())

    def _map(self, function):
        return Rows(*(None if column is None else function(column) for column in self))

    def cuts(self, batch_size, generator=None):
        """Return the rows of each batch: ranges, or index tensors in a new random order.

        The batches are of nearly equal size. Rows that fit into one batch come as they are, and
        without a generator all do: no copy, no shuffling. Slicing whole tensors replaces a
        DataLoader, which would touch every sample in Python.
        """
        n_rows = len(self.y)
        n_batches = max(1, math.ceil(n_rows / batch_size))
        if n_batches == 1:
            return [range(n_rows)]
        if generator is None:
            edges = np.linspace(0, n_rows, n_batches + 1).astype(int)
            return [range(start, stop) for start, stop in pairwise(edges)]
        order = torch.randperm(n_rows, generator=generator, device=self.y.device)
        return order.tensor_split(n_batches)

    def take(self, index, device):
        """Return the rows of an index tensor, or of a range without copying them, on a device.

        To a GPU they travel while the host goes on.
        """
        if isinstance(index, range):
            rows = self._map(lambda column: column[index.start : index.stop])
        else:
            rows = self._map(lambda column: column.index_select(0, index))
        if self.y.device.type == device.type:
            return rows
        return rows._map(lambda column: column.pin_memory().to(device, non_blocking=True))

    def sample(self, n_rows, device):
        """Return some of the rows, all if there are few; the same ones in every call."""
        drawn = torch.from_numpy(draw_rows(len(self.y), n_rows))
        return self.take(drawn.to(self.y.device), device)
