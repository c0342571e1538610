"""BackboneFeatures: what a network of torchvision, or any other, computes before its classifier."""

import contextlib
import copy
from collections.abc import Sequence
from difflib import get_close_matches
from enum import Enum
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from torch import nn

from .._data.rows import as_tensor
from .._devices import OutOfMemoryError, default_torch_modes
from .._persistence import StoredModule
from .._validation import Count
from ..nn.seeding import fixed_draws, is_stochastic, use_generator
from ._base import BaseImageFeatures, as_float


class _PrepareImages(nn.Module):
    """Images to floats, then to another size, then x -> (x - mean) / std of each channel.

    Unlike the transforms of torchvision's weights it resizes floats, not uint8.
    """

    def __init__(self, size=None, mean=None, std=None, interpolation="bilinear"):
        super().__init__()
        self.size, self.mean, self.std, self.interpolation = size, mean, std, interpolation

    def forward(self, x):
        x = as_float(x)
        if self.size is not None and self.size != tuple(x.shape[2:]):
            x = F.interpolate(x, self.size, mode=self.interpolation, antialias=True)
        if self.mean is not None:
            mean, std = (x.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
            x = (x - mean) / std
        return x


class _Reached(Exception):
    """Ends a forward pass at a layer; its argument is the output of the layer."""


class _LastLayer(nn.Module):
    """Takes the place of a layer and ends the forward pass with its output."""

    # torchvision.models.feature_extraction cuts networks, too, but only those that torch.fx can
    # trace, and what it returns cannot always be pickled.
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, *args, **kwargs):
        raise _Reached(self.layer(*args, **kwargs))


class _FeatureNetwork(nn.Module):
    """Images to a table: the output of a layer of a network, averaged over places.

    Parameters
    ----------
    prepare : torch.nn.Module
        What is done to images first.
    network : torch.nn.Module
        The network, which is changed.
    layer : str
        Name of a layer as in `network.named_modules()`; "" is the network itself.
    before : bool
        Whether to take the input of the layer instead.
    """

    def __init__(self, prepare, network, layer, *, before):
        super().__init__()
        self.prepare, self.network, self.layer = prepare, network, layer
        if layer:
            last = nn.Identity() if before else network.get_submodule(layer)
            parent, _, name = layer.rpartition(".")
            setattr(network.get_submodule(parent), name, _LastLayer(last))

    def forward(self, x):
        """Return the features, (n, n_features) in float32."""
        n = len(x)
        try:
            x = self.network(_prepared(x, self.prepare, self.network))
        except _Reached as reached:
            (x,) = reached.args
        else:
            if self.layer:
                raise ValueError(
                    f"layer={self.layer!r} has no part in the output of the network. Name another."
                )
        if not isinstance(x, torch.Tensor) or x.ndim not in (2, 3, 4) or len(x) != n:
            got = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise ValueError(
                f"The output of layer={self.layer!r} for {n} images must be a tensor ({n}, "
                f"n_features), ({n}, n_tokens, n_features) or ({n}, n_features, height, width), "
                f"got {got}. Name another layer."
            )
        return (x if x.ndim == 2 else x.mean(dim=1 if x.ndim == 3 else (2, 3))).float()


def _prepared(x, prepare, network):
    """Return prepared images in the type of the network's weights."""
    x = prepare(x)
    return x.to(next((p.dtype for p in network.parameters() if p.is_floating_point()), x.dtype))


def _find_classifier(prepare, network, x):
    """Return the name of the fully connected layer whose output is the network's, or None."""
    outputs = []
    hooks = [
        module.register_forward_hook(lambda _, args, output, n=name: outputs.append((n, output)))
        for name, module in network.named_modules()
        if name and isinstance(module, nn.Linear)
    ]
    try:
        result = network(_prepared(x, prepare, network))
    finally:
        for hook in hooks:
            hook.remove()
    return next((name for name, output in reversed(outputs) if output is result), None)


def _named_weights(backbone, weights):
    """Return the weights of torchvision that `weights` names, None for a file or None."""
    names = ()
    if isinstance(backbone, str):
        from torchvision import models

        if backbone.lower() not in models.list_models():
            close = get_close_matches(backbone.lower(), models.list_models(module=models))
            raise ValueError(
                f"Unknown backbone={backbone!r}: pass a name of torchvision.models.list_models(), "
                f"such as {close or ['resnet18', 'vit_b_16']}, or a torch.nn.Module."
            )
        known = models.get_model_weights(backbone)
        name = str(weights).removeprefix(f"{known.__name__}.")  # of a member: Enumeration.NAME
        if name in known.__members__:
            return known[name]
        names = tuple(known.__members__)
    if weights is None or (not isinstance(weights, Enum) and Path(weights).is_file()):
        return None
    raise ValueError(
        f"weights={weights!r} must be the path of a state dict, None, or one of the names that "
        f"torchvision knows for the backbone: {names}. A torch.nn.Module has none."
    )


def _load_file(network, path, classifier):
    """Load a state dict into a network, except for the layer `classifier`.

    The classifier of the file may have another number of classes.
    """
    state, own = torch.load(path, map_location="cpu", weights_only=True), network.state_dict()
    if not isinstance(state, dict):
        raise ValueError(
            f"weights={str(path)!r} holds a {type(state).__name__}, not a state dict. Write it "
            "with torch.save(network.state_dict(), path)."
        )
    if classifier is not None:
        state |= {k: own[k] for k in own if k.startswith(f"{classifier}.")}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"weights={str(path)!r} is no state dict of {type(network).__name__}. If the network "
            f"was changed, pass it as backbone. {error}"
        ) from error


@contextlib.contextmanager
def _computing(network, seed, x):
    """Compute without gradients and with draws of our own; explain it if the images do not fit."""
    try:
        with torch.no_grad(), fixed_draws(network, x.device, seed):
            yield
    except OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as error:  # the errors of torch and torchvision
        hint = " For gray images pass np.repeat(X, 3, axis=1)." if x.shape[1] == 1 else ""
        raise ValueError(
            f"The network does not take images of shape {tuple(x.shape[1:])}: {error} Pass images "
            f"that it was made for, or a size to resize them to.{hint}"
        ) from error


class BackboneFeatures(BaseImageFeatures):
    """Describe images by the features that a network computes before it decides for a class.

    The network is one of torchvision or your own, without its classifier: without the fully
    connected layer whose output is that of the network. Nothing is trained. With weights that were
    learned elsewhere a mixture, or a linear model, of such features learns from few images.

    Parameters
    ----------
    backbone : str or torch.nn.Module, default="resnet18"
        A name of `torchvision.models.list_models()`, or a network that takes images as a tensor
        (n, n_channels, height, width). It is copied and stays as it is; the copy is in evaluation
        mode.

    weights : str, path-like, member of an enumeration of torchvision or None, default=None
        Weights of the network.

        - A name of torchvision such as `"DEFAULT"`, `"IMAGENET1K_V1"` or
          `"ResNet18_Weights.IMAGENET1K_V1"`. `fit` downloads them, if torch.hub does not have them
          yet.
        - The path of a file that `torch.save(network.state_dict(), path)` wrote. The classifier in
          it may have any number of classes.
        - None: those of the network, if `backbone` is one. For a name they are drawn from
          `random_state`: a network that has learned nothing, to compare with.

    layer : str, default=None
        Name of the layer, as in `backbone.named_modules()`, whose output the features are. `""` is
        the network itself. None: the features are the input of the classifier.

    size : int or pair (height, width), default=None
        Size that images are resized to. An int is the side of a square. None: the size that named
        weights were trained with, usually 224 x 224; without named weights images keep their size.

    random_state : int, RandomState instance or None, default=None
        Determines weights that are drawn.

    batch_size : int, default=64
        Number of images passed to the network at once. It bounds the memory, and changes the result
        by no more than rounding does.

    device : str or torch.device, default="auto"
        Where `transform` computes; "auto" is a GPU where there is one.

    Attributes
    ----------
    network_ : torch.nn.Module
        Takes images as a tensor, uint8 or floats, and returns their features. It is on the CPU.

    layer_ : str
        Name of the layer whose output the features are: `layer`. With `layer=None` the name of the
        classifier, whose input they are.

    n_features_in_ : int
        Number of channels.

    See Also
    --------
    PatchKMeansFeatures : Features without a network.
    ImageTransform : Any function of images.

    Notes
    -----
    Values of uint8 images become floats in [0, 1]. With weights of a name images are normalized as
    these weights were trained, which expects floats in [0, 1], too. For other weights normalize the
    images in a step before, such as `ImageTransform` with `torchvision.transforms.v2.Normalize`.

    Features at several places, maps (n, n_features, height, width) or tokens (n, n_tokens,
    n_features), are averaged over the places.

    A pipeline with `memory` keeps the features of the training images. It identifies a network by
    its values, and the file of `weights` by its name only.

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
        backbone: str | nn.Module = "resnet18",
        *,
        weights: str | PathLike | Enum | None = None,
        layer: str | None = None,
        size: int | Sequence[int] | None = None,
        random_state: int | np.random.RandomState | None = None,
        batch_size: int = 64,
        device: str | torch.device = "auto",
    ):
        self.backbone = backbone
        self.weights = weights
        self.layer = layer
        self.size = size
        self.random_state = random_state
        self.batch_size = batch_size
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    @default_torch_modes()
    def fit(self, X: ArrayLike, y: None = None) -> "BackboneFeatures":
        """Make the network, and try it with one image; nothing is learned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, uint8 or floats.

        y : None
            Not used.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If X is malformed, a name is unknown, the network does not take the images, or it has
            no such layer.
        """
        X = self._check(X, reset=True)
        size: Any = (self.size, self.size) if isinstance(self.size, Integral) else self.size
        if size is not None and [Count(1).is_satisfied_by(k) for k in size] != [True, True]:
            raise ValueError(
                f"size must be a positive integer or a pair (height, width) of them, got {size!r}."
            )
        size = None if size is None else tuple(size)
        weights = _named_weights(self.backbone, self.weights)
        drawn = self.weights is None and isinstance(self.backbone, str)
        self._seed = self._draw_seed() if drawn else 0
        if isinstance(self.backbone, nn.Module):
            network = copy.deepcopy(self.backbone).cpu().eval()
        else:
            from torchvision.models import get_model

            with use_generator(torch.Generator().manual_seed(self._seed)):
                network = get_model(self.backbone, weights=weights, progress=False).eval()
        if not drawn and is_stochastic(network, training=False):
            self._seed = self._draw_seed()
        prepare = _PrepareImages(size)
        if weights is not None:
            prepare = own = weights.transforms()
            if size is not None:
                prepare = _PrepareImages(size, own.mean, own.std, own.interpolation.value)
        x = as_tensor(X[:1])
        layer = self._find_layer(prepare, network, x)
        if self.weights is not None and weights is None:
            _load_file(network, self.weights, layer if self.layer is None else None)
        self.network_ = _FeatureNetwork(prepare, network, layer, before=self.layer is None).eval()
        self.layer_ = layer
        with _computing(network, self._seed, x):
            self._n_features_out = self.network_(x).shape[1]
        return self

    def _find_layer(self, prepare, network, x):
        """Return the name of the layer that the features are of."""
        layer, names = self.layer, [name for name, _ in network.named_modules()]
        if layer is None:
            with _computing(network, self._seed, x):
                layer = _find_classifier(prepare, network, x)
        if layer in names:
            return layer
        close = self.layer and get_close_matches(self.layer, names)
        raise ValueError(
            f"{type(network).__name__} has nothing to cut at for layer={self.layer!r}. None needs "
            "a network that ends with a fully connected layer; else pass '' for the whole network "
            f"or a name of named_modules(), such as {close or [*dict(network.named_children())]}."
        )

    def _operation(self, X, device):
        network = self.network_
        if device.type != "cpu":
            network = copy.deepcopy(network).to(device)

        def features(x):
            with _computing(network, self._seed, x):
                return network(x)

        return features

    def __getstate__(self):
        """Return the state with networks in a form that joblib hashes by their values."""
        state = super().__getstate__().items()
        return {k: StoredModule(v) if isinstance(v, nn.Module) else v for k, v in state}

    def __setstate__(self, state):
        """Take networks back: pickles have turned them into networks, shallow copies have not."""
        state = {k: v.module if isinstance(v, StoredModule) else v for k, v in state.items()}
        super().__setstate__(state)
