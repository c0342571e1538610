"""Networks and weights of torchvision by their names, which is imported when it is needed."""

import copy
from difflib import get_close_matches
from enum import Enum
from pathlib import Path

import torch
from torch import nn

from ._feature_network import PrepareImages

__all__ = ["load_file", "make_network", "make_prepare", "named_weights"]


def _check_name(backbone):
    """Refuse the name of a network that torchvision does not have."""
    from torchvision import models

    if backbone.lower() not in models.list_models():
        known = models.list_models(module=models)
        close = get_close_matches(backbone.lower(), known) or ["resnet18", "vit_b_16"]
        raise ValueError(
            f"Unknown backbone={backbone!r}: pass a name of torchvision.models.list_models(), such "
            f"as {close}, or a torch.nn.Module."
        )


def named_weights(backbone, weights):
    """Return weights of torchvision by their name, or None if `weights` is none.

    Parameters
    ----------
    backbone : str or torch.nn.Module
        The network that they are for.
    weights : str, path-like, member of an enumeration of torchvision or None
        What may be a name.

    Returns
    -------
    weights : torchvision.models.WeightsEnum or None
        None of a file, and of no weights.
    """
    if isinstance(backbone, nn.Module):
        if weights is None or (not isinstance(weights, Enum) and Path(weights).is_file()):
            return None
        raise ValueError(
            f"weights={weights!r} is no file, and a backbone of your own has no weights that go by "
            "a name. Pass weights=None to take it as it is, or the path of a state dict."
        )
    _check_name(backbone)
    if weights is None:
        return None
    from torchvision.models import get_model_weights

    known = get_model_weights(backbone)
    if isinstance(weights, known):
        return weights
    name = str(weights).removeprefix(f"{known.__name__}.")
    if name in known.__members__:
        return known[name]
    if not isinstance(weights, Enum) and Path(weights).is_file():
        return None
    raise ValueError(
        f"weights={weights!r} is neither a file nor known for backbone={backbone!r}: pass one of "
        f"{list(known.__members__)}, the path of a state dict, or None for random weights."
    )


def make_network(backbone, weights):
    """Return a network that is ours, in evaluation mode and on the CPU.

    Parameters
    ----------
    backbone : str or torch.nn.Module
        A name of torchvision, or a network, which is copied.
    weights : torchvision.models.WeightsEnum or None
        Weights of the name. None: they are drawn.
    """
    if isinstance(backbone, nn.Module):
        return copy.deepcopy(backbone).cpu().eval()
    from torchvision.models import get_model

    return get_model(backbone, weights=weights, progress=False).eval()


def make_prepare(weights, size):
    """Return what is done to pictures before the network: what its weights expect."""
    size = None if size is None else tuple(size)
    if weights is None:
        return PrepareImages(size)
    transforms = weights.transforms()
    if size is None:
        return transforms
    return PrepareImages(size, transforms.mean, transforms.std, transforms.interpolation.value)


def load_file(network, path, classifier):
    """Load a state dict into a network; the classifier's entries do not matter.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    path : str or path-like
        A file that `torch.save(network.state_dict(), path)` wrote.
    classifier : str or None
        Name of the layer that will be taken off: of the file's, it may have other classes.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    own = network.state_dict()
    if not isinstance(state, dict):
        raise ValueError(
            f"weights={str(path)!r} holds no state dict but a {type(state).__name__}. Write it by "
            "torch.save(network.state_dict(), path)."
        )
    if classifier is not None:
        of_classifier = [name for name in own if name.startswith(f"{classifier}.")]
        state = state | {name: own[name] for name in of_classifier}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"weights={str(path)!r} is no state dict of {type(network).__name__}. If the network "
            f"was changed, pass it as backbone. {error}"
        ) from error
