"""Running means: what a mixture remembers of past batches."""

import torch
from torch import Tensor, nn

__all__ = ["RunningMean"]


class RunningMean(nn.Module):
    """The mean of the first values, then an exponential moving average.

    Value t enters with weight 1 / min(t, horizon), so that the start is neither forgotten slowly
    nor biased to zero.

    Parameters
    ----------
    start : tensor
        What the mean is before any value; gives shape, type and device.
    horizon : int
        Number of values that it remembers.
    per_row : bool, default=False
        Of a mean of two axes, count the values of each row by itself, as some may be missing.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, start: Tensor, horizon: int, *, per_row: bool = False):
        super().__init__()
        self.horizon = horizon
        self.register_buffer("mean", start.clone())
        self.register_buffer("count", start.new_zeros(len(start) if per_row else ()))

    @torch.no_grad()
    def update(self, value: Tensor, present: Tensor | float = 1.0) -> Tensor:
        """Take a value in, of the rows that are present (1 or 0), and return the mean."""
        self.count += present
        rate = present / self.count.clamp(1, self.horizon)
        if rate.ndim:
            rate = rate.unsqueeze(1)
        return self.mean.lerp_(value.to(self.mean.dtype), rate)
