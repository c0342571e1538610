"""The linear kind of experts: linear models of scikit-learn, whose penalty rows of folds choose."""

import warnings

import numpy as np
import torch
from scipy.sparse import csr_array, issparse
from sklearn import config_context
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

from .._data.indexing import draw_rows
from .._data.router import N_FOLDS
from .._data.rows import SparseRows
from ..nn.encoders import TableEncoder

# Penalties of numbers; and of what has no closed form, the strongest first: weaker ones are tried
# as long as rows of other folds are predicted better.
_ALPHAS, _ALPHAS_OF_STEPS = np.logspace(-1, 5, 7), np.logspace(4, -2, 5)
# With more rows than that for each column the penalty is 1: on five tables of that size the log
# loss of a line is then the same to .0003, on 18 with fewer rows the best penalty has .86 of it.
_MANY_ROWS = 100
# Numbers of a sparse table that may become dense, and coefficients whose second derivatives are
# computed.
_MOST_DENSE, _MOST_SECOND = 2**21, 500
# Score of a class of which a model sees no sample, logarithm of a rate of 0.
_UNSEEN = -5.0


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
    has_closed_form = head.kind == "regression" and not head.is_rate
    chooses = has_closed_form or weight.sum() < _MANY_ROWS * X.shape[1]
    # There may be no out-of-bag rows, or only those of one fold.
    is_given = len(np.unique(folds)) > 1
    if not is_given:
        groups = fit.samples.groups
        if groups is not None:
            groups = groups[draw_rows(len(groups), len(y))]
        folds = _draw_folds(X, weight, groups)
    has_folds = is_given or (chooses and (folds >= 0).any())
    # No row is in the fold -2: a model without it is one of all rows.
    left_out = [-2, *range((1 + folds.max()) * has_folds)]
    gains = [np.ones(len(spread))]
    if has_folds and len(spread) > weight.sum():
        gains.append(spread)
    fit_models = _fit_numbers if has_closed_form else _fit_in_turn
    alphas = _ALPHAS if has_closed_form else _ALPHAS_OF_STEPS
    best = None
    for gain in gains:
        scaled, back = _scale(X, gain, weight)
        for coef, intercept in fit_models(
            head, scaled, y, weight, folds, left_out, alphas if chooses and has_folds else [1.0]
        ):
            outputs = np.zeros((len(y), head.n_outputs))
            for fold, w, b in zip(left_out, coef, intercept, strict=True):
                outputs[folds == fold, : len(w)] = scaled[folds == fold] @ w.T + b
            is_new = folds >= 0
            loss = weight[is_new] @ head.loss(torch.from_numpy(outputs[is_new]), y[is_new]).numpy()
            if best is None or loss < best[0]:
                best = loss, outputs, back(coef), intercept
            elif not has_closed_form:
                break
    _, outputs, coef, intercept = best
    intercept = intercept - coef @ shift
    if head.n_outputs > coef.shape[1]:
        errors = y.numpy() - outputs[:, : head.n_targets]
        scale = np.sqrt(np.average(errors**2, 0, weight * ((folds >= 0) | (not has_folds))))
        coef = np.concatenate([coef, np.zeros_like(coef)], axis=1)
        of_scale = np.broadcast_to(scale_output(scale), intercept.shape)
        intercept = np.concatenate([intercept, of_scale], axis=1)
    # What others do not know of are folds that were drawn here.
    n_models = len(left_out) if is_given else 1
    return coef[:n_models], intercept[:n_models]


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
    X = net.map_batches(lambda x, encoded: module.read(x, columns, encoded), rows)
    # Sums of squares of larger numbers may be infinite in float32.
    X = X.clip(-1e12, 1e12)
    mean = (weight @ X / weight.sum()).astype(X.dtype)
    return X - mean, mean, spread


def _draw_folds(X, weight, groups):
    """Return a fold for each row, the same of equal rows or of a group; -1 if few rows differ."""
    if groups is None or not groups.any():
        draws = X @ np.random.default_rng(0).normal(size=X.shape[1])
        # The last digits of a product depend on the place of the row. Rows of weight 0 move none.
        draws = np.where(weight > 0, np.round(draws, 6), np.inf)
        groups = np.unique(draws, return_inverse=True)[1]
        if groups.max() < 2 * N_FOLDS:
            return np.full(len(groups), -1)
    return groups % N_FOLDS


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


# -- models without each fold, for all penalties --------------------------------------------------


def _fit_numbers(head, X, y, weight, folds, left_out, alphas):
    """Yield coefficients and intercepts of ridge regressions without each fold, by penalty."""
    y, n_targets, models = y.numpy(), head.n_targets, []
    for fold in left_out:
        part = folds != fold
        # All penalties at once, as if they were so many targets.
        y_of_each = np.tile(y[part].reshape(-1, n_targets), len(alphas))
        ridge = Ridge(np.repeat(alphas, n_targets), copy_X=False, tol=1e-6)
        models.append(ridge.fit(X[part].astype(np.float64), y_of_each, weight[part]))
    coefs = np.stack([m.coef_.reshape(len(alphas), n_targets, -1) for m in models], axis=1)
    intercepts = np.stack([m.intercept_.reshape(len(alphas), n_targets) for m in models], axis=1)
    return zip(coefs, intercepts, strict=True)


def _fit_in_turn(head, X, y, weight, folds, left_out, alphas):
    """Yield the same of classes, labels and rates, each penalty from the models of the one before.

    All classes have one model; each label, and each rate, has its own.
    """
    X, y = X.astype(np.float64), y.numpy()
    fit_one, n_coefficients = _fit_label, X.shape[1] + 1
    if head.kind == "regression":
        fit_one = _fit_rate
    elif head.n_outputs > 1 and head.kind == "classes":
        fit_one, n_coefficients = _fit_classes, n_coefficients * head.n_targets
    is_small = n_coefficients <= _MOST_SECOND and not issparse(X)
    options = {"solver": "newton-cholesky" if is_small else "lbfgs", "warm_start": True}
    make = PoissonRegressor if fit_one is _fit_rate else LogisticRegression
    columns = [y] if y.ndim == 1 else [*y.T]
    models = [[make(max_iter=500, **options) for _ in columns] for _ in left_out]
    parts = [folds != fold for fold in left_out]
    for alpha in alphas:
        found = []
        with warnings.catch_warnings(), config_context(skip_parameter_validation=True):
            # A model that has nearly converged is good enough.
            warnings.simplefilter("ignore")
            for part, of_columns in zip(parts, models, strict=True):
                each = [
                    fit_one(model, X[part], column[part], weight[part], alpha, head.n_targets)
                    for model, column in zip(of_columns, columns, strict=True)
                ]
                found.append([np.concatenate(arrays) for arrays in zip(*each, strict=True)])
        yield tuple(np.stack(arrays) for arrays in zip(*found, strict=True))


def _fit_classes(model, X, y, weight, alpha, n_classes):
    """Return the coefficients and intercepts of the logits of all classes."""
    coef, intercept = np.zeros((n_classes, X.shape[1])), np.full(n_classes, _UNSEEN)
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
    seen = np.unique(y[weight > 0])
    if len(seen) == 1:
        return np.zeros((1, X.shape[1])), np.array([-_UNSEEN if seen[0] else _UNSEEN])
    model.set_params(C=1 / alpha).fit(X, y, weight)
    return model.coef_, model.intercept_


def _fit_rate(model, X, y, weight, alpha, n_targets):
    """Return those of the logarithm of a rate."""
    if not y[weight > 0].any():
        return np.zeros((1, X.shape[1])), np.array([_UNSEEN])
    # Its loss is a mean over rows.
    model.set_params(alpha=alpha / weight.sum()).fit(X, y, weight)
    return model.coef_[np.newaxis], np.array([model.intercept_])
