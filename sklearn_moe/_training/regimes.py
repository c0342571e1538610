"""Regimes of a table: linear rules that hold in regions, read off the gradients of an ensemble.

Where rules are linear, the gradient of a trained ensemble is about the same all over a region. A
small tree finds such regions, and expectation maximization (EM) of linear experts behind a linear
gate starts from them.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.tree import DecisionTreeRegressor
from torch import nn

from ..nn.encoders import TableEncoder
from ..nn.experts.mlp import MLPExpert
from ..nn.heads import SquaredErrorHead
from ..nn.routers.base import SoftRouter
from ..nn.routers.scores import LinearScores
from .placement import one_thread

_MOST_ROWS, _FEWEST_ROWS, _ROWS_PER_COLUMN = 2000, 200, 20
_MOST_REGIMES = 8  # to begin with: EM drops those of few rows, then the likelihood merges others
_CERTAIN = 0.9  # of the region of a row, in the beginning
_SHORT, _LONG, _FULL = (5, 5), (50, 15), (50, 50)  # steps of EM, and of the gate in each of them
_TOLERANCE = 1e-4  # of the log-likelihood per row
_PROMISING = 0.65  # of the squared error of the ensemble: real tables have .7 and more
_MARGIN = 0.8  # of the squared error of the ensemble, and of a single rule
_RIDGE, _GATE_PENALTY = 1.0, 3e-4  # small: borders may be sharp, and are where errors are
_LEAST_VARIANCE = 1e-6  # of the noise, in variances of y
_N_FOLDS = 3
_NEVER = -1e3  # score that disables an expert; that of the first regime is 0


def adopt_regimes(net, rows):
    """Replace the weights of a trained ensemble by those of regimes that predict clearly better.

    Their squared error has to be less by a fifth than that of the ensemble, by its out-of-bag
    experts, and that of a single linear rule, on the same rows. The experts are then linear in the
    standardized columns, whose soft bound is taken away, and experts beyond the regimes are copies
    of the largest one that the gate never uses.

    Parameters
    ----------
    net : MoENet
        An ensemble of networks with ReLU and a linear soft router, for the squared error of one
        number and for tables that are standardized; others stay as they are.
    rows : Rows
        What it was trained on, with an out-of-bag mask; without it there are no regimes.

    Returns
    -------
    predictions : ndarray of shape (n_rows, 1) or None
        Of each row, by regimes that were fitted to others. None if the net stays as it is.
    """
    if rows.in_bag is None or not _may_hold_regimes(net.module_, net.criterion_):
        return None
    some = rows.sample(_MOST_ROWS, torch.device(net.device))
    if len(some.y) < max(_FEWEST_ROWS, _ROWS_PER_COLUMN * net.module_.encoder.n_outputs):
        return None
    table, slopes, error = _look(net, some)
    with one_thread():
        best = _find_regimes(table, slopes, error, len(net.module_.experts))
        if best is None:
            return None
        folds = _folds(some.in_bag)
        one = _start_of(np.ones((len(table.y), 1)), table)
        regimes, rule = (_fit_others(table, mixture, folds) for mixture in (best, one))
    errors = [table.error(_out_of_fold(each, table.Z, folds)) for each in (regimes, rule)]
    if errors[0] > _MARGIN * min(error, errors[1]):
        return None
    _write(net, best)

    def predict(x, in_bag):
        Z = _with_one(net.module_.encoder(x))
        return torch.from_numpy(_out_of_fold(regimes, Z, _folds(in_bag)))

    return net.map_batches(predict, rows.x, rows.in_bag)[:, np.newaxis]


class _Table(NamedTuple):
    """What regimes are sought in."""

    Z: np.ndarray  # (n_rows, n_columns + 1), standardized, the last column is 1
    y: np.ndarray  # (n_rows,), standardized
    weight: np.ndarray  # (n_rows,)

    def error(self, prediction):
        """Return the mean squared error."""
        return np.average(np.square(self.y - prediction), weights=self.weight)


class _Mixture(NamedTuple):
    """Linear experts behind a linear gate, both with the intercept as the last coefficient."""

    gate: np.ndarray  # (n_regimes, n_columns + 1)
    lines: np.ndarray  # (n_regimes, n_columns + 1)
    responsibilities: np.ndarray  # (n_rows, n_regimes)
    log_likelihood: float  # the mean over the rows

    @property
    def n_parameters(self):
        """Number of coefficients; the gate of the first regime may be 0."""
        return self.lines.size + self.gate[1:].size


# -- what the ensemble knows --------------------------------------------------------------


def _may_hold_regimes(module, head):
    """Tell whether the weights of a mixture can be those of linear experts and a linear gate."""
    router = module.router
    return (
        type(head) is SquaredErrorHead
        and head.n_targets == 1
        and type(router) is SoftRouter
        and type(router.network) is LinearScores
        and router.network.bias is not None
        and isinstance(module.encoder, TableEncoder)
        and module.trunk is None
        and not module.shared
        and type(expert := module.experts[0]) is MLPExpert
        and isinstance(expert[1], nn.ReLU)
        and len(expert[0].weight) > 1
    )


def _look(net, rows):
    """Return the table, the linear function at each row, and the squared error of the ensemble.

    The function has the gradient as its coefficients, and an intercept. The error is that of the
    experts that were not trained on a row. They are one, or few: all of them together are better by
    a part of the variance among them.
    """
    encoder, x = net.module_.encoder, net.as_input(rows.x)
    encoded = net.module_.encode(x).detach().requires_grad_()
    with torch.enable_grad():
        outputs = net.module_.experts(encoded)[..., 0]
        (gradient,) = torch.autograd.grad(outputs.mean(1).sum(), encoded)
    encoder.is_linear = True
    Z, bounded = encoder(x).double(), encoded.detach().double()
    encoder.is_linear = False
    # Times the slope of z / sqrt(1 + (z / 3)^2); other columns are as they were.
    gradient = gradient.double() * torch.where(Z.abs() > 1e-3, bounded / Z, 1.0) ** 3
    outputs, outside = outputs.detach().double(), ~rows.in_bag
    n_outside, n_experts = int(outside[0].sum()), outside.shape[1]
    out_of_bag = (outputs * outside).sum(1) / n_outside
    better = outputs.var(1) * (1 / n_outside - 1 / n_experts)
    y, weight, gradient, mean, out_of_bag, better = (
        values.double().cpu().numpy()
        for values in (rows.y[:, 0], rows.weight, gradient, outputs.mean(1), out_of_bag, better)
    )
    table = _Table(_with_one(Z), y, weight)
    error = table.error(out_of_bag) - np.average(better, weights=weight)
    level = mean - (gradient * table.Z[:, :-1]).sum(axis=1)
    return table, np.column_stack([gradient, level]), max(error, _LEAST_VARIANCE)


def _with_one(Z):
    """Return encoded rows in float64, with a last column of 1."""
    return np.pad(Z.double().cpu().numpy(), [(0, 0), (0, 1)], constant_values=1)


# -- regimes by EM ------------------------------------------------------------------------


def _find_regimes(table, slopes, error, n_experts):
    """Return the mixture that Bayes' criterion prefers; None if regimes are not likely."""
    fit, n_rows = partial(_fit_mixture, table), table.weight.sum()
    first = fit(_first_regions(table, slopes), *_SHORT)
    # Akaike's criterion, as the variance of a normal distribution.
    criterion = 2 * first.n_parameters / n_rows - 2 * first.log_likelihood
    if np.exp(criterion - 1) / (2 * np.pi) > _PROMISING * error:
        return None
    path = [fit(first, *_LONG)]
    while len(path[-1].lines) > 2:
        path.append(fit(_merge_nearest(table, path[-1]), *_LONG))
    path = [mixture for mixture in path if 1 < len(mixture.lines) <= n_experts]
    if not path:
        return None
    best = min(path, key=lambda m: np.log(n_rows) * m.n_parameters - 2 * n_rows * m.log_likelihood)
    return fit(best, *_FULL)


def _first_regions(table, slopes):
    """Return a mixture to start from, by the leaves of a tree that predicts the slopes."""
    Z, least = table.Z[:, :-1], table.Z.shape[1] / len(table.Z)
    tree = DecisionTreeRegressor(
        max_leaf_nodes=_MOST_REGIMES, min_weight_fraction_leaf=least, random_state=0
    )
    leaves = tree.fit(Z, slopes, sample_weight=table.weight).apply(Z)
    _, region = np.unique(leaves, return_inverse=True)
    n_regions = region.max() + 1
    responsibilities = _CERTAIN * np.eye(n_regions)[region] + (1 - _CERTAIN) / n_regions
    return _start_of(responsibilities, table)


def _start_of(responsibilities, table):
    """Return a mixture of which the responsibilities are known."""
    nothing = np.zeros((responsibilities.shape[1], table.Z.shape[1]))
    return _Mixture(nothing, nothing, responsibilities, -np.inf)


def _fit_mixture(table, start, max_iter, n_gate_steps):
    """Return the mixture after EM, without regimes of fewer rows than coefficients."""
    Z, y, weight = table
    gate, responsibilities, before = start.gate, start.responsibilities, -np.inf
    for _ in range(max_iter):
        alive = weight @ responsibilities > Z.shape[1]
        if not alive.all():
            gate, responsibilities, before = gate[alive], responsibilities[:, alive], -np.inf
            total = responsibilities.sum(axis=1, keepdims=True)
            responsibilities = responsibilities / np.maximum(total, np.finfo(float).tiny)
        shares = weight[:, np.newaxis] * responsibilities
        lines = np.stack([_fit_line(Z, y, share) for share in shares.T])
        squares = np.square(y[:, np.newaxis] - Z @ lines.T)
        variance = max((shares * squares).sum() / shares.sum(), _LEAST_VARIANCE)
        gate = _fit_gate(Z, shares, gate, n_gate_steps)
        joint = _log_gate(Z, gate) - (squares / variance + np.log(2 * np.pi * variance)) / 2
        log_density = _log_sum(joint)
        responsibilities = np.exp(joint - log_density)
        likelihood = np.average(log_density[:, 0], weights=weight)
        if likelihood - before < _TOLERANCE:
            break
        before = likelihood
    return _Mixture(gate, lines, responsibilities, likelihood)


def _fit_line(Z, y, weight):
    """Return the coefficients of a ridge regression, whose intercept is next to free."""
    weighted = Z * weight[:, np.newaxis]
    penalty = np.append(np.full(Z.shape[1] - 1, _RIDGE), 1e-6)
    return np.linalg.solve(weighted.T @ Z + np.diag(penalty), weighted.T @ y)


def _fit_gate(Z, shares, gate, max_iter):
    """Return the coefficients of a multinomial logistic regression on shares in place of classes.

    scikit-learn's takes one class per row, and would need every row once per class.
    """
    total = shares.sum(axis=1, keepdims=True)

    def loss(coef):
        coef = coef.reshape(gate.shape)
        log_gate = _log_gate(Z, coef)
        value = _GATE_PENALTY / 2 * np.square(coef).sum() - np.vdot(shares, log_gate)
        gradient = (np.exp(log_gate) * total - shares).T @ Z + _GATE_PENALTY * coef
        return value, gradient.ravel()

    options = {"maxiter": max_iter}
    found = minimize(loss, gate.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(gate.shape)


def _log_gate(Z, gate):
    """Return the logarithm of the gates, (n_rows, n_regimes)."""
    scores = Z @ gate.T
    return scores - _log_sum(scores)


def _log_sum(values):
    """Return log(sum(exp(values))) of each row, (n_rows, 1), sooner than SciPy does."""
    highest = values.max(axis=1, keepdims=True)
    return highest + np.log(np.exp(values - highest).sum(axis=1, keepdims=True))


def _merge_nearest(table, mixture):
    """Return a mixture in which the two regimes are one whose error rises least by it."""
    Z, y, weight = table
    each = weight * mixture.responsibilities.T
    errors = (each * np.square(y - mixture.lines @ Z.T)).sum(axis=1)

    def rise(pair):
        share = each[pair].sum(axis=0)
        return share @ np.square(y - Z @ _fit_line(Z, y, share)) - errors[pair].sum()

    i, j = min(([i, j] for i in range(len(each)) for j in range(i)), key=rise)
    merged = mixture.responsibilities.copy()
    merged[:, j] += merged[:, i]
    return _start_of(np.delete(merged, i, axis=1), table)


# -- are they better? ---------------------------------------------------------------------


def _folds(in_bag):
    """Return the fold of each row; rows that are out of the same bags are in the same one."""
    return (~in_bag).int().argmax(1).cpu().numpy() % _N_FOLDS


def _fit_others(table, mixture, folds):
    """Return for each fold a mixture that is fitted to the others, from where the whole one is."""
    fitted = []
    for fold in range(_N_FOLDS):
        known = folds != fold
        part = _Table(*(column[known] for column in table))
        start = _start_of(mixture.responsibilities[known], part)
        fitted.append(_fit_mixture(part, start, *_FULL))
    return fitted


def _out_of_fold(mixtures, Z, folds):
    """Return what is predicted of each row by the mixture that was not fitted to its fold."""
    predictions = np.empty(len(Z))
    for fold, mixture in enumerate(mixtures):
        rows = Z[folds == fold]
        gate = np.exp(_log_gate(rows, mixture.gate))
        predictions[folds == fold] = (gate * (rows @ mixture.lines.T)).sum(axis=1)
    return predictions


@torch.no_grad()
def _write(net, mixture):
    """Give a net the weights of a mixture, the largest regime first."""
    module, order = net.module_, mixture.responsibilities.sum(axis=0).argsort()[::-1]
    gate = torch.from_numpy(mixture.gate[order] - mixture.gate[order[0]])
    lines = torch.from_numpy(mixture.lines[order])
    network = module.router.network
    network.weight.zero_()[: len(gate)] = gate[:, :-1]
    network.bias.fill_(_NEVER)[: len(gate)] = gate[:, -1:]
    for m, expert in enumerate(module.experts):
        line = lines[m if m < len(lines) else 0]
        expert.become_linear(line[:-1].unsqueeze(0), line[-1:])
    net.standardize_by(net.module.keywords["statistics"]._replace(is_linear=True))
    net.expert_loss_weight = 0.0
