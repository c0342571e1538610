"""A greedy tree of linear models: regions to start from, how many there are, and lines of these.

The lines of a leaf are shrunk toward those of the node above. A split is tried by what one step of
Newton's method gains on both sides, so that all of them cost one decomposition of a matrix.
"""

import copy
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.sparse import issparse
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Lasso, LassoCV, LogisticRegression
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from .._compat import move_on
from .._data.router import N_FOLDS, is_clearly_positive
from .._data.tables import draw_rows
from ._defaults import MOST_ROWS, ColumnEncoder
from ._em import MixtureFit, Run, code_samples, complete, predict_all
from ._weighted import Template

# The largest number of leaves, where it is chosen.
_MAX_LEAVES = 6
# A line of more columns takes too long.
_MAX_COLUMNS = 500
# The number of leaves is the best one on average over so many draws of the folds, or by one draw
# if lines have more columns.
_N_DRAWS, _FEW_COLUMNS = 3, 100
# The lines that others are shrunk toward count as so many rows.
_N_ROWS_ABOVE = 30
# Thresholds of a column.
_MAX_CUTS = 15
_ROOT_PENALTIES = (0.1, 1, 4, 16, 64, 256)
# Of a class whose probability is nearly 0 or 1.
_LEAST_CURVATURE = 1e-4


@dataclass(frozen=True)
class TreeDesign:
    """What lines are fitted to."""

    Z: np.ndarray  # (n_samples, n_columns + 1), standardized, the last column is 1
    S: np.ndarray  # (n_samples, n_split_columns), what splits are made by
    categories: list  # the columns of S for the levels of each category, if these are three or more
    y: np.ndarray  # (n_samples, n_outputs), standardized, or zeros and ones of classes
    weight: np.ndarray  # in numbers of rows
    of_classes: bool
    y_mean: float
    y_scale: float

    @classmethod
    def of(cls, problem):
        """Return the design for a table of any columns, None if there are too many."""
        X = problem.X
        if X.shape[1] > _MAX_COLUMNS:
            return None
        X = X.toarray() if issparse(X) else X
        weight = problem.weight
        Z = ColumnEncoder().fit(X, sample_weight=weight).transform(X)
        if Z.shape[1] > _MAX_COLUMNS:
            return None
        of_splits = ColumnEncoder(False, standardize=False, drop="if_binary")
        S = of_splits.fit(X, sample_weight=weight).transform(X)
        Z, S = (part.toarray() if issparse(part) else part for part in (Z, S))
        categories = []
        if of_splits.categories_ is not None:
            code = of_splits.encoder_.named_transformers_["categories"][-1]
            n_levels = np.array([len(levels) for levels in code.categories_])
            ends = np.cumsum(np.where(n_levels == 2, 1, n_levels))
            places = np.arange(S.shape[1])[of_splits.encoder_.output_indices_["categories"]]
            categories = [part for part in np.split(places, ends[:-1]) if len(part) > 1]
        Z = np.pad(Z, [(0, 0), (0, 1)], constant_values=1.0)
        if of_classes := problem.y.dtype.kind == "i":
            y, y_mean, y_scale = np.eye(problem.y.max() + 1)[problem.y], 0.0, 1.0
        else:
            y_mean, y_scale = np.average(problem.y, weights=weight), np.std(problem.y) or 1.0
            y = (problem.y[:, np.newaxis] - y_mean) / y_scale
        return cls(Z, S, categories, y, weight, of_classes, y_mean, y_scale)

    def at(self, rows):
        """Return the design of some samples."""
        return replace(self, **{k: getattr(self, k)[rows] for k in ("Z", "S", "y", "weight")})

    def narrow(self):
        """Return the design with fewer columns than samples: what is penalized alike is rotated."""
        if self.Z.shape[1] <= len(self.Z):
            return self
        left, sizes, _ = np.linalg.svd(self.Z[:, :-1], full_matrices=False)
        return replace(self, Z=np.column_stack([left * sizes, self.Z[:, -1]]))

    def mean(self, values):
        """Return the weighted mean along the first axis."""
        return self.weight @ values / self.weight.sum()

    def log_proba(self, lines):
        """Return the logarithm of the probabilities of classes; of two, lines are of the second."""
        scores = self.Z @ lines.T
        if scores.shape[1] == 1:
            scores = np.column_stack([np.zeros(len(scores)), scores])
        return log_softmax(scores, axis=1)

    def slopes(self, lines):
        """Return the first and second derivatives of minus the losses, of one output at a time."""
        if self.of_classes:
            proba = np.exp(self.log_proba(lines)[:, -len(lines) :])
            curvature = np.maximum(proba * (1 - proba), _LEAST_CURVATURE)
            return zip((self.y[:, -len(lines) :] - proba).T, curvature.T, strict=True)
        return [((self.y - self.Z @ lines.T)[:, 0], np.ones(len(self.y)))]

    def losses(self, lines):
        """Return half the squared error, or the log loss, of each sample."""
        if self.of_classes:
            return -(self.y * self.log_proba(lines)).sum(axis=1)
        return 0.5 * (self.y - self.Z @ lines.T)[:, 0] ** 2

    def in_units(self, lines):
        """Return coefficients of the encoded columns, and intercepts, in the units of y."""
        return lines[..., :-1] * self.y_scale, lines[..., -1] * self.y_scale + self.y_mean

    @property
    def level(self):
        """Return lines without slopes."""
        mean = self.mean(self.y)
        if self.of_classes:
            mean = np.log(mean.clip(min=_LEAST_CURVATURE))
            if len(mean) <= 2:
                mean = mean[1:] - mean[0]
        lines = np.zeros((len(mean), self.Z.shape[1]))
        lines[:, -1] = mean
        return lines

    @property
    def shrinkage(self):
        """Return the penalty of differences to lines that count as so many rows."""
        curvatures = [self.mean(curvature) for _, curvature in self.slopes(self.level)]
        return _N_ROWS_ABOVE * np.mean(curvatures)

    def fit_near(self, start, penalty=None):
        """Return lines that are shrunk toward others, of numbers less if that halves the error.

        The others may hold what a split explains: a jump gives the line above it a slope that the
        lines of neither side have.
        """
        penalty = self.shrinkage if penalty is None else penalty
        if self.of_classes:
            return self.fit(start, penalty)
        [(residual, _)] = self.slopes(start)
        values, vectors = np.linalg.eigh((self.Z.T * self.weight) @ self.Z)
        values = values.clip(min=0)
        slopes = ((self.weight * residual) @ self.Z) @ vectors
        n_rows = self.weight.sum()
        tried = []
        for share in 10.0 ** -np.arange(5):
            step = slopes / (values + share * penalty)
            # What generalized cross-validation minimizes.
            error = self.weight @ residual**2 - step @ (2 * slopes - values * step)
            n_free = (values / (values + share * penalty)).sum()
            tried.append((max(error, 0) / max(n_rows - n_free, 1e-9) ** 2, -share, step))
        best = min(tried, key=lambda score: score[:2])
        step = (best if best[0] < tried[0][0] / 2 else tried[0])[2]
        return start + vectors @ step

    def fit(self, start, penalty=None, n_steps=3):
        """Return lines that are shrunk toward others, of classes by Newton's method."""
        penalty = self.shrinkage if penalty is None else penalty
        lines, before = start, self.weight @ self.losses(start)
        for _ in range(n_steps if self.of_classes else 1):
            step = np.empty_like(lines)
            for k, (residual, curvature) in enumerate(self.slopes(lines)):
                slope = (self.weight * residual) @ self.Z - penalty * (lines - start)[k]
                hessian = (self.Z.T * (self.weight * curvature)) @ self.Z
                hessian[np.diag_indices_from(hessian)] += penalty
                step[k] = np.linalg.solve(hessian, slope)
            # A step that goes too far is halved.
            for _ in range(5):
                moved = lines + step
                change = penalty / 2 * ((moved - start) ** 2).sum()
                after = self.weight @ self.losses(moved) + change
                if after <= before:
                    lines, before = moved, after
                    break
                step = step / 2
        return lines


# -- growing ---------------------------------------------------------------------------------------


class _Leaf(NamedTuple):
    """Samples, their lines, and gain, columns and threshold of the best way to part them."""

    design: TreeDesign
    lines: np.ndarray
    best: tuple | None


class Split(NamedTuple):
    """A leaf that becomes two: it keeps the samples whose sum of some columns is up to `cut`.

    The columns are one of numbers, or those of some levels of a category.
    """

    leaf: int
    columns: tuple
    cut: float
    lines: tuple  # of both

    def is_left(self, S):
        """Tell which samples a leaf keeps."""
        return S[:, self.columns].sum(axis=1) <= self.cut


class SplitColumns(TransformerMixin, BaseEstimator):
    """A column of zeros and ones for each split, in the order of a tree: 1 is its right side.

    Trees of scikit-learn read float32, which does not tell apart what some splits do. A split is
    the numbers of some columns, and what their sum is above on the right side.
    """

    def __init__(self, splits):
        self.splits = splits

    def fit(self, X, y=None):
        """Do nothing."""
        return self

    def transform(self, X):
        """Return the sides, (n_samples, n_splits)."""
        X = X.toarray() if issparse(X) else X
        sides = [X[:, columns].sum(axis=1) > cut for columns, cut in self.splits]
        return np.array(sides).reshape(-1, len(X)).T


def _cuts(values, weight, n_cuts=_MAX_CUTS, low=-np.inf, high=np.inf):
    """Return a few thresholds of a column, with about as many samples between them."""
    is_between = (values > low) & (values <= high)
    distinct, codes = np.unique(values[is_between], return_inverse=True)
    middle = (distinct[1:] + distinct[:-1]) / 2
    if len(middle) <= n_cuts:
        return middle
    below = np.bincount(codes, weight[is_between]).cumsum()
    at = np.searchsorted(below, below[-1] * np.arange(1, n_cuts + 1) / (n_cuts + 1))
    return middle[np.unique(at.clip(max=len(middle) - 1))]


def _best_split(design, lines, columns, cuts, least):
    """Return gain, columns and threshold of the best of some splits, None if there is none.

    Levels of categories are tried in groups, too, if these splits are of all columns.
    """
    weight, penalty = design.weight, design.shrinkage
    scores = []
    for residual, curvature in design.slopes(lines):
        # As if the columns had the same covariances on both sides.
        values, vectors = np.linalg.eigh((design.Z.T * (weight * curvature)) @ design.Z)
        scores.append((values.clip(min=0), (residual[:, np.newaxis] * design.Z) @ vectors))
    options = [((column,), cut) for column, cut in zip(columns, cuts, strict=True)]
    groups = [g for levels in design.categories for g in _group_levels(design, levels, scores)]
    options += [(tuple(group), 0.5) for group in groups]
    of_groups = [design.S[:, group].sum(axis=1) <= 0.5 for group in groups]
    is_left = np.column_stack([design.S[:, columns] <= cuts, *of_groups])
    size = weight @ is_left
    is_large = np.minimum(size, weight.sum() - size) >= least
    if not is_large.any():
        return None
    options = [option for option, large in zip(options, is_large, strict=True) if large]
    is_left = is_left[:, is_large]
    part = (weight[:, np.newaxis] * is_left).T
    share = size[is_large, np.newaxis] / weight.sum()
    gains = np.zeros(len(options))
    for values, score in scores:
        left = part @ score
        for slope, rows in ((left, share), (weight @ score - left, 1 - share)):
            gains += (slope**2 / (rows * values + penalty)).sum(axis=1)
    before = weight @ design.losses(lines)
    splits = []
    # Estimates tell the best ones roughly.
    for place in np.argsort(-gains, kind="stable")[:4]:
        sides = [design.at(side) for side in (is_left[:, place], ~is_left[:, place])]
        after = sum(s.weight @ s.losses(s.fit(lines, penalty, n_steps=1)) for s in sides)
        splits.append((before - after, *options[place]))
    return max(splits)


def _group_levels(design, levels, scores):
    """Return groups of levels whose lines differ most from those of the others.

    These are the first ones in the order of the main direction in which the lines of levels differ.
    """
    is_level = design.S[:, levels] > 0
    size = design.weight @ is_level
    there = np.flatnonzero(size)
    if len(there) < 4:
        return []
    share = size[there, np.newaxis] / design.weight.sum()
    steps = [
        (design.weight * is_level[:, there].T) @ score / np.sqrt(share * values + design.shrinkage)
        for values, score in scores
    ]
    first = np.linalg.svd(np.hstack(steps), full_matrices=False)[0][:, 0]
    order = there[np.argsort(first / np.sqrt(share[:, 0]), kind="stable")]
    return [np.sort(levels[order[:n]]) for n in range(2, len(order) - 1)]


def grow(design, lines, n_leaves, least_share, n_rounds=1):
    """Return the splits of a tree, the best one first.

    Each of `n_rounds` looks for a threshold between the two next to the best one.
    """
    least = max(10, least_share * design.weight.sum())
    # Fewer thresholds where many columns and outputs make too many.
    size = design.S.shape[1] * design.Z.shape[1] * len(lines)
    n_cuts = int(np.clip(250_000 // size, 3, _MAX_CUTS))
    grid = [_cuts(column, design.weight, n_cuts) for column in design.S.T]
    columns = np.repeat(np.arange(len(grid)), [*map(len, grid)])
    cuts = np.concatenate(grid)
    leaves = [_Leaf(design, lines, _best_split(design, lines, columns, cuts, least))]
    splits = []
    while len(leaves) < n_leaves and any(leaf.best for leaf in leaves):
        divisible = [i for i, leaf in enumerate(leaves) if leaf.best]
        place = max(divisible, key=lambda i: leaves[i].best[0])
        part, lines, (_, chosen, cut) = leaves[place]
        near = grid[chosen[0]]
        for _ in range(n_rounds if len(near) > 1 else 0):
            i = np.searchsorted(near, cut)
            low = near[i - 1] if i > 0 else -np.inf
            high = near[i + 1] if i + 1 < len(near) else np.inf
            values = part.S[:, chosen[0]]
            near = np.union1d(_cuts(values, part.weight, low=low, high=high), cut)
            tried = replace(part, categories=[])
            cut = _best_split(tried, lines, np.full(len(near), chosen[0]), near, least)[2]
        move_on()
        split = Split(place, chosen, cut, ())
        is_left = split.is_left(part.S)
        sides = []
        for side in (part.at(is_left), part.at(~is_left)):
            below = side.fit_near(lines)
            sides.append(_Leaf(side, below, _best_split(side, below, columns, cuts, least)))
        splits.append(split._replace(lines=(sides[0].lines, sides[1].lines)))
        leaves[place] = sides[0]
        leaves.append(sides[1])
    return splits


def find_leaves(splits, S):
    """Return the leaf of each sample."""
    leaves = np.zeros(len(S), int)
    for new, split in enumerate(splits, 1):
        leaves[(leaves == split.leaf) & ~split.is_left(S)] = new
    return leaves


def _losses(design, splits, root):
    """Return the loss of each sample by the lines of its leaf."""
    lines = [root]
    for split in splits:
        lines[split.leaf], right = split.lines
        lines.append(right)
    leaves = find_leaves(splits, design.S)
    losses = np.empty(len(leaves))
    for leaf, of_leaf in enumerate(lines):
        losses[leaves == leaf] = design.at(leaves == leaf).losses(of_leaf)
    return losses


# -- the number of leaves, and their groups --------------------------------------------------------


class TreeRegions(NamedTuple):
    """Where lines differ, and the design by which it was found."""

    design: TreeDesign
    root: np.ndarray  # lines of all samples
    folds: np.ndarray  # (n_samples,)
    splits: list
    groups: np.ndarray  # of leaves, (n_samples,)
    scores: np.ndarray | None  # minus the mean held-out loss, for 1, 2, ... leaves


def find_regions(design, n_groups, least_share):
    """Return the regions of a model tree, of so many groups of leaves, or as held-out rows say.

    Leaves are grown greedily. Then those are one group whose common lines are better for rows that
    are held out, or, for a given number, the least worse.
    """
    # Equal samples are in the same fold, which depends neither on the order of the columns nor on
    # their units.
    codes = code_samples(design.y, np.sort(design.Z, axis=1))
    n_codes = codes.max() + 1
    n_draws = _N_DRAWS if design.Z.shape[1] <= _FEW_COLUMNS else 1
    draws = [np.random.RandomState(seed).permutation(n_codes)[codes] for seed in range(n_draws)]
    draws = [draw % min(N_FOLDS, n_codes) for draw in draws]
    folds = draws[0]
    some = draw_rows(len(codes), MOST_ROWS)
    small = design.at(some)
    narrow = small.narrow()
    move_on(0, gate="tree of lines")
    penalty, parts = _fit_roots(narrow, [draw[some] for draw in draws])
    root = design.fit(design.level, penalty)
    n_leaves, scores = 2 * (n_groups or 0), None
    if n_groups is None:
        n_leaves, scores = _choose_leaves(narrow, parts, least_share)
    splits = grow(small, root, n_leaves, least_share, n_rounds=3)
    groups = _merge(design, find_leaves(splits, design.S), root, folds, n_groups)
    return TreeRegions(design, root, folds, splits, groups, scores)


def _fit_roots(design, draws):
    """Return the penalty of the lines of all samples; and what is held out by draws of folds.

    That is for each fold: the samples, their design, that of the others, and the lines of these.
    """
    losses = np.zeros((len(_ROOT_PENALTIES), len(design.y)))
    parts = []
    for is_test in (folds == fold for folds in draws for fold in range(folds.max() + 1)):
        test = design.at(is_test)
        # There may be one fold only.
        train = design if is_test.all() else design.at(~is_test)
        roots = [train.fit(train.level, penalty) for penalty in _ROOT_PENALTIES]
        losses[:, is_test] += [test.losses(lines) for lines in roots]
        parts.append((is_test, test, train, roots))
    best = int(design.mean(losses.T).argmin())
    return _ROOT_PENALTIES[best], [(*part, roots[best]) for *part, roots in parts]


def _choose_leaves(design, parts, least_share):
    """Return the fewest leaves that are not clearly worse than the best number.

    With them come the scores of all numbers of leaves.
    """
    held_out = np.zeros((_MAX_LEAVES, len(design.y)))
    for is_test, test, train, of_train in parts:
        tree = grow(train, of_train, _MAX_LEAVES, least_share)
        sizes = range(_MAX_LEAVES)
        held_out[:, is_test] += [_losses(test, tree[:size], of_train) for size in sizes]
    held_out /= sum(is_test[0] for is_test, *_ in parts)
    means = design.mean(held_out.T)
    worse = held_out - held_out[means.argmin()]
    is_worse = [is_clearly_positive(losses, design.weight, n_errors=1) for losses in worse]
    return 1 + is_worse.index(False), -means


def _fold_losses(design, rows, root, folds, share=1):
    """Return the weighted loss of some samples by lines of the others, 0 of all other samples.

    These lines are shrunk toward those of all samples, by a share of the usual penalty.
    """
    losses = np.zeros(len(rows))
    for fold in range(folds.max() + 1):
        is_test = rows & (folds == fold)
        lines = design.at(rows & (folds != fold)).fit(root, share * design.shrinkage)
        losses[is_test] = design.weight[is_test] * design.at(is_test).losses(lines)
    return losses


def _merge(design, leaves, root, folds, n_groups):
    """Return groups of leaves whose lines are about the same.

    The line of all samples, toward which others are shrunk, may be the slope of a jump between
    leaves. So lines of numbers are shrunk less, where that halves the loss of the groups.
    """
    groups = _merge_shrunk(design, leaves, root, folds, n_groups)
    if design.of_classes:
        return groups

    def loss(groups, share):
        parts = [groups == group for group in range(groups.max() + 1)]
        return np.sum([_fold_losses(design, rows, root, folds, share) for rows in parts])

    share = min((1, 0.1, 0.01, 1e-3, 1e-4), key=lambda share: loss(leaves, share))
    other = _merge_shrunk(design, leaves, root, folds, n_groups, share) if share < 1 else groups
    return other if loss(other, share) < loss(groups, share) / 2 else groups


def _merge_shrunk(design, leaves, root, folds, n_groups, share=1):
    """Return what `_merge` does, by one penalty."""
    parts = [leaves == leaf for leaf in range(leaves.max() + 1)]
    alone = [_fold_losses(design, rows, root, folds, share) for rows in parts]
    while len(parts) > (n_groups or 1):
        tried = []
        for i, k in combinations(range(len(parts)), 2):
            both = _fold_losses(design, parts[i] | parts[k], root, folds, share)
            costs = both - alone[i] - alone[k]
            tried.append((costs.sum(), i, k, costs))
        cost, i, k, costs = min(tried, key=lambda pair: pair[:3])
        # The square of a sum of equal rows is not the sum of their squares.
        if n_groups is None and cost > np.linalg.norm(costs / np.sqrt(design.weight)):
            break
        parts[i], alone[i] = parts[i] | parts[k], alone[i] + alone[k] + costs
        del parts[k], alone[k]
    return np.argmax(parts, axis=0)


def is_curve(regions):
    """Tell whether one rule predicts held-out samples about as well as the lines of the groups.

    It bends and jumps along the numbers that splits are made by, and its slopes change with these
    in proportion: the lines are then pieces of a curve, or of an interaction.
    """
    design, root, folds, splits, groups, _ = regions
    some = draw_rows(len(folds), MOST_ROWS)
    design, folds, groups = design.at(some), folds[some], groups[some]
    columns = [design.Z[:, :-1]]
    # Two values are a category: slopes that differ by one are regimes.
    slopes = np.column_stack([z for z in design.Z.T if len(np.unique(z)) > 2] or [design.Z[:, -1]])
    numbers = {split.columns for split in splits if len(split.columns) == 1}
    for values in (design.S[:, number] for number in numbers):
        values = (values - design.mean(values)) / values.std()
        knots = np.unique(np.quantile(values, np.linspace(0, 1, 9)))[:-1]
        if len(np.unique(values)) > 2:
            columns.append(np.maximum(values - knots, 0))
            if slopes.shape[1] * len(numbers) <= _MAX_COLUMNS:
                columns.append(values * slopes)
    columns += [~split.is_left(design.S)[:, np.newaxis] for split in splits]
    if len(columns) == 1 + len(splits):
        return False
    smooth = replace(design, Z=np.column_stack([*columns, design.Z[:, -1]])).narrow()
    gains = np.zeros(len(folds))
    for is_test, test, _, lines in _fit_roots(smooth, [folds])[1]:
        gains[is_test] = test.losses(lines)
    for group in range(groups.max() + 1):
        gains -= _fold_losses(design, groups == group, root, folds) / design.weight
    return not is_clearly_positive(gains, design.weight, n_errors=2)


# -- the tree as a mixture -------------------------------------------------------------------------


def _fit_lines(regions):
    """Return coefficients and intercept of each group of leaves."""
    design, root, folds, _, groups, _ = regions
    members = [groups == group for group in range(groups.max() + 1)]
    lines = [root]
    if len(members) > 1:
        # The groups are known: the line of all samples counts less than where leaves grow.
        lines = [design.at(rows).fit_near(root, design.shrinkage / 3) for rows in members]
    if not design.of_classes:
        lines = _share_by_lasso(design, root, lines, members, folds)
    return [design.in_units(line) for line in lines]


def _share_by_lasso(design, root, lines, members, folds):
    """Return the lines of groups, refitted by a lasso of what is common and what differs."""
    # A coefficient costs less the larger it is with a ridge penalty (the adaptive lasso).
    factors = np.abs([root, *(line - root for line in lines)])[:, 0]
    # The level is free.
    factors[0, -1] = 0
    is_used = factors > 0.01 * factors.max()
    every = np.stack([np.ones(len(folds), int), *members], axis=1)[:, :, np.newaxis]
    columns = (every * (design.Z[:, np.newaxis] * factors))[:, is_used]
    coef, y = np.zeros(factors.shape), design.y[:, 0]
    [level] = design.mean(design.y)
    if is_used.any():
        slopes = (design.weight * (y - level)) @ (columns - design.mean(columns))
        largest = np.abs(slopes).max() / design.weight.sum()
        alphas = largest * np.geomspace(1, 1e-4, 40)
        # Without a state of its own the lasso would draw from the global generator.
        options = {"max_iter": 100_000, "tol": 1e-5, "random_state": 0}
        lasso = LassoCV(alphas=alphas, cv=PredefinedSplit(folds), **options)
        lasso.fit(columns, y, design.weight)
        coef[is_used] = lasso.coef_ * factors[is_used]
        level = lasso.intercept_
    coef[0, -1] = level
    return [coef[0] + difference for difference in coef[1:]]


def fit_tree(problem, design):
    """Return the fit of the mixture that a model tree is, the table of its leaves, and a doubt."""
    regions = find_regions(design, None, problem.min_prior)
    n_columns = design.Z.shape[1] - 1
    if design.of_classes:
        classes = problem.family.classes
        expert = LogisticRegression(max_iter=1000)
        expert.fit(np.zeros((len(classes), n_columns)), classes)
    else:
        expert = Lasso(random_state=0).fit(np.zeros((2, n_columns)), [0.0, 1.0])
    experts = []
    for coef, intercept in _fit_lines(regions):
        experts.append(copy.copy(expert))
        experts[-1].coef_ = coef
        experts[-1].intercept_ = intercept
    parts = problem.X, problem.target, problem.weight
    template = Template(make_pipeline(ColumnEncoder(), expert), *parts)
    encoder = ColumnEncoder(add_indicator=False, standardize=False, drop="if_binary")
    tree = DecisionTreeClassifier(criterion="log_loss", random_state=0)
    splits = [([*map(int, split.columns)], float(split.cut)) for split in regions.splits]
    gate = make_pipeline(encoder, make_pipeline(SplitColumns(splits), tree))
    problem = replace(problem, experts=(template,) * len(experts), gate=Template(gate, *parts))
    components = np.arange(len(experts))
    shares = np.eye(len(experts))[regions.groups]
    predictions = predict_all(problem, components, experts)
    fitted = complete(problem, experts, predictions, shares, problem.gate.draw(0))
    model, responsibilities, log_density = fitted
    likelihood = float(problem.weight @ log_density)
    bounds = (likelihood / problem.weight.sum(),)
    run = Run(components, responsibilities, model, likelihood, bounds, converged=True)
    held_out = regions.scores.tolist()
    table = {"n_leaves": [*range(1, len(held_out) + 1)], "held_out": held_out}
    doubt = ""
    if len(experts) > 1 and is_curve(regions):
        rule = "one rule that bends or jumps is as good"
        doubt = f"A curve in {len(experts)} lines: {rule}, no regimes found."
    return MixtureFit(problem, run), table, doubt
