"""What a fit depends on, as text that is the same in every process."""

import hashlib
import types

import numpy as np
import torch
from scipy.sparse import issparse

from ._rows import chunks

__all__ = ["describe", "digest", "identity_of"]

_LONGEST = 80  # characters of a description
# What does not change the course of a training.
_IRRELEVANT = ("verbose", "callbacks", "checkpoint", "device", "warm_start")
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def identity_of(estimator, samples, settings, weights=None):
    """Return what decides the course of a fit, by name, as short texts.

    Parameters
    ----------
    estimator : BaseMoE
    samples : Samples
        As they are trained on.
    settings : Settings
    weights : dict or None
        State of the module that a warm start goes on from.
    """
    identity = {"estimator": type(estimator).__name__}
    for name, array in zip(("X", "y", "sample_weight", "groups"), samples, strict=True):
        if array is None:
            continue
        identity[name] = f"{array.dtype} {array.shape} {digest(array)[:16]}"
    for name, value in estimator.get_params().items():
        if name not in _IRRELEVANT:
            # What "auto" becomes may change; which precision it is follows the device.
            auto = name in settings.resolved and name != "precision"
            identity[name] = describe(settings.resolved[name] if auto else value)
    if isinstance(estimator.random_state, np.random.RandomState):
        identity["random_state"] = "RandomState"  # whose state has moved on by then
    if not settings.depends_on_max_iter:
        del identity["max_iter"]
    identity["start"] = "new weights" if weights is None else f"weights {describe(weights)}"
    return identity


def digest(array):
    """Return the SHA-256 of an array, selected rows or a sparse matrix, without a copy of it."""
    parts = (array.data, array.indices, array.indptr) if issparse(array) else (array,)
    sha = hashlib.sha256()
    for part in parts:
        sha.update(f"{part.dtype} {part.shape} ".encode())
        part = part.reshape(1) if part.ndim == 0 else part
        for rows in chunks(part) if len(part) else ():
            sha.update(part[rows].tobytes())
    return sha.hexdigest()


def describe(value):
    """Return a text that is equal for equal values: no addresses, and of much data a digest.

    A function or class of a module counts by its name; one that has no name of its own, such as a
    lambda, by its code, too.
    """
    text = _describe(value, ())
    if len(text) <= _LONGEST:
        return text
    name = value.__qualname__ if hasattr(value, "__qualname__") else type(value).__name__
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _describe(value, above):
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in _PLAIN:
        return repr(value)
    if id(value) in above:
        return "..."
    above = (*above, id(value))
    if isinstance(value, torch.Tensor) and value.device.type != "meta":
        value = value.detach().cpu()
        value = value.numpy() if value.dtype != torch.bfloat16 else value.float().numpy()
    if issparse(value) or (isinstance(value, np.ndarray) and not value.dtype.hasobject):
        return f"array {value.dtype} {value.shape} {digest(value)}"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        pairs = [(_describe(k, above), _describe(v, above)) for k, v in value.items()]
        return "{" + ", ".join(f"{k}: {v}" for k, v in sorted(pairs)) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_describe(part, above) for part in value]
        parts = sorted(parts) if isinstance(value, set | frozenset) else parts
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, types.CodeType):
        return _describe((value.co_code, value.co_consts, value.co_names), above)
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return _describe_named(value, above)
    try:
        return _describe(value.__reduce_ex__(2), above)  # what pickle would store
    except TypeError:
        return type(value).__qualname__


def _describe_named(value, above):
    name = f"{value.__module__}.{value.__qualname__}"
    if not isinstance(value, types.FunctionType):
        return name
    if value.__module__ != "__main__" and "<" not in value.__qualname__:
        return name
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    inside = (value.__code__, value.__defaults__, value.__kwdefaults__, cells)
    return name + _describe(inside, above)
