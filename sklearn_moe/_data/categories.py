"""Categorical columns of a table, as codes."""

import re
from numbers import Number

import numpy as np
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils._indexing import _get_column_indices

from .._validation import naming
from .frames import column_name, column_types, column_values, is_frame, is_missing

_MOST = 100  # categories of a column that are told apart; rarer ones are one
# What types of pandas, polars and Arrow are called.
_KINDS = (
    *("category", "categorical", "enum", "dictionary"),
    *("str", "string", "large_string", "string_view", "utf8", "large_utf8"),
)


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
    of_type = [i for i, kind in enumerate(kinds) if _holds_categories(X, i, kind)]
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
    with naming("categorical_features"):
        chosen = [] if chosen is None else np.asarray(chosen).tolist()
        return sorted(set(_get_column_indices(X, chosen)))


def _holds_categories(X, index, kind):
    if re.match("[a-z0-9_]*", kind).group() in _KINDS:  # without what is in brackets
        return True
    if kind != "object":
        return False
    # A pandas column of objects may hold anything; strings are categories.
    values = column_values(X, index)
    return all(isinstance(value, str) for value in values[~is_missing(values)])


class Categories:
    """The categories of some columns, and their codes 0, 1, ...

    Of more than 100 categories of a column, those of least weight share the last code.

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
    """

    def __init__(self, columns):
        self.columns = columns

    def fit(self, X, weight):
        """Learn the categories of the samples whose weight, (n_samples,), is above 0."""
        self.in_frame = is_frame(X)
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
            places = encoder.transform(column)[:, 0]
            known = ~np.isnan(places)
            loads = np.bincount(places[known].astype(int), weight[known])
            self.encoders.append(encoder)
            self.values.append(encoder.categories_[0][: len(loads)].tolist())
            self.codes.append(_merge_rarest(loads))
        return self

    def encode(self, X):
        """Return the codes, (n_samples,) by column, NaN where a category is missing or not known.

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
        for index, encoder, codes in zip(self.columns, self.encoders, self.codes, strict=True):
            places = encoder.transform(self._column(X, index))[:, 0]
            known = ~np.isnan(places)
            places[known] = codes[places[known].astype(int)]
            coded[index] = places
        return coded

    def labels(self):
        """Return what each code of each column stands for, as text, by column."""
        by_column = {}
        for index, values, codes in zip(self.columns, self.values, self.codes, strict=True):
            labels = dict(zip(codes.tolist(), map(str, values), strict=True))
            if len(labels) < len(values):
                labels[_MOST - 1] = "other"
            by_column[index] = labels
        return by_column

    @property
    def are_numbers(self):
        """Whether each column's categories are numbers, which an array can hold as they are."""
        return [all(isinstance(v, Number) for v in values) for values in self.values]

    def _column(self, X, index):
        values = column_values(X, index)
        if self.in_frame or values.dtype == object:
            values = np.where(is_missing(values), np.nan, values.astype(object))
        return values[:, np.newaxis]


def _merge_rarest(loads):
    """Return the codes of categories, given the weight of each."""
    codes = np.arange(len(loads))
    if len(loads) > _MOST:
        rare = np.argsort(loads, kind="stable")[: 1 - _MOST]
        codes = np.full(len(loads), _MOST - 1)
        codes[np.delete(np.arange(len(loads)), rare)] = np.arange(_MOST - 1)
    return codes
