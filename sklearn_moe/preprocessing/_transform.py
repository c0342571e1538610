"""ImageTransform: any transform of torchvision as a scikit-learn transformer."""

import copy
from typing import ClassVar

import torch
from sklearn.utils import check_random_state

from ._base import StatelessImageTransformer
from ._chunks import as_device
from ._draws import TransformDraws

__all__ = ["ImageTransform"]

_MAX_SEED = 2**31 - 1


class ImageTransform(StatelessImageTransformer):
    """Apply a transform of torchvision, or any function of tensors, to pictures.

    As a step of a pipeline it transforms at prediction as well. To change the pictures in
    training only, give the transform to `MoEClassifier(train_transform=...)`.

    A transform that draws random numbers is called with one picture after the other, so that
    each has a draw of its own: torchvision draws once per call. The draws come from `random_state`
    and torch's global generator stays untouched. This covers what draws through functions
    of torch, as all transforms of `torchvision.transforms.v2` do. It does not cover NumPy's and
    Python's generators, nor layers such as `torch.nn.Dropout`: call `eval()` on networks.

    Parameters
    ----------
    func : callable
        Maps a tensor of shape (n, n_channels, height, width), n >= 1, to a tensor of n rows, each
        picture for itself. For example a transform of `torchvision.transforms.v2`, a
        `Compose` of several, or a network that finds features. It is not called `transform`: so is
        the method.

    random_state : int, RandomState instance or None, default=None
        Determines the draws, in the order of the pictures. With an int every call of `transform`
        draws the same.

    batch_size : int, default=256
        Pictures given to `func` at once if it draws nothing. It bounds the memory.

    device : str or torch.device, default="cpu"
        Where the tensors are; "auto" is a GPU where there is one. A network must already be
        there.

    Attributes
    ----------
    n_features_in_ : int
        Number of channels seen in `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe.preprocessing import ImageTransform
    >>> from torchvision.transforms import v2
    >>> X = np.arange(12, dtype=np.uint8).reshape(4, 1, 1, 3)
    >>> ImageTransform(v2.RandomHorizontalFlip(), random_state=0).transform(X)[:, 0, 0]
    array([[ 2,  1,  0],
           [ 5,  4,  3],
           [ 6,  7,  8],
           [11, 10,  9]], dtype=uint8)
    """

    _parameter_constraints: ClassVar[dict] = {
        **StatelessImageTransformer._parameter_constraints,
        "func": [callable],
        "random_state": ["random_state"],
    }

    def __init__(self, func, *, random_state=None, batch_size=256, device="cpu"):
        self.func = func
        self.random_state = random_state
        self.batch_size = batch_size
        self.device = device

    def get_params(self, deep=True):
        """Get the parameters; those of `func` are its own business.

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

    def __sklearn_clone__(self):
        """Copy `func`, which scikit-learn may take for an estimator because of `get_params`."""
        return type(self)(**copy.deepcopy(self.get_params()))

    def _operation(self, X):
        draws = TransformDraws(as_device(self.device))
        random, shape = False, None

        def call(x):
            nonlocal shape
            with draws:
                result = self.func(x.clone())  # it may write into x, X must stay
            shape = self._check_result(result, len(x), shape)
            return result

        def apply(x, rows):
            nonlocal random, shape
            if not random:
                result = call(x)
                if not draws.drew:
                    return result
                random, shape = True, None  # from here on, the pictures of this chunk included
                draws.start(check_random_state(self.random_state).randint(_MAX_SEED))
            return torch.cat([call(picture) for picture in x.split(1)])

        return apply

    def _check_result(self, result, n_rows, shape):
        """Return the shape of a row of the result, which must be that of earlier rows."""
        if not isinstance(result, torch.Tensor) or not result.ndim or len(result) != n_rows:
            got = getattr(result, "shape", type(result).__name__)
            raise ValueError(
                f"func must return a tensor of as many rows as it is given, {n_rows}, got "
                f"{got if isinstance(got, str) else tuple(got)} from {self.func!r}."
            )
        if shape not in (None, result.shape[1:]):
            raise ValueError(
                f"func returned pictures of shape {tuple(shape)} and others of "
                f"{tuple(result.shape[1:])}: one array holds one shape only. Resize them in func."
            )
        return result.shape[1:]

    def __sklearn_tags__(self):
        """Say that the type and, without a seed, the values depend on the function."""
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        tags.transformer_tags.preserves_dtype = []
        return tags
