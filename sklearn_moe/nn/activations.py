"""Nonlinearities of an expert, by name."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .._registry import Registry

__all__ = ["ACTIVATIONS", "cubic", "linear"]


class _Cube(torch.autograd.Function):
    """z ** 3 with its derivative written out: torch's own pow costs three times as much."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z):
        return z.square().mul_(z)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (z,) = ctx.saved_tensors
        return z.square().mul_(grad).mul_(3)


def cubic(z: Tensor) -> Tensor:
    """Return z ** 3, the paper's nonlinearity (section 3.2)."""
    return _Cube.apply(z)


def linear(z: Tensor) -> Tensor:
    """Return z itself: the expert is a linear function of every patch."""
    return z


ACTIVATIONS = Registry(
    "activation",
    "an elementwise callable",
    {
        "cubic": cubic,
        "linear": linear,
        "relu": nn.functional.relu,
        "celu": nn.functional.celu,
        "gelu": nn.functional.gelu,
        "tanh": torch.tanh,
    },
)
