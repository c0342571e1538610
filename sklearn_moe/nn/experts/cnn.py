"""The paper's small image network: as an expert, and its convolutions as a trunk."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..functional import ACTIVATIONS, Shape, activation_layer, require_ndim

_MONOTONE = ("celu", "cubic", "linear", "relu", "tanh")


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
            x = x.contiguous(memory_format=torch.channels_last)
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


class CNNTrunk(ChannelsLast, nn.Sequential):
    """The two convolutions of `CNNExpert`, as layers that all experts share.

    Parameters
    ----------
    input_shape : (n_channels, height, width)
        Height and width are at least 4: pooling halves them twice.
    width : int, default=64
        Channels of both convolutions.
    activation : str or callable, default="relu"
    """

    def __init__(self, input_shape: Shape, *, width: int = 64, activation: str | Callable = "relu"):
        super().__init__(*_convolutions(input_shape, width, activation, "trunk"))


class CNNExpert(ChannelsLast, nn.Sequential):
    """Two convolutions and two fully connected layers, the paper's small image network.

    Kernels are 3 x 3 with padding 1, each convolution is followed by the activation and a
    2 x 2 max pooling (section 5 and appendix A of the paper).

    Parameters
    ----------
    input_shape : (n_channels, height, width)
        Height and width are at least 4: pooling halves them twice.
    n_outputs : int
    width : int, default=64
        Channels of both convolutions; the hidden layer has four times as many units (the paper
        does not say how many).
    activation : str or callable, default="relu"
    """

    def __init__(
        self,
        input_shape: Shape,
        n_outputs: int,
        *,
        width: int = 64,
        activation: str | Callable = "relu",
    ):
        convolutions = _convolutions(input_shape, width, activation, "expert")
        _, rows, columns = input_shape
        super().__init__(
            *convolutions,
            nn.Linear(width * (rows // 4) * (columns // 4), 4 * width),
            activation_layer(activation),
            nn.Linear(4 * width, n_outputs),
        )


def _convolutions(input_shape, width, activation, kind):
    """Return two convolutions with activation and pooling, and a layer that flattens."""
    require_ndim(input_shape, 3, "cnn", "n_channels, height, width", kind=kind)
    channels, rows, columns = input_shape
    if min(rows, columns) < 4:
        raise ValueError(
            f"{kind}='cnn' halves height and width twice and needs at least 4 x 4 pixels, "
            f"got {rows} x {columns}. Enlarge the images, pass X.transpose(0, 3, 1, 2) if channels "
            f"come last, or pass {kind}s of your own."
        )
    return [
        nn.Conv2d(channels, width, 3, padding=1),
        *_pooled(activation),
        nn.Conv2d(width, width, 3, padding=1),
        *_pooled(activation),
        nn.Flatten(),
    ]


def _pooled(activation):
    """Return activation and pooling, in the cheaper order where the result is the same."""
    layers = [activation_layer(activation), nn.MaxPool2d(2)]
    function = ACTIVATIONS.resolve(activation)
    # The maximum of an increasing function is its value at the largest argument.
    is_monotone = any(function is ACTIVATIONS[name] for name in _MONOTONE)
    return layers[::-1] if is_monotone else layers
