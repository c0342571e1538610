"""Tables of any container as arrays of numbers: the columns of data frames, and their types."""

import datetime
import re

import numpy as np

_EXACT = 2**24  # float32 holds all integers up to this one
# Types of columns, in the names of NumPy, pandas, polars and Arrow.
_SINGLE = re.compile(r"u?int\d+|bool|float16|float32|half|float($|\[)")
_TIME = re.compile("date|time|duration|period|interval|month_day")
_TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)


def is_frame(X):
    """Tell a data frame of pandas or polars, or an Arrow table, from other containers."""
    return hasattr(X, "columns") and (hasattr(X, "dtypes") or hasattr(X, "schema"))


def column_name(X, index):
    """Return the name of a column of a data frame, or its index in an array."""
    if not is_frame(X):
        return index
    return X.schema.names[index] if not hasattr(X, "dtypes") else X.columns[index]


def column_types(X):
    """Return the type of each column of a data frame as text, in lower case."""
    types = X.dtypes if hasattr(X, "dtypes") else X.schema.types
    return [str(kind).lower() for kind in types]


def column_values(X, index):
    """Return a column of a data frame or an array as it is, (n_samples,).

    By its place: names need not be unique. Missing values of integers become NaN.
    """
    if not is_frame(X):
        return np.asarray(X)[:, index]
    if not hasattr(X, "dtypes"):  # Arrow
        column = X.column(index)
        if str(column.type).startswith("dictionary"):
            column = column.cast(column.type.value_type)
        return column.to_numpy()
    if not hasattr(X, "iloc"):  # polars
        return X.to_series(index).to_numpy()
    column = X.iloc[:, index]
    is_number = getattr(column.dtype, "kind", "O") in "iufb"
    if isinstance(column.dtype, np.dtype) or not is_number:
        return column.to_numpy()
    if column.isna().any():
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return column.to_numpy(dtype=getattr(column.dtype, "numpy_dtype", None))


def is_missing(values):
    """Tell None, NaN and pandas' NA from other values, (n_samples,)."""
    if values.dtype != object:
        return values != values
    return np.array([value is None or not _is_itself(value) for value in values], dtype=bool)


def _is_itself(value):
    try:
        return bool(value == value)
    except (TypeError, ValueError):  # of pandas' NA it is not known; an array has no truth value
        return isinstance(value, np.ndarray)


def number_types(values, kind=None, *, wide=None):
    """Return the type in which numbers are kept until they are standardized, and that of training.

    What the data hold decides. float64 is kept and trained in; integers that float32 would round
    are kept in float64 and trained in float32, as everything else.

    Parameters
    ----------
    values : ndarray
    kind : str, default=None
        Type of the column that they are from.
    wide : type of float, default=None
        For integers of 32 and more bits. None: their values decide; at prediction they do not, so
        that no sample depends on the others.
    """
    kind = values.dtype.name if kind is None else kind.removeprefix("sparse[")
    if not _SINGLE.match(kind):
        return np.float64, np.float64
    is_wide = "int" in kind and not re.match(r"u?int(8|16)\b", kind)
    if is_wide and wide is not None:
        return wide, np.float32
    if is_wide:
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        is_wide = finite.size > 0 and (finite.max() > _EXACT or finite.min() < -_EXACT)
    return np.float64 if is_wide else np.float32, np.float32


def read_table(X, categories=None, *, wide=None):
    """Return a table as an array of numbers, and the type that it is trained in.

    Parameters
    ----------
    X : data frame or ndarray of shape (n_samples, n_features)
    categories : Categories or None
        Their columns become codes.
    wide : type of float, default=None
        See `number_types`.

    Raises
    ------
    ValueError, TypeError
        If a column holds dates, or anything else that is no number.
    """
    coded = {} if categories is None else categories.encode(X)
    kinds = column_types(X) if is_frame(X) else [None] * X.shape[1]
    columns = []
    for index, kind in enumerate(kinds):
        if index in coded:
            columns.append((coded[index], np.float32, np.float32))
        else:
            values = _numbers(X, index, kind)
            columns.append((values, *number_types(values, kind, wide=wide)))
    if not columns:
        return np.empty((X.shape[0], 0), np.float32), np.float32
    values, kept, trained = zip(*columns, strict=True)
    array = np.stack(values, axis=1, dtype=np.result_type(*kept), casting="unsafe")
    return array, np.result_type(*trained)


def _numbers(X, index, kind):
    """Return a column of numbers; NaN where a value is missing."""
    values = column_values(X, index)
    if values.dtype.kind in "biuf":
        return values
    missing = is_missing(values)
    some = next(iter(values[~missing]), None)
    if values.dtype.kind in "Mm" or (kind and _TIME.match(kind)) or isinstance(some, _TIMES):
        raise refuse_times(f"Column {column_name(X, index)!r} of X", kind or type(some).__name__)
    if missing.any():
        values = np.where(missing, np.nan, values)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"Column {column_name(X, index)!r} of X holds values that are no numbers: {error}. "
            "Make it a column of numbers, or of strings or a categorical type only."
        ) from error


def refuse_times(what, kind):
    """Return the error for dates and times, which have no unit that could be guessed."""
    return TypeError(
        f"{what} holds dates or times ({kind}), which are no numbers. Replace it by numbers that "
        "say what matters, such as the year, the month, the hour, or the days since some date: "
        "(date - start) / pandas.Timedelta('1D')."
    )
