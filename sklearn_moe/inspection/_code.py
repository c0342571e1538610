"""The rules of a mixture as code: a Python function that imports nothing, or SQL."""

from itertools import groupby, starmap

import numpy as np

from .._compat import __version__
from ..metrics._words import find_regions
from ._linear import mix_rows, open_table

_TINY = 1e-300
# In unfinished code: where a line ends, if it is not the only one.
_BREAK = "\0"
# Categories of one of these types are compared as they are, those of others as texts.
_PLAIN = ({str}, {bool}, {int}, {float})
# Gates below, and differences of predictions in standard deviations, are none.
_NOTHING = 1e-6
# Mixtures of experts that have a formula each.
_MOST_FORMULAS = 32
# What Python and SQL say.
_FORMS = {
    "missing": ("missing({})", "{} is null"),
    "known": ("not missing({})", "{} is not null"),
    "one of": ("{} in {{{}}}", "{} in ({})"),
    "none of": ("{} not in {{{}}}", "({0} is null or {0} not in ({1}))"),
    "between": ("{1} < {0} <= {2}", "{0} > {1} and {0} <= {2}"),
    "text": ("str({})", "{}"),
    "number or nan": ("number({})", "{}"),
    "flag": ("{}", "(case when {0} then 1 when not {0} then 0 end)"),
    "number": ("number({}, {})", "coalesce({}, {})"),
    "float": ("float({})", "{}"),
    "one if missing": ("missing({})", "case when {} is null then 1 else 0 end"),
    "effect": ("{}: {},", "when {} then {}"),
    "effects": ("{{{1}}}.get({0}, {2})", "case {} {} else {} end"),
    "exp": ("2.718281828459045 ** ({})", "exp({})"),
}
# What Python code calls. Of pandas' NA it is not known whether it equals itself.
_HELPERS = """
def number(value, other=float("nan")):
    return other if missing(value) else float(value)

def missing(value):
    return value is None or str(value == value) != "True"

def records(table):
    if hasattr(table, "to_dicts"):
        return table.to_dicts()
    return table.to_dict("records") if hasattr(table, "to_dict") else table

def refuse(odd):
    if names := [name for name, is_odd in odd.items() if is_odd]:
        raise ValueError(f"Values that the rules do not know, in columns {names}")
"""


def describe(view, target, scores):
    """Return what code says of itself, if it is nearly and if it is exactly the model."""
    target = repr(target or "y").replace('"', "'")
    model, name = type(view.mixture).__name__, scores.name.replace("RMSE", "R2")
    by_words = f" ({name} {scores.by_words:.3f} in place of {scores.by_model:.3f})"
    by_model = f" ({name} {scores.by_model:.3f})" * (not np.isnan(scores.by_model))
    nearly = f"nearly as {model} does" + by_words * (not np.isnan(scores.by_words))
    return f"Predict {target} {nearly}", f"Predict {target} as {model} does{by_model}"


def write_code(estimator, view, table, regions, functions, language, about):
    """Return the rules of a mixture as code.

    Parameters
    ----------
    estimator : estimator
        The mixture, or the pipeline that ends in it.
    view : ExpertView
    table : Wording
    regions : Regions
        Where each expert holds. If they have no parts, all experts count for all rows.
    functions : LinearFunctions
    language : Python or SQL
    about : tuple of two str
        What code says of itself, if it is nearly and if it is exactly the model.

    Raises
    ------
    ValueError
        If an expert is not linear, classes or logarithms are mixed, dates or durations are used, or
        SQL is to predict several numbers.
    """
    is_sum = view.classes is None and not functions.is_log
    is_mixed = view.gates.max(axis=1).min() < 1 - _NOTHING
    n_used = np.count_nonzero(view.gates.max(axis=0) > _NOTHING)
    if regions.parts is None and not is_sum and n_used > 1:
        mixed = "exponential functions" if functions.is_log else "classes' probabilities"
        raise ValueError(
            "Code needs a gate that depends on the row, or linear functions to mix: here all rows "
            f"mix the {mixed} of {n_used} experts."
        )
    groups, gates, parts = view.experts[:, 0], np.eye(view.n_experts), regions.parts
    is_exact = parts is None
    if is_exact:
        groups, gates, parts = np.zeros_like(groups), view.gates[:1], [(0, ())]
    elif is_sum or not is_mixed:
        # A gate of few values, such as a tree, may mix the experts in each of its leaves. Rows in
        # which values are combined in other ways tell where these end.
        rows = np.tile(np.arange(len(groups))[:, np.newaxis], (2 + 4000 // len(groups), 1))
        rows = np.tile(rows, table.n_columns)
        rows[len(groups) :] = np.random.default_rng(0).permuted(rows[len(groups) :], axis=0)
        every, combined = open_table(estimator, mix_rows(table.X, rows))
        first, leaves = np.unique(every.gates.round(6), True, True, axis=0)[1:]
        leaves = leaves.ravel()
        if len(first) <= _MOST_FORMULAS:
            of_leaves = find_regions(combined, leaves, len(first), max_conditions=8)
            if is_exact := of_leaves.right.all():
                groups, gates = leaves[: len(groups)], every.gates[first]
                parts = of_leaves.parts
    size = np.bincount(groups, minlength=len(gates))
    largest, *others = np.argsort(-size, kind="stable")
    order = [largest, *(group for group in others if group in {m for m, _ in parts})]
    coef, names = [], []
    for gate in gates[order]:
        used = np.flatnonzero(gate > _NOTHING)
        for k in used[np.isnan(functions.coef[used]).any(axis=(1, 2))]:
            name = view.names[k]
            raise ValueError(f"Code needs experts that are linear in the columns: {name} is not.")
        coef.append(np.tensordot(gate[used], functions.coef[used], 1))
        shares = ["" if share > 0.995 else f"{share:.2f} " for share in gate]
        shown = [shares[k] + view.names[k] for k in used if gate[k] >= 0.005]
        names.append(" ".join(" + ".join(shown).split()))
    boxes = [[box for m, box in parts if m == group] for group in order]
    chosen = np.zeros(len(groups), int)
    # Where the words of several groups hold, the first of these counts, but the largest one only
    # where no others do.
    for rank in range(len(coef) - 1, 0, -1):
        for box in boxes[rank]:
            chosen[table.holds(box)] = rank
    coef, digits = _shorten(np.array(coef), functions, chosen)
    writer = language(view, table, functions, digits)
    formulas = [writer.predict(of_group) for of_group in coef]
    branches = [
        (names[rank], writer.find_test(boxes[rank]), formulas[rank])
        for rank in range(1, len(coef))
        if boxes[rank] and formulas[rank] != formulas[0]
    ]
    about = f"{about[bool(is_exact)]}; sklearn_moe {__version__}."
    return writer.write(about, branches, formulas[0])


def _shorten(coef, functions, chosen):
    """Return coefficients of few digits, which change predictions of samples by a millionth.

    Parameters
    ----------
    coef : ndarray of shape (n_experts, n_terms, n_outputs)
    functions : LinearFunctions
    chosen : ndarray of shape (n_samples,)
        The expert of each sample.

    Returns
    -------
    coef : ndarray of shape (n_experts, n_terms, n_outputs)
    digits : int
        Digits of the outputs after the point.
    """
    design = np.pad(functions.design, [(0, 0), (0, 1)], constant_values=1)
    outputs = (design @ coef)[chosen, np.arange(len(design))]
    spread = np.maximum(outputs.std(axis=0), 1e-12 * np.abs(outputs).max(axis=0)) + _TINY
    # What is constant on the rows of an expert may differ in other rows of its region.
    center = design.mean(axis=0)
    scale = np.append(np.abs(design - center).max(axis=0)[:-1], 1)[:, np.newaxis]
    # The exponential function makes errors of large outputs larger.
    digits = np.ceil(7 + functions.is_log - np.log10(spread / scale))
    short = _round(coef, digits)
    # The intercept makes up for what rounding changes at the mean.
    short[:, -1] += np.tensordot(center, coef - short, (0, 1))
    return _round(short, digits), digits[-1].max()


_round = np.vectorize(lambda number, digits: round(float(number), int(digits)), [float])


def _text(number):
    """Return a number without what rounding has added."""
    return repr(float(f"{number:.16g}")).removesuffix(".0")


def _wrap(start, text, end=""):
    """Return code on one line, or with each part of the text on a line, in brackets."""
    if _BREAK not in text:
        return start + text + end
    indent = "\n" + " " * (len(start) - len(start.lstrip()))
    inner = text.replace(_BREAK, f"{indent}    ")
    return f"{start}({indent}    {inner}{indent}){end}"


class _Writer:
    """Writes rules in a language, that of a column of the forms."""

    def __init__(self, view, table, functions, digits):
        self.table = table
        self.functions = functions
        self.digits = digits
        self.read = set()
        self.classes = [] if view.classes is None else view.classes.tolist()
        self.categories = {}

    def say(self, form, *parts):
        """Return a form with its parts."""
        return _FORMS[form][self.column].format(*parts)

    def literal(self, value):
        """Return a value that is compared."""
        value = np.asarray(value).item()
        if isinstance(value, str):
            return self.quote(value)
        if not isinstance(value, (bool, int, float)):
            raise ValueError(f"Code compares numbers and texts, but here is {value!r}.")
        return repr(value).removesuffix(".0").replace("inf", "1e999")

    def read_categories(self, place):
        """Return what is compared, and the categories by label; missing ones are none."""
        if place in self.categories:
            return self.categories[place]
        column = self.table.columns[place]
        values = column.typed[~column.missing]
        self.refuse_times(place)
        values = values.tolist()
        text = self.value(place)
        if {*map(type, values)} not in _PLAIN:
            text = self.say("text", text)
            values = map(str, values)
        labels = np.array(self.table[place].labels)[self.table[place].values[~column.missing]]
        by_label = dict(zip(labels.tolist(), map(self.literal, values), strict=True))
        self.categories[place] = text, by_label
        return text, by_label

    def find_odd(self):
        """Return tests by column whether its value is new: the model has no rule for it."""
        odd = {}
        for place in sorted(self.read):
            column, value = self.table[place], self.value(place)
            if column.labels:
                text, by_label = self.read_categories(place)
                is_new = self.say("none of", text, ", ".join(by_label.values()))
                odd[place] = f"{self.say('missing', value)} or {is_new}"
                if "missing" in column.labels:
                    odd[place] = f"{self.say('known', value)} and {is_new}"
            elif column.last + 1 == len(column.distinct):
                odd[place] = self.say("missing", value)
        return odd

    def find_test(self, boxes):
        """Return the test whether a row lies in one of some boxes."""
        tests = [" and ".join(starmap(self.condition, box)) or "0 < 1" for box in boxes]
        tests = [f"({test})" for test in tests] if len(tests) > 1 else tests
        return f"{_BREAK}or ".join(tests)

    def condition(self, place, condition):
        """Return a condition on a column."""
        column = self.table[place]
        value = self.value(place)
        is_missing = self.say("missing", value)
        is_known = self.say("known", value)
        if column.labels:
            text, by_label = self.read_categories(place)
            # What has no label is another one, and so are missing values that X has not.
            other = self.other(place)
            inside = [label for code, label in enumerate(column.labels) if code in condition]
            form = "none of" if other in inside else "one of"
            listed = [label for label in column.labels if (label in inside) != (other in inside)]
            return self.say(form, text, ", ".join(by_label[label] for label in listed))
        if column.is_only_missing(condition):
            return is_missing
        low, high = column.thresholds(condition)
        if low is high is None:
            return is_known
        self.refuse_times(place)
        if column.last + 1 < len(column.distinct):
            value = self.say("number or nan", value)
        limits = [self.literal(limit) for limit in (low, high) if limit is not None]
        sign = ">" if high is None else "<="
        test = self.say("between", value, *limits) if limits[1:] else f"{value} {sign} {limits[0]}"
        return f"({is_missing} or {test})" if column.with_missing(condition) else test

    def refuse_times(self, place):
        """Refuse a column of dates or durations, which databases and libraries store unlike."""
        column = self.table.columns[place]
        if column.typed.dtype.kind in "mM":
            raise ValueError(
                f"Code reads no dates and durations, which column {column.name!r} holds. Replace "
                "them by numbers before the fit."
            )

    def sum(self, coef):
        """Return a linear function of the columns, by coefficients, (n_terms,)."""
        *slopes, intercept = coef.tolist()
        text = _text(intercept)
        terms = zip(self.functions.owners.tolist(), self.functions.labels, slopes, strict=True)
        for place, group in groupby(terms, key=lambda term: term[0]):
            effects = {label: slope for _, label, slope in group}
            if not any(effects.values()):
                continue
            if labels := self.table[place].labels:
                value, by_label = self.read_categories(place)
                effects = dict.fromkeys(labels[:1], 0.0) | effects
                of_other = effects.get(self.other(place), 0.0)
                items = [
                    self.say("effect", by_label[label], _text(effect))
                    for label, effect in effects.items()
                    if effect != of_other
                ]
                items = _BREAK.join(items).rstrip(",")
                text += f"{_BREAK}+ {self.say('effects', value, items, _text(of_other))}"
                continue
            slope = effects.pop(None, 0)
            of_missing = effects.pop("missing", 0)
            if slope:
                text += self.product(slope, self.number(place, slope, of_missing))
            elif of_missing:
                text += self.product(of_missing, self.say("one if missing", self.value(place)))
        return text

    def other(self, place):
        """Return the label of the categories that are not told apart from all that X has not."""
        labels = self.table[place].labels
        return "missing" if "missing" in labels else labels[0]

    def product(self, slope, value):
        """Return what is added to a sum."""
        return f"{_BREAK}{'-' if slope < 0 else '+'} {_text(abs(slope))} * {value}"

    def number(self, place, slope, of_missing):
        """Return a number. One in the place of missing ones has their effect."""
        column = self.table[place]
        value = self.value(place)
        known = np.isfinite(column.values)
        self.refuse_times(place)
        if np.isinf(column.values).any():
            raise ValueError(
                f"Code needs finite numbers; column {column.name!r} has infinite ones."
            )
        if not known.all():
            other = column.values[known].mean() + of_missing / slope
            digits = self.digits + 2 + np.log10(abs(slope))
            return self.say("number", value, _text(_round(other, digits)))
        dtype = self.table.columns[place].values.dtype
        if dtype.kind in "iu" or dtype.str[1:] == "f8":
            return value
        return self.say("float", value)


class Python(_Writer):
    """A function of a row; its first line tells what it predicts."""

    column = 0
    quote = staticmethod(repr)

    def value(self, place):
        """Return the value of a column."""
        self.read.add(place)
        return f"row[{self.table.columns.names[place]!r}]"

    def predict(self, coef):
        """Return what an expert predicts, by coefficients, (n_terms, n_outputs)."""
        sums = [self.sum(of_output) for of_output in coef.T]
        sums = [self.say("exp", text) for text in sums] if self.functions.is_log else sums
        if self.classes:
            pairs = zip(map(self.literal, self.classes), ["0", *sums], strict=True)
            odds = f",{_BREAK}".join(f"{label}: {text}" for label, text in pairs)
            return f"max(odds := {{{odds}}}, key=odds.get)"
        return f"[{f',{_BREAK}'.join(sums)}]" if len(sums) > 1 else sums[0]

    def write(self, about, branches, last):
        """Return the text of the function."""
        lines = ["def predict(row):", f'    """{about}"""']
        lines.append('    if len(getattr(row, "shape", "1")) > 1:')
        lines.append("        return [predict(each) for each in records(row)]")
        names = self.table.columns.names
        items = [f"        {names[place]!r}: {test}," for place, test in self.find_odd().items()]
        lines += ["    refuse({", *items, "    })"] * bool(items)
        for name, test, formula in branches:
            lines += [f"    # {name}", _wrap("    if ", test, ":")]
            lines.append(_wrap("        return ", formula))
        text = "\n".join([*lines, _wrap("    return ", last), ""])
        for code in _HELPERS.strip().split("\n\n"):
            if code.removeprefix("def ").partition("(")[0] + "(" in text:
                text = f"{code}\n\n\n{text}"
        return text


class SQL(_Writer):
    """An expression with the columns of a table."""

    column = 1

    def quote(self, text, mark="'"):
        """Return a text, or with another mark a name."""
        return mark + text.replace(mark, 2 * mark) + mark

    def value(self, place):
        """Return the value of a column."""
        self.read.add(place)
        column = self.table.columns[place]
        text = self.quote(column.label, '"')
        # Databases do not compute with bools.
        return self.say("flag", text) if column.is_numeric and "bool" in column.kind else text

    def predict(self, coef):
        """Return what an expert predicts, by coefficients, (n_terms, n_outputs)."""
        if self.classes:
            coef = np.pad(coef, [(0, 0), (1, 0)]).T
            labels = [self.literal(label) for label in self.classes]
            cases = ""
            # A class wins against all after it, if none before it has won.
            for k, label in enumerate(labels[:-1]):
                tests = [f"{self.sum(other - coef[k])} <= 0" for other in coef[k + 1 :]]
                cases += f"when {f'{_BREAK}and '.join(tests)} then {label}{_BREAK}"
            return f"case {cases}else {labels[-1]} end"
        if coef.shape[1] > 1:
            raise ValueError(f"SQL predicts one number, but here are {coef.shape[1]}.")
        text = self.sum(coef[:, 0])
        return self.say("exp", text) if self.functions.is_log else text

    def write(self, about, branches, last):
        """Return the text of the expression."""
        about = about.replace("*/", "* /").replace("/*", "/ *")
        lines = [f"/* {about} */"]
        odd = f"{_BREAK}or ".join(self.find_odd().values())
        if not (odd or branches):
            return "\n".join([*lines, _wrap("", last)])
        lines.append("case")
        if odd:
            lines.append(_wrap("  when ", odd, " then null"))
        for _, test, formula in branches:
            lines.append(_wrap("  when ", test, " then"))
            lines.append(_wrap("    ", formula))
        return "\n".join([*lines, "  else", _wrap("    ", last), "end"])
