"""Rotate: all pictures by the same angle."""

from numbers import Real
from typing import ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from .._validation import naming
from ._base import StatelessImageTransformer

__all__ = ["Rotate"]


class Rotate(StatelessImageTransformer):
    """Turn each picture about its center, at the same size.

    Parameters
    ----------
    angle : float
        Degrees, counter-clockwise.

    interpolation : {"bilinear", "nearest"}, default="bilinear"
        How pixels between pixels are found. Right angles of square pictures are exact.

    fill : float or sequence of floats, default=0
        Value of what lies outside the picture, for all channels or for each, in units of X. The
        corners that it shows are a label that a classifier reads: cut them off with
        `CenterCropResize`.

    batch_size : int, default=256
        Pictures transformed at once. It bounds the memory and does not change the result.

    device : str or torch.device, default="cpu"
        Where to compute; "auto" is a GPU where there is one. Bytes may be rounded differently
        there.

    Attributes
    ----------
    n_features_in_ : int
        Number of channels seen in `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe.preprocessing import Rotate
    >>> X = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)
    >>> Rotate(90).transform(X)[0, 0]
    array([[1, 3],
           [0, 2]], dtype=uint8)
    """

    _parameter_constraints: ClassVar[dict] = {
        **StatelessImageTransformer._parameter_constraints,
        "angle": [Interval(Real, None, None, closed="neither")],
        "interpolation": [StrOptions({"bilinear", "nearest"})],
        "fill": [Interval(Real, None, None, closed="neither"), "array-like"],
    }

    def __init__(self, angle, *, interpolation="bilinear", fill=0, batch_size=256, device="cpu"):
        self.angle = angle
        self.interpolation = interpolation
        self.fill = fill
        self.batch_size = batch_size
        self.device = device

    def _fill(self, n_channels):
        """Return one value per channel."""
        if isinstance(self.fill, Real):
            return [float(self.fill)] * n_channels
        with naming("fill"):
            return [float(value) for value in self.fill]

    def _check_parameters(self, X):
        if len(self._fill(X.shape[1])) != X.shape[1]:
            raise ValueError(
                f"fill={self.fill} has {len(self.fill)} values, the pictures have {X.shape[1]} "
                "channels. Pass one value per channel, or a single one for all."
            )

    def _operation(self, X):
        from torchvision.transforms.v2 import InterpolationMode, functional

        fill = self._fill(X.shape[1])
        interpolation = InterpolationMode(self.interpolation)
        return lambda x, rows: functional.rotate(
            x, float(self.angle), interpolation=interpolation, fill=fill
        )
