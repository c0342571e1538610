"""The linear kind of experts: linear models of scikit-learn, whose penalty rows of folds choose."""

from functools import partial

import numpy as np
import torch
from scipy.sparse import csr_array, issparse
from sklearn import config_context
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

from .._data.router import N_FOLDS
from .._data.rows import SparseRows
from .._data.tables import draw_rows
from .._threads import ignored_warnings
from ..nn.encoders import TableEncoder

# Penalties of numbers, and of what is found in steps: the first is tried in the middle.
_ALPHAS, _ALPHAS_OF_STEPS = np.logspace(-1, 5, 7), np.logspace(-2, 4, 5)
# With more rows than that for each column the penalty is 1: on five tables of that size the log
# loss of a line is then the same to .0003, on 18 with fewer rows the best penalty has .86 of it.
_MANY_ROWS = 100
# Numbers of a sparse table that may become dense, and coefficients whose second derivatives are
# computed.
_MOST_DENSE, _MOST_SECOND = 2**21, 500
# Errors up to these are squared, in deviations of y, the absolute ones of larger errors add up: the
# loss by the family of its density. Steps end where they lower it by less than a share.
_SQUARED_UP_TO, _LEAST_STEP = {"laplace": 1e-3, "logistic": 1.0}, 1e-4
# Score of a class of which a model sees no sample, logarithm of a rate of 0.
UNSEEN = -5.0


def fit_line(fit, kind, rows, folds):
    """Fit linear models to the columns of a kind: to all rows, and without those of each fold.

    The penalty is the one by which rows of other folds are predicted best: as equal rows are in one
    fold, a row of weight 2 is the row twice. With more columns than rows the same folds choose
    whether columns are divided by their deviations, or all by one number.

    Parameters
    ----------
    fit : Fit
    kind : int
    rows : Rows
        Their weights are numbers of rows.
    folds : ndarray of shape (n_rows,), int
        Rows of fold -1 are in none.

    Returns
    -------
    coef : ndarray of shape (n_models, n_outputs, n_columns)
        The first model is fitted to all rows, the others without a fold each, if there are folds.
    intercept : ndarray of shape (n_models, n_outputs)
    """
    head, y = fit.net.criterion_, rows.y.cpu()
    weight = rows.weight.double().cpu().numpy()
    X, shift, spread = _read_columns(fit.net, kind, rows, weight)
    n_columns = X.shape[1]
    if not n_columns:
        # Of a single category none is left. scikit-learn asks for a column.
        X, shift, spread = np.zeros((len(y), 1)), np.zeros(1), np.zeros(1)
    is_number = head.kind == "regression" and not head.is_rate
    chooses = is_number or weight.sum() < _MANY_ROWS * X.shape[1]
    # There may be no out-of-bag rows, or only those of one fold.
    is_given = len(np.unique(folds)) > 1
    if not is_given:
        groups = fit.samples.groups
        if groups is not None:
            groups = groups[draw_rows(len(groups), len(y))]
        folds = _draw_folds(X, weight, groups)
    has_folds = is_given or (chooses and (folds >= 0).any())
    left_out = [*range((1 + folds.max()) * has_folds)]
    gains = [np.ones(len(spread))]
    if has_folds and len(spread) > weight.sum() and spread.any():
        gains.append(spread)
    alphas = [1.0]
    if chooses and has_folds:
        alphas = _ALPHAS if is_number else _ALPHAS_OF_STEPS
    best = None
    for gain in gains:
        scaled, back = _scale(X, gain, weight)
        models = _Models(head, scaled, y, weight, folds, left_out)
        alpha = _find_least(models.loss, alphas)
        if best is None or models.loss(alpha) < best[0].loss(best[1]):
            best = models, alpha, back
    models, alpha, back = best
    # No row is in the fold -2: a model without it is one of all rows.
    coef, intercept = models.fit([-2], alpha)
    if has_folds:
        pairs = zip((coef, intercept), models.at(alpha), strict=True)
        coef, intercept = map(np.concatenate, pairs)
    coef = back(coef)
    intercept = intercept - coef @ shift
    if head.n_outputs > coef.shape[1]:
        errors = y.numpy() - models.outputs(alpha)[:, : head.n_targets]
        scale = np.sqrt(np.average(errors**2, 0, weight * ((folds >= 0) | (not has_folds))))
        coef = np.concatenate([coef, np.zeros_like(coef)], axis=1)
        of_scale = np.broadcast_to(scale_output(scale), intercept.shape)
        intercept = np.concatenate([intercept, of_scale], axis=1)
    # What others do not know of are folds that were drawn here.
    n_models = len(coef) if is_given else 1
    return coef[:n_models, :, :n_columns], intercept[:n_models]


def scale_output(scale):
    """Return the outputs of a head that stand for a scale."""
    return np.log(np.expm1(np.maximum(scale, 0.01)))


def _read_columns(net, kind, rows, weight):
    """Return X, what linear experts add to it when they read it, and the deviations of its columns.

    A large sparse table stays sparse.
    """
    module = net.module_
    encoder, columns = module.encoder, module.columns_of[kind]
    n_columns = module.experts[kind][0].in_features
    center, scale = np.zeros(n_columns), np.ones(n_columns)
    if isinstance(encoder, TableEncoder):
        first = n_columns - len(encoder.scale)
        center[first:], scale[first:] = encoder.center.cpu(), encoder.scale.cpu()
    spread = np.where(np.isinf(scale), 0, scale)
    if isinstance(rows.x, SparseRows) and len(weight) * n_columns > _MOST_DENSE:
        return csr_array(rows.x.X.multiply(1 / scale)), -center / scale, spread
    X = net.map_batches(lambda x: module.read(x, columns), rows)
    # Sums of squares of larger numbers may be infinite in float32.
    X = X.clip(-1e12, 1e12)
    mean = (weight @ X / weight.sum()).astype(X.dtype)
    return X - mean, mean, spread


def _draw_folds(X, weight, groups):
    """Return a fold for each row, the same of equal rows or of a group; -1 if few rows differ.

    A single group, as what is held out may leave, has no folds of its own.
    """
    if groups is None or np.ptp(groups) == 0:
        draws = X @ np.random.default_rng(0).normal(size=X.shape[1])
        # The last digits of a product depend on the place of the row. Rows of weight 0 move none.
        draws = np.where(weight > 0, np.round(draws, 6), np.inf)
        groups = np.unique(draws, return_inverse=True)[1]
        if groups.max() < 2 * N_FOLDS:
            return np.full(len(groups), -1)
    return np.unique(groups, return_inverse=True)[1] % N_FOLDS


def _scale(X, gain, weight):
    """Return columns times their gains, on their principal axes, and a function back.

    It returns coefficients of X. A rotation keeps inner products of rows, from which all follows:
    penalized models are those of the columns, but more columns than rows become as many, and
    iterations are few where no column is correlated with another.
    """
    gain = gain / np.sqrt(np.mean(gain**2))
    if issparse(X):
        return csr_array(X.multiply(gain)), lambda coef: coef * gain
    is_wide = len(X) < len(gain)
    scaled = X * gain if is_wide else X * gain.astype(X.dtype)
    weighted = scaled * np.sqrt(weight)[:, np.newaxis].astype(scaled.dtype)
    squares, axes = np.linalg.eigh(weighted @ weighted.T if is_wide else weighted.T @ weighted)
    # Of constant columns all are kept: nothing is left of them.
    kept = squares >= 1e-12 * squares[-1]
    axes = axes[:, kept]
    if is_wide:
        axes = weighted.T @ (axes / np.sqrt(squares[kept].clip(np.finfo(squares.dtype).tiny)))
    return scaled @ axes, lambda coef: coef @ axes.T * gain


# -- models without each fold, and their penalty --------------------------------------------------


def _find_least(loss, alphas):
    """Return the penalty with the least loss, from the middle on as long as the loss falls."""
    best = middle = len(alphas) // 2
    for direction in (-1, 1):
        place = best + direction
        while 0 <= place < len(alphas) and loss(alphas[place]) < loss(alphas[best]):
            best, place = place, place + direction
        if best != middle:
            break
    return alphas[best]


class _Models:
    """Models of all rows but those of a fold, by the penalty, each from the one before.

    All numbers, and all classes, have one model; each label, and each rate, has its own.
    """

    def __init__(self, head, X, y, weight, folds, left_out):
        self.head, self.X, self.y, self.weight, self.folds = head, X.astype(float), y, weight, folds
        self.left_out, self.found = left_out, {}
        n_coefficients, is_number = X.shape[1] + 1, head.kind == "regression" and not head.is_rate
        least = _SQUARED_UP_TO.get(getattr(head, "family", None))
        at_once = y.ndim == 1 or (is_number and least is None)
        self.columns = [y.numpy()] if at_once else [*y.numpy().T]
        if is_number:
            self.fit_one = _fit_numbers if least is None else partial(_fit_robust, least)
            make = partial(Ridge, tol=1e-6)
        else:
            self.fit_one, model = _fit_label, LogisticRegression
            if head.kind == "regression":
                self.fit_one, model = _fit_rate, PoissonRegressor
            elif head.kind == "classes" and head.n_outputs > 1:
                self.fit_one, n_coefficients = _fit_classes, n_coefficients * head.n_targets
            is_small = n_coefficients <= _MOST_SECOND and not issparse(X)
            solver = "newton-cholesky" if is_small else "lbfgs"
            make = partial(model, solver=solver, max_iter=500, warm_start=True)
        self.models = {fold: [make() for _ in self.columns] for fold in (-2, *left_out)}

    def fit(self, left_out, alpha):
        """Return coefficients, (n_models, n_targets, n_columns), and intercepts."""
        found = []
        # A model that has nearly converged is good enough.
        with ignored_warnings(""), config_context(skip_parameter_validation=True):
            for fold in left_out:
                part = self.folds != fold
                X, weight, n_targets = self.X[part], self.weight[part], self.head.n_targets
                each = [
                    self.fit_one(model, X, column[part], weight, alpha, n_targets)
                    for model, column in zip(self.models[fold], self.columns, strict=True)
                ]
                found.append([np.concatenate(arrays) for arrays in zip(*each, strict=True)])
        return tuple(np.stack(arrays) for arrays in zip(*found, strict=True))

    def at(self, alpha):
        """Return the models without each fold, fitted once."""
        if alpha not in self.found:
            self.found[alpha] = self.fit(self.left_out, alpha)
        return self.found[alpha]

    def outputs(self, alpha):
        """Return the outputs for each row of the models that have not seen it, 0 without such."""
        outputs = np.zeros((len(self.y), self.head.n_outputs))
        each = zip(self.left_out, *self.at(alpha), strict=True) if self.left_out else ()
        for fold, coef, intercept in each:
            part = self.folds == fold
            outputs[part, : len(coef)] = self.X[part] @ coef.T + intercept
        return outputs

    def loss(self, alpha):
        """Return the loss of the rows that are in a fold."""
        is_new = self.folds >= 0
        outputs = torch.from_numpy(self.outputs(alpha)[is_new])
        return self.weight[is_new] @ self.head.loss(outputs, self.y[is_new]).numpy()


def _fit_numbers(model, X, y, weight, alpha, n_targets):
    """Return the coefficients and intercepts of all numbers."""
    model.set_params(alpha=alpha).fit(X, y, weight)
    return model.coef_.reshape(n_targets, -1), np.atleast_1d(model.intercept_)


def _fit_robust(least, model, X, y, weight, alpha, n_targets):
    """Return those of a column of numbers, of which large errors are not squared.

    Squares are divided by the errors of the step before: each step lowers the loss.
    """
    errors = np.abs(y - model.predict(X)) if hasattr(model, "coef_") else np.ones(len(y))
    loss, before = np.inf, np.inf
    while loss == np.inf or loss < (1 - _LEAST_STEP) * before:
        weights = weight / np.maximum(errors, least)
        coef, intercept = _fit_numbers(model, X, y, weights, alpha, 1)
        errors = np.abs(y - X @ coef[0] - intercept)
        squares = np.minimum(errors, least) ** 2 / (2 * least)
        before, loss = loss, weight @ (squares + np.maximum(errors - least, 0))
        loss += alpha * (coef**2).sum() / 2
    return coef, intercept


def _fit_classes(model, X, y, weight, alpha, n_classes):
    """Return the coefficients and intercepts of the logits of all classes."""
    coef, intercept = np.zeros((n_classes, X.shape[1])), np.full(n_classes, UNSEEN)
    seen = np.unique(y[weight > 0])
    if len(seen) == 1:
        intercept[seen] = 0.0
        return coef, intercept
    model.set_params(C=1 / alpha).fit(X, y, weight)
    found = model.coef_, model.intercept_
    if len(seen) == 2:
        # What scikit-learn returns is the difference of both logits.
        found = (np.concatenate([-part, part]) / 2 for part in found)
    coef[seen], intercept[seen] = found
    return coef, intercept


def _fit_label(model, X, y, weight, alpha, n_targets):
    """Return those of the log odds of a label."""
    coef, intercept = _fit_classes(model, X, y.astype(int), weight, alpha, 2)
    return coef[1:] - coef[:1], intercept[1:] - intercept[:1]


def _fit_rate(model, X, y, weight, alpha, n_targets):
    """Return those of the logarithm of a rate."""
    if not y[weight > 0].any():
        return np.zeros((1, X.shape[1])), np.array([UNSEEN])
    # Its loss is a mean over rows.
    model.set_params(alpha=alpha / weight.sum()).fit(X, y, weight)
    return model.coef_[np.newaxis], np.array([model.intercept_])
