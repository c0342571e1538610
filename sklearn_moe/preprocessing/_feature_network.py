"""FeatureNetwork: a network up to a layer. Plain torch: it knows nothing of estimators."""

import torch
import torch.nn.functional as F
from torch import nn

from ._chunks import as_float

__all__ = ["FeatureNetwork", "PrepareImages", "find_classifier"]


class PrepareImages(nn.Module):
    """Bytes to [0, 1], then another size, then x -> (x - mean) / std of each channel.

    Parameters
    ----------
    size : pair (height, width), default=None
        What pictures are resized to, if they are.
    mean, std : sequences of floats, one per channel, default=None
        What they are normalized by, if they are.
    interpolation : {"bilinear", "bicubic"}, default="bilinear"
        How pixels between pixels are found.
    """

    def __init__(self, size=None, mean=None, std=None, interpolation="bilinear"):
        super().__init__()
        self.size, self.mean, self.std, self.interpolation = size, mean, std, interpolation

    def forward(self, x):
        """Prepare pictures (n, n_channels, height, width), which stay as they are."""
        x = as_float(x)
        if self.size is not None and self.size != tuple(x.shape[2:]):
            x = F.interpolate(x, self.size, mode=self.interpolation, antialias=True)
        if self.mean is not None:
            mean, std = (x.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
            x = (x - mean) / std
        return x


class _Reached(Exception):
    """The layer has been reached, and the rest of the network need not be computed."""

    def __init__(self, value):
        super().__init__()
        self.value = value


class _Tap(nn.Module):
    """Stands for a layer and ends the forward pass with its answer, or with what it was given."""

    def __init__(self, layer=None):
        super().__init__()
        self.layer = layer

    def forward(self, x, *args, **kwargs):
        """Raise the features."""
        raise _Reached(x if self.layer is None else self.layer(x, *args, **kwargs))


class FeatureNetwork(nn.Module):
    """Pictures to a table: what a network has found by a layer, averaged over places.

    Parameters
    ----------
    prepare : torch.nn.Module
        What is done to pictures first.
    network : torch.nn.Module
        The network, which is changed.
    layer : str
        Name of a layer as in `network.named_modules()`; "" is the network itself.
    before : bool, default=False
        Whether to take what the layer is given, not what it answers.
    """

    def __init__(self, prepare, network, layer, *, before=False):
        super().__init__()
        self.prepare, self.network, self.layer = prepare, network, layer
        if layer:
            parent, _, name = layer.rpartition(".")
            parent = network.get_submodule(parent)
            setattr(parent, name, _Tap(None if before else getattr(parent, name)))

    def forward(self, x):
        """Return the features, (n, n_features) in float32."""
        n = len(x)
        try:
            x = self.network(_prepared(x, self.prepare, self.network))
        except _Reached as reached:
            x = reached.value
        else:
            if self.layer:
                raise ValueError(
                    f"layer={self.layer!r} has no part in what the network answers. Name one that "
                    "has."
                )
        if not isinstance(x, torch.Tensor) or x.ndim not in (2, 3, 4) or len(x) != n:
            got = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise ValueError(
                f"Features of {n} pictures are a tensor ({n}, n_features), ({n}, n_tokens, "
                f"n_features) or ({n}, n_features, height, width), got {got}. Name another layer."
            )
        if x.ndim > 2:
            x = x.mean(dim=1 if x.ndim == 3 else (2, 3))
        return x.float()


def _prepared(x, prepare, network):
    """Return prepared pictures in the type of the network's weights."""
    x = prepare(x)
    return x.to(next((p.dtype for p in network.parameters() if p.is_floating_point()), x.dtype))


def find_classifier(prepare, network, x):
    """Return the name of the fully connected layer whose answer is the network's, or None."""
    answers = []
    hooks = [
        module.register_forward_hook(lambda _, given, answer, n=name: answers.append((n, answer)))
        for name, module in network.named_modules()
        if name and isinstance(module, nn.Linear)
    ]
    try:
        result = network(_prepared(x, prepare, network))
    finally:
        for hook in hooks:
            hook.remove()
    return next((name for name, answer in reversed(answers) if answer is result), None)
