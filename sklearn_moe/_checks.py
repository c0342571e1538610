"""What is wrong with an argument, by its name."""

import re
from contextlib import contextmanager
from numbers import Integral

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval

__all__ = ["Count", "check_column", "check_named", "check_same_length", "naming", "refuse_overflow"]


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
