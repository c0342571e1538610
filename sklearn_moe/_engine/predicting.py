"""The net as far as it predicts."""

import math

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.metrics import accuracy_score, r2_score
from skorch.dataset import Dataset

from .._data import Rows, SparseRows, as_tensor
from .._devices import OutOfMemoryError, free_memory
from .._modes import usual_modes
from ..nn import TableEncoder
from .stored import StoredNet

__all__ = ["PredictingNet", "WeightedRows"]

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
