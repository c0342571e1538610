"""The parts of predictions, as text, tables and plots."""

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.utils._optional_dependencies import check_pandas_support

from .._data.tables import apart_from
from ._plotting import as_text, expert_colors, panels

# Columns of a row, and rows, in the text and the plot.
_MOST_SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Result of :func:`explain`; `print` shows it as a text.

    For each row, `base + contribution.sum(axis=1)` is `prediction`. These three have a last axis
    for the classes where each of several is explained.

    Attributes
    ----------
    rows : ndarray of shape (n_rows,)
        Places of the rows in X.

    expert_names : tuple of n_experts str
        As in :class:`RegionRules`.

    gate : ndarray of shape (n_rows, n_experts)
        The share of each expert.

    condition : tuple of n_rows str
        The words that put the row to its expert, as :func:`region_rules` finds them. Empty if none
        of its expert's words hold for the row; "same weights for all rows" if the gate does not
        depend on X.

    outcome : str
        What is explained: the prediction, the logarithm of a rate, or log odds.

    classes : tuple
        The classes whose log odds against all others are explained: the one that was asked for, the
        second of two, or all. Empty for numbers.

    columns : tuple of n_columns str
        Names of the columns.

    values : ndarray of str of shape (n_rows, n_columns)
        What the rows have in them.

    numbers : ndarray of shape (n_rows, n_columns)
        The same as numbers, dates in days. NaN where it is no number, or missing.

    n_background : int
        How many rows are compared with.

    base : ndarray of shape (n_rows,)
        The mean prediction for the rows that are compared with.

    contribution : ndarray of shape (n_rows, n_columns)
        By how much the row's value of a column changes that, the parts of the prediction.

    standard_error : ndarray of shape (n_rows, n_columns)
        How far a part may be from what more permutations would give. 0 where it is exact.

    prediction : ndarray of shape (n_rows,)
        The `outcome`.
    """

    rows: np.ndarray
    expert_names: tuple
    gate: np.ndarray
    condition: tuple
    outcome: str
    classes: tuple
    columns: tuple
    values: np.ndarray
    numbers: np.ndarray
    n_background: int
    base: np.ndarray
    contribution: np.ndarray
    standard_error: np.ndarray
    prediction: np.ndarray

    def to_frame(self) -> Any:
        """Return the parts of each prediction as a table, one line per row.

        Returns
        -------
        frame : pandas.DataFrame
            With the columns "base", those of X, and "prediction". A column of X whose name is taken
            is called, say, "base (column)". Several classes have a line each.
        """
        pd = check_pandas_support("Explanation.to_frame")
        names = ["base", "prediction"]
        for column in self.columns:
            names.append(apart_from(names, column))
        index = pd.Index(self.rows, name="row")
        if len(self.classes) > 1:
            index = pd.MultiIndex.from_product([self.rows, self.classes], names=["row", "class"])
        # The classes of a row below each other.
        parts = np.moveaxis(self.contribution, 1, -1).reshape(len(index), -1)
        parts = np.c_[self.base.ravel(), self.prediction.ravel(), parts]
        frame = pd.DataFrame(parts, index, names)
        return frame[["base", *names[2:], "prediction"]]

    @property
    def probability(self) -> np.ndarray:
        """Probabilities of the classes, in the shape of `prediction`; NaN of numbers."""
        return expit(self.prediction) if self.classes else np.full(len(self.rows), np.nan)

    def importance(self) -> Any:
        """Return how much each column changes the predictions, over the explained rows.

        Returns
        -------
        frame : pandas.DataFrame
            The mean absolute part of each column, "importance", of all classes that are explained,
            and its standard error for other rows like these, the most important column first.
        """
        pd = check_pandas_support("Explanation.importance")
        size, errors = np.abs(self.contribution), self.standard_error
        if len(self.classes) > 1:
            size, errors = size.mean(axis=2), np.sqrt(np.square(errors).mean(axis=2))
        n_rows = len(size)
        # Of a single row the error of its parts is left.
        variance = size.var(axis=0) / max(n_rows - 1, 1)
        variance += np.square(errors).mean(axis=0) / n_rows
        found = {"importance": size.mean(axis=0), "standard_error": np.sqrt(variance)}
        frame = pd.DataFrame(found, pd.Index(self.columns, name="column"))
        return frame.sort_values("importance", ascending=False, kind="stable")

    def to_shap(self) -> Any:
        """Return the parts as an object of the package shap, for `shap.plots`.

        Returns
        -------
        explanation : shap.Explanation
        """
        import shap

        return shap.Explanation(
            values=self.contribution,
            base_values=self.base,
            data=self.numbers,
            display_data=self.values,
            feature_names=list(self.columns),
        )

    def plot(self, row: int = 0, *, ax: Any = None) -> Any:
        """Draw the parts of a row as bars, from the base to the prediction.

        All rows are drawn by `shap.plots.beeswarm(explanation.to_shap())` of the package shap, and
        the importance of the columns by `explanation.importance().plot.barh()`.

        Parameters
        ----------
        row : int, default=0
            Which of the explained rows.

        ax : matplotlib Axes, default=None
            Where to draw, if there is one panel. None: a new figure, with a panel for each class
            that is explained.

        Returns
        -------
        figure : matplotlib Figure
        """
        names, sizes, errors = self._parts(row)
        axes = panels(self, ax, sizes.shape[1], 1.5 + 0.35 * len(names))
        outcomes = [self.outcome]
        if len(axes) > 1:
            outcomes = [f"{self.outcome} of {label!r}" for label in self.classes]
        for ax, outcome, size, error in zip(axes, outcomes, sizes.T, errors.T, strict=True):
            ends = np.cumsum(size)
            places = range(len(size) - 1)
            colors = expert_colors(2)[(size[1:] <= 0) * 1]
            ax.barh(places, size[1:], left=ends[:-1], color=colors)
            # A column at the right: beside the bars numbers would cover lines and labels.
            for place, part, e in zip(places, size[1:], error[1:], strict=True):
                beside = {
                    "transform": ax.get_yaxis_transform(),
                    "va": "center",
                    "fontsize": "small",
                }
                ax.text(1.02, place, f"{part:+.3g}{_doubt(e)}", **beside)
            ax.axvline(ends[0], color="gray", linewidth=0.8, linestyle=":", zorder=0)
            ax.axvline(ends[-1], color="black", linewidth=0.8, zorder=0)
            ax.set_yticks(places, [as_text(name) for name in names[1:]])
            ax.tick_params(labelleft=ax is axes[0])
            ax.invert_yaxis()
            ax.use_sticky_edges = False
            text = f"effect on {outcome}\nfrom {ends[0]:.3g} to {ends[-1]:.3g}"
            text += f" (probability {expit(ends[-1]):.3g})" * bool(self.classes)
            ax.set_xlabel(as_text(text))
        axes[0].set_title(as_text(self._title(row)), loc="left", fontsize="medium", wrap=True)
        return axes[0].figure

    def __repr__(self):
        """Return one line; the text is for `print`."""
        return f"Explanation(n_rows={len(self.rows)}, columns={len(self.columns)})"

    def __str__(self):
        """Return for the first rows the expert, the condition and the parts of the prediction."""
        texts = []
        for row in range(min(len(self.rows), _MOST_SHOWN)):
            names, sizes, errors = self._parts(row)
            table = [["", *names, self.outcome, "its probability"]]
            for label, size, error in zip(self.classes or [""], sizes.T, errors.T, strict=True):
                numbers = [str(label), f"{size[0]:.4g}", *(f"{part:+.4g}" for part in size[1:])]
                numbers += [f"{size.sum():.4g}", f"{expit(size.sum()):.3g}"]
                doubts = ["", *map(_doubt, error), "", ""]
                most = max(map(len, numbers))
                table.append(
                    [f"{n:>{most}}{doubt}" for n, doubt in zip(numbers, doubts, strict=True)]
                )
            widths = [max(map(len, column)) for column in table]
            cells = [map("{:{}}".format, cells, widths) for cells in zip(*table, strict=True)]
            lines = ["    " + "   ".join(row).rstrip() for row in cells]
            lines = lines[len(self.classes) < 2 : len(lines) - (not self.classes)]
            lines.insert(0, self._title(row))
            texts.append("\n".join(lines))
        if len(self.rows) > _MOST_SHOWN:
            texts.append(f"... {len(self.rows) - _MOST_SHOWN} more rows")
        return "\n\n".join(texts)

    def _repr_html_(self):
        return f'<pre style="overflow-x: auto">{escape(str(self))}</pre>'

    def _title(self, row):
        """Return what predicts the row, and why."""
        order = np.argsort(-self.gate[row], kind="stable")
        order = order[self.gate[row, order] >= 0.005]
        experts = ", ".join(f"{self.expert_names[k]} {self.gate[row, k]:.2f}" for k in order)
        experts = experts if len(order) > 1 else self.expert_names[order[0]]
        return f"Row {self.rows[row]}: {experts} ({self.condition[row] or 'no simple words'})"

    def _parts(self, row):
        """Return names, sizes and errors of what adds up to the prediction, large columns first.

        Sizes and errors have a column for each class that is explained.
        """
        part, error = (
            numbers[row].reshape(len(self.columns), -1)
            for numbers in (self.contribution, self.standard_error)
        )
        size = np.abs(part).max(axis=1)
        order = np.argsort(-size, kind="stable")
        # Columns that no expert uses are not shown.
        order = order[size[order] > 1e-6 * size.max(initial=0)]
        shown = order[: _MOST_SHOWN - (len(order) > _MOST_SHOWN)]
        names = [f"mean of {self.n_background} rows"]
        for place in shown:
            value = self.values[row, place]
            names.append(self.columns[place] + f" = {value}" * bool(value))
        sizes = [np.atleast_1d(self.base[row]), *part[shown]]
        errors = [np.zeros(part.shape[1]), *error[shown]]
        if len(others := order[len(shown) :]):
            names.append(f"{len(others)} other columns")
            sizes.append(part[others].sum(axis=0))
            errors.append(np.sqrt(np.square(error[others]).sum(axis=0)))
        return names, np.array(sizes), np.array(errors)


def _doubt(error):
    """Return a standard error as it stands behind its number: nothing if there is none."""
    return f" ± {error:.1g}" if error else ""
