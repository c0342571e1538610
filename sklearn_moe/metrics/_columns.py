"""The columns of any table as numbers, for those who compare samples and do not fit them."""

import numpy as np
from scipy.sparse import issparse
from scipy.stats import mode
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from .._data.tables import Table


def read_columns(X):
    """Yield the columns of a table, which is an array, a sparse matrix or a data frame.

    Yields
    ------
    name : str
        x0, x1, ... where the table has none.
    values : ndarray of shape (n_samples,), float64
        Numbers, NaN where missing; of categories the codes 0, 1, ...
    is_category : bool
    """
    for column in Table(X.tocsc() if issparse(X) else X):
        yield column.label, *column.comparable()


def encode_table(X):
    """Return a table as numbers of about one scale, (n_samples, n_features); sparse X stays sparse.

    Missing numbers become the median, numbers are standardized, categories are one-hot encoded.
    """
    if issparse(X):
        return StandardScaler(with_mean=False).fit_transform(X.tocsr().astype(np.float64))
    _, columns, is_category = zip(*read_columns(X), strict=True)
    numbers = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
    )
    encoder = make_column_transformer(
        (numbers, np.logical_not(is_category)),
        (OneHotEncoder(sparse_output=False), np.array(is_category)),
    )
    return encoder.fit_transform(np.column_stack(columns))


def typical_values(X):
    """Return a value of each column of a table, as X has it: the median or main category."""
    typical = []
    for column in Table(X.tocsc() if issparse(X) else X):
        values, is_category = column.comparable()
        median = np.argsort(values)[(np.isfinite(values).sum() - 1) // 2]  # NaN is last
        row = np.argmax(values == mode(values).mode) if is_category else median
        typical.append((values if issparse(X) else column.values)[row])
    return typical


def as_dense(X):
    """Return a sparse matrix as an array, and an array as it is."""
    return X.toarray() if issparse(X) else X
