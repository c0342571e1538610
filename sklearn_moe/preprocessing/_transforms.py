"""Images to images: any transform of torchvision as a step, and transforms for training."""

import copy
from collections.abc import Callable
from functools import reduce
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import validate_parameter_constraints

from .._validation import Count
from ..nn.seeding import use_generator
from ._base import BaseImageTransformer

_PAPER_KERNEL, _PAPER_SIGMA = (3, 7), (1.1, 2.2)


class ImageTransform(BaseImageTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Apply a transform of torchvision, or any function of tensors, to images.

    As a step of a pipeline it transforms at prediction as well. To change the images in training
    only, pass the transform to `MoEClassifier(train_transform=...)`.

    A transform that draws random numbers is called for one image after the other, so that each
    image has a draw of its own: torchvision draws once per call. The draws come from
    `random_state`, and torch's global generator stays untouched. This holds for what draws with
    functions of torch, as all transforms of `torchvision.transforms.v2` do. It does not hold for
    the generators of NumPy and Python, nor for layers such as `torch.nn.Dropout`: call `eval()` on
    networks.

    Parameters
    ----------
    func : callable
        Maps a tensor of shape (n, n_channels, height, width), n >= 1, to a tensor of n rows, each
        image independently of the others. For example a transform of `torchvision.transforms.v2`,
        a `Compose` of several, or a network that computes features.

    random_state : int, RandomState instance or None, default=None
        Determines the draws, in the order of the images. With an int every call of `transform`
        draws the same.

    batch_size : int, default=256
        Number of images passed to `func` at once if it draws nothing. It bounds the memory.

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

    A random transform:

    >>> X = np.arange(12, dtype=np.uint8).reshape(4, 1, 1, 3)
    >>> ImageTransform(v2.RandomHorizontalFlip(), random_state=0).transform(X)[:, 0, 0]
    array([[ 2,  1,  0],
           [ 5,  4,  3],
           [ 6,  7,  8],
           [11, 10,  9]], dtype=uint8)
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseImageTransformer._parameter_constraints,
        "func": [callable],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        func: Callable,
        *,
        random_state: int | np.random.RandomState | None = None,
        batch_size: int = 256,
        device: str | torch.device = "cpu",
    ):
        self.func = func
        self.random_state = random_state
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
        generators = [torch.Generator(name) for name in sorted({"cpu", device.type})]
        start = [generator.get_state() for generator in generators]
        random, shape = False, None

        def call(x):
            nonlocal shape
            with use_generator(*generators):
                result = self.func(x.clone())  # it may write into x, X must stay
            if not isinstance(result, torch.Tensor) or not result.ndim or len(result) != len(x):
                raise ValueError(
                    f"func must return a tensor of as many rows as it is given, {len(x)}, got a "
                    f"{type(result).__name__} of shape {getattr(result, 'shape', None)}."
                )
            if shape not in (None, result.shape[1:]):
                raise ValueError(
                    f"func returned images of shape {tuple(shape)} and of "
                    f"{tuple(result.shape[1:])}: one array needs one shape. Resize them in func."
                )
            shape = result.shape[1:]
            return result

        def apply(x):
            nonlocal random, shape
            if not random:
                result = call(x)
                states = [generator.get_state() for generator in generators]
                if all(map(torch.equal, states, start)):  # nothing was drawn
                    return result
                random, shape = True, None  # from here on, the images of this batch included
                seed = self._draw_seed()
                for generator in generators:
                    generator.manual_seed(seed)
            return torch.cat([call(image) for image in x.split(1)])

        return apply

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, without those of `func`.

        Parameters
        ----------
        deep : bool, default=True
            Not used.

        Returns
        -------
        params : dict
            Names and values.
        """
        # Many transforms of torchvision have a `get_params`, too, which draws random numbers.
        return super().get_params(deep=False)

    def set_output(self, *, transform: str | None = None) -> "ImageTransform":
        """Accept the default output only: images stay arrays, as no data frame can hold them.

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
                f"set_output(transform={transform!r}) asks for a data frame, which cannot hold "
                "images. Call set_output only on the steps of the pipeline that return tables."
            )
        return self

    def __sklearn_clone__(self):
        """Copy `func`, which scikit-learn may take for an estimator because of `get_params`."""
        return type(self)(**copy.deepcopy(self.get_params()))

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
        (n, c, h, w), device, p = x.shape, x.device, self.padding
        shift = torch.randint(2 * p + 1, (2, n, 1), device=device)
        mirror = torch.rand(n, 1, device=device) < 0.5
        across = torch.arange(w, device=device)
        rows = shift[0] + torch.arange(h, device=device)  # (n, h)
        columns = shift[1] + torch.where(mirror, across.flip(0), across)  # (n, w)
        padded = torch.nn.functional.pad(x, (p, p, p, p))
        samples = torch.arange(n, device=device)[:, None, None, None]
        channels = torch.arange(c, device=device)[:, None, None]
        return padded[samples, channels, rows[:, None, :, None], columns[:, None, None, :]]

    def __repr__(self):
        return f"{type(self).__name__}(padding={self.padding})"


def _smooth(padded, size, sigma, dim, length):
    """Return the mean of shifted images along an axis, weighted by normal densities."""
    steps = torch.arange(size, dtype=sigma.dtype, device=sigma.device) - size // 2
    weights = torch.softmax(-((steps / sigma[:, None]) ** 2) / 2, dim=1)  # (n, size)
    # A sum over shifts lets each image have weights of its own, and takes no convolution, which
    # would round differently for other numbers of images.
    terms = (
        padded.narrow(dim, shift, length) * weight[:, None, None, None]
        for shift, weight in enumerate(weights.T)
    )
    return reduce(torch.Tensor.add_, terms)


def paper_blur(x: torch.Tensor) -> torch.Tensor:
    """Blur images as the paper does in training: a `train_transform` of MoEClassifier.

    The kernel has 3 x 7 pixels (width x height) and a standard deviation drawn from U(1.1, 2.2)
    for every image. Blurring and scaling of channels commute, so it makes no difference that the
    paper blurs first and scales then.

    Parameters
    ----------
    x : tensor of shape (n_samples, n_channels, height, width)
        Images on any device, at least 2 pixels wide and 4 high.

    Returns
    -------
    blurred : tensor of shape (n_samples, n_channels, height, width)
        The blurred images.

    See Also
    --------
    ImageTransform : Applies `torchvision.transforms.v2.GaussianBlur` at prediction, too.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.preprocessing import paper_blur
    >>> clf = MoEClassifier(expert="cnn", train_transform=paper_blur)
    """
    if not isinstance(x, torch.Tensor) or x.ndim != 4:
        got = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(
            f"x must be a tensor of images, (n_samples, n_channels, height, width), got {got}. "
            "Pass torch.from_numpy(x) of an array."
        )
    sigma = torch.empty(len(x), device=x.device).uniform_(*_PAPER_SIGMA)
    work = x if x.is_floating_point() else x.to(torch.float32)
    (width, height), sigma = _PAPER_KERNEL, sigma.to(work.dtype)
    margins = [width // 2, width // 2, height // 2, height // 2]
    result = torch.nn.functional.pad(work, margins, mode="reflect")
    result = _smooth(result, width, sigma, 3, x.shape[3])
    result = _smooth(result, height, sigma, 2, x.shape[2])
    return result if x.is_floating_point() else result.round_().to(x.dtype)
