"""Trunks: the layers in front of a mixture, which router and experts share.

A trunk maps a batch of samples to features, usually vectors, and is trained with the experts.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .._validation import Registry, accepts_argument
from .experts import EXPERTS, CNNTrunk
from .functional import Shape, evaluate


def _without(readout: str, expert: str, input_shape: Shape, **options: Any) -> nn.Module:
    """Return an expert up to its last layer."""
    network = EXPERTS[expert].build(input_shape, 1, **options)
    setattr(network, readout, nn.Identity())
    return network


TRUNKS = Registry(
    "trunk",
    "a torch.nn.Module, or a callable input_shape -> torch.nn.Module",
    {
        "cnn": CNNTrunk,
        "resnet18": partial(_without, "fc", "resnet18"),
        "mobilenet_v2": partial(_without, "classifier", "mobilenet_v2"),
    },
)


def make_trunk(
    trunk: str | nn.Module | Callable, input_shape: Shape, activation: str | Callable | None = None
) -> nn.Module:
    """Return a trunk for samples of shape `input_shape`; a module is copied.

    A callable is given `activation` if it takes an argument of that name.

    Raises
    ------
    ValueError
        If the name is unknown or the trunk does not fit the samples.
    TypeError
        If a callable takes other arguments or returns anything but a module.
    """
    factory = TRUNKS.resolve(trunk)
    if isinstance(factory, nn.Module):
        return copy.deepcopy(factory)
    options = {}
    if activation is not None and accepts_argument(factory, "activation"):
        options["activation"] = activation
    return TRUNKS.make(trunk, nn.Module, input_shape, **options)


def shape_after(trunk: nn.Module, input_shape: Shape, dtype: torch.dtype) -> Shape:
    """Return the shape of the features that a trunk computes from a sample of that type.

    Raises
    ------
    ValueError
        If it does not map samples to samples.
    """
    made = evaluate(trunk, torch.zeros(1, *input_shape, dtype=dtype))
    if not isinstance(made, Tensor) or made.ndim not in (2, 3, 4) or len(made) != 1:
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ValueError(
            f"trunk must map (n_samples, {', '.join(map(str, input_shape))}) to features of each "
            f"sample, (n_samples, n_features) for instance; of one sample it made {got}."
        )
    return tuple(made.shape[1:])
