"""The parts of predictions, as text, tables and plots."""

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.utils._optional_dependencies import check_pandas_support

from .._data.tables import apart_from
from ._plotting import as_text, expert_colors, import_pyplot

# Columns of a row, and rows, in the text and the plots.
_MOST_SHOWN = 10
# The gate of experts that are named.
_LEAST_GATE = 0.005
_GRAY = "0.6"


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Result of :func:`explain`; `print` shows it as a text.

    For each row, `base + contribution.sum(axis=1)` is `prediction`.

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
        of its expert's words hold for the row, and for patches and images; "same weights for all
        rows" if the gate does not depend on X.

    outcome : tuple of n_rows str
        What is explained: the prediction, the logarithm of a rate, or log odds.

    columns : tuple of n_columns str
        Names of the columns, of groups of columns, or of patches.

    values : ndarray of str of shape (n_rows, n_columns)
        What the rows have in them.

    numbers : ndarray of shape (n_rows, n_columns)
        The same as numbers, dates in days. NaN where it is no number, or missing.

    n_background : int
        How many rows are compared with. 0 where the parts are coefficients times differences from
        means.

    base : ndarray of shape (n_rows,)
        The mean prediction for the rows that are compared with. Of linear experts what they, by
        their gates, say of a row that has in each column the mean of the expert's own rows: those
        of X, by its gate.

    contribution : ndarray of shape (n_rows, n_columns)
        By how much the row's value of a column changes that, the parts of the prediction.

    standard_error : ndarray of shape (n_rows, n_columns)
        How far a part may be from what more permutations would give. 0 where it is exact.

    is_rough : ndarray of bool of shape (n_rows,)
        Whether `max_permutations` were drawn before the standard errors were as small as asked.

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
    numbers: np.ndarray
    n_background: int
    base: np.ndarray
    contribution: np.ndarray
    standard_error: np.ndarray
    is_rough: np.ndarray
    prediction: np.ndarray

    def to_frame(self) -> Any:
        """Return the parts of each prediction as a table, one line per row.

        Returns
        -------
        frame : pandas.DataFrame
            With the columns "base", those of X, and "prediction". A column of X whose name is taken
            is called, say, "base (column)".
        """
        pd = check_pandas_support("Explanation.to_frame")
        parts = np.c_[self.base, self.prediction, self.contribution]
        names = ["base", "prediction"]
        for column in self.columns:
            names.append(apart_from(names, column))
        frame = pd.DataFrame(parts, pd.Index(self.rows, name="row"), names)
        return frame[["base", *names[2:], "prediction"]]

    def importance(self) -> Any:
        """Return how much each column changes the predictions, over the explained rows.

        Returns
        -------
        frame : pandas.DataFrame
            The mean absolute part of each column, "importance", and its standard error for other
            rows like these, the most important column first. Of linear experts what the column
            changes by the gate is in it only if the parts have a `background`.
        """
        pd = check_pandas_support("Explanation.importance")
        size = np.abs(self.contribution)
        n_rows = len(size)
        # Of a single row the error of its parts is left.
        variance = size.var(axis=0) / max(n_rows - 1, 1)
        variance += np.square(self.standard_error).mean(axis=0) / n_rows
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

    def plot(self, row: int | None = None, *, column: str | None = None, ax: Any = None) -> Any:
        """Draw the parts of one row, of all rows, or of one column.

        Parameters
        ----------
        row : int, default=None
            Which of the explained rows: a waterfall of its parts. None: all of them, a line of
            points for each column, the most important first. If there is one row, it is drawn.

        column : str, default=None
            A column: its part against its value, a point for each row, in the color of the expert
            that has the largest share of it.

        ax : matplotlib Axes, default=None
            Where to draw. None: axes of a new figure.

        Returns
        -------
        ax : matplotlib Axes
        """
        if column is not None:
            if row is not None or column not in self.columns:
                raise ValueError(
                    f"column must be one of {', '.join(self.columns)}, and row None, got "
                    f"column={column!r} and row={row}."
                )
            return self._plot_column(self.columns.index(column), ax)
        if row is None and len(self.rows) > 1:
            return self._plot_rows(ax)
        return self._plot_row(row or 0, ax)

    def _axes(self, ax, width, height):
        if ax is None:
            size = width, height
            _, ax = import_pyplot(self).subplots(layout="constrained", figsize=size)
        return ax

    def _plot_row(self, row, ax):
        """Draw a bar for each part, from the base to the prediction."""
        parts = self._parts(row)
        ax = self._axes(ax, 7, 1.2 + 0.35 * len(parts))
        ends = np.cumsum([part for _, part, _ in parts])
        up, down = expert_colors(2)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        for place, ((_, part, error), end) in enumerate(zip(parts[1:], ends[1:], strict=True)):
            ax.barh(place, part, left=end - part, color=up if part > 0 else down)
            at = max(end, end - part), place
            style = {"textcoords": "offset points", "va": "center", "bbox": box}
            ax.annotate(f"{part:+.3g}{_doubt(error)}", at, (4, 0), **style)
        ax.axvline(ends[0], color="gray", linewidth=0.8, linestyle=":", zorder=0)
        ax.axvline(ends[-1], color="black", linewidth=0.8, zorder=0)
        ax.set_yticks(range(len(parts) - 1), [as_text(name) for name, *_ in parts[1:]])
        ax.invert_yaxis()
        # The numbers are on the right of their bars.
        width = np.ptp(ends) or 1
        ax.set_xlim(ends.min() - 0.05 * width, ends.max() + 0.35 * width)
        ax.set_xlabel(as_text(f"{self.outcome[row]}: from {ends[0]:.3g} to {ends[-1]:.3g}"))
        ax.set_title(as_text(self._title(row)), loc="left", fontsize="medium", wrap=True)
        return ax

    def _plot_rows(self, ax):
        """Draw a point for each row and column; color is the value."""
        order = np.argsort(-np.abs(self.contribution).mean(axis=0), kind="stable")[:_MOST_SHOWN]
        ax = self._axes(ax, 7, 1.2 + 0.45 * len(order))
        from matplotlib import colormaps

        parts = self.contribution[:, order]
        step = np.ptp(parts) / 100
        colors = colormaps["viridis"].with_extremes(bad=_GRAY)
        style = {"cmap": colors, "vmin": 0, "vmax": 1.1, "s": 9, "linewidths": 0}
        style["plotnonfinite"] = True
        for place, owner in enumerate(order):
            part, numbers = parts[:, place], self.numbers[:, owner]
            height = place + _offsets(part, step)
            # Equal numbers have one color, far ones do not take all colors.
            shade = rankdata(numbers, "dense", nan_policy="omit")
            shade = (shade - 1) / max(np.nanmax([2, *shade]) - 1, 1)
            points = ax.scatter(part, height, c=shade, **style)
        ax.axvline(0, color="gray", linewidth=0.8, zorder=0)
        ax.set_yticks(range(len(order)), [as_text(self.columns[owner]) for owner in order])
        ax.invert_yaxis()
        ax.set_xlabel(as_text(f"part of {self._common_outcome()}"))
        shades = {"ticks": [0, 1], "boundaries": np.linspace(0, 1, 100), "aspect": 40, "pad": 0.01}
        bar = ax.figure.colorbar(points, ax=ax, **shades)
        bar.ax.set_yticklabels(["low", "high"])
        bar.set_label("value (gray: not a number)")
        return ax

    def _plot_column(self, owner, ax):
        """Draw the parts of one column against its values."""
        ax = self._axes(ax, 6, 4)
        x, part = self.numbers[:, owner].copy(), self.contribution[:, owner]
        missing = np.isnan(x)
        if missing.all():
            names, places = np.unique(self.values[:, owner], return_inverse=True)
            x = places + _offsets(part + 3 * np.ptp(part) * places, np.ptp(part) / 50)
            ax.set_xticks(range(len(names)), [as_text(name) for name in names])
            ax.set_xlim(-0.5, len(names) - 0.5)
        elif missing.any():
            x[missing] = np.nanmin(x) - 0.1 * (np.nanmax(x) - np.nanmin(x))
            at = x[missing][0], 1.01
            style = {"xycoords": ax.get_xaxis_transform(), "ha": "center", "va": "bottom"}
            ax.annotate("missing", at, **style)
        expert = self.gate.argmax(axis=1)
        colors = expert_colors(self.gate.shape[1])
        for k in np.unique(expert):
            own = expert == k
            label = as_text(self.expert_names[k])
            ax.scatter(x[own], part[own], s=12, color=colors[k], linewidths=0, label=label)
        if np.ptp(expert):
            ax.legend(title="largest weight")
        ax.axhline(0, color="gray", linewidth=0.8, zorder=0)
        ax.set_xlabel(as_text(self.columns[owner]))
        ax.set_ylabel(as_text(f"part of {self._common_outcome()}"))
        return ax

    def _common_outcome(self):
        """Return what is explained of all rows."""
        return self.outcome[0] if len({*self.outcome}) == 1 else "the log odds of the class"

    def __repr__(self):
        """Return one line; the text is for `print`."""
        return f"Explanation(n_rows={len(self.rows)}, columns={len(self.columns)})"

    def __str__(self):
        """Return for the first rows the expert, the condition and the parts of the prediction."""
        texts = []
        for row in range(min(len(self.rows), _MOST_SHOWN)):
            lines = [self._title(row)]
            parts = self._parts(row)
            parts.append((self.outcome[row], self.prediction[row], 0))
            width = max(len(name) for name, *_ in parts)
            numbers = [f"{part:+.4g}" for _, part, _ in parts]
            numbers[0], numbers[-1] = f"{parts[0][1]:.4g}", f"{parts[-1][1]:.4g}"
            most = max(map(len, numbers))
            for (name, _, error), number in zip(parts, numbers, strict=True):
                lines.append(f"    {name:{width}}   {number:>{most}}{_doubt(error)}")
            if self.is_rough[row]:
                lines.append("    (standard errors above tol: increase max_permutations)")
            texts.append("\n".join(lines))
        if len(self.rows) > _MOST_SHOWN:
            texts.append(f"... {len(self.rows) - _MOST_SHOWN} more rows")
        return "\n\n".join(texts)

    def _repr_html_(self):
        return f'<pre style="overflow-x: auto">{escape(str(self))}</pre>'

    def _title(self, row):
        """Return what predicts the row, and why."""
        order = np.argsort(-self.gate[row], kind="stable")
        order = order[self.gate[row, order] >= _LEAST_GATE]
        experts = self.expert_names[order[0]]
        if len(order) > 1:
            experts = ", ".join(f"{self.expert_names[k]} {self.gate[row, k]:.2f}" for k in order)
        return f"Row {self.rows[row]}: {experts} ({self.condition[row] or 'no simple words'})"

    def _parts(self, row):
        """Return names, sizes and errors of what adds up to the prediction, large columns first."""
        part, error = self.contribution[row], self.standard_error[row]
        size = np.abs(part)
        order = np.argsort(-size, kind="stable")
        # Columns that no expert uses are not shown.
        order = order[size[order] > 1e-6 * size.max(initial=0)]
        shown = order[: _MOST_SHOWN - (len(order) > _MOST_SHOWN)]
        start = "at the means"
        if self.n_background:
            start = f"mean of {self.n_background} rows"
        parts = [(start, self.base[row], 0)]
        for place in shown:
            value = self.values[row, place]
            name = self.columns[place] + f" = {value}" * bool(value)
            parts.append((name, part[place], error[place]))
        if len(others := order[len(shown) :]):
            total = np.sqrt(np.square(error[others]).sum())
            parts.append((f"{len(others)} other columns", part[others].sum(), total))
        return parts


def _doubt(error):
    """Return a standard error as it stands behind its number: nothing if there is none."""
    return f" ± {error:.1g}" if error else ""


def _offsets(values, step):
    """Return offsets, up to .4, by which points of nearly the same value lie beside each other."""
    bins = np.round(values / max(step, np.finfo(float).tiny))
    _, place, counts = np.unique(bins, return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    nth = np.empty(len(values), int)
    nth[order] = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    side = np.where(nth % 2, 1, -1) * ((nth + 1) // 2)
    return 0.8 * side / max(counts.max(), 16)
