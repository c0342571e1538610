"""State of a net as arrays: what pickles, hashes and travels between machines."""

from itertools import groupby

import numpy as np
import torch

__all__ = ["as_arrays", "as_columns", "as_rows", "as_tensors"]


def as_arrays(value):
    """Return a nested state with every tensor replaced by an array.

    A pickled tensor holds addresses and devices: equal ones differ, byte by byte.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        # NumPy knows no bfloat16 and its like.
        return value.numpy().copy() if value.dtype in _NUMPY_TYPES else value
    if isinstance(value, dict):
        return {key: as_arrays(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(as_arrays(part) for part in value)
    return value


def as_tensors(value):
    """Return a nested state with every array replaced by a tensor."""
    if isinstance(value, np.ndarray):
        return torch.tensor(value)
    if isinstance(value, dict):
        return {key: as_tensors(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(as_tensors(part) for part in value)
    return value


def as_columns(history):
    """Return the rows of a history, dicts, in blocks of equal keys: (keys, a column for each)."""
    blocks = [(keys, list(rows)) for keys, rows in groupby(history, key=tuple)]
    return [(keys, [[row[key] for row in rows] for key in keys]) for keys, rows in blocks]


def as_rows(blocks):
    """Return the rows of which the blocks were made."""
    return [
        dict(zip(keys, values, strict=True))
        for keys, columns in blocks
        for values in zip(*columns, strict=True)
    ]


_NUMPY_TYPES = {torch.from_numpy(np.zeros(1, kind)).dtype for kind in "?bBhilefdFD"}
