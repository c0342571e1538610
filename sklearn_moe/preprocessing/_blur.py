"""GaussianBlur: every picture smoothed by a kernel of its own."""

from numbers import Integral, Real
from typing import ClassVar

import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from .._validation import Count
from ._base import StatelessImageTransformer

__all__ = ["GaussianBlur", "paper_blur"]

_PAPER_KERNEL, _PAPER_SIGMA = (3, 7), (1.1, 2.2)


def _weights(size, sigma):
    """Return normal densities of `size` steps, (n_samples, size), each of sum 1."""
    steps = torch.arange(size, dtype=sigma.dtype, device=sigma.device) - size // 2
    sigma = sigma.clamp(min=1e-6)  # the middle alone, as in the limit 0
    return torch.softmax(-((steps / sigma[:, None]) ** 2) / 2, dim=1)


def _smooth(padded, weights, dim, length):
    """Return the weighted mean of shifted pictures along an axis."""
    # A sum over shifts lets each picture have its own weights, and takes no convolution that
    # would round differently for other numbers of pictures.
    result = None
    for shift, weight in enumerate(weights.T):
        term = padded.narrow(dim, shift, length) * weight[:, None, None, None]
        result = term if result is None else result.add_(term)
    return result


def blur(x, kernel_size, sigma):
    """Blur pictures x, (n, c, h, w), each by its own deviation, sigma (n,)."""
    work = x if x.is_floating_point() else x.to(torch.float32)
    (width, height), sigma = kernel_size, sigma.to(work.dtype)
    margins = [width // 2, width // 2, height // 2, height // 2]
    result = torch.nn.functional.pad(work, margins, mode="reflect")
    result = _smooth(result, _weights(width, sigma), 3, x.shape[3])
    result = _smooth(result, _weights(height, sigma), 2, x.shape[2])
    return result if x.is_floating_point() else result.round_().to(x.dtype)


def paper_blur(x):
    """Blur pictures as the paper does in training: the `train_transform` of MoEClassifier.

    The kernel has 3 x 7 pixels (width x height) and a standard deviation drawn from U(1.1, 2.2)
    for every picture. A blur and a scaling of channels commute, so that it makes no difference
    that the paper blurs first and scales then.

    Parameters
    ----------
    x : tensor of shape (n_samples, n_channels, height, width)
        Pictures on any device, at least 2 pixels wide and 4 high.

    Returns
    -------
    blurred : tensor of shape (n_samples, n_channels, height, width)
        The blurred pictures.

    See Also
    --------
    GaussianBlur : The same as a transformer, which blurs at prediction, too.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.preprocessing import paper_blur
    >>> clf = MoEClassifier(expert="cnn", train_transform=paper_blur)
    """
    if not isinstance(x, torch.Tensor) or x.ndim != 4:
        got = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(
            f"x must be a tensor of pictures, (n_samples, n_channels, height, width), got {got}. "
            "Of arrays use GaussianBlur."
        )
    sigma = torch.empty(len(x), device=x.device).uniform_(*_PAPER_SIGMA)
    return blur(x, _PAPER_KERNEL, sigma)


class GaussianBlur(StatelessImageTransformer):
    """Smooth each picture by a Gaussian kernel, its margins mirrored.

    As a step of a pipeline it blurs at prediction as well. To blur in training only, as the paper
    does, use `MoEClassifier(train_transform=paper_blur)`.

    Parameters
    ----------
    kernel_size : int or pair (width, height), default=(3, 7)
        Pixels of the kernel, odd. The order is torchvision's.

    sigma : float or pair (low, high), default=(1.1, 2.2)
        Standard deviation of the kernel in pixels. Of a range each picture gets its own, drawn
        uniformly; torchvision would draw a single one for all pictures of a call.

    random_state : int, RandomState instance or None, default=None
        Determines the deviations drawn, in the order of the pictures. With an int every call of
        `transform` draws the same ones.

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
    paper_blur : The same for `train_transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe.preprocessing import GaussianBlur
    >>> X = np.zeros((1, 1, 5, 5), dtype=np.uint8)
    >>> X[0, 0, 2, 2] = 160
    >>> GaussianBlur(3, sigma=0.85).transform(X)[0, 0, 1:4, 1:4]
    array([[10, 20, 10],
           [20, 40, 20],
           [10, 20, 10]], dtype=uint8)
    """

    _parameter_constraints: ClassVar[dict] = {
        **StatelessImageTransformer._parameter_constraints,
        "kernel_size": [Count(1), tuple, list],
        "sigma": [Interval(Real, 0, None, closed="neither"), tuple, list],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        kernel_size=_PAPER_KERNEL,
        sigma=_PAPER_SIGMA,
        *,
        random_state=None,
        batch_size=256,
        device="cpu",
    ):
        self.kernel_size = kernel_size
        self.sigma = sigma
        self.random_state = random_state
        self.batch_size = batch_size
        self.device = device

    def _kernel_size(self):
        """Return (width, height)."""
        size = self.kernel_size
        pair = (size, size) if isinstance(size, Integral) else tuple(size)
        if len(pair) != 2 or not all(isinstance(k, Integral) and k > 0 and k % 2 for k in pair):
            raise ValueError(
                "kernel_size must be an odd positive integer or a pair (width, height) of them, "
                f"got {size!r}."
            )
        return pair

    def _sigma_range(self):
        """Return (low, high)."""
        pair = (self.sigma, self.sigma) if isinstance(self.sigma, Real) else tuple(self.sigma)
        if (
            len(pair) != 2
            or not all(isinstance(bound, Real) for bound in pair)
            or not 0 < pair[0] <= pair[1] < float("inf")
        ):
            raise ValueError(
                "sigma must be a positive number or a range (low, high) with 0 < low <= high, "
                f"got {self.sigma!r}."
            )
        return pair

    def _check_parameters(self, X):
        self._sigma_range()
        width, height = self._kernel_size()
        if X.shape[2] <= height // 2 or X.shape[3] <= width // 2:
            raise ValueError(
                f"kernel_size={self.kernel_size}, as (width, height), needs pictures of more than "
                f"{height // 2} x {width // 2} pixels to mirror their margins, got {X.shape[2]} x "
                f"{X.shape[3]}. Use a smaller kernel_size."
            )

    def _operation(self, X):
        kernel_size, (low, high) = self._kernel_size(), self._sigma_range()
        if low < high:
            # Drawn for all pictures at once: how they are cut into chunks does not matter.
            drawn = check_random_state(self.random_state).uniform(low, high, size=len(X))
            sigma = torch.from_numpy(drawn)
        else:
            sigma = torch.full((len(X),), float(low), dtype=torch.float64)
        return lambda x, rows: blur(x, kernel_size, sigma[rows].to(x.device))

    def __sklearn_tags__(self):
        """Mark as non-deterministic unless seeded."""
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None and not isinstance(self.sigma, Real)
        return tags
