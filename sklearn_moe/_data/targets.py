"""What y means: classes, labels or numbers, and their codes for the net."""

import copy
import math

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from .._validation import refuse_overflow
from .validation import as_row_counts

# All of so many positive counts are hardly multiples of the same number by chance.
_ENOUGH_POSITIVE = 20


def check_classes(y):
    """Return classes, (n_samples,), or labels of zeros and ones, (n_samples, n_labels)."""
    check_classification_targets(y)
    if type_of_target(y) == "multilabel-indicator":
        y = y.toarray() if issparse(y) else y
        if np.isin(y, (0, 1)).all():
            return y
    if y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(
            f"y of shape {y.shape} must hold zeros and ones, a column per label. For several "
            "outputs of several classes each use sklearn.multioutput.MultiOutputClassifier."
        )
    return column_or_1d(y, warn=True)


class Target:
    """What y means."""

    def updated(self, y, weight):
        """Return what y means once these samples are trained on, too."""
        return self


class ClassTarget(Target):
    """One of several classes; the code is its index.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted.
    """

    kind = "classes"

    def __init__(self, classes):
        self.classes = classes
        self.n_targets = len(classes)

    def encode(self, y, dtype):
        """Return the index of each label.

        Raises
        ------
        ValueError
            If a label is none of the classes.
        """
        if np.ndim(y) != 1:
            raise ValueError(f"y must have shape (n_samples,), as in the first fit, got {y.shape}.")
        codes = np.searchsorted(self.classes, y).clip(max=self.n_targets - 1)
        unseen = self.classes[codes] != y
        if unseen.any():
            raise ValueError(
                f"y contains labels {np.unique(y[unseen]).tolist()} that are not among the classes "
                f"{self.classes.tolist()}. Name all classes in the first call of partial_fit, or "
                "fit a new model (warm_start=False)."
            )
        return codes

    def decode(self, proba):
        """Return the most probable class."""
        return self.classes[proba.argmax(axis=1)]


class LabelTarget(Target):
    """Several labels that a sample has or has not."""

    kind = "multilabel"

    def __init__(self, n_labels):
        self.classes = np.arange(n_labels)
        self.n_targets = n_labels

    def encode(self, y, dtype):
        """Return zeros and ones as floats, (n_samples, n_labels)."""
        if np.ndim(y) != 2 or y.shape[1] != self.n_targets:
            raise ValueError(
                f"y must have shape (n_samples, {self.n_targets}), a column per label as in the "
                f"first fit, got {np.shape(y)}."
            )
        return np.asarray(y, dtype=dtype)

    def decode(self, proba):
        """Return the labels of probability above one half, as zeros and ones."""
        return (proba > 0.5).astype(int)


def learn_classes(y, weight, classes, make_head):
    """Return the target of classes or labels, and the head for it that `make_head` makes."""
    classes = np.unique(y) if classes is None else classes
    if y.ndim == 1 and len(classes) < 2:
        raise ValueError(
            f"MoEClassifier needs samples of at least 2 classes, got 1 class: "
            f"{classes.tolist()[0]!r}."
        )
    target = LabelTarget(y.shape[1]) if y.ndim == 2 else ClassTarget(classes)
    return target, make_head(target.kind, target.n_targets)


class NumberTarget(Target):
    """Numbers, in standard deviations from their mean.

    Parameters
    ----------
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        What mean and standard deviation are taken of.
    weight : ndarray of shape (n_samples,)
    """

    kind = "regression"

    def __init__(self, y, weight):
        self.is_column = y.ndim == 1
        self.n_targets = math.prod(y.shape[1:])
        self.mean, scale = self._measure(self._as_columns(y), weight)
        self.varies = np.isfinite(scale)
        # A constant target has the scale 1.
        self.scale = np.where(self.varies, scale, 1.0)

    def _as_columns(self, y):
        """Return numbers in float64, (n_samples, n_outputs)."""
        if (y.ndim == 1) != self.is_column or math.prod(y.shape[1:]) != self.n_targets:
            shape = "(n_samples,)" if self.is_column else f"(n_samples, {self.n_targets})"
            raise ValueError(f"y must have shape {shape}, as in the first fit, got {y.shape}.")
        return y.reshape(len(y), -1).astype(np.float64)

    @property
    def deviation(self):
        """Standard deviation of each output, 0 of one that is constant."""
        return np.where(self.varies, self.scale, 0.0)

    def encode(self, y, dtype):
        """Return standardized numbers, (n_samples, n_outputs)."""
        # In float64: a large mean would take all digits of the differences in float32.
        return ((self._as_columns(y) - self.mean) / self.scale).astype(dtype)

    def decode(self, numbers):
        """Return predictions (n_samples, ..., n_outputs) in the units of y, and in its shape."""
        return self._shape(numbers * self.deviation + self.mean)

    def decode_deviation(self, deviation):
        """Return standard deviations in the units of y, and in its shape."""
        return self._shape(deviation * self.deviation)

    def _shape(self, numbers):
        return numbers[..., 0] if self.is_column else numbers

    @staticmethod
    def _measure(y, weight):
        """Return mean and standard deviation of columns, infinite for one of a single value.

        Parameters
        ----------
        y : ndarray of shape (n_samples, n_outputs)
        weight : ndarray of shape (n_samples,)
        """
        # NumPy 1 would divide float32 by a float64 in float32.
        weight = weight.astype(np.float64)
        weight /= weight.sum()
        with np.errstate(over="ignore", invalid="ignore"):
            # A mean that is large beside the differences is rounded: it is taken of these.
            spread = np.ptp(y, axis=0)
            origin = np.where(spread < 1e-9 * np.abs(y[0]), y[0], 0.0)
            mean = origin + weight @ (y - origin)
            centered = y - mean
            # By a power of two, which is exact: squares of tiny numbers would be 0.
            unit = np.ldexp(1.0, np.minimum(np.frexp(np.abs(centered).max(axis=0))[1], 0))
            scale = unit * np.sqrt(weight @ np.square(centered / unit))
        refuse_overflow("y", scale)
        varies = (spread > 0) & (scale > 0)
        return np.where(varies, mean, y[0]), np.where(varies, scale, np.inf)


class RateTarget(NumberTarget):
    """Counts or rates, 0 or more, in units of their mean; the parameters are the same.

    Attributes
    ----------
    is_count : bool
        Whether all were whole numbers so far, and no rates of other exposures that happen to be.
    """

    def __init__(self, y, weight):
        self.is_count = True
        self._divisor = self._n_positive = 0
        super().__init__(y, weight)
        self._count(y, weight)

    def updated(self, y, weight):
        """Return what y means once these samples are trained on, too."""
        twin = copy.copy(self)
        twin._count(y, weight)
        return twin

    @property
    def step(self):
        """What one event adds to each output: 12 if y are rates of exposures of 1 / 12."""
        return np.where(self._n_positive < _ENOUGH_POSITIVE, 1, self._divisor)

    def _count(self, y, weight):
        """Find out whether y are counts, and of which number all are multiples."""
        if y.min() < 0:
            raise ValueError(
                f"loss='poisson' needs counts or rates as y, 0 or more, got {y.min():g}. Use "
                "loss='squared_error' for numbers of either sign."
            )
        y = self._as_columns(y)
        # Larger numbers have no digits after the point.
        self.is_count &= bool((y == np.floor(y)).all()) and y.max() < 2**53
        if not self.is_count:
            return
        counts = y.astype(np.int64)
        divisor, n_positive = np.gcd.reduce(counts), (counts > 0).sum(axis=0)
        exposures = as_row_counts(weight)
        if (exposures == np.rint(exposures)).all():
            # A rate times its exposure, in units of the smallest one, is a multiple of one number.
            common = np.gcd.reduce(counts * exposures[:, np.newaxis].astype(np.int64))
            self.is_count = not ((common > divisor) & (n_positive >= _ENOUGH_POSITIVE)).any()
        self._divisor = np.gcd(self._divisor, divisor)
        self._n_positive = self._n_positive + n_positive

    @staticmethod
    def _measure(y, weight):
        """Return 0 and the mean of columns, which is infinite for one of zeros."""
        mean = np.average(y, axis=0, weights=weight)
        refuse_overflow("y", mean)
        return np.zeros_like(mean), np.where(mean > 0, mean, np.inf)


def learn_numbers(y, weight, classes, make_head):
    """Return the target of numbers, and the head for it, which tells whether these are rates."""
    head = make_head(NumberTarget.kind, math.prod(y.shape[1:]))
    target = RateTarget if getattr(head, "is_rate", False) else NumberTarget
    return target(y, weight), head
