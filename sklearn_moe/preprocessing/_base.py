"""What every transformer of images shares: checks, batches of images, the device."""

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import _devices
from .._data.rows import as_tensor
from .._devices import default_torch_modes
from .._validation import Count, check_images


def as_float(x):
    """Return images in float32: uint8 becomes [0, 1], floats keep their values."""
    is_uint8 = x.dtype == torch.uint8
    x = x.float()
    return x.div_(255) if is_uint8 else x


class BaseImageFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A transformer of images, batch by batch, to a table in float32.

    A subclass has `batch_size` and `device`, and `fit`, which sets `_n_features_out`, and
    `_operation(X, device)`, which returns the function of a batch.
    """

    _parameter_constraints: ClassVar[dict] = {
        "batch_size": [Count(1)],
        "device": [str, torch.device],
    }

    def _check(self, X, *, reset):
        """Return X as an array of uint8, float32 or float64; it is copied only if necessary."""
        X = check_images(X, name="X", caller=type(self).__name__)
        # It remembers and compares n_features_in_, here the number of channels.
        return validate_data(self, X, reset=reset, skip_check_array=True)

    @default_torch_modes()
    @torch.no_grad()
    def _transform(self, X):
        """Return the results of all batches of X as one array; memory is needed for one batch."""
        chosen = _devices.accelerator() or "cpu" if self.device == "auto" else self.device
        device = _devices.as_device(chosen)
        function = self._operation(X, device)
        result = None
        for rows in gen_batches(len(X), self.batch_size):
            # One memory layout for all: how torch rounds may depend on it.
            part = function(as_tensor(X[rows]).to(device).contiguous()).cpu().numpy()
            if result is None:
                result = np.empty((len(X), *part.shape[1:]), part.dtype)
            result[rows] = part
        return result

    def __sklearn_tags__(self):
        """Say that X is no table, and that the result has a type of its own."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = tags.input_tags.three_d_array = False
        tags.transformer_tags.preserves_dtype = []
        tags.non_deterministic = self.random_state is None
        return tags

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Compute the features of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, uint8 or floats.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features_out), float32
            The features, one row per image.

        Raises
        ------
        ValueError
            If X is malformed or its images do not fit what was learned in `fit`.
        """
        check_is_fitted(self)
        return self._transform(self._check(X, reset=False))
