"""What experts have in common: checks of the input, layers, stacked weights."""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ..functional import ACTIVATIONS, Shape, dry_run


def require_ndim(input_shape: Shape, ndim: int, name: str, axes: str, kind: str = "expert") -> None:
    """Refuse samples with other axes than the expert, or the trunk, takes."""
    if len(input_shape) != ndim:
        raise ValueError(
            f"{kind}={name!r} takes samples of shape ({axes}), got samples of shape "
            f"{tuple(input_shape)}. Reshape X, or choose the {kind} that fits its shape."
        )


class ChannelsLast(nn.Module):
    """A convolutional network that changes the memory layout of images where that is faster.

    On a GPU, and on a CPU in float32, the channels of a pixel are stored side by side. On a CPU
    a training step takes a quarter less time, prediction up to two thirds less; depthwise
    convolutions in float64 would take twice as long, and a GPU has none in float64.
    """

    # On a GPU, GroupNorm returns the other layout: each convolution would have to convert it.
    has_group_norm = False

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_channels, height, width) to (n_samples, n_outputs)."""
        if self._suits(x):
            # The same as torch.channels_last, which the vmap of MergeRouter does not support.
            x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        return super().forward(x)

    def _suits(self, x):
        if x.is_cpu:
            return x.dtype == torch.float32
        return x.dtype != torch.float64 and not self.has_group_norm

    def _apply(self, function, recurse=True):
        """Store the weights on a GPU in the same layout: cuDNN would convert them in every step."""
        super()._apply(function, recurse)
        for weight in self.parameters():
            if weight.dim() == 4 and not weight.is_cpu and self._suits(weight):
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return self


def activation_function(activation: str | Callable) -> Callable:
    """Return an activation by its name, or as it is; a module with weights is copied.

    The weights of the copy are in float32, like those of new layers.
    """
    function = ACTIVATIONS.resolve(activation)
    if isinstance(function, nn.Module) and function.state_dict():
        return copy.deepcopy(function).float()
    return function


def activation_layer(activation: str | Callable) -> nn.Module:
    """Return an activation as a layer, so that experts can be written as a sequence.

    ReLU works in place, which halves the memory of a convolution and its activation: the layer
    before must not need its output again.
    """
    function = activation_function(activation)
    if not isinstance(activation, str):
        dry_run(ACTIVATIONS.expected(activation), function, torch.zeros(2, 3), shape=(2, 3))
    return nn.ReLU(inplace=True) if function is nn.functional.relu else _Elementwise(function)


class _Elementwise(nn.Module):
    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z)


class Stack(nn.Module):
    """A sequence of homogeneous experts as one module: what is done to all of them is done once.

    Entry m of the first axis of every parameter belongs to expert m. `stack[m]` is that expert. Its
    weights are views: what is written to them is written to the stack, and a gradient by them is a
    gradient of the stack. Subclasses map a batch to the outputs of all experts, (n_samples,
    n_experts, n_outputs), and make an expert by `_expert(m)`.
    """

    def __len__(self) -> int:
        return len(next(self.parameters()))

    def __getitem__(self, index: int) -> nn.Module:
        return self._expert(range(len(self))[index])

    def __iter__(self) -> Iterator[nn.Module]:
        return (self[m] for m in range(len(self)))

    def _expert(self, m: int) -> nn.Module:
        raise NotImplementedError


def stack_weights(weights: Sequence[Tensor]) -> nn.Parameter:
    """Return one new parameter with a copy of the weights of each expert."""
    return nn.Parameter(torch.stack([weight.detach() for weight in weights]))
