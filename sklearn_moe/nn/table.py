"""Tables: what a mixture does to feature vectors before router and experts see them."""

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Columns", "TableEncoder"]

_KNEE = 3.0  # standard deviations
_FAR = 1e30  # what stands for infinity: it is bounded like any number, and float32 holds it


class Columns(NamedTuple):
    """What is known of the columns of a table.

    Indices are those of the columns of X; a column that is not among the numbers is categorical.
    """

    numbers: tuple[int, ...]
    mean: tuple[float, ...]  # of each number
    scale: tuple[float, ...]  # of each number, above 0
    with_missing: tuple[int, ...] = ()  # positions in `numbers`
    categories: tuple[int, ...] = ()
    n_categories: tuple[int, ...] = ()  # of each categorical column


class TableEncoder(nn.Module):
    """Standardize the columns of a table, softly bounded; mark what is missing.

    A number becomes z / sqrt(1 + (z / 3)^2) of its standard score z: nearly z up to one and a half
    standard deviations and never beyond three, so that no outlier steers an expert or the router.
    A missing value (NaN) becomes 0, and a column that had some in training has a second one that
    marks them. A categorical column, which holds the codes 0, 1, ... of its categories, becomes
    one of zeros and ones per category, all 0 for a category that is missing or not known.

    Parameters
    ----------
    columns : Columns
    """

    numbers: Tensor
    mean: Tensor
    scale: Tensor
    with_missing: Tensor
    categories: Tensor
    n_categories: Tensor
    first: Tensor  # output of each categorical column's first category

    def __init__(self, columns: Columns):
        super().__init__()
        n_categories = columns.n_categories
        self.n_all_categories = sum(n_categories)
        self.n_outputs = len(columns.numbers) + len(columns.with_missing) + self.n_all_categories
        for name, values in columns._asdict().items():
            dtype = torch.float64 if name in ("mean", "scale") else torch.long
            self.register_buffer(name, torch.tensor(values, dtype=dtype))
        first = [0, *accumulate(n_categories)][:-1]
        self.register_buffer("first", torch.tensor(first, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_features) to (n_samples, n_outputs)."""
        numbers = x if not len(self.categories) else x.index_select(1, self.numbers)
        z = (numbers - self.mean) / self.scale
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
