"""BackboneFeatures: what a network of torchvision, or any other, sees in a picture."""

import contextlib
import copy
from difflib import get_close_matches
from enum import Enum
from os import PathLike
from typing import ClassVar

import torch
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from torch import nn

from .._data.rows import as_tensor
from .._devices import OutOfMemoryError, usual_modes
from .._persistence import StoredModule
from .._validation import Count
from ..nn.seeding import OwnGenerator, is_stochastic
from ._base import BaseImageFeatures
from ._chunks import as_device
from ._crop import as_pair
from ._feature_network import FeatureNetwork, find_classifier
from ._networks import load_file, make_network, make_prepare, named_weights

__all__ = ["BackboneFeatures"]

_MAX_SEED = 2**31 - 1


def _draws(network, seed, device):
    """Return the context to compute in, where draws are our own."""
    if not is_stochastic(network, training=False):
        return contextlib.nullcontext()
    types = {"cpu", device.type}
    return OwnGenerator(*(torch.Generator(name).manual_seed(seed) for name in sorted(types)))


@contextlib.contextmanager
def _computing(network, seed, x):
    """Compute without gradients and with draws of our own; say it if the pictures do not fit."""
    try:
        with torch.no_grad(), _draws(network, seed, x.device):
            yield
    except OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as error:  # how torch and torchvision put it
        hint = (
            " Grey pictures become colored by np.repeat(X, 3, axis=1)." if x.shape[1] == 1 else ""
        )
        raise ValueError(
            f"The network does not take pictures of shape {tuple(x.shape[1:])}: {error} Pass those "
            f"that it was made for, or a size to resize them to.{hint}"
        ) from error


class BackboneFeatures(BaseImageFeatures):
    """Describe a picture by what a network has found in it before it decides for a class.

    The network is one of torchvision or your own, without its classifier: without the fully
    connected layer whose answer is that of the network. Nothing is trained. With weights that were
    learned elsewhere a mixture, or a linear model, of such features learns from few pictures.

    Parameters
    ----------
    backbone : str or torch.nn.Module, default="resnet18"
        A name of `torchvision.models.list_models()`, or a network that takes pictures as a tensor
        (n, n_channels, height, width). It is copied and stays as it is; the copy is in evaluation
        mode.

    weights : str, path-like, member of an enumeration of torchvision or None, default=None
        Weights of the network.

        - A name of torchvision such as `"DEFAULT"`, `"IMAGENET1K_V1"` or
          `"ResNet18_Weights.IMAGENET1K_V1"`. `fit` downloads them, if torch.hub does not have them
          yet.
        - The path of a file that `torch.save(network.state_dict(), path)` wrote. The classifier in
          it may have any number of classes.
        - None: those of the network, if `backbone` is one. The weights of a name are drawn from
          `random_state`: a network that has learned nothing, to compare with.

    layer : str, default=None
        Where to take the features: name of a layer as in `backbone.named_modules()`, whose answer
        they are. `""` is the network itself. None: what the classifier is given.

    size : int or pair (height, width), default=None
        What pictures are resized to. An int is the side of a square. None: what the weights of a
        name say, usually 224 x 224, or else the pictures' own size.

    random_state : int, RandomState instance or None, default=None
        Determines weights that are drawn.

    batch_size : int, default=64
        Pictures given to the network at once. It bounds the memory, and changes the result by no
        more than rounding does.

    device : str or torch.device, default="auto"
        Where `transform` computes; "auto" is a GPU where there is one.

    Attributes
    ----------
    network_ : torch.nn.Module
        Takes pictures as a tensor, bytes or floats, and returns their features. It is on the CPU.

    layer_ : str
        Name of the layer that the features are of: `layer`, or that of the classifier, which they
        are given to.

    n_features_in_ : int
        Number of channels.

    See Also
    --------
    PatchKMeansFeatures : Features without a network.
    ImageTransform : Any function of pictures, as it is.

    Notes
    -----
    Bytes become floats in [0, 1]. Pictures are normalized as the weights want it if these go by a
    name, which takes floats in [0, 1], too. For other weights normalize them in a step before, such
    as :class:`ImageScaler`.

    Of features at several places, maps (n, n_features, height, width) or tokens (n, n_tokens,
    n_features), this is the mean.

    A pipeline with `memory` keeps the features of the training pictures, and knows a network by
    its values. It knows the file of `weights` by its name only.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe.preprocessing import BackboneFeatures
    >>> X = np.random.default_rng(0).integers(256, size=(4, 3, 32, 32), dtype=np.uint8)
    >>> BackboneFeatures("shufflenet_v2_x0_5", random_state=0).fit_transform(X).shape
    (4, 1024)

    A network of your own:

    >>> from torch import nn
    >>> network = nn.Sequential(
    ...     nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    >>> features = BackboneFeatures(network).fit(X)
    >>> features.layer_, features.transform(X).shape
    ('4', (4, 8))
    >>> BackboneFeatures(network, layer="1").fit_transform(X).shape  # the mean of each map
    (4, 8)
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseImageFeatures._parameter_constraints,
        "backbone": [str, nn.Module],
        "weights": [str, PathLike, Enum, None],
        "layer": [str, None],
        "size": [Count(1), tuple, list, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        backbone="resnet18",
        *,
        weights=None,
        layer=None,
        size=None,
        random_state=None,
        batch_size=64,
        device="auto",
    ):
        self.backbone = backbone
        self.weights = weights
        self.layer = layer
        self.size = size
        self.random_state = random_state
        self.batch_size = batch_size
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    @usual_modes()
    def fit(self, X, y=None):
        """Make the network, and try it with a picture; nothing is learned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Pictures, uint8 or floats.

        y : None
            Not used.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If X is malformed, a name is unknown, the network does not take the pictures, or it has
            no such layer.
        """
        X = self._check(X, reset=True)
        size = None if self.size is None else as_pair("size", self.size)
        weights = named_weights(self.backbone, self.weights)
        drawn = self.weights is None and isinstance(self.backbone, str)
        self._seed = self._draw_seed() if drawn else 0
        with OwnGenerator(torch.Generator().manual_seed(self._seed)):
            network = make_network(self.backbone, weights)
        if not drawn and is_stochastic(network, training=False):
            self._seed = self._draw_seed()
        prepare = make_prepare(weights, size)
        x = as_tensor(X[:1])
        layer = self._find_layer(prepare, network, x)
        if self.weights is not None and weights is None:
            load_file(network, self.weights, layer if self.layer is None else None)
        self.network_ = FeatureNetwork(prepare, network, layer, before=self.layer is None).eval()
        self.layer_ = layer
        with _computing(network, self._seed, x):
            self._n_features_out = self.network_(x).shape[1]
        return self

    def _draw_seed(self):
        """Return a seed; random_state=None moves NumPy's generator, and only where it must."""
        return check_random_state(self.random_state).randint(_MAX_SEED)

    def _find_layer(self, prepare, network, x):
        """Return the name of the layer that the features are of."""
        if self.layer is None:
            with _computing(network, self._seed, x):
                layer = find_classifier(prepare, network, x)
            if layer is not None:
                return layer
            problem = f"No fully connected layer answers for {type(network).__name__}"
        else:
            names = [name for name, _ in network.named_modules()]
            if self.layer in names:
                return self.layer
            problem = f"{type(network).__name__} has no layer={self.layer!r}"
        known = [name for name, _ in network.named_children()]
        close = get_close_matches(self.layer, names) if self.layer else []
        raise ValueError(
            f"{problem}. Name the layer to take features from as in named_modules(), for example "
            f"one of {close or known}; layer='' is the network itself."
        )

    def _operation(self, X):
        device, network = as_device(self.device), self.network_
        if device.type != "cpu":
            network = copy.deepcopy(network).to(device)

        def features(x, rows):
            with _computing(network, self._seed, x):
                return network(x)

        return features

    def __getstate__(self):
        """Take networks in a form that joblib hashes by their values."""
        state = super().__getstate__().items()
        return {k: StoredModule(v) if isinstance(v, nn.Module) else v for k, v in state}

    def __setstate__(self, state):
        """Take networks back: pickles have turned them into networks, shallow copies have not."""
        state = {k: v.module if isinstance(v, StoredModule) else v for k, v in state.items()}
        super().__setstate__(state)
