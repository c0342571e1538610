"""What `partial_fit` reads in the place of X and y: batches or single samples, one by one."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

from .statistics import ENOUGH_ROWS

_MOST_NUMBERS = 2**24  # that are put together, however many samples that is


def read_batches(X, y, sample_weight, rng):
    """Return what has a method `take`, be it arrays, an iterable of batches or a dataset.

    Parameters
    ----------
    X : array-like, or without `y` an iterable of batches or a torch Dataset of samples
        Each is a tuple of X, y and perhaps weights.
    y, sample_weight : array-like or None
    rng : RandomState
        Shuffles a dataset.
    """
    if y is not None or not _is_source(X):
        return BatchReader([(X, y, sample_weight)], "X")
    if sample_weight is not None:
        raise ValueError(
            "sample_weight belongs to arrays X and y. Batches and datasets have their own: "
            "let each item be (X, y, sample_weight)."
        )
    name = type(X).__name__
    if not isinstance(X, Dataset):
        return BatchReader(_checked(X, name), name)
    items = X
    if not isinstance(X, IterableDataset):
        items = (X[int(i)] for i in rng.permutation(len(X)))
    return BatchReader(_checked(items, name, single=True), name, single=True)


def _is_source(X):
    if isinstance(X, Dataset):
        return True
    is_array = hasattr(X, "shape") or hasattr(X, "__array__") or hasattr(X, "columns")
    return isinstance(X, Iterable) and not is_array and not isinstance(X, str | bytes | Mapping)


def _checked(items, name, *, single=False):
    """Yield X, y and weights, or None, of each item as arrays."""
    kind, shape = ("sample", "(...)") if single else ("batch", "(n_samples, ...)")
    for i, item in enumerate(items):
        is_tuple = isinstance(item, tuple | list) and len(item) in (2, 3)
        if not is_tuple or not hasattr(item[0], "shape") or len(item[0].shape) < 2 - single:
            raise TypeError(
                f"Item {i} of X, {name}, is {_describe(item)}. Without y, X yields one {kind} at "
                f"a time, (X, y) or (X, y, sample_weight), with X an array or tensor of shape "
                f"{shape}. To train on arrays pass y, too."
            )
        x, y, weight = (
            part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else part
            for part in (*item, None)[:3]
        )
        if single:
            x, y = x[np.newaxis], np.asarray(y)[np.newaxis]
            weight = None if weight is None else np.reshape(weight, 1)
        yield x, y, weight


def _describe(item):
    if isinstance(item, tuple | list):
        return f"{type(item).__name__} of {[type(part).__name__ for part in item[:4]]}"
    return f"of type {type(item).__name__}"


class BatchReader:
    """Batches that are put together until they are large enough.

    Parameters
    ----------
    batches : iterable of (X, y, sample_weight)
    name : str
        What they come from.
    single : bool, default=False
        Whether they are of one sample each, and to be put together always.
    """

    def __init__(self, batches, name, *, single=False):
        self.batches = iter(batches)
        self.name = name
        self.single = single

    def first(self, n_samples=None):
        """Return the first one as the others; without a number, many enough to be measured."""
        found = self._take(ENOUGH_ROWS if n_samples is None else n_samples if self.single else 1)
        if found is None:
            raise ValueError(
                f"X, {self.name}, yields nothing to train on. An iterator can be read once only: "
                "pass a list, a DataLoader or a new iterator."
            )
        return found

    def rest(self, n_samples):
        """Yield the others as they come, single ones `n_samples` at a time."""
        while (found := self._take(n_samples if self.single else 1)) is not None:
            yield found

    def _take(self, n_samples):
        taken, n_left, n_numbers = [], n_samples, _MOST_NUMBERS
        while n_left > 0 and n_numbers > 0:
            batch = next(self.batches, None)
            if batch is None:
                break
            taken.append(batch)
            if not isinstance(batch[0], np.ndarray):  # frames and sparse matrices stay as they are
                break
            n_left -= len(batch[0])
            n_numbers -= math.prod(batch[0].shape)
        if len(taken) < 2:
            return taken[0] if taken else None
        return tuple(map(self._join, ("X", "y", "sample_weight"), zip(*taken, strict=True)))

    def _join(self, name, parts):
        shapes = [None if part is None else np.shape(part)[1:] for part in parts]
        if len({*shapes}) > 1:
            raise ValueError(
                f"All items of X, {self.name}, must hold samples of one shape, got {name} of the "
                f"shapes {', '.join(map(str, dict.fromkeys(shapes)))}."
            )
        return None if parts[0] is None else np.concatenate(parts)
