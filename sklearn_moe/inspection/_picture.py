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


def draw_rules(estimator, view, table, y, owners, rules, column, output, ax):
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
    rules, column, output, ax :
        See `RegionRules.plot`.
    """
    if view.outputs is None:
        raise ValueError("plot needs what each expert predicts: expert_predict or expert_proba.")
    n_outputs = view.outputs.shape[2]
    of_classes = view.classes is not None and len(view.classes) == n_outputs
    labels = view.classes.tolist() if of_classes else [*range(n_outputs)]
    if output not in [None, *labels]:
        raise ValueError(f"output must be one of {labels}, got {output!r}.")
    shown = labels[1:] if of_classes and n_outputs == 2 else labels
    shown = shown if output is None else [output]
    place = _find_column(estimator, view, table, owners, column)
    curves = _find_curves(estimator, view, table, owners, place, *_MANY)
    axes = plotting.panels(rules, ax, len(shown), height=4.4)
    for panel, label in zip(axes, shown, strict=True):
        which = labels.index(label)
        points = (view.outputs[..., which] * owners).sum(axis=1) / owners.sum(axis=1)
        name = "prediction" if y is None else getattr(y, "name", None) or "y"
        if of_classes:
            name = f"probability of {label!r}"
            if y is not None:
                points = (np.ravel(y) == label) + np.random.default_rng(0).normal(0, 0.02, len(y))
        elif y is not None:
            points = np.asarray(y, float).reshape(len(points), -1)[:, which]
        lines = [(k, x, values[:, which]) for k, x, values in curves]
        _draw_panel(panel, table[place].values, points, owners, lines, is_number=not of_classes)
        name += f", output {which}" * (n_outputs > 1 and not of_classes)
        panel.set(xlabel=plotting.as_text(table[place].name), ylabel=plotting.as_text(name))
        if table.columns[place].typed.dtype.kind == "M":
            panel.xaxis_date()
    _draw_words(axes[0], rules, [k for k, *_ in curves])
    return axes[0].figure


def _find_column(estimator, view, table, owners, column):
    """Return the place of the column that changes most what the experts say of their rows."""
    numbers = [c.place for c in table.columns if c.is_numeric and not table[c.place].labels]
    if column is not None:
        with name_in_errors("column"):
            numbers = [
                place for place in _get_column_indices(table.X, [column]) if place in numbers
            ]
    if not numbers:
        found = "X has none" if column is None else f"column {column!r} is none"
        raise ValueError(f"The rules are drawn along a column of numbers or dates; {found}.")
    effects = []
    for place in numbers[:-1] and numbers:
        curves = _find_curves(estimator, view, table, owners, place, *_FEW)
        effects.append(sum(owners[:, k].sum() * says.std(axis=0).sum() for k, _, says in curves))
    return numbers[int(np.argmax(effects or [0]))]


def _find_curves(estimator, view, table, owners, place, n_values, n_rows):
    """Return the expert, values of a column, and what it says there, (n_values, n_outputs).

    The values are those of its rows, and it says the mean over all other columns of these.
    """
    column = table[place].values
    experts, chosen, mixed = [], [], []
    for k in range(view.n_experts):
        rows = np.flatnonzero(owners[:, k] & np.isfinite(column))
        if rows.size:
            rows = rows[np.argsort(column[rows], kind="stable")]
            ends = column[rows[[0, -1]]]
            near = np.searchsorted(column[rows], np.linspace(*ends, n_values))
            others = rows[np.linspace(0, len(rows) - 1, n_rows).round().astype(int)]
            sources = np.tile(others[:, np.newaxis], (n_values, table.n_columns))
            sources[:, place] = np.repeat(rows[near], n_rows)
            experts.append(k)
            chosen.append(column[rows[near]])
            mixed.append(sources)
    samples = final_step(estimator, mix_rows(table.X, np.concatenate(mixed)))[1]
    says = expert_outputs(view.mixture, samples)
    says = says.reshape(len(experts), n_values, n_rows, *says.shape[1:]).mean(axis=2)
    return [(k, x, part[:, k]) for k, x, part in zip(experts, chosen, says, strict=True)]


def _draw_panel(ax, x, points, owners, lines, is_number):
    """Draw the rows, the line of each expert, and for numbers that of all rows."""
    colors = plotting.expert_colors(owners.shape[1])
    shades = colors[owners.argmax(axis=1)] if owners.sum() == len(x) else "0.7"
    size = float(np.clip(8000 / len(x), 4, 18))
    ax.scatter(x, points, c=shades, s=size, linewidths=0, alpha=0.85)
    known = np.isfinite(x) & np.isfinite(points)
    if is_number and len(lines) > 1 and np.ptp(x[known]) > 0:
        ends = np.array([x[known].min(), x[known].max()])
        slope, level = np.polyfit(x[known] - ends[0], points[known], 1)
        ax.plot(ends, level + slope * (ends - ends[0]), c="0.45", ls="--", lw=2)
    for k, values, says in lines:
        ax.plot(values, says, color=0.7 * colors[k], lw=3)


def _draw_words(ax, rules, experts):
    """Write above the axes where each expert holds, in its color."""
    lines = ax.lines[-len(experts) :][:_MOST_EXPERTS]
    texts = []
    for k in experts[:_MOST_EXPERTS]:
        words = [*rules.where[k][:_MOST_PARTS], *["..."] * (len(rules.where[k]) > _MOST_PARTS)]
        where = " or ".join(words).replace("<=", "≤") or "no simple words"
        if np.isnan(rules.fidelity):
            where = f"{rules.share[k]:.0%} of the rows, in any place"
        texts.append(plotting.as_text(fill(f"{rules.expert_names[k]}: {where}", 60)))
    if len(ax.lines) > len(experts):
        lines = [*lines, ax.lines[0]]
        texts.append("one line for all rows")
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    legend = ax.legend(lines, texts, frameon=False, handlelength=1.5, **place)
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set(color=line.get_color(), weight="normal" if line.is_dashed() else "bold")
