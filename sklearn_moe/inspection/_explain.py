"""Why a mixture of experts predicts what it does for a row."""

from typing import Any

import numpy as np
from scipy.sparse import issparse, vstack
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils._param_validation import validate_params

from .._compat import progress_bar
from .._data.tables import Table, is_frame
from .._validation import Count, check_named, warning_once
from ..metrics._ensemble import find_gate_share
from ..metrics._words import SAME_WEIGHTS, find_regions
from ._explanation import Explanation
from ._linear import mix_rows, open_table
from ._shapley import shapley_values


@warning_once()
@validate_params(
    {
        "rows": ["array-like", Count(0), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def explain(
    estimator: Any,
    X: Any,
    rows: Any = None,
    *,
    output: Any = None,
    background: Any = None,
    random_state: Any = 0,
    verbose: bool | int = 0,
) -> Explanation:
    """Tell for rows which experts predict, why these, and what each column adds to the prediction.

    Parameters
    ----------
    estimator : estimator instance
        Fitted mixture of experts with `apply` and `predict`, or a fitted
        :class:`~sklearn.pipeline.Pipeline` that ends in one.

    X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        The rows of a table that are explained, and those that they are compared with. Each column
        has a part.

    rows : int or array-like of int, default=None
        Places of the rows to explain. None: all.

    output : int or class, default=None
        Which of several targets; None is the first. Of classes the one whose log odds against all
        others are explained; None is the second of two, and each of several.

    background : like X, default=None
        The rows that are compared with. None: 100 rows of X, by `random_state`, or all if there are
        fewer.

    random_state : int, RandomState instance or None, default=0
        For the background rows and the permutations: by default every call returns the same.

    verbose : bool or int, default=0
        Whether to show a bar over the rows.

    Returns
    -------
    explanation : Explanation
        `print(explanation)` shows a text, `explanation.to_frame()` returns a table,
        `explanation.importance()` the mean absolute parts, and `explanation.plot()` draws.

    Raises
    ------
    TypeError
        If `estimator` lacks a method.

    ValueError
        If X is not a table, or has no such row or output, or the estimator predicts several labels.

    See Also
    --------
    region_rules : The rules of all experts.

    Notes
    -----
    The parts are interventional Shapley values. The values of the row are put into each background
    row, column by column, in random order, and in the reverse order; a part is the mean change of
    the prediction when its column is put in. Permutations are drawn until the standard errors are
    below 2 % of the standard deviation of the predictions, 1,000 for a row at most. Of up to five
    columns all subsets are computed, without error.

    Log odds count probabilities below 1e-9 as 1e-9. Of counts (`loss="poisson"` or
    `family="poisson"`) the logarithm of the prediction is explained.

    The standard errors are those of the permutations. How much parts would differ with other
    background rows is not in them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_moe import MixtureRegressor
    >>> from sklearn_moe.inspection import explain
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, size=(200, 2))
    >>> y = np.where(X[:, 0] > 0, 2 * X[:, 1], -X[:, 1])
    >>> stump = DecisionTreeClassifier(max_depth=1)
    >>> mixture = MixtureRegressor(LinearRegression(), gate=stump, random_state=0).fit(X, y)
    >>> explained = explain(mixture, X, rows=[0, 1])
    >>> parts = explained.base + explained.contribution.sum(axis=1)
    >>> bool(np.allclose(parts, mixture.predict(X[:2])))
    True
    """
    X = _as_samples(X, "X")
    n_samples = X.shape[0]
    rows = np.arange(n_samples) if rows is None else np.atleast_1d(rows)
    if rows.dtype.kind not in "iu" or not ((rows >= -n_samples) & (rows < n_samples)).all():
        raise ValueError(f"rows must be places in X, integers below {n_samples}, got {rows}.")
    rows = rows % n_samples
    random = check_random_state(random_state)
    seed = random.randint(2**31 - 1)
    explained = _safe_indexing(X, rows)
    if background is None:
        compared = _safe_indexing(X, np.sort(random.permutation(n_samples)[:100]))
    else:
        compared = _as_samples(background, "background")
        if (names := [*Table(compared).names]) != [*Table(X).names]:
            raise ValueError(f"background must have the columns of X, got {names}.")
        # Rows of one expert alone do not tell where it holds.
        X = _stack(X, compared)
    each = "expert_proba" if hasattr(estimator, "predict_proba") else "expert_predict"
    needs = "apply", "predict", each
    view, table = open_table(estimator, X, needs)
    outcome = _Outcome(view, estimator, explained, output)
    columns = [table[place] for place in range(table.n_columns)]
    texts = np.array([column.texts(rows) for column in columns], dtype=object).T
    numbers = [np.full(len(rows), np.nan) if c.labels else c.values[rows] for c in columns]
    bar = progress_bar(iterable=rows, desc="explain", unit="row", disable=not verbose)
    parts = _find_parts(outcome, explained, compared, bar, seed)
    if len(outcome.which) == 1:
        parts = [part[..., 0] for part in parts]
    prediction, contribution, standard_error = parts
    return Explanation(
        rows=rows,
        expert_names=view.names,
        gate=view.gates[rows].astype(float),
        condition=_conditions(view, table, rows),
        outcome=outcome.name,
        classes=outcome.classes,
        columns=tuple(column.label for column in table.columns),
        values=texts,
        numbers=np.array(numbers, float).T,
        n_background=compared.shape[0],
        base=prediction - contribution.sum(axis=1),
        contribution=contribution,
        standard_error=standard_error,
        prediction=prediction,
    )


def _as_samples(X, name):
    """Return samples in a container with a shape: frames and sparse matrices as they are."""
    if is_frame(X) or issparse(X):
        return X
    return check_named(X, name, dtype=None, ensure_all_finite=False)


class _Outcome:
    """What is explained of a row: a number, its logarithm, or log odds of classes.

    Attributes
    ----------
    which : list of int
        Which of several numbers, or classes.
    classes : tuple
        Labels of these classes, empty for numbers.
    name : str
    """

    def __init__(self, view, estimator, explained, output):
        self.estimator = estimator
        self.is_log = view.is_log
        self.is_class = view.classes is not None
        self.name = "the logarithm of the prediction" if self.is_log else "the prediction"
        n_outputs = np.reshape(estimator.predict(explained), (explained.shape[0], -1)).shape[1]
        choices, default = [*range(n_outputs)], [0]
        if self.is_class:
            if n_outputs > 1:
                raise ValueError(
                    f"explain tells of one class or number, but {type(view.mixture).__name__} "
                    f"predicts {n_outputs} labels. Fit one model for each label."
                )
            choices = view.classes.tolist()
            default = [1] if len(choices) == 2 else [*range(len(choices))]
        if not (output is None or output in choices):
            raise ValueError(f"output must be one of {choices}, got {output!r}.")
        self.which = default if output is None else [choices.index(output)]
        self.classes = tuple(choices[k] for k in self.which) if self.is_class else ()
        if self.is_class:
            self.name = "the log odds" + f" of {self.classes[0]!r}" * (len(self.which) == 1)

    def of(self, X):
        """Return the outcomes of samples, (n_samples, n_outcomes)."""
        method = self.estimator.predict_proba if self.is_class else self.estimator.predict
        predicted = np.asarray(method(X), dtype=float)
        predicted = predicted.reshape(len(predicted), -1)
        if self.is_log or self.is_class:
            # Smaller probabilities are as good as none.
            predicted = np.maximum(predicted, 1e-9)
        if not self.is_class:
            predicted = predicted[:, self.which]
            return np.log(predicted) if self.is_log else predicted
        others = predicted @ (1 - np.eye(predicted.shape[1]))
        return np.log(predicted / others)[:, self.which]


def _find_parts(outcome, explained, compared, rows, seed):
    """Return the predictions, and their Shapley values with standard errors."""
    stacked = _stack(explained, compared)
    predicted = outcome.of(stacked)
    n_rows = explained.shape[0]
    found = []
    for row, place in enumerate(rows):

        def predict(places, inside, row=row):
            # Background rows in which some columns are those of the row.
            sources = np.where(inside, row, n_rows + places[:, np.newaxis])
            return outcome.of(mix_rows(stacked, sources))

        # The parts of a row do not depend on which others are explained.
        rng = np.random.default_rng([seed, place])
        values = predicted[n_rows:], predicted[row], explained.shape[1], rng
        found.append(shapley_values(predict, *values))
    return predicted[:n_rows], *map(np.array, zip(*found, strict=True))


def _stack(X, others):
    """Return the samples of two containers in one."""
    if issparse(X):
        return vstack([X, others], format="csc")
    if not is_frame(X):
        return np.concatenate([X, others])
    if hasattr(X, "iloc"):
        return check_pandas_support("explain").concat([X, others], ignore_index=True)
    return X.vstack(others)


def _conditions(view, table, rows):
    """Return the words by which each row has its expert."""
    # Whether a fitted gate depends on the row is not a matter of the rows that are there.
    has_gate = getattr(view.mixture, "gate_", None) is not None
    if not has_gate and (view.is_constant or find_gate_share(view)[1]):
        return (SAME_WEIGHTS,) * len(rows)
    experts = view.experts[:, 0]
    if view.n_experts > 1 and (experts == experts[0]).all():
        return ("as all rows that were given",) * len(rows)
    words = np.full(len(rows), "", dtype=object)
    for expert, part in find_regions(table, experts, view.n_experts).parts:
        is_first = table.holds(part)[rows] & (experts[rows] == expert) & (words == "")
        words[is_first] = table.words(part)
    return tuple(words)
