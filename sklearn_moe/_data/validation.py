"""Checks of X, y and weights: bad input is named at once, before anything is trained."""

import re
from contextlib import suppress
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, _check_y

from .._validation import check_column, check_same_length, is_channels_last, name_in_errors, warn
from .tables import Categories, Table, is_frame, number_types, refuse_missing, refuse_times, select
from .target_means import TargetMeans

_SHAPES = {2: "(n_patches, patch_size)", 3: "(n_channels, height, width)"}
# A row is hardly repeated more often: larger multiples are weights.
_MOST_REPEATED = 100


class InputFormat(NamedTuple):
    """How X is read: as it was in `fit`, whatever the parameters of the estimator have become."""

    # The parameter of this name.
    sample_shape: Any
    # Whether a table may hold NaN.
    allow_nan: bool
    categories: Categories | None = None
    # What replaces codes of many categories by means of y, if there are such columns.
    means: TargetMeans | None = None
    # The type in which X was kept: float32, float64, or uint8 of images.
    dtype: str | None = None
    # Length of the second axis, as scikit-learn counts features.
    n_features: int | None = None
    # Of a sample.
    input_shape: tuple[int, ...] | None = None

    def keeps(self, X):
        """Tell a plain array of finite numbers as it was kept in the fit: it is not to be read."""
        is_kept = (
            type(X) is np.ndarray
            and X.dtype == self.dtype
            and X.shape[1:] == self.input_shape
            and self.sample_shape is None
            and self.categories is None
            and self.means is None
        )
        with np.errstate(over="ignore", invalid="ignore"):
            return is_kept and len(X) > 0 and np.isfinite(X.sum(dtype=np.float64))

    def is_dense_table(self, X):
        """Whether the rows of X are read as they are, and are not sparse."""
        return self.sample_shape is None and not issparse(X) and (is_frame(X) or X.ndim == 2)

    @property
    def coded_columns(self):
        """The columns of X that hold codes of categories."""
        if self.categories is None:
            return []
        read_as_numbers = [] if self.means is None else self.means.columns
        return [column for column in self.categories.columns if column not in read_as_numbers]

    def single_categories(self):
        """Return the names of the categorical columns that hold a single category."""
        if self.categories is None:
            return []
        pairs = zip(self.categories.names, self.categories.values, strict=True)
        return [name for name, values in pairs if len(values) == 1]


class Samples(NamedTuple):
    """Checked samples of a training; those of weight 0 are gone."""

    X: Any
    y: np.ndarray
    # As they were given, in float64.
    weight: np.ndarray
    # The number of each sample's group.
    groups: np.ndarray | None


class WeightsSeen(NamedTuple):
    """How many samples a model was trained on, and what they weighed on average."""

    n_samples: int = 0
    mean: float = 0.0

    def updated(self, weight):
        """Return the same with more samples, given their weights (float64)."""
        # The sum may be beyond float64.
        largest = weight.max()
        n_samples = self.n_samples + len(weight)
        step = largest * (weight / largest).mean() - self.mean
        return WeightsSeen(n_samples, self.mean + step * (len(weight) / n_samples))


def as_row_counts(weight):
    """Return how many rows each weight stands for, whatever the scale of the weights.

    If all weights are whole multiples of the smallest one, up to 100 times and but for .002, they
    are these multiples: a row of weight 2 is the row twice, and equal weights are those of single
    rows. Otherwise their sum is (sum w)^2 / sum w^2, Kish's effective size.
    """
    # Of the largest: squares of tiny weights would be 0.
    share = weight / weight.max()
    least = share[share > 0].min()
    if least * _MOST_REPEATED > 0.5:
        multiples = share / least
        whole = np.rint(multiples)
        # A weight of 999 among those of 1000 tells nothing, but would break ties in another way.
        if whole.max() <= _MOST_REPEATED and np.abs(multiples - whole).max() < 2e-3:
            return whole
    counts = share * (share.sum() / (share @ share))
    # What differs by rounding is the same, whatever the weights were multiplied by.
    return counts.astype(np.float32).astype(np.float64)


def _as_container(X, name, known):
    """Return X as an array, a CSR matrix or a data frame, whatever it holds.

    X is checked before y, so that the first message is about X.

    Parameters
    ----------
    X : array-like
    name : str
        Of the estimator, for messages.
    known : InputFormat or None
        That of the fit; None in `fit` itself.
    """
    if hasattr(X, "collect") and not hasattr(X, "shape"):  # of polars
        raise TypeError(f"X is {type(X).__name__}, a query that has no rows yet. Pass X.collect().")
    if is_frame(X):
        return X
    if known is None or not (issparse(X) or isinstance(X, np.ndarray)):
        anything = {"accept_sparse": True, "allow_nd": True, "ensure_all_finite": False}
        with name_in_errors("X"):
            X = check_array(X, dtype=None, input_name="X", estimator=name, **anything)
    if issparse(X):
        # Other formats have no array of values.
        X = X.tocsr()
        if not X.has_canonical_format:  # entries of one place are summed, in a copy
            X = X.copy()
            X.sum_duplicates()
    elif X.ndim == 4 and X.dtype.kind in "iu" and X.dtype != np.uint8:
        raise ValueError(
            f"X holds images of type {X.dtype}. Pass uint8 images (0 ... 255), which are scaled "
            "to 0 ... 1, or floats, which are not."
        )
    if X.dtype.kind in "Mm":
        raise refuse_times("X", X.dtype)
    return X


def learn_format(X, estimator, weight):
    """Return how a fit reads X: what the parameters say, and the categories of a table.

    Parameters
    ----------
    X : array, CSR matrix or data frame
    estimator : estimator instance
    weight : ndarray of shape (n_samples,)
    """
    learned = InputFormat(estimator.sample_shape, allow_nan=estimator.standardize is not False)
    chosen = estimator.categorical_features
    if not learned.is_dense_table(X):
        if not (chosen is None or isinstance(chosen, str)):
            raise _no_columns(X, chosen)
        return learned
    table = Table(X)
    columns = table.find_categories(chosen)
    if not columns:
        return learned
    if not learned.allow_nan:
        raise ValueError(
            f"Columns {columns} hold categories, which are encoded with standardize=True only. "
            "Leave it at 'auto', or encode them before."
        )
    categories = Categories(columns).fit(table, weight)
    categories.warn_of_texts(len(weight))
    return learned._replace(categories=categories)


def apply_format(X, name, known, n_rows=0):
    """Return X as an array or CSR matrix of numbers, and the type in which it is trained.

    uint8 images stay as they are, the rest becomes floats, see `number_types`. Tables of 100 rows
    or more that are standardized, which is done in float64, are trained in float32: more digits
    take a third more time, and losses on new rows are equal to four digits. A row of weight 2
    counts as two, of weight 0 as none.

    Parameters
    ----------
    X : array, CSR matrix or data frame
    name : str
        Of the estimator, for messages.
    known : InputFormat
    n_rows : float, default=0
        For how many rows those of X stand in a fit.
    """
    is_dense_table = known.is_dense_table(X)
    is_table = is_dense_table or (known.sample_shape is None and issparse(X))
    if known.categories is not None and not is_dense_table:
        raise _no_columns(X, known.categories.names)
    is_image = getattr(X, "ndim", 2) == 4 or np.size(known.sample_shape) == 3
    with name_in_errors("X"):
        if is_frame(X) or (is_dense_table and (known.categories or X.dtype == object)):
            numbers, dtype = Table(X).to_numbers(known.categories, wide=known.dtype)
            stored = numbers.dtype
        else:
            numbers = X
            stored, dtype = number_types(X.data if issparse(X) else X, wide=known.dtype)
            if is_image and X.dtype == np.uint8:
                stored = np.uint8
            elif not is_table:
                stored = dtype
        options = {"dtype": stored, "allow_nd": True}
        if is_table:
            may_be_missing = known.allow_nan and not issparse(X)
            options["ensure_all_finite"] = "allow-nan" if may_be_missing else True
            options["accept_sparse"] = "csr"
        numbers = check_array(numbers, input_name="X", estimator=name, **options)
    # Of fewer rows a fit is short, and a row of weight 2 is the row twice to the last digits.
    if is_table and known.allow_nan and n_rows >= 100:
        dtype = np.float32
    if known.input_shape is not None:
        _check_as_fitted(numbers, name, known)
    if known.sample_shape is not None:
        numbers = _reshape(numbers, known.sample_shape)
    return numbers, np.dtype(dtype).name


def _no_columns(X, chosen):
    return ValueError(
        f"X is {type(X).__name__} of shape {getattr(X, 'shape', 'unknown')}, but "
        f"categorical_features={chosen!r} names columns of a table. Pass a data frame "
        "with the same columns, or a dense array of shape (n_samples, n_features)."
    )


def _reshape(X, sample_shape):
    """Read the rows of a 2-D X as patches or images."""
    sides = tuple(np.ravel(sample_shape).tolist())
    is_shape = all(isinstance(side, Integral) and (side > 0 or side == -1) for side in sides)
    if X.ndim == 2 and len(sides) in _SHAPES and is_shape:
        # Refused are two sides of -1, and another number of values than that of a row.
        with suppress(ValueError):
            return X.reshape(len(X), *sides)
    raise ValueError(
        f"sample_shape={sample_shape!r} cannot be read from X of shape {X.shape}. It is "
        f"{_SHAPES[2]} or {_SHAPES[3]} of a row of a 2-D X, in integers above 0, with as many "
        "numbers as the row has; -1 stands for one side that follows from the others."
    )


def check_samples(X, name, known):
    """Return X as the fitted experts take it.

    Parameters
    ----------
    X : array-like
    name : str
        Of the estimator, for messages.
    known : InputFormat
        Of its fit.
    """
    if known.keeps(X):
        return X
    X = apply_format(_as_container(X, name, known), name, known)[0]
    return X if known.means is None else known.means.transform(X)


def _check_as_fitted(X, name, known):
    """Refuse samples of another shape or scale than those of `fit`."""
    if X.ndim == 2 and X.shape[1] != known.n_features:
        raise ValueError(  # in scikit-learn's words
            f"X has {X.shape[1]} features, but {name} is expecting {known.n_features} features "
            "as input."
        )
    is_as_given = known.sample_shape is None and known.means is None
    if is_as_given and X.shape[1:] != known.input_shape:
        raise ValueError(
            f"X has samples of shape {X.shape[1:]}, {name} was fitted on samples of shape "
            f"{known.input_shape}. Of a single sample pass X[np.newaxis], and of images without a "
            "channel axis X[:, np.newaxis]."
        )
    if (X.dtype == np.uint8) != (known.dtype == "uint8"):
        raise ValueError(
            f"X holds images of type {X.dtype}, {name} was fitted on {known.dtype}. Pass images "
            "of the same type."
        )


def _warn_of_images(X):
    """Warn if X looks like images without an axis of channels, or with channels last."""
    if X.ndim == 4 and is_channels_last(X.shape):
        warn(
            f"X of shape {X.shape} is taken as images of {X.shape[1]} channels and {X.shape[2]} x "
            f"{X.shape[3]} pixels. If channels come last, pass X.transpose(0, 3, 1, 2).",
            UserWarning,
        )
    # Bags of smaller squares are hardly images.
    if X.ndim == 4 or X.shape[1] != X.shape[2] or X.shape[1] < 4:
        return
    some = X[: max(1, min(1000, 2**22 // X[0].size))]
    # More than 0 and 1, which may stand for anything.
    if some.min() >= 0 and some.max() > 1 and (some == np.floor(some)).all():
        warn(
            f"X of shape {X.shape} is taken as bags of {X.shape[1]} patches, but squares of "
            "integers look like gray images. If they are, pass X[:, np.newaxis], with an axis of "
            f"channels; if not, X.reshape(len(X), -1) with sample_shape={X.shape[1:]}.",
            UserWarning,
        )


def check_target(X, y, name, check_y):
    """Return classes, labels or numbers, as many as X has samples."""
    with name_in_errors("y"):
        values = np.empty(0) if issparse(y) else np.asarray(y)
        if values.dtype == object:
            refuse_missing("y", values.ravel(), "Leave these samples out.")
        y = check_y(_check_y(y, multi_output=True, estimator=name))
    check_same_length(X=X, y=y)
    return y


def check_numbers(y):
    """Return numbers, (n_samples,) or (n_samples, n_outputs)."""
    try:
        if (dtype := np.asarray(y).dtype).kind in "Mm":
            raise refuse_times("y", dtype)
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
    except ValueError as error:
        if "convert string" not in str(error):
            raise
        shown = re.sub(r"np.str_\((.*?)\)", r"\1", str(error))
        raise ValueError(f"y holds text ({shown}). Pass numbers, or use the classifier.") from error
    if y.ndim == 2 and y.shape[1] == 1:
        return column_or_1d(y, warn=True)
    return y


def check_weight(sample_weight, X):
    """Return a weight of 0 or more per sample in float64, not all of them 0."""
    with name_in_errors("sample_weight"):
        options = {"dtype": np.float64, "ensure_non_negative": True}
        weight = _check_sample_weight(sample_weight, X, **options)
    # Older versions of scikit-learn let them pass.
    if not weight.any():
        raise ValueError("sample_weight must not be 0 for all samples.")
    return weight


def check_groups(groups, X):
    """Return the groups of samples as codes 0, 1, ..., None if there are none."""
    if groups is None:
        return None
    groups = check_column(groups, "groups")
    check_same_length(X=X, groups=groups)
    refuse_missing("groups", groups, "Give each of these samples a group of its own.")
    with name_in_errors("groups"):
        return np.unique(groups, return_inverse=True)[1]


def check_training_data(
    estimator, X, y, sample_weight, groups=None, *, check_y, known=None, classes=None
):
    """Check the samples of a training.

    Parameters
    ----------
    estimator : estimator instance
        Its parameters are read.
    check_y : callable
        `check_y(y)` returns classes, labels or numbers, or refuses them.
    known : InputFormat or None
        That of the fit which goes on; None if a new one begins.
    classes : ndarray or None
        Those that are known before y is.

    Returns
    -------
    samples : Samples
    dtype : "float32" or "float64"
        In which they are trained.
    x_format : InputFormat

    Raises
    ------
    ValueError
        If an array is malformed, X has more than 4 axes, a weight is negative or none is
        positive.
    """
    name = type(estimator).__name__
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    X = _as_container(X, name, known)
    y = check_target(X, y, name, check_y)
    weight = check_weight(sample_weight, y)
    if (class_weight := getattr(estimator, "class_weight", None)) is not None:
        weight = weight * _weigh_classes(y, class_weight, classes)
    if not (weight > 0).any():
        raise ValueError(
            "All samples have weight 0 (sample_weight times class_weight): nothing to train on."
        )
    groups = check_groups(groups, X)
    x_format = known or learn_format(X, estimator, weight)
    n_features = X.shape[1]
    X, dtype = apply_format(X, name, x_format, as_row_counts(weight).sum())
    if X.ndim > 4:
        raise ValueError(
            "X must have shape (n_samples, n_features), (n_samples, n_patches, patch_size) or "
            f"(n_samples, n_channels, height, width), got {X.shape}."
        )
    if 0 in X.shape:
        raise ValueError(f"X of shape {X.shape} is empty: every axis must be at least 1 long.")
    if known is None:
        if X.ndim > 2 and x_format.sample_shape is None:
            _warn_of_images(X)
        shape = {"n_features": n_features, "input_shape": X.shape[1:]}
        x_format = x_format._replace(dtype=X.dtype.name, **shape)
    samples = Samples(X, y, weight, groups)
    positive = weight > 0
    if not positive.all():
        samples = rows_of(samples, np.flatnonzero(positive))
    return samples, dtype, x_format


def _weigh_classes(y, class_weight, classes):
    """Return the weight that each sample has by its class."""
    with name_in_errors("class_weight"):
        if isinstance(class_weight, str):
            return compute_sample_weight(class_weight, y)
        if not all(0 <= value < np.inf for value in class_weight.values()):
            raise ValueError(f"{class_weight!r} must hold finite numbers that are not negative.")
        # A chunk may hold some of the classes only.
        known = y[:0] if classes is None else classes
        return compute_sample_weight(class_weight, np.concatenate([known, y]))[len(known) :]


def rows_of(samples, rows):
    """Return some of the samples; X, which may be large, is not copied."""
    parts = (None if part is None else part[rows] for part in samples[1:])
    return Samples(select(samples.X, rows), *parts)


def hold_out(samples, fraction, seed, *, stratify):
    """Split samples into those to train on and those to validate on.

    Samples of one group stay together. Else each class is divided, if it has two samples or more;
    one that is alone in its class is trained on.
    """
    y, groups = samples.y, samples.groups
    is_alone = np.bincount(y)[y] == 1 if stratify and groups is None else np.zeros(len(y), bool)
    # What is drawn: groups, or samples of classes that can be divided.
    units = np.flatnonzero(~is_alone) if groups is None else np.unique(groups)
    classes = y[units] if stratify and groups is None else None
    with name_in_errors("validation_fraction"):
        training, validation = train_test_split(
            units, stratify=classes, test_size=fraction, random_state=seed
        )
    if groups is not None:
        training, validation = (
            np.flatnonzero(np.isin(groups, drawn)) for drawn in (training, validation)
        )
    training = np.append(training, np.flatnonzero(is_alone))
    return rows_of(samples, training), rows_of(samples, validation)
