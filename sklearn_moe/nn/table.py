"""Tables: what a mixture does to feature vectors before router and experts see them."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .dispatch import is_recorded

__all__ = ["CategoryCodes", "Columns", "TableEncoder"]

_UNITS = ("center", "scale", "missing")
_KNEE = 3.0  # standard deviations
_FAR = 1e30  # what stands for infinity: it is bounded like any number, and float32 holds it


class Columns(NamedTuple):
    """What is known of the columns of a table.

    Indices are those of the columns of X; a column that is not among the numbers is categorical.
    """

    numbers: tuple[int, ...]
    center: tuple[float, ...]  # of each number
    scale: tuple[float, ...]  # of each number, above 0; infinite if it has no effect
    with_missing: tuple[int, ...] = ()  # positions in `numbers`
    categories: tuple[int, ...] = ()
    n_categories: tuple[int, ...] = ()  # of each categorical column
    missing: tuple[float, ...] = ()  # what stands for a missing number, standardized; none: 0


class TableEncoder(nn.Module):
    """Standardize the columns of a table, softly bounded; mark what is missing.

    A number x becomes z / sqrt(1 + (z / 3)^2) of z = (x - center) / scale: nearly z up to one and a
    half and never beyond three, so that no outlier steers an expert or the router. A missing value
    (NaN) becomes what stands for the mean, and a column that had some in training has a second one
    that marks them. A categorical column, which holds the codes 0, 1, ... of its categories,
    becomes one of zeros and ones per category, all 0 for a category that is missing or not known.

    Centers and scales are kept in float64, whatever the type of the module. X is standardized in
    its own type: large numbers that differ by little need float64, and lose nothing once they are
    standardized.

    Parameters
    ----------
    columns : Columns
    """

    numbers: Tensor
    center: Tensor
    scale: Tensor
    missing: Tensor
    center_32: Tensor
    scale_32: Tensor
    missing_32: Tensor
    with_missing: Tensor
    categories: Tensor
    n_categories: Tensor
    first: Tensor  # output of each categorical column's first category

    def __init__(self, columns: Columns):
        super().__init__()
        n_categories = columns.n_categories
        self.n_all_categories = sum(n_categories)
        self.n_outputs = len(columns.numbers) + len(columns.with_missing) + self.n_all_categories
        self.mean_is_zero = not any(columns.missing)
        for name, values in columns._asdict().items():
            if name in _UNITS:
                units = torch.tensor(values, dtype=torch.float64)
                self.register_buffer(name, units)
                self.register_buffer(f"{name}_32", units.float())
            else:
                self.register_buffer(name, torch.tensor(values, dtype=torch.long))
        first = [0, *accumulate(n_categories)][:-1]
        self.register_buffer("first", torch.tensor(first, dtype=torch.long))

    def _apply(self, fn, recurse=True):
        """Move to a device, as `to` does, but change no type."""
        return _keep_types(self, super()._apply, fn, recurse)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_features) to (n_samples, n_outputs)."""
        x = x if x.is_floating_point() else x.double()
        numbers = x if not len(self.categories) else x.index_select(1, self.numbers)
        center, scale, missing = self.center, self.scale, self.missing
        if x.dtype == torch.float32:  # not converted anew in every step
            center, scale, missing = self.center_32, self.scale_32, self.missing_32
        z = (numbers - center) / scale
        if not self.mean_is_zero:
            z = torch.where(z.isnan(), missing, z)
        z = torch.nan_to_num(z, nan=0.0, posinf=_FAR, neginf=-_FAR)
        # hypot, as the square of a far outlier would overflow.
        parts = [z * (_KNEE / torch.hypot(z, z.new_full((), _KNEE)))]
        if len(self.with_missing):
            parts.append(numbers.index_select(1, self.with_missing).isnan().to(z.dtype))
        if len(self.categories):
            parts.append(self._one_hot(x.index_select(1, self.categories)))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _one_hot(self, codes: Tensor) -> Tensor:
        known = (codes >= 0) & (codes < self.n_categories)  # NaN is neither
        # What is not known falls into a last column, which is cut off.
        columns = torch.where(known, codes, 0).long() + self.first
        columns = columns.masked_fill(~known, self.n_all_categories)
        ones = codes.new_zeros(codes.shape[0], self.n_all_categories + 1).scatter_(1, columns, 1.0)
        return ones[:, :-1]


class CategoryCodes(nn.Module):
    """Replace the numbers that stand for categories in X by their codes.

    Parameters
    ----------
    columns : sequence of int
        Of X.
    values : sequence of sequences of float
        The number that stands for each category of a column, in rising order.
    codes : sequences of int
        The code of each of these categories.

    Raises
    ------
    ValueError
        If two categories of a column are the same number in `dtype`, the type of X.
    """

    columns: Tensor

    def __init__(
        self,
        columns: Sequence[int],
        values: Sequence[Sequence[float]],
        codes: Sequence[Sequence[int]],
        dtype: torch.dtype,
    ):
        super().__init__()
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.long))
        for i, (of_column, its_codes) in enumerate(zip(values, codes, strict=True)):
            numbers = torch.tensor(of_column, dtype=torch.float64)
            if len(numbers.to(dtype).unique()) < len(numbers):
                raise ValueError(
                    f"Categories of column {columns[i]} of X are different numbers that {dtype} "
                    "cannot tell apart. Fit on small numbers or texts in their place."
                )
            self.register_buffer(f"values_{i}", numbers)
            self.register_buffer(f"codes_{i}", torch.tensor(its_codes, dtype=torch.float64))

    def _apply(self, fn, recurse=True):
        """Move to a device, as `to` does, but change no type."""
        return _keep_types(self, super()._apply, fn, recurse)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same with codes, NaN for what is not known, (n_samples, n_features)."""
        x = x if x.is_floating_point() else x.double()
        coded = [self._look_up(i, x[:, column]) for i, column in enumerate(self.columns.tolist())]
        places = self.columns.expand(x.shape[0], -1)
        return x.scatter(1, places, torch.stack(coded, 1))

    def _look_up(self, i, x):
        values = self.get_buffer(f"values_{i}").to(x.dtype)
        codes = self.get_buffer(f"codes_{i}").to(x.dtype)
        if not len(values):
            return torch.full_like(x, torch.nan)
        if is_recorded():  # ONNX cannot search
            found = x.unsqueeze(1) == values
            return torch.where(found.any(1), found.to(x.dtype) @ codes, torch.nan)
        places = torch.searchsorted(values, x.contiguous()).clamp(max=len(values) - 1)
        return torch.where(values[places] == x, codes[places], torch.nan)


def _keep_types(module, apply, fn, recurse):
    """Apply a function to a module, as `to` does, and bring its buffers back to their types."""
    kept = dict(module._buffers)
    apply(fn, recurse)
    for name, values in kept.items():
        module._buffers[name] = values.to(module._buffers[name].device)
    return module
