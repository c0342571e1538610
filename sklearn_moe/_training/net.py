"""The skorch net: how it predicts, and how it is stored."""

import inspect
import math
from itertools import groupby

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.metrics import accuracy_score, r2_score
from skorch import NeuralNet
from skorch.dataset import Dataset

from .._compat import __version__
from .._data.rows import Rows, SparseRows, as_tensor
from .._devices import OutOfMemoryError, as_device, free_memory, usual_modes
from ..nn import OwnGenerator, TableEncoder

__all__ = [
    "WITH_STATE",
    "PredictingNet",
    "StoredNet",
    "WeightedRows",
    "as_arrays",
    "as_columns",
    "as_rows",
    "as_tensors",
]


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


_FORMAT = 1  # of the state; another number is not read
WITH_STATE = ("module_", "criterion_", "optimizer_")


class StoredNet(NeuralNet):
    """skorch net that is stored as constructor arguments and arrays: equal nets, equal pickles."""

    def _recipe(self):
        """Return the arguments that build the net, as far as they are not skorch's defaults."""
        defaults = inspect.signature(NeuralNet).parameters
        recipe = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in defaults or value is not defaults[name].default
        }
        return recipe | {"callbacks": None, "device": str(self.device)}

    def __getstate__(self):
        """Return the recipe, the weights, and the state of the optimizer if it has any."""
        state = {"format": _FORMAT, "version": __version__, "recipe": self._recipe()}
        if self.initialized_:
            parts = [name for name in WITH_STATE if name != "optimizer_" or self.optimizer_.state]
            state["parts"] = {name: as_arrays(getattr(self, name).state_dict()) for name in parts}
            state["history"] = as_columns(self.history)
        return state

    @usual_modes()
    def __setstate__(self, state):
        """Build the parts anew and give them their weights."""
        version = state.get("version") if isinstance(state, dict) else None
        try:
            if version is None or state["format"] != _FORMAT:
                raise ValueError(f"its state is not of format {_FORMAT}")
            self._restore(state)
        except Exception as error:
            raise ValueError(
                f"The stored net cannot be read: {type(error).__name__}: {error}. It was stored by "
                f"sklearn_moe {version or 'of an unknown version'}, this is {__version__}. Load it "
                "with the version that stored it, and where it uses parts of your own with these "
                "as they were; or fit the model again."
            ) from error

    def _restore(self, state):
        recipe = state["recipe"]
        self.__init__(**recipe | {"device": _or_cpu(recipe["device"])})
        if "parts" not in state:
            return
        with OwnGenerator(torch.Generator().manual_seed(0)):
            self.initialize()
        for name, arrays in state["parts"].items():
            getattr(self, name).load_state_dict(as_tensors(arrays))
        self.history.extend(as_rows(state["history"]))
        self.module_.eval()

    @usual_modes()
    def to(self, device):
        """Move the net, the state of its optimizer included."""
        self.device = str(device)
        self.module_.to(device)
        self.criterion_.to(device)
        state = self.optimizer_.state_dict()
        self.initialize_optimizer()
        self.optimizer_.load_state_dict(state)
        return self


def _or_cpu(device):
    """Return a device that is there: the given one, or the CPU."""
    try:
        return str(as_device(device))
    except ValueError:
        return "cpu"


# Features in one batch of predict, whatever the shape of X: what fits the caches of a CPU; a GPU
# wants enough to be busy, if it has room: up to 40 bytes per feature where all experts answer.
_PREDICT_ELEMENTS, _MOST_ELEMENTS, _BYTES_PER_ELEMENT = 2**22, 2**28, 64
_PICTURE_GROWTH = 16  # an expert for pictures holds many channels of them at a time


class WeightedRows(Dataset):
    """The rows of a fit as skorch's callbacks know a dataset: X and y."""

    def __init__(self, rows):
        super().__init__(rows.x, rows.y)
        self.rows = rows


class PredictingNet(StoredNet):
    """skorch net that predicts in large batches."""

    def get_dataset(self, X, y=None):
        """Return rows with weights, given arrays, tensors or a dataset."""
        if isinstance(X, WeightedRows):
            return X
        if isinstance(X, Dataset):
            X, y = X.X, X.y
        # The slice gathers sparse or selected rows at once, which NumPy would do one by one.
        x = X if isinstance(X, torch.Tensor) else as_tensor(np.asarray(X[:]))
        y = torch.zeros(len(x), dtype=torch.long) if y is None else torch.as_tensor(y)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        y = y if self.criterion_.kind == "classes" else y.to(dtype)
        weight = torch.ones(len(x), dtype=dtype, device=x.device)
        return WeightedRows(Rows(x, y.to(x.device), weight))

    @property
    def dtype(self):
        """Type of the weights, in which the mixture computes."""
        return next(self.module_.parameters()).dtype

    def _as_input(self, x):
        """Return a batch in the dtype of the module; bytes are pictures, 0 ... 255 to 0 ... 1.

        Tables that the module standardizes stay in their own type until then.
        """
        if isinstance(self.module_.encoder, TableEncoder):
            return x
        is_bytes = x.dtype == torch.uint8
        x = x.to(self.dtype)
        return x.div_(255) if is_bytes else x

    def _predict_size(self, X):
        """Return how many samples are predicted at a time."""
        growth = _PICTURE_GROWTH if X.ndim == 4 else 1
        elements, device = _PREDICT_ELEMENTS, torch.device(self.device)
        if device.type != "cpu":
            elements = int(min(_MOST_ELEMENTS, free_memory(device) / _BYTES_PER_ELEMENT))
        return max(1, elements // (growth * math.prod(X.shape[1:])))

    @usual_modes()
    @torch.inference_mode()
    def map_batches(self, function, X):
        """Apply `function` to X, an array or tensor, in batches; return one array."""
        X = SparseRows(X) if issparse(X) else X
        size, start, parts = min(self._predict_size(X), X.shape[0]), 0, []
        while start < X.shape[0]:
            x = X[start : start + size]
            x = as_tensor(x) if isinstance(x, np.ndarray) else x
            try:
                parts.append(function(self._as_input(x.to(self.device))).cpu())
            except OutOfMemoryError:
                if size == 1:
                    raise
                size //= 2
            else:
                start += size
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).numpy()

    def infer(self, x, **fit_params):
        """Return the outputs of a batch, without noise."""
        return self.module_(self._as_input(x.to(self.device))).output

    def evaluation_step(self, batch, training=False):
        """Return the outputs of a batch of rows."""
        self._set_training(training)
        with torch.set_grad_enabled(training):
            return self.infer(batch.x)

    def _get_predict_nonlinearity(self):
        return self.criterion_.predict

    def predict(self, X):
        """Return indices of classes, labels as zeros and ones, or numbers."""
        proba = self.predict_proba(X)
        if self.criterion_.kind == "numbers":
            return proba
        return proba.argmax(1) if self.criterion_.kind == "classes" else (proba > 0.5).astype(int)

    def score(self, X, y, sample_weight=None):
        """Return the accuracy, or R2 of numbers."""
        score = r2_score if self.criterion_.kind == "numbers" else accuracy_score
        return score(y, self.predict(X), sample_weight=sample_weight)

    @property
    def classes_(self):
        """The indices of the classes, as scorers ask for them."""
        return np.arange(self.criterion_.n_targets)

    def __sklearn_tags__(self):
        """Say what the net predicts: scorers choose by it."""
        tags = super().__sklearn_tags__()
        if hasattr(self, "criterion_"):
            is_regressor = self.criterion_.kind == "numbers"
            tags.estimator_type = "regressor" if is_regressor else "classifier"
        return tags
