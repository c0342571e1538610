"""Where experts hold: conditions on the columns of a table, read from a tree and put into words."""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from numbers import Number

import numpy as np
from scipy.sparse import issparse
from sklearn.preprocessing import TargetEncoder
from sklearn.tree import DecisionTreeClassifier

from .._data.tables import column_name, column_values, find_categories, is_frame, is_missing

_MOST_ROWS = 5000  # that shorter words are tried on
_WORTH = 0.003  # of the samples: what each condition is to be worth
_STEPS = 1000  # in a standard deviation: no threshold is finer
_MOST_LABELS = 6  # that are written out


@dataclass(eq=False)
class Column:
    """A column of a table.

    A condition on numbers is a tuple: above the first number and not above the second, where
    missing values are above all numbers. A condition on categories is the set of their codes.

    Parameters
    ----------
    name : str
    values : ndarray of shape (n_samples,)
        Numbers, infinite where they are missing, or codes of categories.
    labels : list of str or None
        Of the codes, the most frequent category first; None for numbers.
    """

    name: str
    values: np.ndarray
    labels: list[str] | None = None

    def split(self, left):
        """Return the two conditions that part the samples as a mask does, (n_samples,)."""
        if self.labels:
            codes = frozenset(self.values[left].tolist())
            return codes, frozenset(range(len(self.labels))) - codes
        low, high = self.values[left].max(initial=-np.inf), self.values[~left].min(initial=np.inf)
        if np.isfinite([low, high]).all():  # a number of few digits from `low` on and below `high`
            room = max(high - low, np.std(self.values[np.isfinite(self.values)]) / _STEPS)
            digits = -int(np.floor(np.log10(room)))
            rounded = [np.round((low + high) / 2, d) for d in (digits - 1, digits)]
            rounded.append(np.round(rounded[1] - 10.0**-digits, digits))
            low = next((number for number in rounded if low <= number < high), rounded[1]) + 0.0
        return (-np.inf, low), (low, np.inf)

    def combine(self, first, second, lower=max, upper=min):
        """Return the condition that holds where two do; with min and max, where one does."""
        if self.labels:
            return first & second if upper is min else first | second
        return lower(first[0], second[0]), upper(first[1], second[1])

    def holds(self, condition):
        """Return where a condition holds, (n_samples,)."""
        if self.labels:
            return np.isin(self.values, [*condition])
        return (self.values > condition[0]) & (self.values <= condition[1])

    def words(self, condition):
        """Return a condition in words."""
        if self.labels:
            names = [label for code, label in enumerate(self.labels) if code in condition]
            others = [label for code, label in enumerate(self.labels) if code not in condition]
            if len(names) <= len(others):
                return f"{self.name} is {_join(names, 'or')}"
            return (
                f"{self.name} is {'not' if len(others) == 1 else 'neither'} {_join(others, 'nor')}"
            )
        (low, high), known = condition, self.values[np.isfinite(self.values)]
        if low >= known.max():
            return f"{self.name} is missing"
        text = f"{self.name} > {low:.10g}" if low > -np.inf else f"{self.name} is not missing"
        if high < known.max():
            above = f"{low:.10g} < " if low > -np.inf else ""
            text = f"{above}{self.name} <= {high:.10g}"
        has_missing = high == np.inf and known.size < self.values.size
        return f"{text} (or missing)" if has_missing else text


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
        self.categorical = [] if issparse(X) else find_categories(X, "from_dtype")
        if not (categorical is None or isinstance(categorical, str)):
            self.categorical += find_categories(X, categorical)

    def __missing__(self, place):
        X = self.X
        name = str(column_name(X, place)) if is_frame(X) else f"x{place}"
        values = X[:, [place]].toarray()[:, 0] if issparse(X) else column_values(X, place)
        missing = is_missing(values)
        kinds = {type(value) for value in values[~missing].tolist()}
        are_numbers = all(issubclass(kind, Number) and kind is not bool for kind in kinds)
        if kinds and are_numbers and place not in self.categorical:
            self[place] = Column(name, np.where(missing, np.inf, values).astype(float))
        else:
            texts = ["missing" if m else str(v) for m, v in zip(missing, values, strict=True)]
            codes = {label: code for code, (label, _) in enumerate(Counter(texts).most_common())}
            self[place] = Column(name, np.array([codes[text] for text in texts]), [*codes])
        return self[place]

    def features(self, experts):
        """Return numbers that a tree can split, and the column of each of them."""
        if issparse(self.X):
            return self.X.tocsc(), range(self.n_columns)
        blocks, owners = [], []
        for place in range(self.n_columns):
            block = self[place].values[:, np.newaxis]
            if self[place].labels:  # in the order of the share of each expert
                block = TargetEncoder(random_state=0).fit(block, experts).transform(block)
            else:
                known = block[np.isfinite(block)]
                block = np.where(np.isfinite(block), block, known.max() + np.ptp(known) + 1)
            blocks.append(block)
            owners += [place] * block.shape[1]
        return np.hstack(blocks), owners


def find_words(table, experts, n_experts, tree, max_conditions):
    """Return where each expert holds in words, and for which samples the words are right.

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
    where : tuple of n_experts tuples of str
    right : ndarray of shape (n_samples,)
        Whether the conditions of the sample's expert hold, and those of no other expert.
    """
    features, owners = table.features(experts)
    if tree is None or not (issparse(features) or np.array_equal(features, table.X)):
        tree = DecisionTreeClassifier(
            max_depth=8,
            max_leaf_nodes=max(32, 2 * n_experts),
            min_samples_leaf=1 + min(len(experts) // 200, 20),
            random_state=0,
        ).fit(features, experts)
    leaves = _leaves(tree.tree_, features, owners, table)
    boxes, right = _simplify(leaves, table, experts, n_experts, max_conditions)
    where = [[] for _ in range(n_experts)]
    for expert, box in boxes:
        words = [table[place].words(condition) for place, condition in box.items()]
        where[expert].append(" and ".join(words) or "everywhere")
    return tuple(map(tuple, where)), right


def _leaves(nodes, features, owners, table, node=0, box=None):
    """Return the conditions of every leaf, by column."""
    if nodes.children_left[node] < 0:
        return [box or {}]
    place = nodes.feature[node]
    feature = features[:, [place]].toarray() if issparse(features) else features[:, [place]]
    left = feature[:, 0].astype(np.float32) <= nodes.threshold[node]
    own, found = owners[place], []
    children = nodes.children_left[node], nodes.children_right[node]
    for child, side in zip(children, table[own].split(left), strict=True):
        side = table[own].combine((box or {}).get(own, side), side)
        found += _leaves(nodes, features, owners, table, child, (box or {}) | {own: side})
    return found


def _simplify(leaves, table, experts, n_experts, max_conditions):
    """Return pairs of expert and conditions, and where they are right, (n_samples,).

    Leaves are left out, merged or lose a condition, whatever costs the least, as long as they have
    too many conditions or some that are worth little.
    """
    step = len(experts) // _MOST_ROWS + 1

    @cache
    def holds(place, condition):
        return table[place].holds(condition)

    def inside(box, step=1):
        masks = [holds(*condition)[::step] for condition in box.items()]
        return np.logical_and.reduce(masks) if masks else np.ones(len(experts[::step]), bool)

    def right(boxes, step=1):
        own, held = experts[::step], np.zeros((n_experts, len(experts[::step])), bool)
        for expert, box in boxes:
            held[expert] |= inside(box, step)
        return held[own, np.arange(len(own))] & (held.sum(axis=0) == 1)

    def value(boxes):
        return right(boxes, step).mean() - _WORTH * sum(max(1, len(box)) for _, box in boxes)

    leaves = sorted((box for box in leaves if inside(box).any()), key=lambda b: inside(b).sum())
    boxes = [(np.bincount(experts[inside(box)]).argmax(), box) for box in leaves]
    index = 0
    while index < len(boxes):
        (expert, box), others = boxes[index], boxes[:index] + boxes[index + 1 :]
        same = [other for other in others if other[0] == expert]
        options = [others] * bool(same)
        for place in box:
            shorter = {p: condition for p, condition in box.items() if p != place}
            options.append([*boxes[:index], (expert, shorter), *boxes[index + 1 :]])
        for other in same:
            both = {
                p: table[p].combine(box[p], other[1][p], min, max) for p in box.keys() & other[1]
            }
            options.append([(expert, both) if b is other else b for b in others])
        values = [value(option) for option in options]
        if options and (len(box) > max_conditions or max(values) >= value(boxes)):
            boxes = options[int(np.argmax(values))]
        else:
            index += 1
    boxes.sort(key=lambda pair: -inside(pair[1]).sum())
    return boxes, right(boxes)


def _join(names, joint):
    if len(names) > _MOST_LABELS:
        names[_MOST_LABELS - 1 :] = [f"{len(names) - _MOST_LABELS + 1} others"]
    return f" {joint} ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
