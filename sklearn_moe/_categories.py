"""Categorical columns of a table, as codes."""

import re

import numpy as np
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils._indexing import _get_column_indices

from ._checks import naming

__all__ = ["Categories", "find_categories"]

_MOST = 100  # categories of a column that are told apart; rarer ones are one
# What types of pandas and polars are called.
_KINDS = ("category", "categorical", "enum", "str", "string")


def find_categories(X, chosen, sample_weight=None):
    """Return the `Categories` of a table, None if it has none.

    Parameters
    ----------
    X : array or data frame
    chosen : "from_dtype", None or array-like
        As `categorical_features` of the estimators.
    sample_weight : array-like of shape (n_samples,) or None
        Rows of weight 0 bring no categories.

    Raises
    ------
    ValueError
        If there are columns of strings and none is chosen, or a chosen column is not there.
    """
    of_type = [i for i, dtype in enumerate(_types(X)) if _holds_categories(X, i, dtype)]
    if isinstance(chosen, str):
        return Categories(of_type).fit(X, sample_weight) if of_type else None
    if chosen is None and of_type:
        names = [X.columns[i] for i in of_type]
        raise ValueError(
            f"Columns {names} hold categories, and categorical_features=None takes every column "
            "for numbers. Use categorical_features='from_dtype', or encode them before:\n"
            f"make_column_transformer((OneHotEncoder(handle_unknown='ignore'), {names}), "
            "remainder='passthrough')"
        )
    with naming("categorical_features"):
        chosen = [] if chosen is None else np.asarray(chosen).tolist()
        columns = sorted(_get_column_indices(X, chosen))
    return Categories(columns).fit(X, sample_weight) if columns else None


def _is_frame(X):
    return hasattr(X, "columns") and hasattr(X, "dtypes")


def _types(X):
    return list(X.dtypes) if _is_frame(X) else []


def _holds_categories(X, index, dtype):
    kind = re.match("[a-z0-9_]*", str(dtype).lower()).group()  # without what is in brackets
    if kind in _KINDS:
        return True
    if str(dtype) != "object":
        return False
    # A pandas column of objects may hold anything; strings are categories.
    values = X.iloc[:, index].to_numpy()
    return all(isinstance(value, str) for value in values[~_is_missing(values)])


def _is_missing(values):
    """Tell None, NaN and pandas' NA from values; of NA it is not known whether it equals itself."""
    return np.array([value is None or (value == value) is not True for value in values.tolist()])


class Categories:
    """The categories of some columns, and their codes 0, 1, ...

    Parameters
    ----------
    columns : list of int
    """

    def __init__(self, columns):
        self.columns = columns
        self.encoder = OrdinalEncoder(
            handle_unknown="use_encoded_value",
            unknown_value=np.nan,
            encoded_missing_value=np.nan,
            max_categories=_MOST,
        )

    def fit(self, X, sample_weight=None):
        """Learn the categories."""
        self.in_frame = _is_frame(X)
        values = self._select(X)
        if sample_weight is not None and np.shape(sample_weight) == (len(values),):
            values = values[np.asarray(sample_weight) > 0]
        if len(values):  # what is wrong with no row at all is said later
            self.encoder.fit(values)
        return self

    def encode(self, X):
        """Return X with codes in the place of categories, NaN for those not known.

        Raises
        ------
        ValueError
            If X is no data frame, and the one of `fit` was.
        """
        if self.in_frame and not _is_frame(X):
            raise ValueError(
                f"X is {type(X).__name__}, but the model was fitted on a data frame with "
                f"categorical columns {self.columns}. Pass a data frame with the same columns."
            )
        codes = self.encoder.transform(self._select(X))
        if self.in_frame:
            codes = dict(zip(self.columns, codes.T, strict=True))
            return type(X)({name: codes.get(i, X[name]) for i, name in enumerate(X.columns)})
        X = np.array(X, dtype=np.result_type(X, np.float32))
        X[:, self.columns] = codes
        return X

    def _select(self, X):
        if not self.in_frame:
            return np.asarray(X)[:, self.columns]
        values = [np.asarray(X[X.columns[i]], dtype=object) for i in self.columns]
        return np.stack([np.where(_is_missing(v), np.nan, v) for v in values], axis=1)
