"""Image networks of torchvision as experts, adapted to small images.

Importing torchvision takes time: this module is imported only when such an expert is built.
Weights are never downloaded; they are drawn like those of any other expert.
"""

import math
from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import BasicBlock, ResNet

from .._validation import Registry
from .functional import ChannelsLast, activation_layer, require_ndim

# Channels, blocks and first stride of each stage. The stage of 24 channels has stride 1 in place of
# 2, as small images have little resolution to lose.
_STAGES = (16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)


class ResNet18Expert(ChannelsLast, ResNet):
    """ResNet-18 for small images: a stem of one 3 x 3 convolution, without pooling.

    Resolution is halved three times after that, rounded up: images may be of any size. With
    `norm="batch"` an expert is normalized, in training, by the samples of the batch that are sent
    to it, whatever their weights, and at prediction by its running statistics of these, which need
    some hundred steps to converge.

    Parameters
    ----------
    input_shape : (n_channels, height, width)
    n_outputs : int
    width : int, default=64
        Channels of the stem and the first stage; each later stage has twice those before it.
    activation : str or callable, default="relu"
        A name in `ACTIVATIONS` or an elementwise function, in place of every ReLU.
    norm : {"batch", "group"}, default="batch"
        "batch" is the network as published. "group" normalizes each sample by itself, in groups of
        about 16 channels: no statistics are kept, and no sample depends on the others of its batch.
    """

    def __init__(self, input_shape, n_outputs, *, width=64, activation="relu", norm="batch"):
        require_ndim(input_shape, 3, "resnet18", "n_channels, height, width")
        self.width = width
        norm_layer = NORMS.resolve(norm)
        super().__init__(BasicBlock, [2, 2, 2, 2], n_outputs, norm_layer=norm_layer)
        self.conv1 = _stem(input_shape[0], width)
        self.bn1 = norm_layer(width)
        self.maxpool = nn.Identity()
        self.fc = nn.Linear(8 * width, n_outputs)
        _finish(self, activation)

    def _make_layer(self, block, planes, *args, **kwargs):
        # torchvision passes multiples of 64 channels, which become multiples of `width`.
        if planes == 64:
            self.inplanes = self.width
        return super()._make_layer(block, planes // 64 * self.width, *args, **kwargs)


class MobileNetV2Expert(ChannelsLast, MobileNetV2):
    """MobileNetV2 for small images: resolution is halved three times instead of five.

    As in the authors' code, stem and second stage have stride 1, the activation is ReLU (pass
    `torch.nn.functional.relu6` for the ReLU6 of the publication) and nothing is dropped out.
    Their code has 1 x 1 convolutions as shortcuts where channels change at stride 1; as published,
    these blocks have none here.

    Parameters
    ----------
    input_shape : (n_channels, height, width)
    n_outputs : int
    width : int, default=32
        Channels of the stem. Those of other layers are in proportion, in multiples of 8, but the
        last one has 1280 at least.
    activation, norm
        As those of `ResNet18Expert`.
    """

    def __init__(self, input_shape, n_outputs, *, width=32, activation="relu", norm="batch"):
        require_ndim(input_shape, 3, "mobilenet_v2", "n_channels, height, width")
        super().__init__(
            n_outputs,
            width_mult=width / 32,
            inverted_residual_setting=[[6 if c > 16 else 1, c, n, s] for c, n, s in _STAGES],
            norm_layer=NORMS.resolve(norm),
            dropout=0.0,
        )
        # Dropout would count as a random draw, also at rate 0.
        self.classifier[0] = nn.Identity()
        self.features[0][0] = _stem(input_shape[0], self.features[0][0].out_channels)
        _finish(self, activation)


def _stem(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a first layer that keeps the resolution, initialized as in torchvision."""
    stem = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    return stem


def _finish(network: ChannelsLast, activation: str | Callable) -> None:
    """Replace every ReLU by the activation."""
    network.has_group_norm = any(isinstance(part, nn.GroupNorm) for part in network.modules())
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU | nn.ReLU6):
                module.add_module(name, activation_layer(activation))


class _BatchNorm2d(nn.BatchNorm2d):
    """BatchNorm for batches of any size: a router may send an expert a single sample.

    Where that leaves one value per channel, its variance is unknown (torch refuses): the
    running statistics stand in and stay as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == self.num_features:
            parameters = (self.running_mean, self.running_var, self.weight, self.bias)
            return nn.functional.batch_norm(x, *parameters, eps=self.eps)
        return super().forward(x)


def _group_norm(n_channels: int) -> nn.GroupNorm:
    """Return a normalization in groups of 16 channels, or more where 16 do not divide them."""
    return nn.GroupNorm(math.gcd(n_channels, max(1, n_channels // 16)), n_channels)


NORMS = Registry(
    "norm",
    "a callable n_channels -> torch.nn.Module",
    {"batch": _BatchNorm2d, "group": _group_norm},
)
