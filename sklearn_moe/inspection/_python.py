"""The rules of a mixture as the text of a Python function that imports nothing."""

import math

import numpy as np

from .._data.tables import Table, is_frame
from ._linear import ROW

_HELPERS = {
    "missing": """
def missing(value):
    return value is None or value != value
""",
    "number": """
def number(value, mean):
    return float(value) if value is not None and abs(value) < float("inf") else mean
""",
    "text": """
def text(value):
    if value is None or value != value:
        return "missing"
    return "'missing'" if str(value) == "missing" else str(value)
""",
}


def write_python(table, parts, functions, names, share, classes):
    """Return the text of `predict(row)`.

    Parameters
    ----------
    table : Table
    parts : list of tuples or None
        As `find_parts` returns them. None: each expert counts by its share, for all rows.
    functions : LinearFunctions
    names : list of n_experts str
    share : ndarray of shape (n_experts,)
    classes : ndarray or None

    Raises
    ------
    ValueError
        If an expert is not linear, a column has dates, or classes or logarithms are mixed.
    """
    used = np.argsort(-share, kind="stable")[: np.count_nonzero(share)]
    for k in used[np.isnan(functions.coef[used]).any(axis=(1, 2))]:
        raise ValueError(
            f"Rules in Python need experts that are linear in the columns, but {names[k]} is not. "
            "For a whole model see to_torch and to_onnx."
        )
    if parts is None and (classes is not None or functions.is_log) and len(used) > 1:
        mixed = "exponential functions" if functions.is_log else "classes' probabilities"
        raise ValueError(
            "Rules in Python need a gate that depends on the row, or linear functions to mix: here "
            f"all rows mix the {mixed} of {len(used)} experts."
        )
    coef = functions.coef
    if parts is None:
        coef, used = np.tensordot(share[used], coef[used], 1)[np.newaxis], [0]
    keys = [_key(table.X, place) for place in range(table.n_columns)]
    terms = [
        code.replace(ROW, f"row[{keys[owner]!r}]")
        for code, owner in zip(functions.codes, functions.owners, strict=True)
    ]
    body = []
    for k in used if parts else ():
        where = [
            " and ".join(_condition(table[place], each, keys[place]) for place, each in part)
            for expert, part in parts
            if expert == k and part
        ]
        if where:
            where = " or ".join(f"({one})" for one in where) if len(where) > 1 else where[0]
            formula = _formula(coef[k], terms, classes, functions.is_log, 8)
            body += [f"    if {where}:  # {names[k]}", *formula]
    if body:
        body.append(f"    # Where no words hold, as {names[used[0]]}.")
    body += _formula(coef[used[0]], terms, classes, functions.is_log, 4)
    kind = "a mapping from the names of columns to values" if is_frame(table.X) else "a sequence"
    text = "\n".join(["def predict(row):", f'    """Predict for a row, {kind}."""', *body, ""])
    helpers = [code.strip() for name, code in _HELPERS.items() if f"{name}(" in text]
    return "\n\n\n".join([*helpers, text])


def _key(X, place):
    key = Table(X).names[place]
    return key.item() if isinstance(key, np.generic) else key


def _condition(column, condition, key):
    """Return a condition on a column as Python."""
    value = f"row[{key!r}]"
    if column.labels:
        is_one, labels = column.listed(condition)
        return f"text({value}) {'in' if is_one else 'not in'} {labels!r}"
    if column.distinct.dtype.kind in "mM":
        raise ValueError(
            f"Rules in Python take no dates or durations, but column {column.name!r} has."
        )
    if condition[0] >= column.last:
        return f"missing({value})"
    low, high = (None if cut is None else repr(float(cut)) for cut in column.thresholds(condition))
    if high is not None:
        return f"{value} <= {high}" if low is None else f"{low} < {value} <= {high}"
    if low is None:
        return f"not missing({value})"
    if condition[1] > column.last < len(column.distinct) - 1:  # nothing is above NaN
        return f"(missing({value}) or {value} > {low})"
    return f"{value} > {low}"


def _formula(coef, terms, classes, is_log, indent):
    """Return the lines that return a prediction by coefficients, (n_terms, n_outputs)."""
    space, sums = " " * indent, []
    for *slopes, intercept in coef.T.tolist():
        lines = [repr(intercept)]
        lines += [
            f"{'-' if slope < 0 else '+'} {abs(slope)!r} * {term}"
            for slope, term in zip(slopes, terms, strict=True)
            if slope
        ]
        power = f"{math.e!r} ** " * is_log
        sums.append(power + f"\n{space}    ".join(["(", *lines]) + f"\n{space})")
    if classes is None:
        found = sums[0] if len(sums) == 1 else f"[{', '.join(sums)}]"
        return [f"{space}return {found}"]
    first, *others = classes.tolist()
    return [
        f"{space}odds = {{{first!r}: 0.0}}  # their logarithms",
        *(f"{space}odds[{c!r}] = {one}" for c, one in zip(others, sums, strict=True)),
        f"{space}return max(odds, key=odds.get)",
    ]
