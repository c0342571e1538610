"""Regimes of a table: linear rules that hold in regions, as one kind of experts of a pool.

Where rules are linear, the gradient of trained networks is about the same all over a region. A
small tree finds such regions; the categories of a column are others. From the best of these starts
expectation maximization (EM) of linear experts behind a linear gate.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.tree import DecisionTreeRegressor

from .._data.em import Run, climb
from .._data.indexing import draw_rows
from ..nn.heads import SoftmaxHead, SquaredErrorHead
from .out_of_bag import Rules

# Regimes are sought in a part of more rows, and not at all in fewer.
_MAX_ROWS = 2000
_MIN_ROWS = 200
_MIN_ROWS_PER_COLUMN = 20
# Gradients take longest: they are computed at about so many rows.
_N_GRADIENTS = 1000
# To begin with: EM drops regimes of few rows, then the likelihood merges others.
_MAX_REGIMES = 8
# Responsibility of the region of a row, in the beginning.
_CERTAIN = 0.9
# Steps of EM, and of the gate, and of experts without a closed form, in each of them.
_FIRST = (1, 5)
_SHORT = (5, 5)
_LONG = (50, 15)
_FULL = (50, 30)
# EM ends if the log-likelihood of a row gains less.
_TOLERANCE = 1e-4
# The first steps need not find all that the pool gains over one rule.
_SLACK_AT_FIRST = 0.5
_SLACK_AFTER_MERGING = 0.15
# Of a coefficient, in log-likelihood: more than Akaike's 1, less than that of Bayes.
_PRICE = 2
_RIDGE = 1.0
# Small: borders may be sharp, and are where errors are.
_GATE_PENALTY = 3e-4
# Of the noise, in variances of y.
_LEAST_VARIANCE = 1e-6
# A score that disables an expert; that of the first regime is 0.
_NEVER = -1e3


def seek_regimes(net, kind, rows, folds, losses):
    """Return linear rules of regions in place of a single one.

    Parameters
    ----------
    net : MoENet
        Its networks are trained.
    kind : int
        Of linear experts. Those beyond the regimes become copies of the largest one that the gate
        never uses.
    rows : Rows
        What the networks were trained on.
    folds : ndarray of shape (n_rows,), int
        Equal rows are in the same fold; -1 are in none.
    losses : sequence of two floats
        Mean loss of the pool without regimes, and of a single rule, on rows that are new to them.

    Returns
    -------
    rules : list of Rules or None
        The first one is fitted to all rows, the others without those of each fold, if there are
        folds. None if their likelihood, less a price for each coefficient, is no better than that
        of the pool, or if the criterion of Bayes says that there is one.
    """
    pool = net.module_.experts
    n_members = len(pool.kinds[kind])
    columns = pool.columns[kind]
    table, encoded, folds = open_design(net, lambda x: x[:, columns], rows, folds)
    if table.weight.sum() < max(_MIN_ROWS, _MIN_ROWS_PER_COLUMN * table.Z.shape[1]):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        best = _find_mixture(table, list(_first_regions(net, encoded, table)), losses, n_members)
        if best is None:
            return None
        others = [_fit_others(table, best, folds != fold) for fold in range(folds.max() + 1)]
    return [_rules_of(mixture, n_members) for mixture in (best, *others)]


def open_design(net, columns, rows, folds):
    """Return some rows as a table, encoded rows, and their folds.

    Experts read what the function `columns` makes of encoded rows.
    """
    head, folds = net.criterion_, folds[draw_rows(len(rows.y), _MAX_ROWS)]
    rows = rows.sample(_MAX_ROWS, torch.device(net.device))
    encoded = net.module_.encode(net.as_input(rows.x))
    y = rows.y
    if head.kind == "classes":
        y = torch.nn.functional.one_hot(y, head.n_targets)
    table = _Design(
        _MODELS[type(head)],
        with_one(columns(encoded)),
        with_one(encoded[:, net.module_.experts.router_columns]),
        _numpy(y).T.copy(),
        _numpy(rows.weight),
    )
    return table, encoded, folds


class _Design(NamedTuple):
    """What regimes are sought in; the last of the columns is 1."""

    model: "_Model"
    Z: np.ndarray  # (n_rows, n_columns + 1), what experts read
    G: np.ndarray  # (n_rows, n_router_columns + 1), what the gate reads
    y: np.ndarray  # (n_targets, n_rows), standardized, or zeros and ones of classes
    weight: np.ndarray  # (n_rows,)


class _Mixture(NamedTuple):
    """Linear experts behind a linear gate, both with the intercept as the last coefficient."""

    gate: np.ndarray  # (n_regimes, n_router_columns + 1)
    lines: np.ndarray  # (n_regimes, n_targets, n_columns + 1)
    responsibilities: np.ndarray  # (n_regimes, n_rows)
    log_likelihood: float = -np.inf  # the mean over the rows

    def criterion(self, table, price):
        """Return the negative log-likelihood of a row, with a price for each coefficient."""
        # One of the classes needs no line.
        n_targets = self.lines.shape[1] - (table.model is _CLASSES)
        n_coef = self.gate[1:].size + len(self.lines) * n_targets * self.lines.shape[2]
        return price * n_coef / table.weight.sum() - self.log_likelihood


def with_one(values):
    """Return encoded rows in float64, with a last column of 1."""
    return np.pad(_numpy(values), [(0, 0), (0, 1)], constant_values=1)


def _numpy(values):
    return values.cpu().double().numpy()


# -- experts of numbers and of classes ----------------------------------------------------


class _Model(NamedTuple):
    """What an expert says of y."""

    fit: Callable  # (table, shares, lines to start from, number of steps) -> lines
    losses: Callable  # (table, lines) -> (n_regimes, n_rows)
    # From losses, shares and the number of targets.
    negative_log_density: Callable
    # From the mean loss of a head and the number of targets to that of a row.
    loss_in_nats: Callable


def _fit_lines(table, shares, lines, n_steps):
    """Return the coefficients of ridge regressions, whose intercept is next to free."""
    penalty = np.diag(_penalty(table.Z.shape[1]))
    weighted = [table.Z.T * share for share in shares]
    return np.stack([np.linalg.solve(z @ table.Z + penalty, z @ table.y.T).T for z in weighted])


def _squared_errors(table, lines):
    return np.square(table.y - lines @ table.Z.T).sum(axis=1)


def _normal_density(squares, shares, n_targets):
    """Return minus the logarithm of normal densities, of one variance for all regimes."""
    variance = (shares * squares).sum() / shares.sum() / n_targets
    variance = max(variance, _LEAST_VARIANCE)
    return (squares / variance + n_targets * np.log(2 * np.pi * variance)) / 2


def _normal_loss(loss, n_targets):
    """Return minus the mean log density, of a loss that is half a mean square."""
    return n_targets * np.log(4 * np.pi * np.e * max(loss, _LEAST_VARIANCE)) / 2


def _fit_logistic(table, shares, lines, n_steps):
    """Return the coefficients of logistic regressions."""
    each = shares[:, np.newaxis] * table.y
    return _fit_logits(table.Z, each, lines, _penalty(table.Z.shape[1]), n_steps)


def _cross_entropies(table, lines):
    return -(table.y * _log_softmax(lines @ table.Z.T)).sum(axis=1)


def _penalty(n_columns):
    return np.append(np.full(n_columns - 1, _RIDGE), 1e-6)


_NUMBERS = _Model(_fit_lines, _squared_errors, _normal_density, _normal_loss)
_CLASSES = _Model(_fit_logistic, _cross_entropies, lambda losses, *_: losses, lambda loss, _: loss)
_MODELS = {SquaredErrorHead: _NUMBERS, SoftmaxHead: _CLASSES}


def _fit_logits(Z, shares, coef, penalty, max_iter):
    """Return the coefficients of multinomial logistic regressions on shares in place of classes.

    Of all regimes at once: shares are (n_regimes, n_classes, n_rows), coefficients (n_regimes,
    n_classes, n_columns). scikit-learn takes one class per row, and would need every row once per
    class.
    """
    total = shares.sum(axis=1, keepdims=True)

    def loss(flat):
        coef = flat.reshape(*shares.shape[:2], -1)
        log_proba = _log_softmax(coef @ Z.T)
        value = (penalty * np.square(coef)).sum() / 2 - np.vdot(shares, log_proba)
        gradient = (np.exp(log_proba) * total - shares) @ Z + penalty * coef
        return value, gradient.ravel()

    options = {"maxiter": max_iter}
    best = minimize(loss, coef.ravel(), jac=True, method="L-BFGS-B", options=options)
    return best.x.reshape(coef.shape)


def _log_softmax(scores):
    """Return the logarithm of the softmax over the last axis but one."""
    return scores - _log_sum(scores)


def _log_sum(values):
    """Return log(sum(exp(values))) over the last axis but one, sooner than SciPy does."""
    highest = values.max(axis=-2, keepdims=True)
    return highest + np.log(np.exp(values - highest).sum(axis=-2, keepdims=True))


# -- where they may be --------------------------------------------------------------------


def _first_regions(net, encoded, table):
    """Yield mixtures to start from: a tree of the gradients, and the best column of categories."""
    few = slice(None, None, 1 + (len(table.Z) - 1) // _N_GRADIENTS)
    slopes = _linear_functions(net, encoded[few], table.Z[few])
    if slopes is not None:
        tree = DecisionTreeRegressor(
            max_leaf_nodes=_MAX_REGIMES,
            min_weight_fraction_leaf=min(0.5, table.Z.shape[1] / table.weight.sum()),
            random_state=0,
        )
        tree.fit(table.Z[few], slopes, table.weight[few])
        yield _start_of(tree.apply(table.Z), table)
    encoder = net.module_.encoder
    is_one = encoded[:, encoder.columns["linear"]][:, len(encoder.with_missing) :].cpu().numpy()
    mixtures = []
    for first, n in zip(encoder.first.tolist(), encoder.n_categories.tolist(), strict=True):
        if n <= _MAX_REGIMES:
            # Missing values have the region 0.
            regions = is_one[:, first : first + n] @ np.arange(1, n + 1)
            if len(np.unique(regions)) > 1:
                mixtures.append(_fit_mixture(table, _start_of(regions, table), *_FIRST))
    if mixtures:
        yield max(mixtures, key=lambda mixture: mixture.log_likelihood)


def _linear_functions(net, encoded, Z):
    """Return the linear function that the networks are at each row, None if there are none.

    It has the gradient of the mean of their outputs as its coefficients, and an intercept, of each
    target one after the other. Networks on pieces of the columns are left out: they have another
    gradient in each piece.
    """
    encoder, pool = net.module_.encoder, net.module_.experts
    bounded = encoder.columns["bounded"]
    networks = [kind for kind, columns in enumerate(pool.columns) if columns == bounded]
    if not networks:
        return None
    encoded = encoded.detach().requires_grad_()
    with torch.enable_grad():
        outputs = torch.cat([pool.outputs_of(kind, encoded) for kind in networks], 1).mean(1)
        # What is added to all logits has no effect.
        if net.criterion_.kind == "classes":
            outputs = outputs[:, 1:] - outputs.mean(1, keepdim=True)
        gradients = [
            torch.autograd.grad(output.sum(), encoded, retain_graph=True)[0][:, bounded]
            for output in outputs.unbind(1)
        ]
    # Times the slope of z / sqrt(1 + (z / 3)^2) for numbers z, which are the last columns of Z.
    n_numeric = len(encoder.numeric)
    z = _numpy(encoded.detach())[:, encoded.shape[1] - n_numeric :]
    of_z = _numpy(encoded[:, bounded].detach())[:, :n_numeric]
    slope = np.divide(of_z, z, out=np.ones_like(z), where=np.abs(z) > 1e-3) ** 3
    functions = []
    for gradient, output in zip(map(_numpy, gradients), outputs.detach().unbind(1), strict=True):
        coef = np.hstack([gradient[:, n_numeric:], gradient[:, :n_numeric] * slope])
        level = _numpy(output) - (coef * Z[:, :-1]).sum(axis=1)
        functions += [coef, level[:, np.newaxis]]
    return np.hstack(functions)


# -- regimes by EM ------------------------------------------------------------------------


def _find_mixture(table, starts, losses, n_members):
    """Return the mixture that Bayes' criterion prefers; None if regimes are not likely."""
    of_pool, of_one_rule = (table.model.loss_in_nats(loss, len(table.y)) for loss in losses)
    gain = of_one_rule - of_pool

    def is_likely(mixture, slack=0.0):
        return mixture.criterion(table, _PRICE) < of_pool + slack * gain

    def bayes(mixture):
        return mixture.criterion(table, np.log(table.weight.sum()) / 2)

    def merge(path, steps, fewest):
        """Return mixtures of fewer and fewer regimes, from the last one of a path on."""
        while len(path[-1].lines) > fewest:
            path = [*path, _fit_mixture(table, _merge_nearest(table, path[-1]), *steps)]
        return path

    mixtures = [_fit_mixture(table, start, *_SHORT) for start in starts]
    first = min(mixtures, key=lambda m: m.criterion(table, _PRICE), default=None)
    if first is None or not is_likely(first, _SLACK_AT_FIRST):
        return None
    path = merge([first], _SHORT, 1)
    best = int(np.argmin([bayes(mixture) for mixture in path]))
    if len(path[best].lines) == 1 or not is_likely(path[best], _SLACK_AFTER_MERGING):
        return None
    path = merge([_fit_mixture(table, path[max(best - 1, 0)], *_LONG)], _LONG, 2)
    best = min((m for m in path if len(m.lines) <= n_members), key=bayes, default=None)
    if best is None or len(best.lines) == 1 or not is_likely(best):
        return None
    return _fit_mixture(table, best, *_FULL)


def _start_of(regions, table):
    """Return a mixture of which the regions are known, (n_rows,)."""
    names, region = np.unique(regions, return_inverse=True)
    known = _CERTAIN * np.eye(len(names))[:, region] + (1 - _CERTAIN) / len(names)
    return _without_weights(known, table)


def _without_weights(responsibilities, table):
    """Return a mixture of which the responsibilities are known."""
    n_regimes = len(responsibilities)
    gate = np.zeros((n_regimes, table.G.shape[1]))
    lines = np.zeros((n_regimes, len(table.y), table.Z.shape[1]))
    return _Mixture(gate, lines, responsibilities)


def _fit_mixture(table, start, max_iter, n_steps):
    """Return the mixture after EM, without regimes of fewer rows than coefficients."""

    def step(members, responsibilities, before):
        kept = np.isin(before[0], members)
        gate = before[1][kept]
        shares = table.weight * responsibilities.T
        lines = table.model.fit(table, shares, before[2][kept], n_steps)
        gate = _fit_logits(table.G, shares[np.newaxis], gate[np.newaxis], _GATE_PENALTY, n_steps)[0]
        joint = _log_softmax(gate @ table.G.T)
        losses = table.model.losses(table, lines)
        joint -= table.model.negative_log_density(losses, shares, len(table.y))
        log_density = _log_sum(joint)
        return (members, gate, lines), np.exp(joint - log_density).T, log_density[0]

    def find_alive(sizes):
        # Of weights that are those of a few rows the largest regime stays.
        return (sizes > table.Z.shape[1]) | (sizes == sizes.max())

    members = np.arange(len(start.lines))
    run = Run(members, start.responsibilities.T, (members, start.gate, start.lines))
    options = {"max_iter": max_iter, "tol": _TOLERANCE, "patience": 1, "keep_last": True}
    run = climb(run, step, find_alive, table.weight, **options)
    likelihood = run.log_likelihood / table.weight.sum()
    return _Mixture(*run.model[1:], run.responsibilities.T, likelihood)


def _merge_nearest(table, mixture):
    """Return a mixture in which the two regimes are one whose losses rise least by it."""
    shares = table.weight * mixture.responsibilities
    pairs = [(i, j) for i in range(len(shares)) for j in range(i)]
    merged = np.stack([shares[i] + shares[j] for i, j in pairs])
    lines = np.stack([(mixture.lines[i] + mixture.lines[j]) / 2 for i, j in pairs])
    lines = table.model.fit(table, merged, lines, _SHORT[1])
    rises = (merged * table.model.losses(table, lines)).sum(axis=1)
    losses = (shares * table.model.losses(table, mixture.lines)).sum(axis=1)
    best = np.argmin([r - losses[i] - losses[j] for r, (i, j) in zip(rises, pairs, strict=True)])
    i, j = pairs[best]
    # The gate of the larger one stays.
    if shares[i].sum() > shares[j].sum():
        i, j = j, i
    gate, all_lines, responsibilities, _ = map(np.copy, mixture)
    all_lines[j] = lines[best]
    responsibilities[j] += responsibilities[i]
    parts = (np.delete(part, i, axis=0) for part in (gate, all_lines, responsibilities))
    return _Mixture(*parts)


def _fit_others(table, mixture, known):
    """Return a mixture that is fitted to some rows, from where the whole one is."""
    model, Z, G, y, weight = table
    part = _Design(model, Z[known], G[known], y[:, known], weight[known])
    start = _without_weights(mixture.responsibilities[:, known], part)
    return _fit_mixture(part, start, *_FULL)


def _rules_of(mixture, n_members):
    """Return a mixture as the experts of a kind, the largest regime first."""
    order = mixture.responsibilities.sum(axis=1).argsort()[::-1]
    n_others = n_members - len(order)
    lines = torch.from_numpy(mixture.lines[np.append(order, order[:1].repeat(n_others))])
    gate = np.zeros((n_members, mixture.gate.shape[1]))
    gate[: len(order)] = mixture.gate[order] - mixture.gate[order[0]]
    gate[len(order) :, -1] = _NEVER
    return Rules(lines[..., :-1], lines[..., -1], torch.from_numpy(gate))
