"""Tables of any container as arrays of numbers: the columns of data frames, and categories."""

import datetime
import re
from numbers import Number

import numpy as np
from scipy.sparse import issparse
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils._indexing import _get_column_indices

from .._compat import warn
from .._validation import name_in_errors

_EXACT = 2**24  # float32 holds all integers up to this one
# Types of columns, in the names of NumPy, pandas, polars and Arrow.
_SINGLE = re.compile(r"u?int\d+|bool|float16|float32|half|float($|\[)")
_TIME = re.compile("date|time|duration|period|interval|month_day")
_TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
# What becomes of objects of a type.
_TYPES = {"f8": Number, "m8[us]": datetime.timedelta, "M8[us]": datetime.date}
_MOST = 500  # categories of a column that are told apart; rarer ones are one
_MANY_UNKNOWN = 20  # values of a column that are unknown by no accident
# What types of pandas, polars and Arrow are called.
_KINDS = (
    *("category", "categorical", "enum", "dictionary"),
    *("str", "string", "large_string", "string_view", "utf8", "large_utf8"),
)


def is_frame(X):
    """Tell a data frame of pandas or polars, or an Arrow table, from other containers."""
    return hasattr(X, "columns") and (hasattr(X, "dtypes") or hasattr(X, "schema"))


def import_pandas(caller, shown):
    """Return pandas, which makes a table of what can be printed as well."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            f"{caller}.to_frame needs pandas. Install it with `pip install pandas`, or print the "
            f"{shown}."
        ) from error
    return pandas


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


def read_column(X, index):
    """Return the name of a column of any table, its values, and where one is missing, (n_samples,).

    Objects that are numbers, dates or durations become arrays of these, with NaN or NaT where one
    is missing; other values, such as bools and texts, are returned as they are.
    """
    name = str(column_name(X, index)) if is_frame(X) else f"x{index}"
    values = X[:, [index]].toarray()[:, 0] if issparse(X) else column_values(X, index)
    missing = is_missing(values)
    kinds = {type(value) for value in values[~missing]} if values.dtype == object else {bool}
    for dtype, of in _TYPES.items():
        if bool not in kinds and all(issubclass(kind, of) for kind in kinds):
            values = np.where(missing, None, values)
            for row in np.flatnonzero([getattr(value, "tzinfo", None) for value in values]):
                values[row] = values[row].astimezone(datetime.timezone.utc).replace(tzinfo=None)
            values = values.astype(dtype)
    return name, values, missing


def is_missing(values):
    """Tell None, NaN and pandas' NA from other values, (n_samples,)."""
    if values.dtype != object:
        return values != values
    return np.array([value is None or not _is_itself(value) for value in values], dtype=bool)


def refuse_missing(name, values, advice):
    """Refuse an argument, (n_samples,), in which values are missing."""
    if (missing := is_missing(values)).any():
        raise ValueError(
            f"{name} holds None or NaN for {missing.sum()} samples, the first one at place "
            f"{missing.argmax()}. {advice}"
        )


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
    if values.dtype.kind == "c":
        raise ValueError(
            f"Column {column_name(X, index)!r} of X holds complex numbers. Replace it by columns "
            "of real numbers, such as their real and imaginary parts."
        )
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
            f"Column {column_name(X, index)!r} of X holds values that are no numbers: "
            f"{str(error).rstrip('.')}. Make it a column of numbers, or of strings or a "
            "categorical type only."
        ) from error


def refuse_times(what, kind):
    """Return the error for dates and times, which have no unit that could be guessed."""
    return TypeError(
        f"{what} holds dates or times ({kind}), which are no numbers. Replace it by numeric "
        "columns, such as the year, the month, the hour, or the days since some date: "
        "(date - start) / pandas.Timedelta('1D')."
    )


# -- categorical columns, as codes --------------------------------------------------------


def find_categories(X, chosen):
    """Return the indices of the categorical columns of a table.

    Parameters
    ----------
    X : array or data frame
    chosen : "from_dtype", None or array-like
        As `categorical_features` of the estimators.

    Raises
    ------
    ValueError
        If there are columns of strings and none is chosen, or a chosen column is not there.
    """
    kinds = column_types(X) if is_frame(X) else []
    of_type = [i for i, kind in enumerate(kinds) if holds_categories(X, i, kind)]
    if isinstance(chosen, str):
        return of_type
    if chosen is None and of_type:
        names = [column_name(X, i) for i in of_type]
        raise ValueError(
            f"Columns {names} hold categories, and categorical_features=None takes every column "
            "for numbers. Use categorical_features='from_dtype', or encode them before:\n"
            f"make_column_transformer((OneHotEncoder(handle_unknown='ignore'), {names}), "
            "remainder='passthrough')"
        )
    with name_in_errors("categorical_features"):
        chosen = [] if chosen is None else np.asarray(chosen).tolist()
        return sorted(set(_get_column_indices(X, chosen)))


def holds_categories(X, index, kind):
    """Tell whether a column of a table, given its type as text, holds categories."""
    if re.match("[a-z0-9_]*", kind).group() in _KINDS:  # without what is in brackets
        return True
    if kind != "object":
        return False
    # A pandas column of objects may hold anything; strings are categories.
    values = column_values(X, index)
    return all(isinstance(value, str) for value in values[~is_missing(values)])


class Categories:
    """The categories of some columns, and their codes 0, 1, ...

    Of more than 500 categories of a column, those of least weight share the last code.

    Parameters
    ----------
    columns : list of int

    Attributes
    ----------
    values : list of list
        The categories of each column, sorted.
    codes : list of ndarray of int
        The code of each of these.
    in_frame : bool
        Whether they were learned from a data frame.
    as_objects : bool
        Whether they are compared as Python objects.
    """

    def __init__(self, columns):
        self.columns = columns

    def fit(self, X, weight):
        """Learn the categories of the samples whose weight, (n_samples,), is above 0."""
        self.in_frame = is_frame(X)
        self.as_objects = self.in_frame or X.dtype == object
        self.names = [column_name(X, index) for index in self.columns]
        self.encoders, self.values, self.codes = [], [], []
        for index, name in zip(self.columns, self.names, strict=True):
            column = self._column(X, index)
            encoder = OrdinalEncoder(
                handle_unknown="use_encoded_value",
                unknown_value=np.nan,
                encoded_missing_value=np.nan,
            )
            try:
                encoder.fit(column[weight > 0])
            except TypeError as error:
                raise TypeError(f"Column {name!r} of X, of categories: {error}") from error
            indices = encoder.transform(column)[:, 0]
            known = ~np.isnan(indices)
            loads = np.bincount(indices[known].astype(int), weight[known])
            self.encoders.append(encoder)
            self.values.append(encoder.categories_[0][: len(loads)].tolist())
            self.codes.append(merge_rarest(loads))
        return self

    def encode(self, X):
        """Return the codes, (n_samples,) by column, NaN where a category is missing or not known.

        Warn if most values of a column are unknown: numbers in the place of texts or the other way
        round, or at least 20 values.

        Raises
        ------
        ValueError
            If X is no data frame, and the one of `fit` was.
        """
        if self.in_frame and not is_frame(X):
            raise ValueError(
                f"X is {type(X).__name__}, but the model was fitted on a data frame with "
                f"categorical columns {self.names}. Pass a data frame with the same columns."
            )
        coded = {}
        for i, (index, codes) in enumerate(zip(self.columns, self.codes, strict=True)):
            values = self._column(X, index)
            indices = self.encoders[i].transform(values)[:, 0]
            known = ~np.isnan(indices)
            if 2 * np.count_nonzero(known) < len(known) and len(self.values[i]) > 1:
                self._warn_of_unknown(i, values[~known, 0], len(known))
            indices[known] = codes[indices[known].astype(int)]
            coded[index] = indices
        return coded

    def _warn_of_unknown(self, i, values, n_rows):
        """Warn if most of the values of a column are not known, given those without a code."""
        n_known, values = n_rows - len(values), values[~is_missing(values)]
        if len(values) <= n_known:
            return
        got, seen = values[:1].tolist()[0], self.values[i][0]
        if isinstance(got, str) != isinstance(seen, str) or len(values) >= _MANY_UNKNOWN:
            warn(
                f"Column {self.names[i]!r} of X: {len(values)} of {len(values) + n_known} values "
                f"are no categories of the fit and count as missing, such as {got!r} "
                f"({type(got).__name__}). In fit there was {seen!r} ({type(seen).__name__}): pass "
                "categories as they were there.",
                UserWarning,
            )

    def labels(self):
        """Return what each code of each column stands for, as text, by column."""
        by_column = {}
        for index, values, codes in zip(self.columns, self.values, self.codes, strict=True):
            labels = dict(zip(codes.tolist(), map(str, values), strict=True))
            if len(labels) < len(values):
                labels[_MOST - 1] = "other"
            by_column[index] = labels
        return by_column

    def _column(self, X, index):
        values = column_values(X, index)
        if self.as_objects or values.dtype == object:
            values = np.where(is_missing(values), np.nan, values.astype(object))
        return values[:, np.newaxis]


def merge_rarest(loads):
    """Return the codes of categories, given the weight of each; the rarest share the last one."""
    codes = np.arange(len(loads))
    if len(loads) > _MOST:
        rare = np.argsort(loads, kind="stable")[: 1 - _MOST]
        codes = np.full(len(loads), _MOST - 1)
        codes[np.delete(np.arange(len(loads)), rare)] = np.arange(_MOST - 1)
    return codes
