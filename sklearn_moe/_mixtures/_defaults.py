"""The parts that a mixture has by default, which take tables of any columns."""

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, TransformerMixin, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from .._data.tables import Categories, Table, is_frame
from .._data.validation import as_row_counts

# Gates of stacks are learned, and trees of lines are grown, on a part of more rows.
MOST_ROWS = 10_000


class ColumnEncoder(TransformerMixin, BaseEstimator):
    """Numbers for linear models and trees, from a table of numbers and categories.

    Numbers are standardized, or left as they are. A missing one is the mean; with `add_indicator` a
    column says so, if some were missing in `fit`. Categories become columns of zeros and ones,
    without one for the first category, or with `drop="if_binary"` if there are two. A missing one
    has a column of its own, or, if `fit` had none, is the most frequent one; so is a category that
    `fit` did not see.
    """

    def __init__(self, add_indicator=True, standardize=True, drop="first"):
        self.add_indicator = add_indicator
        self.drop = drop
        self.standardize = standardize

    def fit(self, X, y=None, sample_weight=None):
        """Learn categories, means and deviations, by weight."""
        table = Table(X)
        columns = table.find_categories()
        weight = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        self.categories_ = Categories(columns).fit(table, weight) if columns else None
        numbers = [index for index in range(X.shape[1]) if index not in columns]
        mean = SimpleImputer(keep_empty_features=True, add_indicator=self.add_indicator)
        scaler = StandardScaler() if self.standardize else "passthrough"
        mode = SimpleImputer(strategy="most_frequent", keep_empty_features=True, add_indicator=True)
        # Many categories become a sparse matrix: a dense one takes seconds to solve for.
        is_wide = columns and sum(map(len, self.categories_.values)) > 200
        code = OneHotEncoder(drop=self.drop, sparse_output=bool(is_wide))
        parts = [
            ("numbers", make_pipeline(mean, scaler), numbers),
            ("categories", make_pipeline(mode, code), columns),
        ]
        read = self._read(X)
        # All of it is sparse, or nothing.
        encoder = ColumnTransformer(parts, sparse_threshold=1.0).set_output(transform="default")
        self.encoder_ = encoder.fit(read)
        if np.ptp(weight):
            self._weigh(read[:, numbers], read[:, columns], weight)
        return self

    def _weigh(self, numbers, codes, weight):
        """Take means, deviations and modes by weight, of which imputers know nothing."""
        if numbers.shape[1]:
            mean, scaler = self.encoder_.named_transformers_["numbers"]
            known = np.ma.masked_invalid(numbers)
            mean.statistics_ = np.ma.average(known, axis=0, weights=weight).filled(0)
            if self.standardize:
                scaler.fit(mean.transform(numbers), sample_weight=weight)
        for j, column in enumerate(codes.T):
            known = ~np.isnan(column)
            if known.any():
                sums = np.bincount(column[known].astype(int), weight[known])
                mode = self.encoder_.named_transformers_["categories"][0]
                mode.statistics_[j] = sums.argmax()

    def transform(self, X):
        """Return the numbers, (n_samples, n_columns)."""
        return self.encoder_.transform(self._read(X))

    def _read(self, X):
        return Table(X).to_numbers(self.categories_, wide=np.float64)[0].astype(np.float64)


def _is_plain(X):
    """Tell arrays of numbers, none of them missing."""
    return issparse(X) or not (is_frame(X) or X.dtype.kind not in "biuf" or np.isnan(X).any())


def default_expert(plain, X):
    """Return the expert of plain arrays, or for other tables one of the encoded columns.

    With categories or missing values it has a penalty: there may be many columns, and few rows of a
    category. Complete numbers are those of an array, whichever holds them. A penalty is one of
    standardized columns.
    """
    has_penalty = is_classifier(plain)
    if issparse(X) or (_is_plain(X) and not has_penalty):
        return plain
    encoder = ColumnEncoder().fit(X)
    if encoder.categories_ is not None:
        encoder.categories_.warn_of_texts(X.shape[0])
    if encoder.categories_ is None and encoder.transform(X[:1]).shape[1] == X.shape[1]:
        return make_pipeline(ColumnEncoder(standardize=has_penalty), plain)
    # Coefficients of standardized columns shrink as by a third of a row.
    return make_pipeline(encoder, plain if has_penalty else Ridge(0.3, tol=1e-6))


def default_logit(X, C=1.0, n_classes=2):
    """Return a logistic regression whose fits begin where the one before ended."""
    n_columns = X.shape[1] if _is_plain(X) else ColumnEncoder().fit(X).transform(X[:1]).shape[1]
    # A step of Newton's method takes the square of the number of columns, and that of classes.
    solver = "newton-cholesky" if n_columns <= 100 and n_classes <= 20 else "lbfgs"
    return LogisticRegression(C=C, solver=solver, max_iter=1000, warm_start=True)


def default_gates(X, weight, n_components):
    """Return the gates that `gate="auto"` tries: a tree, None and a logit.

    The tree is pruned to the splits whose gain in likelihood is larger than what BIC takes for the
    parameters of a leaf. Gates are not told which numbers are missing: the density of these rows is
    that of a wider component, whichever they belong to.
    """
    if n_components == 1:
        return [None]
    # With groups a row counts less than once.
    n_samples = as_row_counts(weight).sum()
    # In bits per sample.
    price = n_components * np.log(n_samples) / (2 * n_samples * np.log(2))
    # A leaf has as large a share as `min_prior` demands of components.
    options = {"max_leaf_nodes": 8, "min_weight_fraction_leaf": 0.05, "ccp_alpha": float(price)}
    tree = DecisionTreeClassifier(criterion="log_loss", **options)
    scaler = make_scaler(X, add_indicator=False)
    logit = make_pipeline(scaler, default_logit(X, C=n_samples / weight.sum()))
    return [encoded(tree, X), None, logit]


def make_scaler(X, *, add_indicator=True):
    """Return an encoder for linear gates; of a sparse matrix zeros stay zeros."""
    if issparse(X):
        return MaxAbsScaler().set_output(transform="default")
    return ColumnEncoder(add_indicator)


def encoded(tree, X):
    """Return a tree that takes X, and whose thresholds are values of its columns if they can be.

    Trees of scikit-learn read float32 and take numbers nearer than 1e-7 as equal: columns are
    standardized before where deviations are far from 1, or from the mean.
    """
    encoder = ColumnEncoder(add_indicator=False, standardize=False, drop="if_binary")
    numbers = X if _is_plain(X) else encoder.fit(X).transform(X)
    found = StandardScaler(with_mean=False).fit(numbers)
    deviation = np.sqrt(found.var_)
    is_told_apart = (deviation > 0.01) & (deviation < 1e30)
    is_told_apart &= np.abs(found.mean_) < 100 * deviation
    if np.all(is_told_apart | (deviation == 0)):
        return tree if _is_plain(X) else make_pipeline(encoder, tree)
    scaler = MaxAbsScaler().set_output(transform="default")
    return make_pipeline(scaler if issparse(X) else encoder.set_params(standardize=True), tree)
