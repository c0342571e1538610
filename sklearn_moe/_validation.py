"""What is wrong with an argument, by its name, and what is asked of a fitted estimator."""

import re
from contextlib import contextmanager
from numbers import Integral

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval

__all__ = [
    "Count",
    "check_column",
    "check_named",
    "check_same_length",
    "count_experts",
    "final_step",
    "naming",
    "refuse_overflow",
]


class Count(Interval):
    """Constraint of a parameter: integers from `low` on, and no bools, which Python counts too."""

    def __init__(self, low):
        super().__init__(Integral, low, None, closed="left")

    def is_satisfied_by(self, val):
        """Tell whether a value is one of them."""
        return not isinstance(val, bool) and super().is_satisfied_by(val)


@contextmanager
def naming(name):
    """Put the name of an argument before the message of an error that does not hold it.

    NumPy, torch and scikit-learn speak of arrays, whatever these are to the user. What leaves the
    range of floats is told by an error of ours, and by no warning of theirs.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        if re.search(rf"\b{name}\b", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def refuse_overflow(name, *moments):
    """Refuse an array whose squares are too large for its type, which its moments show."""
    if not all(np.isfinite(moment).all() for moment in moments):
        raise ValueError(
            f"{name} holds numbers so large that their squares are not finite. Divide {name} by a "
            "constant."
        )


def check_named(array, name, **options):
    """Return an argument as `check_array` does."""
    with naming(name):
        return check_array(array, input_name=name, **options)


def check_column(array, name):
    """Return an argument of one axis, or of one column, as `column_or_1d` does."""
    with naming(name):
        return column_or_1d(array)


def check_same_length(**arrays):
    """Refuse arguments of different lengths; None has any."""
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with naming(" and ".join(arrays)):
        check_consistent_length(*arrays.values())


def final_step(estimator, X, needs=("apply",)):
    """Return the mixture at the end of a pipeline, and X as it sees it.

    Parameters
    ----------
    estimator : estimator instance
        Fitted mixture of experts, or a fitted :class:`~sklearn.pipeline.Pipeline` in which it is
        the last step.

    X : array-like of shape (n_samples, ...)
        Samples, as `estimator` takes them.

    needs : tuple of str, default=("apply",)
        The methods that the mixture must have.

    Returns
    -------
    estimator : estimator instance
        The mixture itself.

    X : array-like of shape (n_samples, ...)
        Samples as the mixture takes them.

    Raises
    ------
    TypeError
        If the mixture lacks one of the methods.
    """
    if isinstance(estimator, Pipeline):
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
        estimator = estimator[-1]
    missing = [name for name in needs if not hasattr(estimator, name)]
    if missing:
        raise TypeError(
            f"A fitted mixture of experts with the methods {', '.join(needs)} is needed, but "
            f"{type(estimator).__name__} does not have {', '.join(missing)}. Pass the mixture "
            "itself, or a Pipeline that ends in it (of a search, `best_estimator_`), and X as "
            "it takes it."
        )
    return estimator, X


def count_experts(estimator, X):
    """Return the number of experts of a fitted mixture, None if it does not tell."""
    if hasattr(estimator, "n_experts"):
        return estimator.n_experts
    if hasattr(estimator, "gate_proba"):
        return np.shape(estimator.gate_proba(X[:1]))[1]
    return None
