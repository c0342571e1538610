"""Where experts hold: conditions on the columns of a table, read from a tree and put into words."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import issparse
from sklearn.preprocessing import TargetEncoder
from sklearn.tree import DecisionTreeClassifier

from .._data import tables
from .._data.tables import is_missing

_MOST_ROWS = 5000  # that shorter words are tried on
_MOST_LEAVES = 32  # of a tree of our own; twice as many as experts, if these are more
_WORTH = 0.003  # of the samples: what each condition is to be worth
_MOST_LABELS = 6  # that are written out


@dataclass(eq=False)
class Column:
    """A column of a table.

    A condition on numbers is a tuple of places among the distinct numbers: above the first one and
    not above the second, where missing values are above all numbers. So no scale, offset or far
    value matters. A condition on categories is the set of their codes.

    Parameters
    ----------
    name : str
    values : ndarray of shape (n_samples,)
        Numbers, dates or durations, NaN or NaT where they are missing, or codes of categories.
    labels : list of str or None
        Of the codes, the most frequent category first; None for numbers.

    Attributes
    ----------
    values : ndarray of shape (n_samples,)
        Dates and durations in days, the others as they were.
    distinct, ranks : ndarray
        The sorted distinct values as they were, and the place of each value among them.
    last : int
        The last place that is not missing.
    term : str
        What a unit of the values is called.
    """

    name: str
    values: np.ndarray
    labels: list[str] | None = None

    def __post_init__(self):
        self.distinct, self.ranks = np.unique(self.values, return_inverse=True)
        self.last = len(self.distinct) - 1 - is_missing(self.distinct).sum()  # that is not missing
        self.term = self.name
        if self.values.dtype.kind in "mM":
            self.values = (self.values - self.values.dtype.type(0, "D")) / np.timedelta64(1, "D")
            self.term = f"{self.name} (days)"

    def texts(self, rows):
        """Return what is in some rows, as texts."""
        if self.labels:
            return np.array(self.labels)[self.ranks[rows]]
        values = self.distinct[self.ranks[rows]]
        write = _text if values.dtype.kind in "mM" else "{:.6g}".format
        texts = [
            "missing" if gone else write(v)
            for v, gone in zip(values, is_missing(values), strict=True)
        ]
        return np.array(texts, dtype=str)

    def split(self, left, right):
        """Return two conditions that part the samples of two masks."""
        if self.labels:
            codes = frozenset(np.unique(self.ranks[left]).tolist())
            return codes, frozenset(range(len(self.labels))) - codes
        low, high = self.ranks[left].max(initial=-1), self.ranks[right].min(initial=self.last + 1)
        cut = high - 1
        if 0 <= low < high <= self.last:
            threshold = _shortest(self.distinct[low], self.distinct[high])
            cut = np.searchsorted(self.distinct, threshold, "right") - 1
        return (-np.inf, cut), (cut, np.inf)

    def combine(self, first, second, lower=max, upper=min):
        """Return the condition that holds where two do; with min and max, where one does."""
        if self.labels:
            return first & second if upper is min else first | second
        return lower(first[0], second[0]), upper(first[1], second[1])

    def holds(self, condition, step=1):
        """Return where a condition holds, of each `step`-th sample."""
        if self.labels:
            return np.isin(range(len(self.labels)), [*condition])[self.ranks[::step]]
        ranks = self.ranks[::step]
        return (ranks > condition[0]) & (ranks <= condition[1])

    def listed(self, condition):
        """Return whether a category is one of some labels, or none of them, and the labels."""
        inside = [label for code, label in enumerate(self.labels) if code in condition]
        others = [label for code, label in enumerate(self.labels) if code not in condition]
        is_one = len(inside) <= len(others)
        return is_one, inside if is_one else others

    def thresholds(self, condition):
        """Return the two values between which a condition on numbers holds, None for no bound."""
        return [
            _shortest(*self.distinct[cut : cut + 2]) if 0 <= cut < self.last else None
            for cut in condition
        ]

    def words(self, condition):
        """Return a condition in words."""
        if self.labels:
            is_one, labels = self.listed(condition)
            if is_one:
                return f"{self.name} is {_join(labels, 'or')}"
            negation = "not" if len(labels) == 1 else "neither"
            return f"{self.name} is {negation} {_join(labels, 'nor')}"
        if condition[0] >= self.last:
            return f"{self.name} is missing"
        low, high = (None if cut is None else _text(cut) for cut in self.thresholds(condition))
        text = f"{self.name} is not missing" if low is None else f"{self.name} > {low}"
        if high is not None:
            text = f"{'' if low is None else f'{low} < '}{self.name} <= {high}"
        with_missing = condition[1] > self.last < len(self.distinct) - 1
        return f"{text} (or missing)" if with_missing else text


class Table(dict):
    """The columns of X by their places, each read when it is first asked for.

    Parameters
    ----------
    X : data frame, ndarray or sparse matrix of shape (n_samples, n_features)
    categorical : array-like, str or None
        As `categorical_features` of an estimator. Columns of text are categories in any case.
    """

    def __init__(self, X, categorical=None):
        self.X, self.n_columns = X, X.shape[1]
        self.columns = tables.Table(X)
        self.categorical = self.columns.find_categories()
        if not (categorical is None or isinstance(categorical, str)):
            self.categorical += self.columns.find_categories(categorical)

    def __missing__(self, place):
        column = self.columns[place]
        name, values, missing = column.label, column.typed, column.missing
        is_number = values.dtype.kind in "iufmM" and np.isfinite(values).any()
        if is_number and place not in self.categorical:
            self[place] = Column(name, values)
        else:
            texts = ["'missing'" if str(v) == "missing" else str(v) for v in values]
            texts = np.where(missing, "missing", texts).tolist()
            codes = {label: code for code, (label, _) in enumerate(Counter(texts).most_common())}
            self[place] = Column(name, np.array([codes[text] for text in texts]), [*codes])
        return self[place]

    def words(self, part):
        """Return the conditions of a part in words."""
        return " and ".join(self[place].words(each) for place, each in part) or "everywhere"

    def holds(self, part, step=1):
        """Return where all conditions of a part hold, of each `step`-th sample."""
        masks = [self[place].holds(condition, step) for place, condition in part]
        return np.logical_and.reduce(masks) if masks else np.ones(len(self[0].ranks[::step]), bool)

    def features(self, experts):
        """Return numbers that a tree can split, and the column of each of them.

        Numbers are replaced by their places among the distinct ones: a tree reads float32.
        """
        if issparse(self.X):
            X = self.X.tocsc(copy=True)
            X.sum_duplicates()
            places = np.unique(np.append(X.data, 0), return_inverse=True)[1]
            X.data = (places[:-1] - places[-1]).astype(np.float32)  # zeros stay zeros
            return X, range(self.n_columns)
        blocks, owners = [], []
        for place in range(self.n_columns):
            block = self[place].ranks[:, np.newaxis]
            if self[place].labels:  # in the order of the share of each expert
                block = TargetEncoder(random_state=0).fit(block, experts).transform(block)
            blocks.append(block)
            owners += [place] * block.shape[1]
        return np.hstack(blocks), owners


def find_parts(table, experts, n_experts, tree, max_conditions):
    """Return the parts of a table in which each expert holds, and for which samples that is so.

    Parameters
    ----------
    table : Table
    experts : ndarray of shape (n_samples,)
    n_experts : int
    tree : fitted tree or None
        The gate, if it is a tree that splits X itself.
    max_conditions : int

    Returns
    -------
    parts : list of tuples
        An expert, and pairs of a column's place and a condition; the largest part first.
    held : ndarray of bool of shape (n_samples, n_experts)
    """
    most = max(_MOST_LEAVES, 2 * n_experts)
    columns = [] if issparse(table.X) else [table[p].values for p in range(table.n_columns)]
    if tree is not None and (not columns or np.array_equal(np.column_stack(columns), table.X)):
        features, owners = table.X, range(table.n_columns)
    else:
        features, owners = table.features(experts)
        tree = DecisionTreeClassifier(
            max_depth=8,
            max_leaf_nodes=most,
            min_samples_leaf=1 + min(len(experts) // 200, 20),
            random_state=0,
        ).fit(features, experts)
    leaves = _leaves(tree.tree_, features, owners, table, experts, 2 * most)
    return _simplify(leaves, table, experts, n_experts, max_conditions)


def find_words(table, parts, n_experts):
    """Return where each expert holds in words, a tuple of n_experts tuples of str."""
    where = [[] for _ in range(n_experts)]
    for expert, part in parts:
        where[expert].append(table.words(part))
    return tuple(map(tuple, where))


def _leaves(nodes, features, owners, table, experts, most):
    """Return pairs of expert and conditions by column: the leaves of a tree.

    Branches of one expert are not parted, and if there are too many leaves, those of the fewest
    other samples are not.
    """
    found, waiting = [], [(1, 0, np.bincount(experts).argmax(), {}, np.ones(len(experts), bool))]
    while waiting:
        waiting.sort(key=lambda leaf: leaf[0])
        error, node, expert, box, among = waiting.pop()
        children = nodes.children_left[node], nodes.children_right[node]
        if not error or children[0] < 0 or len(found) + len(waiting) >= most:
            found.append((expert, tuple(box.items())))
            continue
        place, own = nodes.feature[node], owners[nodes.feature[node]]
        left = tables.Table(features)[place].values.astype(np.float32) <= nodes.threshold[node]
        sides = among & left, among & ~left
        for child, side, condition in zip(children, sides, table[own].split(*sides), strict=True):
            if side.any():
                counts = np.bincount(experts[side])
                condition = table[own].combine(box.get(own, condition), condition)
                error = counts.sum() - counts.max()
                waiting.append((error, child, counts.argmax(), box | {own: condition}, side))
    return found


def _simplify(boxes, table, experts, n_experts, max_conditions):
    """Return pairs of expert and conditions, and where they hold, (n_samples, n_experts).

    They are left out, merged or lose a condition, whatever costs the least, as long as they have
    too many conditions or some that are worth little.
    """
    step = len(experts) // _MOST_ROWS + 1

    @lru_cache(maxsize=10_000)
    def inside(box, step):
        return table.holds(box, step)

    def holds(boxes, step):
        held = np.zeros((len(experts[::step]), n_experts), bool)
        for expert, box in boxes:
            held[:, expert] |= inside(box, step)
        return held

    def value(boxes):
        right = are_right(holds(boxes, step), experts[::step])
        return right.mean() - _WORTH * sum(max(1, len(box)) for _, box in boxes)

    boxes = sorted(boxes, key=lambda pair: inside(pair[1], 1).sum())
    index, idle = 0, 0
    while idle < len(boxes):
        index %= len(boxes)
        (expert, box), others = boxes[index], boxes[:index] + boxes[index + 1 :]
        same = [other for other in others if other[0] == expert]
        options = [others] * bool(same)
        for place, _ in box:
            shorter = tuple(pair for pair in box if pair[0] != place)
            options.append([*boxes[:index], (expert, shorter), *boxes[index + 1 :]])
        for other in same:
            rest = dict(other[1])
            both = ((p, table[p].combine(c, rest[p], min, max)) for p, c in box if p in rest)
            options.append([(expert, tuple(both)) if b is other else b for b in others])
        values = [value(option) for option in options]
        if options and (len(box) > max_conditions or max(values) >= value(boxes)):
            boxes, idle = options[int(np.argmax(values))], 0
        else:
            index, idle = index + 1, idle + 1
    boxes.sort(key=lambda pair: -inside(pair[1], 1).sum())
    return boxes, holds(boxes, 1)


def are_right(held, experts):
    """Tell for which samples the words of their expert hold, and those of no other expert."""
    return held[np.arange(len(held)), experts] & (held.sum(axis=1) == 1)


def _shortest(low, high):
    """Return a number, date or duration of few digits, from `low` on and below `high`."""
    if low.dtype.kind in "mM":
        middle = low + (high - low) // 2
        for unit in ("D", "h", "m", "s", "ms", "us", "ns"):
            start = middle.astype(f"{low.dtype.kind}8[{unit}]")
            for time in (start, start + 1, start - 1):
                if low <= time < high:
                    return time
    middle = float(low) / 2 + float(high) / 2
    for digits in range(18):
        for near in (middle, float(low)):
            number = float(f"{near:.{digits}g}") if digits else 0.0
            # The column may be compared in its own type, or in float64.
            if float(low) <= number < float(high) and low <= type(low)(number) < high:
                return number
    return low  # an integer that float64 does not hold


def _text(threshold):
    """Return a number, date or duration as text; a date has no time if it is midnight."""
    text = str(threshold)
    if isinstance(threshold, np.datetime64):
        return text.replace("T", " ") + ":00" * (len(text) == 13)
    if isinstance(threshold, np.timedelta64) and threshold == threshold.astype("m8[us]"):
        text = str(threshold.astype("m8[us]").item()).replace(", 0:00:00", "")
        text = text.replace(", ", " +" if text.startswith("-") else " ")
        return re.sub(r"\b\d:", r"0\g<0>", text)
    return text.removesuffix(".0")


def _join(names, joint):
    if len(names) > _MOST_LABELS:
        names[_MOST_LABELS - 1 :] = [f"{len(names) - _MOST_LABELS + 1} others"]
    return f" {joint} ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
