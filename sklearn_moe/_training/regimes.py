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
from torch import Tensor

from .._data.rows import draw_rows
from ..nn.heads import SoftmaxHead, SquaredErrorHead
from ..nn.routers.scores import PoolScores
from .placement import one_thread

_MOST_ROWS, _FEWEST_ROWS, _ROWS_PER_COLUMN = 2000, 200, 20
_GRADIENTS = 1000  # rows at which they are computed, which takes longest
_MOST_REGIMES = 8  # to begin with: EM drops those of few rows, then the likelihood merges others
_MOST_CLASSES = 5
_CERTAIN = 0.9  # of the region of a row, in the beginning
# Steps of EM, and of the gate, and of experts without a closed form, in each of them.
_FIRST, _SHORT, _LONG, _FULL = (1, 5), (5, 5), (50, 15), (50, 30)
_TOLERANCE = 1e-4  # of the log-likelihood per row
_SLACK = 0.5, 0.15  # of what the pool gains over one rule: first steps do not find all
_PRICE = 2  # of a coefficient, in the same summed over rows: more than Akaike's 1, less than Bayes'
_RIDGE, _GATE_PENALTY = 1.0, 3e-4  # small: borders may be sharp, and are where errors are
_LEAST_VARIANCE = 1e-6  # of the noise, in variances of y
_NEVER = -1e3  # score that disables an expert; that of the first regime is 0


class Rules(NamedTuple):
    """What the experts of a linear kind are, and which of them holds where."""

    coef: Tensor  # (n_members, n_outputs, n_columns)
    intercept: Tensor  # (n_members, n_outputs)
    gate: Tensor | None = None  # (n_members, n_router_columns + 1); None: all have equal shares

    def outputs(self, z):
        """Return the outputs of all members, (n_rows, n_members, n_outputs)."""
        return torch.einsum("nd,mod->nmo", z, self.coef) + self.intercept

    def shares(self, features):
        """Return the share of each member in what the kind says, (n_rows, n_members)."""
        if self.gate is None:
            return features.new_full((len(features), len(self.coef)), 1 / len(self.coef))
        return (features @ self.gate[:, :-1].T + self.gate[:, -1]).softmax(1)


def may_hold_regimes(net, kind):
    """Tell whether experts of a linear kind can be rules of regions, chosen by the router."""
    module, head = net.module_, net.criterion_
    return (
        type(head) in _MODELS
        and (head.kind != "classes" or head.n_targets <= _MOST_CLASSES)
        and isinstance(module.router.network, PoolScores)
        and getattr(module.encoder, "adds_linear", False)
        and len(module.experts.kinds[kind]) > 1
    )


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
    head, n_members = net.criterion_, len(net.module_.experts.kinds[kind])
    model = _MODELS[type(head)]
    some = draw_rows(len(rows.y), _MOST_ROWS)
    rows, folds = rows.sample(_MOST_ROWS, torch.device(net.device)), folds[some]
    encoded = net.module_.encode(net.as_input(rows.x))
    Z, G = encoded[:, net.module_.experts.columns[kind]], net.module_.router_input(encoded)
    y = rows.y if model is _NUMBERS else torch.nn.functional.one_hot(rows.y, head.n_targets)
    table = _Table(model, _with_one(Z), _with_one(G), _numpy(y).T.copy(), _numpy(rows.weight))
    if len(some) < max(_FEWEST_ROWS, _ROWS_PER_COLUMN * table.Z.shape[1]):
        return None
    with one_thread(), np.errstate(over="ignore", invalid="ignore"):
        best = _find_mixture(table, list(_first_regions(net, encoded, table)), losses, n_members)
        if best is None:
            return None
        others = [_fit_others(table, best, folds != fold) for fold in range(folds.max() + 1)]
    return [_rules_of(mixture, n_members) for mixture in (best, *others)]


class _Table(NamedTuple):
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
        n_targets = self.lines.shape[1] - (table.model is _CLASSES)  # one class needs none
        n_coef = self.gate[1:].size + len(self.lines) * n_targets * self.lines.shape[2]
        return price * n_coef / table.weight.sum() - self.log_likelihood


def _with_one(values):
    """Return encoded rows in float64, with a last column of 1."""
    return np.pad(_numpy(values), [(0, 0), (0, 1)], constant_values=1)


def _numpy(values):
    return values.cpu().double().numpy()


# -- experts of numbers and of classes ----------------------------------------------------


class _Model(NamedTuple):
    """What an expert says of y."""

    fit: Callable  # (table, shares, lines to start from, number of steps) -> lines
    losses: Callable  # (table, lines) -> (n_regimes, n_rows)
    # From losses, shares and the number of targets to negative log densities.
    surprise: Callable
    # From the mean loss of a head and the number of targets to that of a row.
    nats: Callable


def _fit_lines(table, shares, lines, n_steps):
    """Return the coefficients of ridge regressions, whose intercept is next to free."""
    penalty = np.diag(_penalty(table.Z.shape[1]))
    weighted = [table.Z.T * share for share in shares]
    return np.stack([np.linalg.solve(z @ table.Z + penalty, z @ table.y.T).T for z in weighted])


def _squared_errors(table, lines):
    return np.square(table.y - lines @ table.Z.T).sum(axis=1)


def _normal_surprise(squares, shares, n_targets):
    variance = (shares * squares).sum() / shares.sum() / n_targets
    variance = max(variance, _LEAST_VARIANCE)
    return (squares / variance + n_targets * np.log(2 * np.pi * variance)) / 2


def _normal_nats(loss, n_targets):
    return n_targets * np.log(4 * np.pi * np.e * max(loss, _LEAST_VARIANCE)) / 2


def _fit_logistic(table, shares, lines, n_steps):
    """Return the coefficients of logistic regressions."""
    each = shares[:, np.newaxis] * table.y
    return _fit_logits(table.Z, each, lines, _penalty(table.Z.shape[1]), n_steps)


def _cross_entropies(table, lines):
    return -(table.y * _log_softmax(lines @ table.Z.T)).sum(axis=1)


def _penalty(n_columns):
    return np.append(np.full(n_columns - 1, _RIDGE), 1e-6)


_NUMBERS = _Model(_fit_lines, _squared_errors, _normal_surprise, _normal_nats)
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
    found = minimize(loss, coef.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(coef.shape)


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
    few = slice(None, None, 1 + (len(table.Z) - 1) // _GRADIENTS)
    slopes = _linear_functions(net, encoded[few], table.Z[few])
    if slopes is not None:
        tree = DecisionTreeRegressor(
            max_leaf_nodes=_MOST_REGIMES,
            min_weight_fraction_leaf=table.Z.shape[1] / len(table.Z),
            random_state=0,
        )
        tree.fit(table.Z[few], slopes, table.weight[few])
        yield _start_of(tree.apply(table.Z), table)
    encoder = net.module_.encoder
    is_one = encoded[:, encoder.columns["linear"]][:, len(encoder.with_missing) :].cpu().numpy()
    found = []
    for first, n in zip(encoder.first.tolist(), encoder.n_categories.tolist(), strict=True):
        if n <= _MOST_REGIMES:
            regions = is_one[:, first : first + n] @ np.arange(1, n + 1)  # 0: missing
            if len(np.unique(regions)) > 1:
                found.append(_fit_mixture(table, _start_of(regions, table), *_FIRST))
    if found:
        yield max(found, key=lambda mixture: mixture.log_likelihood)


def _linear_functions(net, encoded, Z):
    """Return the linear function that the networks are at each row, None if there are none.

    It has the gradient of the mean of their outputs as its coefficients, and an intercept, of each
    target one after the other. Networks on pieces of the columns are left out: they have another
    gradient in each piece.
    """
    encoder, pool = net.module_.encoder, net.module_.experts
    bounded, n_numeric = encoder.columns["bounded"], len(encoder.numeric)
    networks = [kind for kind, columns in enumerate(pool.columns) if columns == bounded]
    if not networks:
        return None
    encoded = encoded.detach().requires_grad_()
    with torch.enable_grad():
        outputs = torch.cat([pool.outputs_of(kind, encoded) for kind in networks], 1).mean(1)
        if net.criterion_.kind == "classes":  # what is added to all logits has no effect
            outputs = outputs[:, 1:] - outputs.mean(1, keepdim=True)
        gradients = [
            torch.autograd.grad(output.sum(), encoded, retain_graph=True)[0][:, bounded]
            for output in outputs.unbind(1)
        ]
    # Times the slope of z / sqrt(1 + (z / 3)^2) for numbers z, which are the last columns of Z.
    z, bounded = (_numpy(part.detach()) for part in (encoded, encoded[:, bounded]))
    z, bounded, functions = z[:, z.shape[1] - n_numeric :], bounded[:, :n_numeric], []
    slope = np.divide(bounded, z, out=np.ones_like(z), where=np.abs(z) > 1e-3) ** 3
    for gradient, output in zip(map(_numpy, gradients), outputs.detach().unbind(1), strict=True):
        coef = np.hstack([gradient[:, n_numeric:], gradient[:, :n_numeric] * slope])
        level = _numpy(output) - (coef * Z[:, :-1]).sum(axis=1)
        functions += [coef, level[:, np.newaxis]]
    return np.hstack(functions)


# -- regimes by EM ------------------------------------------------------------------------


def _find_mixture(table, starts, losses, n_members):
    """Return the mixture that Bayes' criterion prefers; None if regimes are not likely."""
    n_rows = table.weight.sum()
    nats, one = (table.model.nats(loss, len(table.y)) for loss in losses)
    gain = one - nats

    def merged(mixture, steps, fewest):
        """Return mixtures of fewer and fewer regimes."""
        path = [mixture if steps is _SHORT else _fit_mixture(table, mixture, *steps)]
        while len(path[-1].lines) > fewest:
            path.append(_fit_mixture(table, _merge_nearest(table, path[-1]), *steps))
        return path

    def bayes(mixture):
        return mixture.criterion(table, np.log(n_rows) / 2)

    found = [_fit_mixture(table, start, *_SHORT) for start in starts]
    first = min(found, key=lambda mixture: mixture.criterion(table, _PRICE), default=None)
    if first is None or not first.criterion(table, _PRICE) < nats + _SLACK[0] * gain:
        return None
    path = merged(first, _SHORT, 1)
    best = int(np.argmin([bayes(mixture) for mixture in path]))
    if (
        len(path[best].lines) == 1
        or not path[best].criterion(table, _PRICE) < nats + _SLACK[1] * gain
    ):
        return None
    path = merged(path[max(best - 1, 0)], _LONG, 2)
    best = min((m for m in path if len(m.lines) <= n_members), key=bayes, default=None)
    if best is None or len(best.lines) == 1 or not best.criterion(table, _PRICE) < nats:
        return None
    return _fit_mixture(table, best, *_FULL)


def _start_of(regions, table):
    """Return a mixture of which the regions are known, (n_rows,)."""
    found, region = np.unique(regions, return_inverse=True)
    n_regions = len(found)
    known = _CERTAIN * np.eye(n_regions)[:, region] + (1 - _CERTAIN) / n_regions
    return _without_weights(known, table)


def _without_weights(responsibilities, table):
    """Return a mixture of which the responsibilities are known."""
    n, n_targets = len(responsibilities), len(table.y)
    sizes = (n, table.G.shape[1]), (n, n_targets, table.Z.shape[1])
    return _Mixture(*map(np.zeros, sizes), responsibilities)


def _fit_mixture(table, start, max_iter, n_steps):
    """Return the mixture after EM, without regimes of fewer rows than coefficients."""
    model, weight = table.model, table.weight
    (gate, lines, responsibilities, _), before = start, -np.inf
    for _ in range(max_iter):
        sizes = responsibilities @ weight
        alive = (sizes > table.Z.shape[1]) | (sizes == sizes.max())  # weights may be of few rows
        if not alive.all():
            gate, lines, responsibilities = gate[alive], lines[alive], responsibilities[alive]
            before, total = -np.inf, responsibilities.sum(axis=0)
            responsibilities = responsibilities / np.maximum(total, np.finfo(float).tiny)
        shares = weight * responsibilities
        lines = model.fit(table, shares, lines, n_steps)
        gate = _fit_logits(table.G, shares[np.newaxis], gate[np.newaxis], _GATE_PENALTY, n_steps)[0]
        joint = _log_softmax(gate @ table.G.T)
        joint -= model.surprise(model.losses(table, lines), shares, len(table.y))
        log_density = _log_sum(joint)
        responsibilities = np.exp(joint - log_density)
        likelihood = np.average(log_density[0], weights=weight)
        if not likelihood - before >= _TOLERANCE:
            break
        before = likelihood
    return _Mixture(gate, lines, responsibilities, likelihood)


def _merge_nearest(table, mixture):
    """Return a mixture in which the two regimes are one whose losses rise least by it."""
    shares, model = table.weight * mixture.responsibilities, table.model
    pairs = [(i, j) for i in range(len(shares)) for j in range(i)]
    merged = np.stack([shares[i] + shares[j] for i, j in pairs])
    lines = np.stack([(mixture.lines[i] + mixture.lines[j]) / 2 for i, j in pairs])
    lines = model.fit(table, merged, lines, _SHORT[1])
    rises = (merged * model.losses(table, lines)).sum(axis=1)
    losses = (shares * model.losses(table, mixture.lines)).sum(axis=1)
    best = np.argmin([r - losses[i] - losses[j] for r, (i, j) in zip(rises, pairs, strict=True)])
    i, j = pairs[best]
    if shares[i].sum() > shares[j].sum():  # the gate of the larger one stays
        i, j = j, i
    gate, all_lines, responsibilities, _ = map(np.copy, mixture)
    all_lines[j] = lines[best]
    responsibilities[j] += responsibilities[i]
    parts = (np.delete(part, i, axis=0) for part in (gate, all_lines, responsibilities))
    return _Mixture(*parts)


def _fit_others(table, mixture, known):
    """Return a mixture that is fitted to some rows, from where the whole one is."""
    model, Z, G, y, weight = table
    part = _Table(model, Z[known], G[known], y[:, known], weight[known])
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
