"""Where experts hold, in words: conditions on the columns of a table, found by a tree."""

import re
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from sklearn.preprocessing import TargetEncoder
from sklearn.tree import DecisionTreeClassifier

from .._data.tables import Table, is_missing

# Where an expert holds if the gates do not depend on the row.
SAME_WEIGHTS = "same weights for all rows"
# What each condition is to be worth, as a share of the samples.
_WORTH = 0.003
# Categories that are written out.
_MOST_LABELS = 6


class Conditions:
    """The conditions on a column of a table.

    A condition on numbers is a tuple of places among the distinct numbers: above the first one and
    not above the second, where missing values are above all numbers. So no scale, offset or far
    value matters. A condition on categories is the set of their codes.

    Parameters
    ----------
    column : Column
    is_category : bool
        Whether its numbers, if these are, are categories.

    Attributes
    ----------
    name : str
    labels : list of str or None
        Of categories, the most frequent one first; None for numbers.
    values : ndarray of shape (n_samples,)
        Numbers, NaN where they are missing; dates in days, categories as codes.
    distinct, ranks : ndarray
        The sorted distinct values as they were, and the place of each value among them.
    last : int
        The last place that is not missing.
    term : str
        What a unit of the values is called.
    """

    def __init__(self, column, is_category):
        values = column.typed
        self.name = self.term = column.label
        if values.dtype.kind == "m":
            values = values / np.timedelta64(1, "D")
            self.name = self.term = f"{column.label} (days)"
        self.labels = None
        if is_category or values.dtype.kind == "b" or not column.is_numeric:
            texts = ["'missing'" if str(value) == "missing" else str(value) for value in values]
            texts = np.where(column.missing, "missing", texts).tolist()
            self.labels = [label for label, _ in Counter(texts).most_common()]
            codes = dict(zip(self.labels, range(len(self.labels)), strict=True))
            values = np.array([codes[text] for text in texts])
        self.distinct, self.ranks = np.unique(values, return_inverse=True)
        self.last = len(self.distinct) - 1 - is_missing(self.distinct).sum()
        if values.dtype.kind == "M":
            values = (values - np.datetime64(0, "D")) / np.timedelta64(1, "D")
            self.term = f"{self.name} (days)"
        self.values = values

    def texts(self, rows):
        """Return what is in some rows, as texts."""
        if self.labels:
            return np.array(self.labels)[self.ranks[rows]]
        values = self.distinct[self.ranks[rows]]
        is_time = values.dtype.kind == "M"
        # Whole numbers may be dates: 20230131.
        digits = ".6g" if not is_time and (np.nan_to_num(values) % 1).any() else ".15g"
        texts = [_text(value) if is_time else f"{value:{digits}}" for value in values]
        return np.where(is_missing(values), "missing", texts)

    def split(self, left, right):
        """Return two conditions that part the samples of two masks."""
        if self.labels:
            codes = frozenset(np.unique(self.ranks[left]).tolist())
            return codes, frozenset(range(len(self.labels))) - codes
        low = self.ranks[left].max(initial=-1)
        high = self.ranks[right].min(initial=self.last + 1)
        cut = high - 1
        if 0 <= low < high <= self.last:
            threshold = _shortest(self.distinct[low], self.distinct[high])
            cut = np.searchsorted(self.distinct, threshold, "right") - 1
        return (-np.inf, cut), (cut, np.inf)

    def intersection(self, first, second):
        """Return the condition that holds where two do."""
        if self.labels:
            return first & second
        return max(first[0], second[0]), min(first[1], second[1])

    def union(self, first, second):
        """Return the shortest condition that holds where one of two does."""
        if self.labels:
            return first | second
        return min(first[0], second[0]), max(first[1], second[1])

    def holds(self, condition, step=1):
        """Return where a condition holds, of each `step`-th sample."""
        ranks = self.ranks[::step]
        if self.labels:
            return np.isin(range(len(self.labels)), [*condition])[ranks]
        return (ranks > condition[0]) & (ranks <= condition[1])

    def listed(self, condition):
        """Return whether a category is one of some labels, or none of them, and the labels."""
        inside = [label for code, label in enumerate(self.labels) if code in condition]
        others = [label for code, label in enumerate(self.labels) if code not in condition]
        return (True, inside) if len(inside) <= len(others) else (False, others)

    def is_only_missing(self, condition):
        """Tell whether a condition on numbers holds for missing values only."""
        return condition[0] >= self.last

    def with_missing(self, condition):
        """Tell whether a condition on numbers holds for missing values as well."""
        return bool(condition[1] > self.last < len(self.distinct) - 1)

    def thresholds(self, condition):
        """Return the two values between which a condition on numbers holds, None for no bound."""
        return [
            _shortest(*self.distinct[cut : cut + 2]) if 0 <= cut < self.last else None
            for cut in condition
        ]

    def words(self, condition):
        """Return a condition in words."""
        if self.labels:
            is_one_of, labels = self.listed(condition)
            if is_one_of:
                return f"{self.name} is {_join(labels, 'or')}"
            negation = "not" if len(labels) == 1 else "neither"
            return f"{self.name} is {negation} {_join(labels, 'nor')}"
        if self.is_only_missing(condition):
            return f"{self.name} is missing"
        low, high = self.thresholds(condition)
        if low is high is None:
            return f"{self.name} is not missing"
        text = f"{self.name} > {_text(low)}" if high is None else f"{self.name} <= {_text(high)}"
        text = text if low is None or high is None else f"{_text(low)} < {text}"
        return text + " (or missing)" * self.with_missing(condition)


class Wording(dict):
    """The conditions on the columns of X by their places, each read when it is first asked for.

    Parameters
    ----------
    X : data frame, ndarray or sparse matrix of shape (n_samples, n_features)
    categorical : array-like, str or None
        As `categorical_features` of an estimator. Columns of text are categories in any case.
    """

    def __init__(self, X, categorical=None):
        self.X = X
        self.columns = Table(X)
        self.n_columns = len(self.columns)
        self.categorical = self.columns.find_categories()
        if not (categorical is None or isinstance(categorical, str)):
            self.categorical += self.columns.find_categories(categorical)

    def __missing__(self, place):
        self[place] = Conditions(self.columns[place], place in self.categorical)
        return self[place]

    def words(self, part):
        """Return the conditions of a part in words."""
        return " and ".join(self[place].words(each) for place, each in part) or "everywhere"

    def holds(self, part, step=1):
        """Return where all conditions of a part hold, of each `step`-th sample."""
        held = np.ones(len(self[0].ranks[::step]), bool)
        for place, condition in part:
            held &= self[place].holds(condition, step)
        return held

    def features(self, experts):
        """Return numbers that a tree can split, and the column of each of them.

        Numbers are replaced by their places among the distinct ones: a tree reads float32.
        """
        blocks, owners = [], []
        for place in range(self.n_columns):
            block = self[place].ranks[:, np.newaxis]
            if self[place].labels:
                # Categories are ordered by the share of each expert.
                encoder = TargetEncoder(random_state=0).set_output(transform="default")
                block = encoder.fit(block, experts).transform(block)
            blocks.append(block)
            owners += [place] * block.shape[1]
        return np.hstack(blocks), owners


class Regions(NamedTuple):
    """The parts of a table in which each expert holds.

    Attributes
    ----------
    parts : list of tuples or None
        An expert, and pairs of a column's place and a condition; the largest part first. None if
        all experts hold everywhere.
    words : tuple of n_experts tuples of str
        The parts of each expert in words.
    held : ndarray of bool of shape (n_samples, n_experts)
        For which samples the words of an expert hold.
    right : ndarray of bool of shape (n_samples,)
        Whether those of its expert hold, and those of no other expert.
    """

    parts: list | None
    words: tuple
    held: np.ndarray
    right: np.ndarray


def find_regions(table, experts, n_experts, max_conditions=3):
    """Find words for the parts of a table in which each expert holds: leaves of a tree, shortened.

    Parameters
    ----------
    table : Wording
    experts : ndarray of shape (n_samples,)
    n_experts : int
    max_conditions : int

    Returns
    -------
    regions : Regions
    """
    features, owners = table.features(experts)
    tree = DecisionTreeClassifier(
        max_depth=8,
        max_leaf_nodes=max(32, 2 * n_experts),
        min_samples_leaf=1 + min(len(experts) // 200, 20),
        random_state=0,
    ).fit(features, experts)
    leaves = _leaves(tree.tree_, features, owners, table, experts)
    parts, held = _simplify(leaves, table, experts, n_experts, max_conditions)
    words = tuple(tuple(table.words(part) for k, part in parts if k == m) for m in range(n_experts))
    return Regions(parts, words, held, _are_right(held, experts))


def _leaves(nodes, features, owners, table, experts):
    """Return pairs of expert and conditions by column: the leaves of a tree."""
    leaves = []
    waiting = [(0, {}, np.ones(len(experts), bool))]
    while waiting:
        node, box, among = waiting.pop()
        children = nodes.children_left[node], nodes.children_right[node]
        if children[0] < 0:
            leaves.append((np.bincount(experts[among]).argmax(), tuple(box.items())))
            continue
        place = nodes.feature[node]
        column = owners[place]
        left = features[:, place].astype(np.float32) <= nodes.threshold[node]
        sides = among & left, among & ~left
        conditions = table[column].split(*sides)
        for child, side, condition in zip(children, sides, conditions, strict=True):
            condition = table[column].intersection(box.get(column, condition), condition)
            waiting.append((child, box | {column: condition}, side))
    return leaves


def _simplify(boxes, table, experts, n_experts, max_conditions):
    """Return pairs of expert and conditions, and where they hold, (n_samples, n_experts).

    They are left out, merged or lose a condition, whatever costs the least, as long as they have
    too many conditions or some that are worth little.
    """
    # Shorter words are tried on about 5,000 samples.
    step = len(experts) // 5000 + 1

    @lru_cache(maxsize=10_000)
    def inside(box, step):
        return table.holds(box, step)

    def holds(boxes, step):
        held = np.zeros((len(experts[::step]), n_experts), bool)
        for expert, box in boxes:
            held[:, expert] |= inside(box, step)
        return held

    def value(boxes):
        right = _are_right(holds(boxes, step), experts[::step])
        return right.mean() - _WORTH * sum(max(1, len(box)) for _, box in boxes)

    boxes = sorted(boxes, key=lambda pair: inside(pair[1], 1).sum())
    # Boxes are tried in turn until none of them was changed in a whole turn.
    index = idle = 0
    while idle < len(boxes):
        index %= len(boxes)
        expert, box = boxes[index]
        others = boxes[:index] + boxes[index + 1 :]
        same = [other for other in others if other[0] == expert]
        options = [others] * bool(same)
        for place, _ in box:
            shorter = tuple(pair for pair in box if pair[0] != place)
            options.append([*boxes[:index], (expert, shorter), *boxes[index + 1 :]])
        for other in same:
            rest = dict(other[1])
            merged = tuple((p, table[p].union(c, rest[p])) for p, c in box if p in rest)
            options.append([(expert, merged) if b is other else b for b in others])
        values = [value(option) for option in options]
        if options and (len(box) > max_conditions or max(values) >= value(boxes)):
            boxes = options[int(np.argmax(values))]
            idle = 0
        else:
            index += 1
            idle += 1
    boxes.sort(key=lambda pair: -inside(pair[1], 1).sum())
    return boxes, holds(boxes, 1)


def _are_right(held, experts):
    """Tell for which samples the words of their expert hold, and those of no other expert."""
    return held[np.arange(len(held)), experts] & (held.sum(axis=1) == 1)


def _shortest(low, high):
    """Return a number or date of few digits, from `low` on and below `high`."""
    if low.dtype.kind == "M":
        middle = low + (high - low) // 2
        for unit in ("D", "h", "m", "s", "ms", "us", "ns"):
            start = middle.astype(f"M8[{unit}]")
            for time in (start, start + 1):
                if low <= time < high:
                    return time
    middle = float(low) / 2 + float(high) / 2
    for digits in range(18):
        for near in (middle, float(low)):
            number = float(f"{near:.{digits}g}") if digits else 0.0
            # The column may be compared in its own type, or in float64.
            if float(low) <= number < float(high) and low <= type(low)(number) < high:
                return number
    # An integer that float64 does not hold.
    return low


def _text(threshold):
    """Return a number or date as text; a date has no time if it is midnight."""
    text = str(threshold)
    if isinstance(threshold, np.datetime64):
        text = re.sub(r"\.0+$", "", text.replace("T", " ") + ":00" * (len(text) == 13))
        return text.removesuffix(" 00:00:00")
    return text.removesuffix(".0")


def _join(names, joint):
    if len(names) > _MOST_LABELS:
        names[_MOST_LABELS - 1 :] = [f"{len(names) - _MOST_LABELS + 1} others"]
    return f" {joint} ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def number_text(value, half_width=np.nan):
    """Return a number as text, to the digits that its interval tells, or to three of them."""
    if np.isnan(value):
        return "-"
    if not half_width > 0:
        return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    digits = 1 - int(np.floor(np.log10(half_width)))
    # Such numbers have exponents.
    if digits > 6 or max(abs(value), half_width) >= 1e6:
        return f"{value:.3g} ± {half_width:.2g}"
    rounded = (np.round(number, digits) + 0.0 for number in (value, half_width))
    return " ± ".join(f"{number:.{max(digits, 0)}f}" for number in rounded)
