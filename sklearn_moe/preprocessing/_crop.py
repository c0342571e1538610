"""CenterCropResize: the middle of each picture, at another size."""

from numbers import Integral
from typing import ClassVar

from sklearn.utils._param_validation import StrOptions

from .._validation import Count
from ._base import StatelessImageTransformer

__all__ = ["CenterCropResize", "as_pair"]

_SIZE = [Count(1), tuple, list]


def as_pair(name, value):
    """Return (height, width) of a size given as one or two positive integers."""
    pair = (value, value) if isinstance(value, Integral) else tuple(value)
    if len(pair) != 2 or not all(isinstance(side, Integral) and side >= 1 for side in pair):
        raise ValueError(
            f"{name} must be a positive integer or a pair (height, width) of them, got {value!r}."
        )
    return pair


class CenterCropResize(StatelessImageTransformer):
    """Cut the middle out of each picture and resize it.

    The paper cuts 24 x 24 pixels out of CIFAR-10 and enlarges them to 32 x 32:
    `CenterCropResize(24, 32)`. After a rotation by 30 degrees a square of 24 pixels still has
    black corners, which give the rotation away: the largest one without is 22 pixels, in the
    middle.

    Parameters
    ----------
    crop : int or pair (height, width)
        Size of what is cut out, at most that of the pictures.

    size : int or pair (height, width)
        Size of the result. Unlike in torchvision an int is the side of a square.

    interpolation : {"bilinear", "bicubic", "nearest"}, default="bilinear"
        How pixels between pixels are found.

    antialias : bool, default=True
        Whether to smooth where pictures shrink; "nearest" never does.

    batch_size : int, default=256
        Pictures transformed at once. It bounds the memory and does not change the result.

    device : str or torch.device, default="cpu"
        Where to compute; "auto" is a GPU where there is one. Bytes may be rounded differently
        there.

    Attributes
    ----------
    n_features_in_ : int
        Number of channels seen in `fit`.

    See Also
    --------
    cifar10_features : The whole pipeline of the paper.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe.preprocessing import CenterCropResize
    >>> X = np.zeros((5, 3, 32, 32), dtype=np.uint8)
    >>> X_new = CenterCropResize(24, 32).transform(X)
    >>> X_new.shape, X_new.dtype
    ((5, 3, 32, 32), dtype('uint8'))
    """

    _parameter_constraints: ClassVar[dict] = {
        **StatelessImageTransformer._parameter_constraints,
        "crop": _SIZE,
        "size": _SIZE,
        "interpolation": [StrOptions({"bilinear", "bicubic", "nearest"})],
        "antialias": ["boolean"],
    }

    def __init__(
        self,
        crop,
        size,
        *,
        interpolation="bilinear",
        antialias=True,
        batch_size=256,
        device="cpu",
    ):
        self.crop = crop
        self.size = size
        self.interpolation = interpolation
        self.antialias = antialias
        self.batch_size = batch_size
        self.device = device

    def _check_parameters(self, X):
        as_pair("size", self.size)
        height, width = as_pair("crop", self.crop)
        if height > X.shape[2] or width > X.shape[3]:  # torchvision would add black margins
            raise ValueError(
                f"crop={self.crop} is larger than the pictures of {X.shape[2]} x {X.shape[3]} "
                "pixels. Use a smaller crop, or resize only: crop=(height, width) of the pictures."
            )

    def _operation(self, X):
        from torchvision.transforms.v2 import InterpolationMode, functional

        crop, size = as_pair("crop", self.crop), as_pair("size", self.size)
        interpolation = InterpolationMode(self.interpolation)

        def crop_and_resize(x, rows):
            middle = functional.center_crop(x, list(crop)).contiguous()
            return functional.resize(
                middle, list(size), interpolation=interpolation, antialias=self.antialias
            )

        return crop_and_resize
