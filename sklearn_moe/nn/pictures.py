"""Pictures: what a mixture does to them before trunk, router and experts see them."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Channels", "PictureEncoder"]


class Channels(NamedTuple):
    """What is known of the channels of pictures."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]  # above 0


class PictureEncoder(nn.Module):
    """Standardize pictures channel by channel: (x - mean) / scale.

    Parameters
    ----------
    channels : Channels
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: Channels):
        super().__init__()
        for name, values in channels._asdict().items():
            values = torch.tensor(values, dtype=torch.float64)[:, None, None]
            self.register_buffer(name, values)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_channels, height, width) to the same shape."""
        return (x - self.mean) / self.scale
