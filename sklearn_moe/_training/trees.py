"""Boosted trees as a kind of experts: bags of scikit-learn's, stopped by rows they do not see."""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from .._data.statistics import some_rows
from .._data.tables import N_ROWS_MEASURED, draw_rows
from ..nn.trees import TreeArrays
from .estimators import measure_scale, read_kind
from .linear import UNSEEN, scale_output

# By R2 on the first half of the tables: numbers need leaves of fewer rows, and trees that differ.
# For classes scikit-learn's defaults have the lowest log loss there.
_OF_NUMBERS = {"max_leaf_nodes": 15, "min_samples_leaf": 5, "max_features": 0.5}
# Of classes, of a member. Numbers have more trees of shorter steps: the loss is lower by up to 3 %.
_N_TREES = 120
# Trees times rate: a sum of steps that is long enough.
_LENGTH = 30
# Rows that tell whether trees are worth their time where there are many.
_N_PROBE_ROWS = 20_000
# Rows at most as which those of larger weight are repeated.
_MOST_REPEATED = 20_000
# Of a column, as scikit-learn has.
_N_BINS = 255
# Trees times rate where no unseen rows say how many trees are best, nor the options.
_LENGTH_UNSEEN = 5


class _Boosted(NamedTuple):
    """What was found for a column of y by the rows of a bag."""

    # (n_seen,): the classes in the bag, None of numbers.
    classes: np.ndarray | None
    # For each score the trees that are added up, and (n_scores,) what they are added to.
    trees: list[list[TreeArrays]]
    start: np.ndarray


def fit_trees(fit, kind, in_bag, is_worth=None):
    """Fit boosted trees to the rows of each bag; give them to the pool.

    The number of trees is the same for all bags: the one by which the rows outside of the first
    one are predicted best.

    Parameters
    ----------
    fit : Fit
    kind : int
    in_bag : ndarray of shape (n_rows, n_members), bool
    is_worth : callable or None, default=None
        Tells, by outputs of the first member for the rows that it has not seen, whether the others
        are worth their time. If they are not, no trees are kept.

    Returns
    -------
    is_kept : bool
    """
    head, experts = fit.net.criterion_, fit.net.module_.experts[kind]
    table, is_regression = _Table(fit, kind), head.kind == "regression"
    n_trees = fit.plan.budget.n_trees if is_regression else _N_TREES
    options = {"max_iter": n_trees, "learning_rate": _LENGTH / n_trees}
    options |= _OF_NUMBERS if is_regression else {}
    options |= experts.options
    draws = np.random.RandomState(fit.learned._predict_seed)
    seeds = draws.randint(2**31 - 1, size=in_bag.shape[1])
    n_unseen = max(1, round(_LENGTH_UNSEEN / options["learning_rate"]))
    options["n_unseen"] = experts.options.get("max_iter", min(n_unseen, options["max_iter"]))
    models, n_rows, first = [], len(in_bag), in_bag[:, :1]
    if is_worth is not None:
        n_most = np.inf if n_rows <= 2 * _N_PROBE_ROWS else _N_PROBE_ROWS
        models.append(table.boost(head, first[:, 0], options, seeds[0], n_most=n_most))
        table.grow(experts, head, models)
        _set_scale(fit, kind, table, first)
        numbers = table.numbers if table.held_out else table.numbers[~first[:, 0]]
        if not is_worth(_outputs(experts, numbers)):
            table.grow(experts, head, models * in_bag.shape[1], n_best=0)
            return False
        models = models if n_most > n_rows else []
    for bag, seed in [*zip(in_bag.T, seeds, strict=True)][len(models) :]:
        models.append(table.boost(head, bag, options, seed, models))
    table.grow(experts, head, models)
    _set_scale(fit, kind, table, in_bag)
    return True


def _set_scale(fit, kind, table, in_bag):
    """Set the outputs that stand for a scale, if there are any, by rows that are not seen."""
    head, experts = fit.net.criterion_, fit.net.module_.experts[kind]
    if head.kind != "regression" or head.n_outputs == head.n_targets:
        return
    _, y, weight = read_kind(fit.net, kind, fit.validation or fit.rows)
    seen = np.zeros((len(y), in_bag.shape[1]), bool) if table.held_out else in_bag
    members = [
        lambda X, m=m: _outputs(experts, X)[:, m, : head.n_targets].numpy()
        for m in range(in_bag.shape[1])
    ]
    scale = measure_scale(members, table.numbers, y, weight, seen)
    experts.bias[:, head.n_targets :] = torch.from_numpy(scale_output(scale))


def _outputs(experts, X):
    """Return the outputs of all members for rows, (n_rows, n_members, n_outputs)."""
    return experts(torch.from_numpy(X).to(experts.bias.device)).cpu()


class _Table:
    """What trees are fitted to: numbers of bins, (n_rows, n_columns), y and weights.

    Attributes
    ----------
    numbers : ndarray of shape (n_rows, n_columns)
        Of the rows that are held out if there are any, else of all: before they were binned.
    held_out : tuple or None
        X, y and weight of these rows.
    """

    def __init__(self, fit, kind):
        X, y, self.weight = read_kind(fit.net, kind, fit.rows)
        counts = fit.rows.counts()
        self.numbers, self.cuts, self.held_out = X, _find_cuts(X, self.weight), None
        self.X, self.y = _bin(X, self.cuts), y
        if fit.validation is not None:
            self.numbers, *rest = read_kind(fit.net, kind, fit.validation)
            self.held_out = _bin(self.numbers, self.cuts), *rest
        self.rows = np.arange(len(y))
        if fit.rows.is_weighted and not (counts % 1).any() and counts.sum() <= _MOST_REPEATED:
            # Leaves count rows: a row of weight 2 is the row twice.
            self.rows, self.weight = np.repeat(self.rows, counts.astype(int)), np.ones(len(y))

    def boost(self, head, bag, options, seed, before=(), n_most=np.inf):
        """Return the models of each column of y, fitted to the rows of a bag.

        Models of the bags `before` say how many trees are enough. At most `n_most` rows are used.
        """
        rows = self.rows[draw_rows(len(self.rows), n_most)]
        bag = bag[rows]
        parts = [
            (self.X[part], self.y[part], self.weight[part]) for part in (rows[bag], rows[~bag])
        ]
        parts[1] = self.held_out or parts[1]
        columns = [[(X, column, w) for column in np.atleast_2d(y.T)] for X, y, w in parts]
        counts = [_count_best(column) for column in zip(*before, strict=True)]
        columns.append(counts or [None] * len(columns[0]))
        return [_boost(head, *column, options, seed) for column in zip(*columns, strict=True)]

    def grow(self, experts, head, models, n_best=None):
        """Give the trees of all members to the pool.

        Parameters
        ----------
        experts : BoostedTrees
        head : Head
        models : list of list
            For each member those of the columns of y.
        n_best : int or None, default=None
            How many trees. None: for each column, those by which unseen rows are predicted best.
        """
        columns = []
        for column in zip(*models, strict=True):
            n_trees = _count_best(column) if n_best is None else n_best
            columns.append([_read_trees(model, n_trees, self.cuts) for model in column])
        found = [_as_outputs(head, member) for member in zip(*columns, strict=True)]
        trees, mix, bias = zip(*found, strict=True)
        dtype = torch.from_numpy(self.numbers).dtype
        experts.grow(trees, np.stack(mix), np.stack(bias), dtype)


def _find_cuts(X, weight):
    """Return between which values each column is cut, (n_columns, n_bins), infinite beyond.

    scikit-learn would do so for each bag, and for weights in more time than the trees take.
    """
    cuts = np.full((X.shape[1], _N_BINS), np.inf)
    X, weight = some_rows(X, weight, N_ROWS_MEASURED)
    for place, column in enumerate(X.T.astype(float)):
        values, places = np.unique(column, return_inverse=True)
        chosen = np.arange(len(values) - 1)
        if len(chosen) >= _N_BINS:
            total = np.cumsum(np.bincount(places, weight))
            shares = np.linspace(0, total[-1], _N_BINS + 1)[1:-1]
            # Whatever was lost in sums.
            chosen = np.unique(np.searchsorted(total, shares * (1 - 1e-9)))
            chosen = chosen[chosen < len(values) - 1]
        cuts[place, : len(chosen)] = (values[chosen] + values[chosen + 1]) / 2
    return cuts


def _bin(X, cuts):
    """Return the number of the bin of each value."""
    return np.column_stack([np.searchsorted(cut, x) for cut, x in zip(cuts, X.T, strict=True)])


def _boost(head, rows, unseen, n_trees, options, seed):
    """Return the model of a column of y, or what is constant in a bag.

    Without a number of trees unseen rows say how many, or else the options.
    """
    X, y, weight = rows
    make = HistGradientBoostingRegressor
    if head.kind == "regression":
        if not y.any():
            # A bag may also hold no row.
            return np.array([UNSEEN if head.is_rate else 0.0])
        losses = {"nbinom": "poisson", "laplace": "absolute_error"}
        options = options | {"loss": losses.get(head.family, "squared_error")}
    else:
        y, make = y.astype(int), HistGradientBoostingClassifier
        classes = np.unique(y)
        if len(classes) == 1:
            return classes
        known = np.isin(unseen[1], classes)
        unseen = [part[known] for part in unseen]
    # scikit-learn is faster without weights.
    weight, options = weight if np.ptp(weight) else None, dict(options)
    n_unseen = options.pop("n_unseen")
    model = make(random_state=seed, n_iter_no_change=10, tol=0, **options)
    # Rates of 0 alone have no loss by which to stop.
    has_loss = unseen[1].any() if getattr(head, "is_rate", False) else len(unseen[1])
    if n_trees is None and not has_loss:
        n_trees = n_unseen
    if n_trees is not None:
        return model.set_params(early_stopping=False, max_iter=n_trees).fit(X, y, weight)
    X_val, y_val, weight_val = unseen
    weight_val = None if weight is None else weight_val
    model.set_params(early_stopping=True)
    return model.fit(X, y, weight, X_val=X_val, y_val=y_val, sample_weight_val=weight_val)


def _count_best(models):
    """Return by how many trees unseen rows are predicted best, None if none of them say so."""
    stopped = (model for model in models if getattr(model, "do_early_stopping_", False))
    scores = next((model.validation_score_ for model in stopped), None)
    return None if scores is None else max(1, int(np.argmax(scores)))


def _read_trees(model, n_best, cuts):
    """Return the first trees of a model of scikit-learn: here alone stands what it keeps private.

    Parameters
    ----------
    model : fitted HistGradientBoosting model, or an ndarray
        What is constant: the only class, or a logarithm of a rate.
    n_best : int or None
        None: all trees.
    cuts : ndarray of shape (n_columns, n_bins)
    """
    if isinstance(model, np.ndarray):
        is_class = model.dtype.kind == "i"
        return _Boosted(model if is_class else None, [[]], np.zeros(1) if is_class else model)
    scores = zip(*model._predictors[:n_best], strict=True)
    trees = [[_read_tree(part.nodes, cuts) for part in each] for each in scores]
    start = np.ravel(model._baseline_prediction)
    return _Boosted(getattr(model, "classes_", None), trees or [[]] * len(start), start)


def _read_tree(nodes, cuts):
    is_leaf = nodes["is_leaf"].astype(bool)
    feature = np.where(is_leaf, 0, nodes["feature_idx"]).astype(int)
    # Some bins are empty in a bag: thresholds lie between those that are not.
    bins = np.where(is_leaf, 0, nodes["num_threshold"]).astype(int)
    inner = np.flatnonzero(~is_leaf)
    # Both children of a node side by side, in the order of the nodes.
    place = np.zeros(len(nodes), int)
    place[nodes["left"][inner]] = first = 1 + 2 * np.arange(len(inner))
    place[nodes["right"][inner]] = first + 1
    child = place.copy()
    child[inner] = first
    order = np.argsort(place)
    return TreeArrays(
        feature[order],
        np.where(is_leaf, np.inf, cuts[feature, bins])[order],
        child[order],
        np.where(is_leaf, nodes["value"], 0.0)[order],
        int(nodes["depth"].max()),
    )


def _as_outputs(head, columns):
    """Return the trees of each score of a member, and how its outputs follow from the scores.

    Parameters
    ----------
    head : Head
    columns : list of _Boosted
        For each column of y.

    Returns
    -------
    trees : list of list of TreeArrays
    mix : ndarray of shape (n_scores, n_outputs)
    bias : ndarray of shape (n_outputs,)
    """
    if head.kind != "classes":
        mix, bias = np.eye(len(columns), head.n_outputs), np.zeros(head.n_outputs)
        for place, found in enumerate(columns):
            bias[place] = found.start[0]
            if found.classes is not None and len(found.classes) == 1:
                bias[place] = -UNSEEN if found.classes[0] else UNSEEN
        return [found.trees[0] for found in columns], mix, bias
    (found,) = columns
    n_scores = head.n_targets if head.n_targets > 2 else 1
    trees, mix = [[] for _ in range(n_scores)], np.zeros((n_scores, head.n_targets))
    bias = np.full(head.n_targets, UNSEEN)
    if len(found.classes) == 2:
        # What scikit-learn finds is the difference of both logits.
        place, halves = found.classes[1] % n_scores, np.array([-0.5, 0.5])
        trees[place], mix[place, found.classes] = found.trees[0], halves
        bias[found.classes] = halves * found.start
    else:
        # Of two classes a bag may hold one.
        places = found.classes % n_scores
        mix[places, found.classes] = 1.0 if n_scores > 1 else 0.0
        bias[found.classes] = found.start
        for place, of_class in zip(places, found.trees, strict=True):
            trees[place] = of_class
    if head.n_outputs == 1:
        mix, bias = mix[:, 1:] - mix[:, :1], bias[1:] - bias[:1]
    return trees, mix, bias
