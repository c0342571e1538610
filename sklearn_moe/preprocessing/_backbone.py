"""BackboneFeatures: what a network of torchvision, or any other, computes before its classifier."""

import copy
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from torch import nn

from .._devices import default_torch_modes
from .._validation import name_in_errors
from ..nn.seeding import use_generator
from ._base import BaseImageFeatures, as_float


def _make_network(backbone, weights, random_state):
    """Return a network without its classifier, and what prepares its images."""
    known = {}
    if isinstance(backbone, str):
        from torchvision import models

        with name_in_errors("backbone"):
            known = models.get_model_weights(backbone).__members__
    if weights not in {None, *known}:
        raise ValueError(
            f"weights={weights!r} must be None or one of {[*known]}, which torchvision has for the "
            "backbone. A torch.nn.Module has its own: load others into it before."
        )
    if isinstance(backbone, nn.Module):
        network = copy.deepcopy(backbone).cpu()
    else:
        seed = check_random_state(random_state).randint(2**31 - 1) if weights is None else 0
        # Weights are drawn in any case, before those of a name take their places.
        with use_generator(torch.Generator().manual_seed(seed)):
            network = models.get_model(backbone, weights=weights, progress=False)
    name, last = [*network.named_modules()][-1]
    if isinstance(last, nn.Linear):
        network.set_submodule(name, nn.Identity())
    elif isinstance(backbone, str):
        raise ValueError(
            f"backbone={backbone!r} does not end with a fully connected layer. Pass a "
            "torch.nn.Module that returns features."
        )
    return network, as_float if weights is None else known[weights].transforms()


class _FeatureNetwork(nn.Module):
    """Images to a table: what a network returns, averaged over places.

    Parameters
    ----------
    prepare : callable
        What is done to images first.
    network : torch.nn.Module
    """

    def __init__(self, prepare, network):
        super().__init__()
        self.prepare = prepare
        self.network = network
        # Images come in the type of the network's weights.
        weights = (p for p in network.parameters() if p.is_floating_point())
        self.dtype = next(weights, torch.empty(0)).dtype

    def forward(self, x):
        """Return the features, (n, n_features) in float32."""
        features = self.network(self.prepare(x).to(self.dtype))
        shape = tuple(getattr(features, "shape", ()))
        if len(shape) not in (2, 3, 4) or shape[0] != len(x):
            raise ValueError(
                f"backbone must return for {len(x)} images a tensor ({len(x)}, n_features), "
                f"({len(x)}, n_tokens, n_features) or ({len(x)}, n_features, height, width), got "
                f"{shape}."
            )
        if features.ndim > 2:
            # Tokens are the second axis; the places of a map are the last two.
            features = features.mean(dim=1 if features.ndim == 3 else (2, 3))
        return features.float()


class BackboneFeatures(BaseImageFeatures):
    """Describe images by the features that a network computes before it decides for a class.

    The network is one of torchvision or your own. If its last layer is fully connected, it counts
    as the classifier and is left out. Nothing is trained. With weights that were learned elsewhere
    a mixture, or a linear model, of such features learns from few images.

    Parameters
    ----------
    backbone : str or torch.nn.Module, default="resnet18"
        A name of `torchvision.models.list_models()`, or a network that takes images as a tensor
        (n, n_channels, height, width). It is copied and stays as it is; the copy is in evaluation
        mode.

    weights : str, default=None
        Name of weights that torchvision has for the backbone, such as `"DEFAULT"` or
        `"IMAGENET1K_V1"`. `fit` downloads them, if torch.hub does not have them yet. None: for a
        name weights are drawn from `random_state`, a network that has learned nothing, to compare
        with; a `torch.nn.Module` has its own.

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

    n_features_in_ : int
        Number of channels.

    See Also
    --------
    PatchKMeansFeatures : Features without a network.

    Notes
    -----
    Values of uint8 images become floats in [0, 1]. With weights of a name images are resized and
    normalized as these weights were trained, which expects floats in [0, 1], too. For a network of
    your own, or another size, do this in a step before: a `FunctionTransformer` of scikit-learn
    that calls `torchvision.transforms.v2.Resize` and `Normalize`.

    Features at several places, maps (n, n_features, height, width) or tokens (n, n_tokens,
    n_features), are averaged over the places. `create_feature_extractor` of torchvision makes a
    network that returns those of any layer. If that is a fully connected one, put the network and
    `torch.nn.Identity()` into a `torch.nn.Sequential`, so that it is kept.

    A pipeline with `memory` keeps the features of the training images. It identifies a network by
    its values.

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
    >>> BackboneFeatures(network).fit_transform(X).shape
    (4, 8)
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseImageFeatures._parameter_constraints,
        "backbone": [str, nn.Module],
        "weights": [str, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        backbone: str | nn.Module = "resnet18",
        *,
        weights: str | None = None,
        random_state: int | np.random.RandomState | None = None,
        batch_size: int = 64,
        device: str | torch.device = "auto",
    ):
        self.backbone = backbone
        self.weights = weights
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
            If X is malformed, a name is unknown, or the network returns no features.

        RuntimeError
            If the network does not take the images. For gray ones pass `np.repeat(X, 3, axis=1)`.
        """
        X = self._check(X, reset=True)
        network, prepare = _make_network(self.backbone, self.weights, self.random_state)
        self.network_ = _FeatureNetwork(prepare, network).eval()
        self._n_features_out = self._transform(X[:1]).shape[1]
        return self

    def _operation(self, X, device):
        return self.network_ if device.type == "cpu" else copy.deepcopy(self.network_).to(device)
