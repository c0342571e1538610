"""Encoders: fixed transforms of tables and images, before router and experts see them."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from .functional import is_exporting

# All in standard deviations: where the soft bound lies; the largest number of which float32 holds
# the square; and where linear experts, which should follow all values, are cut off.
_SOFT_BOUND = 3.0
_LARGEST = 1e15
LINEAR_UP_TO = 100.0


class FeatureStatistics(NamedTuple):
    """Statistics of the columns of a table.

    `numeric` and `categories` are indices of columns of X, each column in one of them.
    """

    numeric: tuple[int, ...]
    # Of each numeric column; a scale is above 0, and infinite if the column has no effect.
    center: tuple[float, ...]
    scale: tuple[float, ...]
    # Positions in `numeric`.
    with_missing: tuple[int, ...] = ()
    categories: tuple[int, ...] = ()
    # Of each categorical column.
    n_categories: tuple[int, ...] = ()
    # Replaces a missing number, standardized; if empty, 0 does.
    missing: tuple[float, ...] = ()
    # Whether the columns have no soft bound.
    is_linear: bool = False
    # Of the pieces of each numeric column, standardized.
    knots: tuple[tuple[float, ...], ...] = ()
    # Whether the columns are added without a soft bound.
    adds_linear: bool = False


class FixedTypes(nn.Module):
    """A module whose buffers, its only tensors, keep their types."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Tensor: ...

    def _apply(self, fn, recurse=True):
        """Move to a device, as `to` does, but change no type."""
        kept = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, values in kept.items():
            self._buffers[name] = values.to(self._buffers[name].device)
        return self


class TableEncoder(FixedTypes):
    """Standardize the columns of a table with a soft bound; mark missing values.

    A number x becomes z / sqrt(1 + (z / 3)^2) of z = (x - center) / scale: nearly z up to one and a
    half and never beyond three, so that no outlier dominates an expert or the router. With
    `is_linear` it becomes z itself, cut off at 100. A missing
    value (NaN) becomes the encoded mean, and a column that had some in training gets a second
    column, 1 where the value is missing. A categorical column, which holds the codes 0, 1, ... of
    its categories, becomes one column per category, one-hot: all 0 for a missing or unknown one.

    Centers and scales are kept in float64, whatever the type of the module. X is standardized in
    its own type: large numbers with small differences need float64 before, not after.

    Experts of different kinds read different columns of the result, which stand side by side:
    the pieces of numbers (with `knots`), the numbers with the soft bound, what is missing and the
    categories, the numbers without it (with `adds_linear`). A piece is 0 below its two knots, 1
    above them and linear between: a piecewise-linear encoding (arXiv 2203.05556).

    Parameters
    ----------
    statistics : FeatureStatistics

    Attributes
    ----------
    columns : dict of slice or None
        What an expert reads: "bounded", "piecewise" (the same and the pieces) or "linear". The
        router reads "bounded". None, of "ordered", is no part of the result: see `ordered`.
    """

    def __init__(self, statistics: FeatureStatistics):
        super().__init__()
        n_numeric = len(statistics.numeric)
        self.n_all_categories = sum(statistics.n_categories)
        self.mean_is_zero = not any(statistics.missing)
        tables = statistics._asdict()
        self.is_linear = tables.pop("is_linear")
        self.adds_linear = tables.pop("adds_linear")
        knots_of = tables.pop("knots")
        pieces = [
            (column, low, high)
            for column, knots in enumerate(knots_of)
            for low, high in pairwise(knots)
        ]
        self.has_pieces = bool(pieces)
        if pieces:
            of_column, low, high = zip(*pieces, strict=True)
            edges = torch.tensor([low, high], dtype=torch.float64).clamp(-_LARGEST, _LARGEST)
            edges = _bounded(edges)
            self.register_buffer("of_column", torch.tensor(of_column))
            self.register_buffer("low", edges[0])
            self.register_buffer("width", edges[1] - edges[0])
        n_bounded = n_numeric + len(statistics.with_missing) + self.n_all_categories
        start = len(pieces)
        stop = start + n_bounded
        self.n_outputs = stop + (n_numeric if self.adds_linear else 0)
        ends = {
            "bounded": (start, stop),
            "piecewise": (0, stop),
            "linear": (start + n_numeric if self.adds_linear else start, self.n_outputs),
        }
        everything = 0, self.n_outputs
        self.columns: dict[str, slice | None] = {
            name: slice(None) if part == everything else slice(*part) for name, part in ends.items()
        }
        self.columns["ordered"] = None
        self.n_pieces = start
        for name, values in tables.items():
            if name in ("center", "scale", "missing"):
                units = torch.tensor(values, dtype=torch.float64)
                self.register_buffer(name, units)
                self.register_buffer(f"{name}_32", units.float())
            else:
                self.register_buffer(name, torch.tensor(values, dtype=torch.long))
        # A scale may be infinite.
        mean = torch.nan_to_num(self.missing * self.scale) if len(self.missing) else 0.0
        self.register_buffer("mean", self.center + mean, persistent=False)
        # The output of the first category of each column.
        first = [0, *accumulate(statistics.n_categories)][:-1]
        self.register_buffer("first", torch.tensor(first, dtype=torch.long))

    def part(self, x: Tensor, columns: slice) -> Tensor:
        """Return some columns of the result, without the time for pieces if none are among them."""
        start, stop, _ = columns.indices(self.n_outputs)
        if start < self.n_pieces:
            return self(x)[:, columns]
        return self(x, with_pieces=False)[:, start - self.n_pieces : stop - self.n_pieces]

    def forward(self, x: Tensor, with_pieces: bool = True) -> Tensor:
        """Map (n_samples, n_features) to (n_samples, n_outputs), or to what is no piece."""
        if not x.is_floating_point():
            x = x.double()
        numbers = x.index_select(1, self.numeric) if len(self.categories) else x
        center, scale, missing = self.center, self.scale, self.missing
        # This spares a conversion in every step.
        if x.dtype == torch.float32:
            center, scale, missing = self.center_32, self.scale_32, self.missing_32
        z = (numbers - center) / scale
        if not self.mean_is_zero:
            z = torch.where(z.isnan(), missing, z)
        z = z.clamp(-_LARGEST, _LARGEST)
        # An export knows no infinite constants.
        z = torch.nan_to_num(z, nan=0.0, posinf=_LARGEST, neginf=-_LARGEST)
        bounded = z.clamp(-LINEAR_UP_TO, LINEAR_UP_TO) if self.is_linear else _bounded(z)
        parts = [bounded]
        if self.has_pieces and with_pieces:
            # In place: most of the time goes to memory.
            pieces = bounded.index_select(1, self.of_column).sub_(self.low.to(z.dtype))
            parts.insert(0, pieces.div_(self.width.to(z.dtype)).clamp_(0, 1))
        if len(self.with_missing):
            parts.append(numbers.index_select(1, self.with_missing).isnan().to(z.dtype))
        if len(self.categories):
            parts.append(self._one_hot(x.index_select(1, self.categories)))
        if self.adds_linear:
            parts.append(z)
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def ordered(self, x: Tensor) -> Tensor:
        """Return what is "bounded" in float64, with each number as it is, not standardized.

        Trees need no more than the order of numbers, which standardized ones lose if the column
        spans many powers of ten. A missing number is the mean. Columns without effect are left as
        they are: no tree asks for them.
        """
        x = x.double()
        numbers = x.index_select(1, self.numeric) if len(self.categories) else x
        parts = [torch.where(numbers.isnan(), self.mean, numbers)]
        if len(self.with_missing):
            parts.append(numbers.index_select(1, self.with_missing).isnan().double())
        if len(self.categories):
            parts.append(self._one_hot(x.index_select(1, self.categories)))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _one_hot(self, codes: Tensor) -> Tensor:
        # NaN is neither.
        known = (codes >= 0) & (codes < self.n_categories)
        # Unknown categories go to a last column, which is dropped.
        columns = torch.where(known, codes, 0).long() + self.first
        columns = columns.masked_fill(~known, self.n_all_categories)
        ones = codes.new_zeros(codes.shape[0], self.n_all_categories + 1).scatter_(1, columns, 1.0)
        return ones[:, :-1]


def _bounded(z: Tensor) -> Tensor:
    """Return z with a soft bound of three standard deviations."""
    # A root is exact; the last bit of hypot depends on the place in the batch.
    return z * (_SOFT_BOUND / (z.square() + _SOFT_BOUND**2).sqrt())


class ChannelStatistics(NamedTuple):
    """Statistics of the channels of images."""

    mean: tuple[float, ...]
    # Above 0.
    scale: tuple[float, ...]


class ImageEncoder(nn.Module):
    """Standardize images channel by channel: (x - mean) / scale.

    Parameters
    ----------
    statistics : ChannelStatistics
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, statistics: ChannelStatistics):
        super().__init__()
        for name, values in statistics._asdict().items():
            values = torch.tensor(values, dtype=torch.float64)[:, None, None]
            self.register_buffer(name, values)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_channels, height, width) to the same shape."""
        return (x - self.mean) / self.scale


class CategoryCodes(FixedTypes):
    """Replace the numbers in X that represent categories by the codes of these.

    Parameters
    ----------
    columns : sequence of int
        Of X.
    values : sequence of sequences of float
        The number that represents each category of a column, in ascending order: its place is the
        code.

    Raises
    ------
    ValueError
        If two categories of a column are the same number in `dtype`, the type of X.
    """

    def __init__(
        self,
        columns: Sequence[int],
        values: Sequence[Sequence[float]],
        dtype: torch.dtype,
    ):
        super().__init__()
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.long))
        for i, numbers_of in enumerate(values):
            numbers = torch.tensor(numbers_of, dtype=torch.float64)
            if len(numbers.to(dtype).unique()) < len(numbers):
                raise ValueError(
                    f"Categories of column {columns[i]} of X are different numbers that {dtype} "
                    "cannot distinguish. Replace them by smaller numbers or by strings."
                )
            self.register_buffer(f"values_{i}", numbers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same with codes, NaN for unknown values, (n_samples, n_features)."""
        if not x.is_floating_point():
            x = x.double()
        coded = [
            _look_up(self.get_buffer(f"values_{i}"), x[:, column])
            for i, column in enumerate(self.columns.tolist())
        ]
        places = self.columns.expand(x.shape[0], -1)
        return x.scatter(1, places, torch.stack(coded, 1))


def _look_up(values, x):
    """Return the place of each x among ascending values, NaN if it is none of them."""
    values = values.to(x.dtype)
    if not len(values):
        return torch.full_like(x, torch.nan)
    # ONNX cannot search.
    if is_exporting():
        is_equal = x.unsqueeze(1) == values
        codes = torch.arange(len(values), dtype=x.dtype)
        return torch.where(is_equal.any(1), is_equal.to(x.dtype) @ codes, torch.nan)
    places = torch.searchsorted(values, x.contiguous()).clamp(max=len(values) - 1)
    return torch.where(values[places] == x, places.to(x.dtype), torch.nan)


class CategoryMeans(FixedTypes):
    """Replace codes of many categories by means of y, see `sklearn_moe._data.target_means`.

    Parameters
    ----------
    means : TargetMeans
        What was learned of these columns.
    """

    def __init__(self, means: Any):
        super().__init__()
        self.columns, self.bound = [*means.columns, *means.values], means.bound
        self.n_replaced = len(means.columns)
        for column, values in means.values.items():
            self.register_buffer(f"values_{column}", torch.from_numpy(values))
        self.units = [{j: means.units[j] for j in slopes} for slopes in means.slopes]
        for i, (table, slopes) in enumerate(zip(means.tables, means.slopes, strict=True)):
            self.register_buffer(f"table_{i}", torch.from_numpy(table))
            for j, known in slopes.items():
                self.register_buffer(f"slopes_{i}_{j}", torch.from_numpy(known))

    def forward(self, x: Tensor) -> Tensor:
        """Return X with the first mean in place of a code, and others behind all columns."""
        parts = [*x.unbind(1)]
        for i, column in enumerate(self.columns):
            table, codes = self.get_buffer(f"table_{i}").to(x.dtype), x[:, column]
            if i >= self.n_replaced:
                codes = _look_up(self.get_buffer(f"values_{column}"), codes)
            is_known = (codes >= 0) & (codes < len(table) - 1)
            places = torch.where(is_known, codes, len(table) - 1).long()
            means = [*table[places].unbind(1)]
            if i < self.n_replaced:
                parts[column] = means.pop(0)
            parts += means
            products = []
            for j, (center, scale) in self.units[i].items():
                z = ((x[:, j] - center) / scale).nan_to_num(0.0).clamp(-self.bound, self.bound)
                mean, slopes = (
                    self.get_buffer(f"slopes_{i}_{j}").to(x.dtype)[places].tensor_split([1], 1)
                )
                products.append(slopes * (z[:, None] - mean))
            if products:
                parts += sum(products).unbind(1)
        return torch.stack(parts, 1)
