"""Why a mixture of experts predicts what it does for a row."""

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils._param_validation import validate_params

from .._data.tables import apart_from
from .._validation import Count, warning_once
from ..metrics._words import find_regions
from ._linear import OpenedMixture, expert_outputs, find_linear
from ._plotting import as_text, expert_colors, import_pyplot

# Columns of a row, and rows, in the text and the plot.
_MOST_SHOWN = 10
# The gate of experts that are named.
_LEAST_GATE = 0.005
_REST = "not linear"


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Result of :func:`explain`; `print` shows it as a text.

    For each row, `base + contribution.sum(axis=1) + rest` is `prediction`.

    Attributes
    ----------
    rows : ndarray of shape (n_rows,)
        Places of the rows in X.

    expert_names : tuple of n_experts str
        As in :class:`RegionRules`: experts of one kind with equal gates count as one.

    gate : ndarray of shape (n_rows, n_experts)
        The share of each expert.

    condition : tuple of n_rows str
        The words that put the row to its expert, as :func:`region_rules` finds them. Empty if none
        of its expert's words hold for the row, "same weights for all rows" if the gate does not
        depend on X.

    outcome : tuple of n_rows str
        What is explained: the prediction, the log odds of the predicted class against the next, or
        the logarithm of the prediction where that of the experts is linear.

    columns : tuple of n_columns str
        Names of the columns.

    values : ndarray of str of shape (n_rows, n_columns)
        What the rows have in them.

    base : ndarray of shape (n_rows,)
        What the linear experts, by their gates, say of a row that has in each column the mean of
        the expert's own rows: those of X, by its gate.

    contribution : ndarray of shape (n_rows, n_columns)
        By how much the row's value of a column changes that: coefficient times the difference from
        the mean, by the gates of the experts. 0 of a column that the expert does not receive.

    rest : ndarray of shape (n_rows,)
        The part of the prediction that is not linear in the columns: of experts that are not, of
        rounding, and of mixing where that is not a sum.

    prediction : ndarray of shape (n_rows,)
        The `outcome`.
    """

    rows: np.ndarray
    expert_names: tuple
    gate: np.ndarray
    condition: tuple
    outcome: tuple
    columns: tuple
    values: np.ndarray
    base: np.ndarray
    contribution: np.ndarray
    rest: np.ndarray
    prediction: np.ndarray

    def to_frame(self) -> Any:
        """Return the parts of each prediction as a table, one line per row.

        Returns
        -------
        frame : pandas.DataFrame
            With the columns "base", those of X, "not linear" and "prediction". A column of X whose
            name is taken is called, say, "base (column)".
        """
        pd = check_pandas_support("Explanation.to_frame")
        parts = np.c_[self.base, self.rest, self.prediction, self.contribution]
        names = ["base", _REST, "prediction"]
        for column in self.columns:
            names.append(apart_from(names, column))
        frame = pd.DataFrame(parts, pd.Index(self.rows, name="row"), names)
        return frame[["base", *names[3:], _REST, "prediction"]]

    def plot(self, row: int = 0, *, ax: Any = None) -> Any:
        """Draw how the prediction of a row comes about: a waterfall of its parts.

        Parameters
        ----------
        row : int, default=0
            Which of the explained rows.

        ax : matplotlib Axes, default=None
            Where to draw. None: axes of a new figure.

        Returns
        -------
        ax : matplotlib Axes
        """
        parts = self._parts(row)
        if ax is None:
            # One bar for each part.
            size = 7, 1.2 + 0.35 * len(parts)
            _, ax = import_pyplot(self).subplots(layout="constrained", figsize=size)
        ends = np.cumsum([part for _, part in parts])
        up, down = expert_colors(2)
        for place, ((_, part), end) in enumerate(zip(parts[1:], ends[1:], strict=True)):
            ax.barh(place, part, left=end - part, color=up if part > 0 else down)
            at = max(end, end - part), place
            style = {"textcoords": "offset points", "va": "center"}
            ax.annotate(f"{part:+.3g}", at, (4, 0), **style)
        ax.axvline(ends[0], color="gray", linewidth=0.8, linestyle=":")
        ax.axvline(ends[-1], color="black", linewidth=0.8)
        ax.set_yticks(range(len(parts) - 1), [as_text(name) for name, _ in parts[1:]])
        ax.invert_yaxis()
        ax.use_sticky_edges = False
        ax.margins(x=0.15)
        ax.set_xlabel(as_text(f"{self.outcome[row]}: from {ends[0]:.3g} to {ends[-1]:.3g}"))
        ax.set_title(as_text(self._title(row)), loc="left", fontsize="medium", wrap=True)
        return ax

    def __repr__(self):
        """Return one line; the text is for `print`."""
        return f"Explanation(n_rows={len(self.rows)}, columns={len(self.columns)})"

    def __str__(self):
        """Return for the first rows the expert, the condition and the parts of the prediction."""
        texts = []
        for row in range(min(len(self.rows), _MOST_SHOWN)):
            lines = [self._title(row)]
            parts = self._parts(row)
            parts.append((self.outcome[row], self.prediction[row]))
            width = max(len(name) for name, _ in parts)
            numbers = [f"{parts[0][1]:.4g}", *(f"{part:+.4g}" for _, part in parts[1:-1])]
            numbers.append(f"{parts[-1][1]:.4g}")
            most = max(map(len, numbers))
            for (name, _), number in zip(parts, numbers, strict=True):
                lines.append(f"    {name:{width}}   {number:>{most}}")
            texts.append("\n".join(lines))
        if len(self.rows) > _MOST_SHOWN:
            texts.append(f"... {len(self.rows) - _MOST_SHOWN} more rows")
        return "\n\n".join(texts)

    def _repr_html_(self):
        return f"<pre>{escape(str(self))}</pre>"

    def _title(self, row):
        """Return what predicts the row, and why."""
        order = np.argsort(-self.gate[row], kind="stable")
        order = order[self.gate[row, order] >= _LEAST_GATE]
        experts = self.expert_names[order[0]]
        if len(order) > 1:
            experts = ", ".join(f"{self.expert_names[k]} {self.gate[row, k]:.2f}" for k in order)
        return f"Row {self.rows[row]}: {experts} ({self.condition[row] or 'no simple words'})"

    def _parts(self, row):
        """Return names and sizes of what adds up to the prediction, the largest columns first."""
        size = np.abs(self.contribution[row])
        order = np.argsort(-size, kind="stable")
        # Columns that no expert uses are not shown.
        order = order[size[order] > 1e-6 * size.max(initial=0)]
        shown = order[: _MOST_SHOWN - (len(order) > _MOST_SHOWN)]
        parts = [("at the means", self.base[row])]
        parts += [
            (f"{self.columns[place]} = {self.values[row, place]}", self.contribution[row, place])
            for place in shown
        ]
        if len(others := order[len(shown) :]):
            total = self.contribution[row, others].sum()
            parts.append((f"{len(others)} other columns", total))
        if abs(self.rest[row]) > 1e-5 * np.abs(self.prediction[row] - self.base[row]):
            parts.append((_REST, self.rest[row]))
        return parts


@warning_once()
@validate_params(
    {"rows": ["array-like", Count(0), None], "output": [Count(0)]},
    prefer_skip_nested_validation=True,
)
def explain(estimator: Any, X: Any, rows: Any = None, *, output: int = 0) -> Explanation:
    """Tell for rows of a table which experts predict, why these, and what each column changes.

    Parameters
    ----------
    estimator : estimator instance
        Fitted mixture of experts with `apply` and `predict`, or a fitted
        :class:`~sklearn.pipeline.Pipeline` that ends in one.

    X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        The table that has the rows that are explained. Its means and shares of categories are what
        a row is compared with, and its words tell where an expert holds.

    rows : int or array-like of int, default=None
        Places of the rows to explain. None: all.

    output : int, default=0
        Which of several targets. Of classes the log odds of the predicted class are explained.

    Returns
    -------
    explanation : Explanation
        `print(explanation)` shows a text, `explanation.to_frame()` returns a table, and
        `explanation.plot()` draws one row.

    Raises
    ------
    TypeError
        If `estimator` lacks a method.

    ValueError
        If X is not a table, has no such row, or the estimator predicts several labels.

    See Also
    --------
    region_rules : The rules of all experts.

    Notes
    -----
    Of experts that are linear in the columns the contributions are coefficient times difference
    from the mean of the expert's own rows, a category counts by its difference from the shares of
    all of them. For a linear function these are its Shapley values if the columns are independent.
    If no expert is linear, but the logarithms of their predictions are, as in a Poisson regression,
    these are explained: exp(contribution) is the factor of a column. What other experts say is in
    `rest` as a whole: to divide it, use SHAP on `estimator.predict`, see :doc:`/works_with`.

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
    >>> parts = explained.base + explained.contribution.sum(axis=1) + explained.rest
    >>> bool(np.allclose(parts, mixture.predict(X[:2])))
    True
    """
    each = "expert_proba" if hasattr(estimator, "predict_proba") else "expert_predict"
    mixture = OpenedMixture(estimator, X, ("apply", "predict", each))
    table = mixture.table
    n_samples = len(mixture.experts)
    rows = np.arange(n_samples) if rows is None else np.atleast_1d(rows)
    if rows.dtype.kind not in "iu" or not ((rows >= -n_samples) & (rows < n_samples)).all():
        raise ValueError(f"rows must be places in X, integers below {n_samples}, got {rows}.")
    rows = rows % n_samples
    outputs, proba = expert_outputs(mixture, mixture.X)
    explained = _safe_indexing(mixture.X, rows)
    predicted = np.asarray(mixture.predict(explained)).reshape(len(rows), -1)
    n_targets = predicted.shape[1]
    if proba is not None and n_targets > 1:
        raise ValueError(
            f"explain tells of one class or number, but {type(mixture.mixture).__name__} predicts "
            f"{n_targets} labels. Fit one model for each label."
        )
    if output >= n_targets:
        raise ValueError(f"output must be below the number of targets, {n_targets}, got {output}.")
    functions = find_linear(mixture, outputs, proba)
    coef = np.nan_to_num(functions.coef)
    # What an expert does not receive changes nothing.
    coef[:, :-1] *= functions.is_received[..., np.newaxis]
    gate = mixture.gates[rows].astype(float)
    if proba is None:
        predicted = predicted[:, output].astype(float)
        coef = coef[..., [output]]
        # A number is compared with nothing, as if that were a class.
        order = np.repeat([[1], [0]], len(rows), axis=1)
        outcome = ("the prediction",) * len(rows)
    else:
        predicted, order = _log_odds(mixture, explained)
        names = mixture.classes_[order].T
        outcome = tuple(f"the log odds of {first} against {second}" for first, second in names)
    if functions.is_log:
        predicted = np.log(predicted)
        outcome = ("the logarithm of the prediction",) * len(rows)

    def of_rows(numbers):
        # Log odds are those against the first class, whose own are 0.
        numbers = np.pad(numbers, [(0, 0), (0, 0), (1, 0)])
        return np.einsum("nk,ktn->nt", gate, numbers[..., order[0]] - numbers[..., order[1]])

    # Of each expert the means of its own rows: what is constant there changes nothing.
    shares = mixture.gates / np.maximum(mixture.gates.sum(axis=0), np.finfo(float).tiny)
    means = shares.T @ functions.design
    slopes = of_rows(coef)
    at_means = of_rows(coef[:, :-1] * means[..., np.newaxis])
    base = slopes[:, -1] + at_means.sum(axis=1)
    terms = slopes[:, :-1] * functions.design[rows] - at_means
    contribution = terms @ (functions.owners[:, np.newaxis] == np.arange(table.n_columns))
    columns = [table[place] for place in range(table.n_columns)]
    return Explanation(
        rows=rows,
        expert_names=tuple(mixture.names),
        gate=gate,
        condition=_conditions(mixture, rows),
        outcome=outcome,
        columns=tuple(column.name for column in columns),
        values=np.stack([column.texts(rows) for column in columns], axis=1),
        base=base,
        contribution=contribution,
        rest=predicted - base - contribution.sum(axis=1),
        prediction=predicted,
    )


def _log_odds(mixture, X):
    """Return the log odds of the predicted class against the next, and the places of the two."""
    proba = np.asarray(mixture.predict_proba(X), dtype=float)
    order = np.argsort(-proba, axis=1, kind="stable")[:, :2].T
    logs = np.log(np.maximum(proba, np.finfo(float).tiny))
    first, second = np.take_along_axis(logs, order.T, axis=1).T
    return first - second, order


def _conditions(mixture, rows):
    """Return the words by which each row has its expert."""
    if mixture.is_constant or mixture.ensemble:
        return ("same weights for all rows",) * len(rows)
    experts, table = mixture.experts[:, 0], mixture.table
    words = np.full(len(rows), "", dtype=object)
    for expert, part in find_regions(table, experts, mixture.n_experts, mixture.tree).parts:
        is_first = table.holds(part)[rows] & (experts[rows] == expert) & (words == "")
        words[is_first] = table.words(part)
    return tuple(words)
