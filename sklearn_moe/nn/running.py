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
        Count the values of each row by itself, as some may be missing.
    """

    def __init__(self, start: Tensor, horizon: int, *, per_row: bool = False):
        super().__init__()
        self.horizon = horizon
        self.register_buffer("mean", start.clone())
        self.register_buffer("count", start.new_zeros(len(start) if per_row else ()))

    @classmethod
    def zeros(cls, shape: tuple[int, ...], horizon: int, *, per_row: bool = False):
        """Return a mean that starts at zero."""
        return cls(torch.zeros(shape), horizon, per_row=per_row)

    @torch.no_grad()
    def update(self, value: Tensor, present: Tensor | None = None) -> Tensor:
        """Take a value in, of the rows that are present, and return the mean."""
        present = torch.ones_like(self.count) if present is None else present.to(self.count)
        self.count += present
        rate = present / self.count.clamp(1, self.horizon)
        self.mean.lerp_(value.to(self.mean), rate.view(-1, *[1] * (value.ndim - 1)))
        return self.mean
