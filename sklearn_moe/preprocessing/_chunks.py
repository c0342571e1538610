"""Work on many pictures in chunks: the memory needed beside input and output is bounded."""

import numpy as np
import torch
from sklearn.utils import gen_batches

from .. import _devices
from .._data.rows import as_tensor
from .._devices import usual_modes
from .._registry import is_auto

__all__ = ["as_device", "as_float", "map_chunks"]


def as_device(device):
    """Return the device of a name; "auto" is the accelerator where there is one."""
    return _devices.as_device(_devices.accelerator() or "cpu" if is_auto(device) else device)


def as_float(x):
    """Return pictures in float32: bytes in [0, 1], floats as they are."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()


@usual_modes()
@torch.no_grad()
def map_chunks(function, X, *, batch_size, device):
    """Return `function(tensor, rows)` of all chunks of X, one below the other, as an array."""
    result = None
    for rows in gen_batches(len(X), batch_size):
        # One layout for all: how torch rounds may depend on it.
        part = as_tensor(X[rows]).to(device).contiguous()
        part = function(part, rows).cpu().numpy()
        if result is None:
            result = np.empty((len(X), *part.shape[1:]), part.dtype)
        result[rows] = part
    return result
