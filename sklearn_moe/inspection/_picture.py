"""A picture of rules: what each expert says along a column, and the rows in its color."""

from textwrap import fill

import numpy as np
from sklearn.utils._indexing import _get_column_indices

from .._data.experts import expert_outputs
from .._validation import final_step, name_in_errors
from . import _plotting as plotting
from ._linear import mix_rows

# Values of a column, and rows whose other columns are kept: to choose a column, and to draw.
_FEW = 5, 20
_MANY = 40, 50
# Experts that are named, and parts of the table for one of them.
_MOST_EXPERTS = 8
_MOST_PARTS = 3


def draw_rules(estimator, view, table, y, owners, rules, column, ax):
    """Draw the rules of a mixture; return the figure.

    Parameters
    ----------
    estimator : estimator
        The mixture, or the pipeline that ends in it.
    view : ExpertView
    table : Wording
    y : array-like or None
        None: the points are what the experts predict.
    owners : ndarray of bool of shape (n_samples, n_experts)
        The rows that each expert is drawn for: one expert for each row, or all.
    rules, column, ax :
        See `RegionRules.plot`.
    """
    if view.outputs is None:
        raise ValueError("plot needs what each expert predicts: expert_predict or expert_proba.")
    numbers = [c.place for c in table.columns if c.is_numeric and not table[c.place].labels]
    if column is not None:
        with name_in_errors("column"):
            numbers = [p for p in _get_column_indices(table.X, [column]) if p in numbers]
    if not numbers:
        found = "X has none" if column is None else f"column {column!r} is none"
        raise ValueError(f"The rules are drawn along a column of numbers or dates; {found}.")
    along = estimator, view, table, owners
    # The column that changes most what the experts say of their rows.
    effects = [
        sum(owners[:, k].sum() * says.std(axis=0).sum() for k, _, says in _curves(*along, p, *_FEW))
        for p in numbers[: len(numbers) * (len(numbers) > 1)]
    ]
    place = numbers[int(np.argmax(effects or [0]))]
    curves = _curves(*along, place, *_MANY)
    n_outputs = view.outputs.shape[2]
    of_classes = view.classes is not None and len(view.classes) == n_outputs
    points = np.einsum("nko,nk->no", view.outputs, owners / owners.sum(axis=1, keepdims=True))
    name = "prediction"
    if y is not None and of_classes:
        points = np.reshape(y, (-1, 1)) == view.classes
        # Points of a class would cover each other.
        points = points + np.random.default_rng(0).normal(0, 0.02, (len(points), 1))
    elif y is not None:
        points = np.asarray(y, float).reshape(len(points), -1)
        name = getattr(y, "name", None) or "y"
    first = int(of_classes and n_outputs == 2)
    axes = plotting.panels(rules, ax, n_outputs - first, height=4.4)
    for which, panel in enumerate(axes, first):
        if of_classes:
            label = f"probability of {view.classes.tolist()[which]!r}"
        else:
            label = f"{name}, output {which}" if n_outputs > 1 else name
        lines = [(k, x, says[:, which]) for k, x, says in curves]
        _draw_panel(panel, table[place].values, points[:, which], owners, lines, not of_classes)
        panel.set(xlabel=plotting.as_text(table[place].name), ylabel=plotting.as_text(label))
        if table.columns[place].typed.dtype.kind == "M":
            panel.xaxis_date()
    _draw_words(axes, rules, [k for k, *_ in curves])
    return axes[0].figure


def _curves(estimator, view, table, owners, place, n_values, n_rows):
    """Return the expert, values of a column, and what it says there, (n_values, n_outputs).

    The values are those of its rows, and it says the mean over all other columns of these.
    """
    column = table[place].values
    order = np.argsort(column, kind="stable")
    parts = []
    for k in range(view.n_experts):
        rows = order[owners[order, k] & np.isfinite(column[order])]
        if rows.size:
            ends = np.linspace(*column[rows[[0, -1]]], n_values)
            values = rows[np.searchsorted(column[rows], ends)]
            others = rows[np.linspace(0, len(rows) - 1, n_rows).round().astype(int)]
            sources = np.tile(others[:, np.newaxis], (n_values, table.n_columns))
            sources[:, place] = np.repeat(values, n_rows)
            parts.append((k, column[values], sources))
    mixed = mix_rows(table.X, np.concatenate([sources for *_, sources in parts]))
    says = expert_outputs(view.mixture, final_step(estimator, mixed)[1])
    says = says.reshape(len(parts), n_values, n_rows, *says.shape[1:]).mean(axis=2)
    return [(k, x, part[:, k]) for (k, x, _), part in zip(parts, says, strict=True)]


def _draw_panel(ax, x, points, owners, lines, is_number):
    """Draw the rows, for numbers one line for all of them, and the line of each expert."""
    colors = plotting.expert_colors(owners.shape[1])
    shades = colors[owners.argmax(axis=1)] if owners.sum() == len(x) else "0.7"
    size = float(np.clip(8000 / len(x), 4, 18))
    ax.scatter(x, points, c=shades, s=size, linewidths=0, alpha=0.85)
    known = np.isfinite(x) & np.isfinite(points)
    start, end = x[known].min(), x[known].max()
    if is_number and len(lines) > 1 and end > start:
        slope, level = np.polyfit(x[known] - start, points[known], 1)
        ax.plot([start, end], [level, level + slope * (end - start)], c="0.45", ls="--", lw=2)
    for k, values, says in lines:
        ax.plot(values, says, color=0.7 * colors[k], lw=3)


def _draw_words(axes, rules, experts):
    """Write above the axes where each expert holds, in its color."""
    ax, *others = axes
    n_others = len(ax.lines) - len(experts)
    lines, texts = ax.lines[n_others:][:_MOST_EXPERTS], []
    for k in experts[:_MOST_EXPERTS]:
        words = [*rules.where[k][:_MOST_PARTS], *["..."] * (len(rules.where[k]) > _MOST_PARTS)]
        where = " or ".join(words).replace("<=", "≤") or "no simple words"
        if np.isnan(rules.fidelity):
            where = f"{rules.share[k]:.2f} of the weight, whatever the row"
        texts.append(plotting.as_text(fill(f"{rules.expert_names[k]}: {where}", 60)))
    texts += ["one line for all rows"] * n_others
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    # Above all panels: the first one would be narrower for words of its own.
    place = {"loc": "outside upper left"} if others else place
    lines = [*lines, *ax.lines[:n_others]]
    owner = ax.figure if others else ax
    legend = owner.legend(lines, texts, frameon=False, handlelength=1.5, **place)
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set(color=line.get_color(), weight="normal" if line.is_dashed() else "bold")
