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
from sklearn.linear_model import Lasso, LassoCV, LogisticRegression
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from .._data.router import is_clearly_positive
from .._data.rows import draw_rows
from .._data.validation import unit_of
from ._defaults import TableEncoder, encoded
from ._em import Run, code_samples, maximize, posterior
from ._newton import without_slopes
from ._weighted import Template

_MOST_LEAVES = 6  # whose number is chosen
_MOST_COLUMNS = 500  # a line with more is too slow
_MOST_ROWS = 10_000  # that a tree is grown on
_N_FOLDS = 5
_AGREEMENT = 0.9  # of the trees of folds, where the number of leaves is to be stable
_N_CUTS, _FEWEST_CUTS = 15, 3  # of a column
_MOST_TRIED = 5000  # cuts times outputs
_N_CLOSER = 3  # rounds, each between the two cuts next to the best one
_N_EXACT = 4  # splits that are tried exactly
_LEAST_ROWS = 10  # of a leaf
_SHRINKAGES = 30, 4  # rows, as which the line of the node above counts
_OF_GROUPS = 1, 4, 16, 64  # and that of all samples in the lines that are kept
_ROOT_PENALTIES = (0.1, 1, 4, 16, 64, 256)
_LEAST_CURVATURE = 1e-4  # of a class whose probability is nearly 0 or 1
_N_STEPS, _N_HALVINGS = 3, 5
_ALPHAS = 1e-4, 40  # the least one of the lasso, relative to the largest, and their number
_LEAST_FACTOR = 0.01  # of a column: that of a smaller difference is left out
_LASSO = {"max_iter": 100_000, "tol": 1e-3, "random_state": 0}  # without it a global one is used


@dataclass(frozen=True)
class Table:
    """What lines are fitted to."""

    Z: np.ndarray  # (n_samples, n_columns + 1); the last column is 1
    S: np.ndarray  # (n_samples, n_split_columns)
    y: np.ndarray  # (n_samples, n_outputs): a number in its deviations, or ones of classes
    weight: np.ndarray
    of_classes: bool
    units: tuple  # means and deviations of what became Z, and the deviation of y
    rows: float = _SHRINKAGES[0]  # as which the lines count that others are shrunk toward

    @classmethod
    def of(cls, X, y, weight):
        """Return the table of any columns, None if there are too many; classes are codes."""
        if X.shape[1] > _MOST_COLUMNS:
            return None
        X, weight = X.toarray() if issparse(X) else X, weight / unit_of(weight)
        Z, of_classes = TableEncoder().fit_transform(X), y.dtype.kind == "i"
        if Z.shape[1] > _MOST_COLUMNS:
            return None
        S = TableEncoder(False, standardize=False, drop="if_binary").fit_transform(X)
        is_number = ~((Z == 0) | (Z == 1)).all(axis=0)  # standardized, but without the weights
        center = np.where(is_number, np.average(Z, axis=0, weights=weight), 0)
        deviations = np.sqrt(np.average((Z - center) ** 2, axis=0, weights=weight))
        y_scale = 1.0 if of_classes else np.std(y)
        units = center, np.where(is_number & (deviations > 0), deviations, 1), y_scale or 1.0
        Z = np.pad((Z - center) / units[1], [(0, 0), (0, 1)], constant_values=1.0)
        y = np.eye(y.max() + 1)[y] if of_classes else y[:, np.newaxis] / units[2]
        return cls(Z, S, y, weight, of_classes, units)

    def at(self, rows):
        """Return the table of some samples."""
        return replace(self, **{k: getattr(self, k)[rows] for k in ("Z", "S", "y", "weight")})

    def mean(self, values):
        """Return the weighted mean along the first axis."""
        return self.weight @ values / self.weight.sum()

    def log_proba(self, lines):
        """Return the logarithm of the probabilities of classes; of two, lines are of the second."""
        scores = self.Z @ lines.T
        if scores.shape[1] == 1:  # SciPy's functions take longer than small tables do
            scores = np.column_stack([np.zeros(len(scores)), scores])
        scores -= scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

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
        """Return coefficients of the encoded columns as they were, and intercepts."""
        center, scale, y_scale = self.units
        coef = lines[..., :-1] / scale * y_scale
        return coef, lines[..., -1] * y_scale - coef @ center

    @property
    def level(self):
        """Return lines without slopes."""
        mean = self.mean(self.y)
        if self.of_classes:
            mean = np.log(mean.clip(min=_LEAST_CURVATURE))
            mean = mean if len(mean) > 2 else mean[1:] - mean[0]
        lines = np.zeros((len(mean), self.Z.shape[1]))
        lines[:, -1] = mean
        return lines

    @property
    def shrinkage(self):
        """Return the penalty of differences to lines that count as so many rows."""
        return self.rows * np.mean([self.mean(curve) for _, curve in self.slopes(self.level)])

    def fit(self, start, penalty=None, n_steps=None):
        """Return lines that are shrunk toward others."""
        penalty = self.shrinkage if penalty is None else penalty
        lines, before = start, self.weight @ self.losses(start)
        for _ in range(n_steps or (_N_STEPS if self.of_classes else 1)):
            step = np.empty_like(lines)
            for k, (residual, curve) in enumerate(self.slopes(lines)):
                slope = (self.weight * residual) @ self.Z - penalty * (lines - start)[k]
                hessian = (self.Z.T * (self.weight * curve)) @ self.Z
                hessian[np.diag_indices_from(hessian)] += penalty
                step[k] = np.linalg.solve(hessian, slope)
            for _ in range(_N_HALVINGS):
                moved = lines + step
                change = penalty / 2 * ((moved - start) ** 2).sum()
                if (after := self.weight @ self.losses(moved) + change) <= before:
                    lines, before = moved, after
                    break
                step = step / 2
        return lines


class Split(NamedTuple):
    """A leaf that becomes two: it keeps the samples up to the threshold."""

    leaf: int
    column: int
    cut: float
    lines: tuple  # of both


def _cuts(values, weight, most=_N_CUTS, low=-np.inf, high=np.inf):
    """Return a few thresholds of a column, with about as many samples between them."""
    is_between = (values > low) & (values <= high)
    distinct, codes = np.unique(values[is_between], return_inverse=True)
    middle = (distinct[1:] + distinct[:-1]) / 2
    if len(middle) <= most:
        return middle
    below = np.bincount(codes, weight[is_between]).cumsum()
    at = np.searchsorted(below, below[-1] * np.arange(1, most + 1) / (most + 1))
    return middle[np.unique(at.clip(max=len(middle) - 1))]


def _best_split(table, lines, columns, cuts, least):
    """Return gain, column and threshold of the best of some splits, None if there is none."""
    weight, penalty = table.weight, table.shrinkage
    is_left = table.S[:, columns] <= cuts
    size = weight @ is_left
    is_large = np.minimum(size, weight.sum() - size) >= least
    if not is_large.any():
        return None
    columns, cuts, is_left = columns[is_large], cuts[is_large], is_left[:, is_large]
    part, share = (weight[:, np.newaxis] * is_left).T, size[is_large, np.newaxis] / weight.sum()
    gains = np.zeros(len(cuts))
    for residual, curve in table.slopes(lines):
        # As if the columns had the same covariances on both sides.
        values, vectors = np.linalg.eigh((table.Z.T * (weight * curve)) @ table.Z)
        scores = (residual[:, np.newaxis] * table.Z) @ vectors
        left = part @ scores
        for slope, rows in ((left, share), (weight @ scores - left, 1 - share)):
            gains += (slope**2 / (rows * values.clip(min=0) + penalty)).sum(axis=1)
    before, found = weight @ table.losses(lines), []
    for place in np.argsort(-gains, kind="stable")[:_N_EXACT]:
        sides = [table.at(side) for side in (is_left[:, place], ~is_left[:, place])]
        after = sum(s.weight @ s.losses(s.fit(lines, penalty, n_steps=1)) for s in sides)
        found.append((before - after, int(columns[place]), float(cuts[place])))
    return max(found)


def grow(table, lines, n_leaves, least_share, closer=False):
    """Return the splits of a tree, the best one first; `closer` looks for exact thresholds."""
    least = max(_LEAST_ROWS, least_share * table.weight.sum())
    most = _MOST_TRIED // (table.S.shape[1] * len(lines))
    most = min(max(most, _FEWEST_CUTS), _N_CUTS)
    grid = [_cuts(column, table.weight, most) for column in table.S.T]
    columns, cuts = np.repeat(np.arange(len(grid)), [*map(len, grid)]), np.concatenate(grid)
    leaves, splits = [(table, lines, _best_split(table, lines, columns, cuts, least))], []
    while len(leaves) < n_leaves and any(leaf[2] for leaf in leaves):
        place = max((i for i, leaf in enumerate(leaves) if leaf[2]), key=lambda i: leaves[i][2][0])
        there, above, best = leaves[place]
        near = grid[best[1]]
        for _ in range(_N_CLOSER if closer else 0):
            i = np.searchsorted(near, best[2])
            ends = [*near[i - 1 : i], -np.inf][0], [*near[i + 1 : i + 2], np.inf][0]
            near = _cuts(there.S[:, best[1]], there.weight, _N_CUTS, *ends)
            near = np.union1d(near, best[2])
            best = _best_split(there, above, np.full(len(near), best[1]), near, least)
        is_left = there.S[:, best[1]] <= best[2]
        new = []
        for part in (there.at(is_left), there.at(~is_left)):
            below = part.fit(above)
            new.append((part, below, _best_split(part, below, columns, cuts, least)))
        splits.append(Split(place, *best[1:], (new[0][1], new[1][1])))
        leaves[place] = new[0]
        leaves.append(new[1])
    return splits


def find_leaves(splits, S):
    """Return the leaf of each sample."""
    leaves = np.zeros(len(S), int)
    for new, split in enumerate(splits, 1):
        leaves[(leaves == split.leaf) & (S[:, split.column] > split.cut)] = new
    return leaves


def _losses(table, splits, root):
    """Return the loss of each sample by the lines of its leaf."""
    lines, leaves, losses = [root], find_leaves(splits, table.S), np.empty(len(table.Z))
    for split in splits:
        lines[split.leaf] = split.lines[0]
        lines.append(split.lines[1])
    for leaf, of_leaf in enumerate(lines):
        losses[leaves == leaf] = table.at(leaves == leaf).losses(of_leaf)
    return losses


def _agreement(table, whole, trees, size):
    """Return the mean adjusted Rand index of the leaves of trees with those of the first."""
    leaves, scores = find_leaves(whole[:size], table.S), []
    for tree in trees:  # scikit-learn's function has no weights
        counts = np.zeros((size + 1, size + 1))
        np.add.at(counts, (leaves, find_leaves(tree[:size], table.S)), table.weight)
        parts = counts, counts.sum(axis=0), counts.sum(axis=1), counts.sum()
        both, first, second, every = ((n * (n - 1)).sum() for n in parts)
        chance, most = first * second / max(every, 1), (first + second) / 2
        scores.append((both - chance) / (most - chance) if most > chance else 1.0)
    return float(np.mean(scores))


def _fold_losses(table, rows, root, folds):
    """Return the weighted loss of some samples by lines of the others, 0 of all other samples.

    These lines are shrunk toward those of all samples.
    """
    losses = np.zeros(len(rows))
    for fold in range(folds.max() + 1):
        test = table.at(rows & (folds == fold))
        lines = table.at(rows & (folds != fold)).fit(root, table.shrinkage)
        losses[rows & (folds == fold)] = test.weight * test.losses(lines)
    return losses


class Regions(NamedTuple):
    """Where lines differ, and the table in which it was found."""

    table: Table
    root: np.ndarray  # lines of all samples
    folds: np.ndarray  # (n_samples,)
    groups: np.ndarray  # of leaves, (n_samples,)
    scores: np.ndarray  # minus the mean held-out loss, for 1, 2, ... leaves
    agreement: np.ndarray  # of as many leaves of the folds with those of all samples

    def lines(self):
        """Return the lines of each group: of numbers by a lasso of what is common and differs."""
        table, root = self.table, self.root
        members = [self.groups == group for group in range(self.groups.max() + 1)]
        own = [root]
        if len(members) > 1:
            tables = [replace(table, rows=rows) for rows in _OF_GROUPS]
            losses = [
                sum(_fold_losses(t, r, root, self.folds).sum() for r in members) for t in tables
            ]
            best = tables[int(np.argmin(losses))]
            own = [table.at(rows).fit(root, best.shrinkage) for rows in members]
        if table.of_classes:
            return [table.in_units(lines) for lines in own]
        # A coefficient costs less the larger it is with a ridge penalty (the adaptive lasso).
        factors = np.abs([root, *(lines - root for lines in own)])[:, 0]
        factors[0, -1] = 0  # the level is free
        is_used = factors > _LEAST_FACTOR * factors.max()
        every = np.stack([np.ones_like(self.groups), *members], axis=1)[:, :, np.newaxis]
        design = (every * (table.Z[:, np.newaxis] * factors))[:, is_used]
        coef, y, level = np.zeros(factors.shape), table.y[:, 0], table.level[0, -1]
        if is_used.any():
            slopes = (table.weight * (y - level)) @ (design - table.mean(design))
            alphas = np.abs(slopes).max() / table.weight.sum() * np.geomspace(1, *_ALPHAS)
            lasso = LassoCV(alphas=alphas, cv=PredefinedSplit(self.folds), **_LASSO)
            lasso.fit(design, y, table.weight)
            coef[is_used], level = lasso.coef_ * factors[is_used], lasso.intercept_
        coef[0, -1] = level
        return [table.in_units(coef[0] + difference) for difference in coef[1:]]


def find_regions(table, n_groups, least_share, is_stable=False):
    """Return the regions of a model tree, of so many groups of leaves, or as held-out rows say.

    Leaves are grown greedily. Then those are one group whose common lines are better for rows that
    are held out, or, for a given number, the least worse. With `is_stable` the trees of the folds
    have to part the samples as that of all does.
    """
    codes = code_samples(table.S, table.y)
    n_codes = codes.max() + 1  # equal samples are in the same fold
    folds = np.random.RandomState(0).permutation(n_codes)[codes] % min(_N_FOLDS, n_codes)
    some = draw_rows(len(codes), _MOST_ROWS)
    small, tests = table.at(some), [folds[some] == fold for fold in range(folds.max() + 1)]
    trains = [small.at(~test) if len(tests) > 1 else small for test in tests]
    held_out = np.empty((len(_ROOT_PENALTIES), len(some)))
    roots = [[t.fit(t.level, penalty) for penalty in _ROOT_PENALTIES] for t in trains]
    for test, of_fold in zip(tests, roots, strict=True):
        held_out[:, test] = [small.at(test).losses(lines) for lines in of_fold]
    best = int(small.mean(held_out.T).argmin())
    root = table.fit(table.level, _ROOT_PENALTIES[best])
    n_leaves, rows, scores, agreement = 2 * (n_groups or 0), _SHRINKAGES[0], None, None
    if n_groups is None:  # the fewest that are not clearly worse than the best
        held_out, trees = np.empty((len(_SHRINKAGES), _MOST_LEAVES, len(some))), []
        for rows, losses in zip(_SHRINKAGES, held_out, strict=True):
            trees.append([])
            for train, test, of_fold in zip(trains, tests, roots, strict=True):
                there = replace(train, rows=rows)
                trees[-1].append(grow(there, of_fold[best], _MOST_LEAVES, least_share))
                for size in range(_MOST_LEAVES):
                    splits = trees[-1][-1][:size]
                    losses[size, test] = _losses(small.at(test), splits, of_fold[best])
        means = held_out @ small.weight / small.weight.sum()
        k = int(means.min(axis=1).argmin())
        rows, losses, means = _SHRINKAGES[k], held_out[k], means[k]
        whole = grow(replace(small, rows=rows), root, _MOST_LEAVES, least_share)
        agreement = np.array([_agreement(small, whole, trees[k], n) for n in range(_MOST_LEAVES)])
        is_allowed = np.minimum.accumulate(agreement) > (_AGREEMENT if is_stable else -1)
        place = np.where(is_allowed, means, np.inf).argmin()
        worse = losses - losses[place]
        is_close = [not is_clearly_positive(one, small.weight, n_errors=1) for one in worse]
        n_leaves, scores = 1 + int((is_allowed & is_close).argmax()), -means
    table, small = (replace(t, rows=rows) for t in (table, small))
    splits = grow(small, root, n_leaves, least_share, True)
    groups = _merge(table, find_leaves(splits, table.S), root, folds, n_groups)
    return Regions(table, root, folds, groups, scores, agreement)


def _merge(table, leaves, root, folds, n_groups):
    """Return groups of leaves whose lines are about the same."""
    parts = [leaves == leaf for leaf in range(leaves.max() + 1)]
    alone = [_fold_losses(table, rows, root, folds) for rows in parts]
    while len(parts) > (n_groups or 1):
        tried = []
        for i, k in combinations(range(len(parts)), 2):
            costs = _fold_losses(table, parts[i] | parts[k], root, folds) - alone[i] - alone[k]
            tried.append((costs.sum(), i, k, costs))
        cost, i, k, costs = min(tried, key=lambda pair: pair[:3])
        if n_groups is None and cost > np.linalg.norm(costs):
            break
        parts[i], alone[i] = parts[i] | parts[k], alone[i] + alone[k] + costs
        del parts[k], alone[k]
    return np.argmax(parts, axis=0)


def fit_tree(problem, X, table, is_stable):
    """Return problem and run of the mixture that a model tree is, and the table of its leaves."""
    regions = find_regions(table, None, problem.min_prior, is_stable)
    lines, n_columns = regions.lines(), table.Z.shape[1] - 1
    if table.of_classes:
        expert = without_slopes(LogisticRegression(max_iter=1000), table.Z[:, :-1], problem.target)
    else:
        expert = Lasso(random_state=0).fit(np.zeros((2, n_columns)), [0.0, 1.0])
    experts = []
    for line in lines:
        experts.append(copy.copy(expert))
        experts[-1].coef_, experts[-1].intercept_ = line
    gate = encoded(DecisionTreeClassifier(criterion="log_loss", random_state=0), X)
    problem = replace(
        problem,
        experts=(Template(make_pipeline(TableEncoder(), expert), X, problem.target),) * len(lines),
        gate=Template(gate, X, problem.target),
    )
    shares = np.eye(len(lines))[regions.groups]
    model, joint = maximize(problem, np.arange(len(lines)), shares, 0, experts=experts)
    responsibilities, log_density = posterior(joint)
    likelihood = float(problem.weight @ log_density)
    bounds = (likelihood / problem.weight.sum(),)
    run = Run(0, np.arange(len(lines)), responsibilities, model, likelihood, bounds, True)
    scores = regions.scores
    if not table.of_classes:  # half a mean square is what they are minus of
        variances = np.maximum(-2 * scores, np.finfo(float).tiny)
        scores = -0.5 * np.log(2 * np.pi * np.e * variances) - np.log(table.units[2])
    n_leaves = [*range(1, len(scores) + 1)]
    selection = {"n_leaves": n_leaves, "held_out": scores.tolist()}
    return problem, run, selection | {"agreement": regions.agreement.tolist()}
