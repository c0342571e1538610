"""The rules of a mixture as the text of a Python function that imports nothing."""

import math

import numpy as np

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


def write_python(mixture, parts, functions, share):
    """Return the text of `predict(row)`.

    Parameters
    ----------
    mixture : OpenedMixture
    parts : list of tuples or None
        Those of `Regions`. None: each expert counts by its share, for all rows.
    functions : LinearFunctions
    share : ndarray of shape (n_experts,)

    Raises
    ------
    ValueError
        If an expert is not linear, a column has dates, or classes or logarithms are mixed.
    """
    table, names = mixture.table, mixture.names
    coef = functions.coef
    classes = getattr(mixture, "classes_", None)
    used = np.argsort(-share, kind="stable")[: np.count_nonzero(share)]
    for k in used[np.isnan(coef[used]).any(axis=(1, 2))]:
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
    # Constant weights make one linear function of all.
    if parts is None:
        coef = np.tensordot(share[used], coef[used], 1)[np.newaxis]
        used, parts = [0], []
    values = [f"row[{_key(name)!r}]" for name in table.columns.names]
    terms = [
        code.replace(ROW, values[owner])
        for code, owner in zip(functions.codes, functions.owners, strict=True)
    ]
    body = []
    for k in used:
        where = [
            " and ".join(_condition(table[place], each, values[place]) for place, each in part)
            for expert, part in parts
            if expert == k and part
        ]
        if len(where) > 1:
            where = [" or ".join(f"({one})" for one in where)]
        if where:
            formula = _formula(coef[k], terms, classes, functions.is_log, 8)
            body += [f"    if {where[0]}:  # {names[k]}", *formula]
    if body:
        body.append(f"    # Where no words hold, as {names[used[0]]}.")
    body += _formula(coef[used[0]], terms, classes, functions.is_log, 4)
    kind = "a sequence"
    if table.columns.is_frame:
        kind = "a mapping from the names of columns to values"
    text = "\n".join(["def predict(row):", f'    """Predict for a row, {kind}."""', *body, ""])
    # Only the helpers that the text calls.
    helpers = [code.strip() for name, code in _HELPERS.items() if f"{name}(" in text]
    return "\n\n\n".join([*helpers, text])


def _key(name):
    return name.item() if isinstance(name, np.generic) else name


def _condition(column, condition, value):
    """Return a condition on a column as Python, given the text of its value."""
    if column.labels:
        is_one, labels = column.listed(condition)
        return f"text({value}) {'in' if is_one else 'not in'} {labels!r}"
    if column.distinct.dtype.kind in "mM":
        raise ValueError(
            f"Rules in Python take no dates or durations, but column {column.name!r} has."
        )
    if column.is_only_missing(condition):
        return f"missing({value})"
    low, high = column.thresholds(condition)
    if low is high is None:
        return f"not missing({value})"
    if low is None:
        return f"{value} <= {float(high)!r}"
    if high is not None:
        return f"{float(low)!r} < {value} <= {float(high)!r}"
    # Nothing is above NaN in Python.
    if column.with_missing(condition):
        return f"(missing({value}) or {value} > {float(low)!r})"
    return f"{value} > {float(low)!r}"


def _formula(coef, terms, classes, is_log, indent):
    """Return the lines that return a prediction by coefficients, (n_terms, n_outputs)."""
    space = " " * indent
    sums = []
    for *slopes, intercept in coef.T.tolist():
        lines = [repr(intercept)]
        for slope, term in zip(slopes, terms, strict=True):
            if slope:
                lines.append(f"{'-' if slope < 0 else '+'} {abs(slope)!r} * {term}")
        power = f"{math.e!r} ** " * is_log
        sums.append(power + f"\n{space}    ".join(["(", *lines]) + f"\n{space})")
    if classes is not None:
        first, *others = classes.tolist()
        return [
            f"{space}odds = {{{first!r}: 0.0}}  # their logarithms",
            *(f"{space}odds[{c!r}] = {one}" for c, one in zip(others, sums, strict=True)),
            f"{space}return max(odds, key=odds.get)",
        ]
    if len(sums) == 1:
        return [f"{space}return {sums[0]}"]
    return [f"{space}return [{', '.join(sums)}]"]
