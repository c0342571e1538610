"""Nested values with arrays and tensors in a file: a zip of JSON and .npy, without pickle."""

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

__all__ = ["DamagedFileError", "dump_state", "is_storable", "load_state"]

_TREE = "state.json"
_PLAIN = (type(None), bool, int, float, str)


class DamagedFileError(Exception):
    """A file is not what was written."""


def is_storable(value):
    """Tell whether nested values can be written."""
    if isinstance(value, dict):
        return all(is_storable(k) and is_storable(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(is_storable(part) for part in value)
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    return type(value) in _PLAIN or isinstance(value, np.generic | torch.Tensor)


def dump_state(state):
    """Return nested dicts, lists and tuples of numbers, texts, arrays and tensors as bytes.

    Raises
    ------
    TypeError
        If something else is among them.
    """
    with BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            tree = _Writer(archive).encode(state)
            archive.writestr(_TREE, json.dumps(tree))
        return file.getvalue()


def load_state(path):
    """Return what was written; every bit is checked, and no code of the file is run.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedFileError
        If it is no such file, or not whole.
    """
    data = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:  # it compares checksums of all it reads
            state = _decode(json.loads(archive.read(_TREE)), archive)
            return dict(state.items())
    except Exception as error:  # whatever a flipped bit leads to
        raise DamagedFileError(f"{type(error).__name__}: {error}") from error


class _Writer:
    """Encode a value as JSON; arrays become members of the archive."""

    def __init__(self, archive):
        self.archive = archive
        self.n_arrays = 0

    def encode(self, value):
        if type(value) in _PLAIN:
            return value
        if isinstance(value, np.generic):
            return {"scalar": self._add(np.asarray(value))}
        if isinstance(value, np.ndarray):
            return {"array": self._add(value)}
        if isinstance(value, torch.Tensor):
            return self._encode_tensor(value.detach().cpu())
        if isinstance(value, dict):  # keys may be numbers
            return {"dict": [[self.encode(k), self.encode(v)] for k, v in value.items()]}
        if isinstance(value, tuple):
            return {"tuple": [self.encode(part) for part in value]}
        if isinstance(value, list):
            return [self.encode(part) for part in value]
        raise TypeError(f"it cannot hold {type(value).__name__}, only numbers, texts and arrays")

    def _encode_tensor(self, value):
        try:
            return {"tensor": self._add(value.numpy())}
        except TypeError:  # NumPy knows no bfloat16 and its like
            raw = value.contiguous().flatten().view(torch.uint8).numpy()
            dtype = str(value.dtype).removeprefix("torch.")
            return {"raw": self._add(raw), "dtype": dtype, "shape": list(value.shape)}

    def _add(self, array):
        if array.dtype.hasobject:
            raise TypeError("it cannot hold an array of objects, only of numbers and texts")
        name = f"{self.n_arrays}.npy"
        self.n_arrays += 1
        with self.archive.open(name, "w", force_zip64=True) as member:
            np.lib.format.write_array(member, array, allow_pickle=False)
        return name


def _decode(value, archive):
    if isinstance(value, list):
        return [_decode(part, archive) for part in value]
    if not isinstance(value, dict):
        return value
    (kind, content), *more = value.items()
    if kind == "dict":
        return {_decode(k, archive): _decode(v, archive) for k, v in content}
    if kind == "tuple":
        return tuple(_decode(part, archive) for part in content)
    array = np.lib.format.read_array(BytesIO(archive.read(content)), allow_pickle=False)
    if kind == "scalar":
        return array[()]
    if kind == "tensor":
        return torch.from_numpy(array)
    if kind == "raw":
        (_, dtype), (_, shape) = more
        return torch.from_numpy(array).view(getattr(torch, dtype)).reshape(shape)
    return array
