"""Images to images: any transform of torchvision as a step, and one for training."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import validate_parameter_constraints

from .._validation import Count
from ._base import BaseImageTransformer


class ImageTransform(BaseImageTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Apply a transform of torchvision, or any function of tensors, to images.

    As a step of a pipeline it transforms at prediction as well. To change the images in training
    only, pass the transform to `MoEClassifier(train_transform=...)`.

    It must not draw random numbers: torchvision draws once for all images of a batch, from the
    global generator of torch. Pass what draws as `train_transform`. Call `eval()` on networks.

    Parameters
    ----------
    func : callable
        Maps a tensor of shape (n, n_channels, height, width), n >= 1, to a tensor of n rows, each
        image independently of the others. For example a transform of `torchvision.transforms.v2`,
        a `Compose` of several, or a network that computes features.

    batch_size : int, default=256
        Number of images passed to `func` at once. It bounds the memory.

    device : str or torch.device, default="cpu"
        Where the tensors are; "auto" is a GPU where there is one. A network must already be
        there.

    Attributes
    ----------
    n_features_in_ : int
        Number of channels seen in `fit`.

    Examples
    --------
    The preparation of CIFAR-10 in the paper: cut out the middle, enlarge it, standardize each
    channel by constants.

    >>> import numpy as np
    >>> import torch
    >>> from sklearn_moe.preprocessing import ImageTransform
    >>> from torchvision.transforms import v2
    >>> X = np.random.default_rng(0).integers(256, size=(5, 3, 32, 32), dtype=np.uint8)
    >>> paper = v2.Compose([
    ...     v2.CenterCrop(24),
    ...     v2.Resize((32, 32)),
    ...     v2.ToDtype(torch.float32, scale=True),
    ...     v2.Normalize((.4914, .4822, .4465), (.2023, .1994, .2010)),
    ... ])
    >>> X_new = ImageTransform(paper).fit_transform(X)
    >>> X_new.shape, X_new.dtype
    ((5, 3, 32, 32), dtype('float32'))
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseImageTransformer._parameter_constraints,
        "func": [callable],
    }

    def __init__(
        self,
        func: Callable,
        *,
        batch_size: int = 256,
        device: str | torch.device = "cpu",
    ):
        self.func = func
        self.batch_size = batch_size
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: None = None) -> "ImageTransform":
        """Check the parameters and the images; nothing is learned, and `fit` may be left out.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, uint8 or floats.

        y : None
            Not used.

        Returns
        -------
        self : object
            The transformer.
        """
        self._check(X, reset=True)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Transform images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, uint8 or floats.

        Returns
        -------
        X_new : ndarray of shape (n_samples, ...)
            The transformed images, a new array.
        """
        self._validate_params()  # fit may not have been called
        return self._transform(self._check(X, reset=False))

    def _operation(self, X, device):
        def apply(x):
            # It may write into its tensor, and X must stay.
            result = self.func(x.clone())
            if not isinstance(result, torch.Tensor) or not result.ndim or len(result) != len(x):
                raise ValueError(
                    f"func must return a tensor of as many rows as it is given, {len(x)}, got a "
                    f"{type(result).__name__} of shape {getattr(result, 'shape', None)}."
                )
            return result

        return apply

    def __sklearn_tags__(self):
        """Say that fit may be left out."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


class RandomCropFlip:
    """Shift each image by up to `padding` pixels and mirror half of the images.

    A `train_transform` of MoEClassifier. Every image has a shift of its own; transforms of
    torchvision draw one for all images of a batch.

    Parameters
    ----------
    padding : int, default=4
        Largest shift in pixels, in each direction, at least 0. Pixels from outside the image are 0.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.preprocessing import RandomCropFlip
    >>> clf = MoEClassifier(expert="cnn", train_transform=RandomCropFlip())
    """

    _parameter_constraints: ClassVar[dict] = {"padding": [Count(0)]}

    def __init__(self, padding: int = 4):
        self.padding = padding

    def __call__(self, x):
        """Map images (n, c, h, w) to shifted and mirrored ones."""
        validate_parameter_constraints(
            self._parameter_constraints, vars(self), caller_name=type(self).__name__
        )
        n, n_channels, height, width = x.shape
        pad = self.padding
        device = x.device
        shift = torch.randint(2 * pad + 1, (2, n, 1), device=device)
        mirror = torch.rand(n, 1, device=device) < 0.5
        across = torch.arange(width, device=device)
        # The rows (n, height) and columns (n, width) of the padded images that are kept.
        rows = shift[0] + torch.arange(height, device=device)
        columns = shift[1] + torch.where(mirror, across.flip(0), across)
        padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
        samples = torch.arange(n, device=device)[:, None, None, None]
        channels = torch.arange(n_channels, device=device)[:, None, None]
        return padded[samples, channels, rows[:, None, :, None], columns[:, None, None, :]]

    def __repr__(self):
        return f"{type(self).__name__}(padding={self.padding})"
