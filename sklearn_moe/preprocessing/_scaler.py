"""ImageScaler: bytes to floats, and each channel to mean 0 and deviation 1."""

from typing import ClassVar

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils.validation import check_is_fitted

from .._data.statistics import channel_moments
from .._validation import naming
from ._base import BaseImageTransformer

__all__ = ["ImageScaler"]


class ImageScaler(BaseImageTransformer):
    """Scale pictures channel by channel: (x - mean) / std.

    Bytes become float32 and are divided by 255 first; floats are taken as they are. `mean` and
    `std` are in units of the result of that, [0, 1] for bytes.

    Parameters
    ----------
    mean : sequence of floats, one per channel, default=None
        What is subtracted. None: the mean of the pictures given to `fit`, over all pixels.

    std : sequence of floats, one per channel, default=None
        What is divided by, 1 instead of 0. None: the standard deviation of all pixels of the
        pictures given to `fit`.

    batch_size : int, default=256
        Pictures worked on at once. It bounds the memory and does not change the result.

    device : str or torch.device, default="cpu"
        Where `transform` computes; "auto" is a GPU where there is one.

    Attributes
    ----------
    mean_ : ndarray of shape (n_channels,)
        Mean of each channel.

    std_ : ndarray of shape (n_channels,)
        Standard deviation of each channel, 0 where it is constant.

    scale_ : ndarray of shape (n_channels,)
        What each channel is divided by: `std_`, but 1 for constant channels.

    n_features_in_ : int
        Number of channels.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe.preprocessing import ImageScaler
    >>> X = np.arange(0, 256, 5, dtype=np.uint8).reshape(1, 1, 4, 13)
    >>> scaler = ImageScaler().fit(X)
    >>> scaler.mean_
    array([0.5])
    >>> X_new = scaler.transform(X)
    >>> X_new.dtype, round(float(X_new.std()), 3)
    (dtype('float32'), 1.0)
    >>> np.array_equal((scaler.inverse_transform(X_new) * 255).round(), X)
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseImageTransformer._parameter_constraints,
        "mean": ["array-like", None],
        "std": ["array-like", None],
    }

    def __init__(self, mean=None, std=None, *, batch_size=256, device="cpu"):
        self.mean = mean
        self.std = std
        self.batch_size = batch_size
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Find mean and standard deviation of each channel, where they are not given.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Pictures, uint8 or floats.

        y : None
            Not used.

        Returns
        -------
        self : object
            The fitted scaler.

        Raises
        ------
        ValueError
            If X is malformed, `mean` or `std` has not one finite number per channel, or one of
            `std` is negative.
        """
        X = self._check(X, reset=True)
        mean, std = self._given("mean", X), self._given("std", X)
        if std is not None and std.min() < 0:
            raise ValueError(f"std must not be negative, got {self.std}.")
        if mean is None or std is None:
            unit = 255 if X.dtype == np.uint8 else 1
            found_mean, found_std = channel_moments(X, batch_size=self.batch_size)
            mean = found_mean / unit if mean is None else mean
            std = found_std / unit if std is None else std
        self.mean_, self.std_ = mean, std
        self.scale_ = np.where(std == 0, 1.0, std)
        return self

    def _given(self, name, X):
        """Return the parameter as an array, None if it is None."""
        value = getattr(self, name)
        if value is None:
            return None
        with naming(name):
            array = np.array(value, dtype=np.float64)
        if array.shape != (X.shape[1],) or not np.isfinite(array).all():
            raise ValueError(
                f"{name} must be one finite number per channel, {X.shape[1]} for these pictures, "
                f"got {value!r}. Pass None to find it from the pictures."
            )
        return array

    def transform(self, X):
        """Scale pictures.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Pictures, uint8 or floats.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_channels, height, width)
            The scaled pictures: float64 of float64, else float32.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        from torchvision.transforms.v2 import functional

        mean, scale = self.mean_.tolist(), self.scale_.tolist()

        def scale_channels(x, rows):
            if not x.is_floating_point():
                x = functional.to_dtype(x, torch.float32, scale=True)
            return functional.normalize(x, mean, scale)

        return self._map(scale_channels, X)

    def inverse_transform(self, X):
        """Undo the scaling of channels; bytes come back as floats in [0, 1].

        Parameters
        ----------
        X : array-like of floats of shape (n_samples, n_channels, height, width)
            Scaled pictures.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_channels, height, width)
            `X * scale_ + mean_`, in the type of X. To have bytes again, multiply by 255 and
            round.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        if X.dtype == np.uint8:
            raise ValueError("inverse_transform takes scaled pictures, floats, got uint8.")
        X = X * self.scale_.astype(X.dtype)[:, np.newaxis, np.newaxis]
        X += self.mean_.astype(X.dtype)[:, np.newaxis, np.newaxis]
        return X

    def __sklearn_tags__(self):
        """Say that bytes become floats."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32", "float64"]
        return tags
