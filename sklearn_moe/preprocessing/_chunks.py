"""Work on many pictures in chunks: the memory needed beside input and output is bounded."""

import numpy as np
import torch

from .._data import as_tensor

__all__ = ["as_device", "chunks", "map_chunks"]


def as_device(device):
    """Return the device of a name; "auto" is CUDA where there is one."""
    if isinstance(device, str) and device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def chunks(n_samples, size):
    """Yield slices of `size` rows, the last one of what is left."""
    for start in range(0, n_samples, size):
        yield slice(start, min(start + size, n_samples))


@torch.no_grad()
def map_chunks(function, X, *, batch_size, device):
    """Return `function(tensor, rows)` of all chunks of X, one below the other, as an array."""
    result = None
    for rows in chunks(len(X), batch_size):
        # One layout for all: how torch rounds may depend on it.
        part = as_tensor(X[rows]).to(device).contiguous()
        part = function(part, rows).cpu().numpy()
        if result is None:
            result = np.empty((len(X), *part.shape[1:]), part.dtype)
        result[rows] = part
    return result
