"""What every transformer of pictures shares."""

from typing import ClassVar

import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from .._image_checks import check_images
from .._validation import Count
from ._chunks import as_device, map_chunks

__all__ = ["BaseImageFeatures", "BaseImageTransformer", "StatelessImageTransformer"]


class _TakesImages(BaseEstimator):
    """Checks and chunks of pictures, for subclasses with `batch_size` and `device`."""

    _parameter_constraints: ClassVar[dict] = {
        "batch_size": [Count(1)],
        "device": [str, torch.device],
    }

    def _check(self, X, *, reset):
        """Return X as an array of uint8, float32 or float64, a copy only where it must be."""
        X = check_images(X, name="X", caller=type(self).__name__)
        expected = X.shape[1] if reset else getattr(self, "n_features_in_", X.shape[1])
        if X.shape[1] != expected:
            raise ValueError(
                f"X has {X.shape[1]} channels, {type(self).__name__} was fitted on pictures of "
                f"{expected}. Pass pictures of {expected} channels, or fit again."
            )
        # Remembers n_features_in_, here the number of channels.
        return validate_data(self, X, reset=reset, skip_check_array=True)

    def _map(self, function, X):
        """Return `function(tensor, rows)` of all chunks of X as one array."""
        device = as_device(self.device)
        return map_chunks(function, X, batch_size=self.batch_size, device=device)

    def __sklearn_tags__(self):
        """Say that X is no table; there is no tag for four axes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        return tags


class BaseImageTransformer(TransformerMixin, _TakesImages):
    """A transformer whose results are pictures, which no data frame can hold."""

    def __init_subclass__(cls, **kwargs):
        """Switch scikit-learn's wrapping of outputs into data frames off, for all subclasses."""
        super().__init_subclass__(auto_wrap_output_keys=None, **kwargs)

    def set_output(self, *, transform=None):
        """Say that pictures stay arrays.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            Only None and "default" are possible.

        Returns
        -------
        self : object
            The transformer.

        Raises
        ------
        ValueError
            If `transform` asks for a data frame.
        """
        if transform not in (None, "default"):
            raise ValueError(
                f"set_output(transform={transform!r}) makes data frames, but pictures have four "
                f"axes: {type(self).__name__} returns arrays only. Call set_output on the steps "
                "that return tables instead of the whole pipeline."
            )
        return self

    def __sklearn_tags__(self):
        """Say which types stay as they are."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["uint8", "float32", "float64"]
        return tags


class BaseImageFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _TakesImages):
    """A transformer that makes a table, float32, of pictures.

    A subclass has `random_state`, `fit`, which sets `_n_features_out`, and `_operation(X)`, which
    returns the function of chunks.
    """

    def transform(self, X):
        """Find the features of pictures.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Pictures, uint8 or floats.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features_out), float32
            The features, a row per picture.

        Raises
        ------
        ValueError
            If X is malformed or its pictures do not fit what was learned in `fit`.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        return self._map(self._operation(X), X)

    def __sklearn_tags__(self):
        """Say that the result is float32, whatever the pictures are."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        tags.non_deterministic = self.random_state is None
        return tags


class StatelessImageTransformer(BaseImageTransformer):
    """A transformer that learns nothing: `fit` only checks, and need not be called.

    A subclass has `_operation(X)`, which returns the function of chunks, and may have
    `_check_parameters(X)`.
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the parameters and the pictures; nothing is learned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Pictures, uint8 or floats.

        y : None
            Not used.

        Returns
        -------
        self : object
            The transformer.
        """
        X = self._check(X, reset=True)
        self._check_parameters(X)
        return self

    def transform(self, X):
        """Transform pictures.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Pictures, uint8 or floats.

        Returns
        -------
        X_new : ndarray of shape (n_samples, ...)
            The transformed pictures, a new array.
        """
        self._validate_params()  # fit may not have been called
        X = self._check(X, reset=False)
        self._check_parameters(X)
        return self._map(self._operation(X), X)

    def _check_parameters(self, X):
        """Refuse parameters that do not fit the pictures."""

    def __sklearn_is_fitted__(self):
        """Return True: there is nothing to fit."""
        return True

    def __sklearn_tags__(self):
        """Say that fit may be left out."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags
