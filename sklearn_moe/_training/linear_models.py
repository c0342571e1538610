"""Linear experts of a pool: fitted to all rows and without each fold, which choose the penalty."""

from functools import partial

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_array, hstack, issparse
from sklearn.linear_model import Ridge
from sklearn.utils import gen_batches

from .._data.indexing import draw_rows
from .._data.router import N_FOLDS
from .._data.rows import SparseRows
from ..nn.encoders import LINEAR_UP_TO, TableEncoder
from ..nn.heads import PoissonHead, SigmoidHead, SoftmaxHead
from .out_of_bag import MOST_NUMBERS, Rules

# Penalties of numbers; and of what has no closed form, the strongest first: weaker ones are tried
# as long as rows of other folds are predicted better.
_ALPHAS, _ALPHAS_OF_STEPS = np.logspace(-1, 5, 7), np.logspace(4, -2, 13)
# With more rows than that for each column the penalty is 1: on five tables of that size the log
# loss of a line is then the same to .0003, on 18 with fewer rows the best penalty has .86 of it.
_MANY_ROWS = 100
_STEPS = {"maxiter": 500, "ftol": 1e-9, "gtol": 1e-2}
# Powers of its correlation with y by which a column is multiplied. Of more rows that would take
# longer than the networks.
_POWERS, _MOST_WEIGHED = (1, 2, 4), 1000
# Sums of squares of larger numbers may be infinite in float32.
_LARGEST = 1e12
# Score of a class of which an expert sees no sample, logarithm of a rate of 0.
_UNSEEN = -5.0
# No row is in this fold: a model without it is one of all rows.
NO_FOLD = -2


# A row may have nearly all weight.
@np.errstate(divide="ignore", invalid="ignore")
def solve_kind(fit, kind, rows, folds):
    """Fit a linear kind to all rows; return its rule, and those fitted without each fold.

    The penalty is the one by which rows of other folds are predicted best: as equal rows are in one
    fold, a row of weight 2 is the row twice. With more columns than rows the same folds choose how
    the columns are scaled.

    Parameters
    ----------
    fit : Fit
    kind : int
    rows : Rows
        Their weights are numbers of rows.
    folds : ndarray of shape (n_rows,), int
        Rows of fold -1 are in none.
    """
    head, y = fit.net.criterion_, rows.y.cpu()
    weight = rows.weight.double().cpu().numpy()
    X, shift, spread = _read_columns(fit.net, kind, rows, weight)
    solve, alphas = _fit_numbers, _ALPHAS
    if head.kind != "regression" or getattr(head, "is_rate", False):
        solve, alphas = _fit_in_steps, _ALPHAS_OF_STEPS[::3]
    chooses = solve is _fit_numbers or weight.sum() < _MANY_ROWS * X.shape[1]
    # There may be no out-of-bag rows, or only those of one fold.
    has_folds = is_given = len(np.unique(folds)) > 1
    if not is_given:
        groups = fit.samples.groups
        if groups is not None:
            groups = groups[draw_rows(len(groups), len(y))]
        folds = _draw_folds(X, weight, groups)
        has_folds = chooses and (folds >= 0).any()
    # There may be no out-of-bag rows of the last folds.
    left_out = [NO_FOLD, *range((1 + folds.max()) * has_folds)]
    gains = [np.ones(len(spread))]
    is_wide = has_folds and len(spread) > weight.sum()
    if is_wide:
        gains.append(spread)
    if is_wide and solve is _fit_in_steps:
        # Here the penalty matters more: neighbours differ by a factor of 10, not of 32.
        alphas = _ALPHAS_OF_STEPS[::2]
    if not (chooses and has_folds):
        alphas = [1.0]
    search = partial(_search, solve, head, y, weight, folds, alphas)
    tried = [(search([(*_scale(X, gain, weight), left_out)]), gain) for gain in gains]
    best, gain = min(tried, key=lambda models_and_gain: models_and_gain[0][0])
    if is_wide and not issparse(X) and len(X) <= _MOST_WEIGHED:
        best = _search_weighed(search, best, X, gain, left_out)
    _, outputs, coef, intercept = best
    intercept -= coef @ shift
    if getattr(head, "has_scale", False):
        errors = y.numpy() - outputs[:, : head.n_targets]
        scale = np.sqrt(np.average(errors**2, 0, weight * ((folds >= 0) | (not has_folds))))
        intercept[:, head.n_targets :] = np.log(np.expm1(np.maximum(scale, 0.01)))
    # What others do not know of are folds that were drawn here.
    n_rules = len(left_out) if is_given else 1
    parts = (torch.from_numpy(part[:n_rules, np.newaxis]) for part in (coef, intercept))
    return [*map(Rules, *parts)]


def _read_columns(net, kind, rows, weight):
    """Return X, what linear experts add to it when they read it, and the deviations of its columns.

    A large sparse table stays sparse.
    """
    encoder, columns = net.module_.encoder, net.module_.experts.columns[kind]
    n_columns = net.module_.experts.kinds[kind][0].in_features
    center, scale, is_linear = np.zeros(n_columns), np.ones(n_columns), encoder is None
    if isinstance(encoder, TableEncoder) and columns == encoder.columns["linear"]:
        first, is_linear = n_columns - len(encoder.scale), True
        center[first:], scale[first:] = encoder.center.cpu(), encoder.scale.cpu()
    spread = np.where(np.isinf(scale), 0, scale)
    is_large = len(weight) * n_columns > MOST_NUMBERS
    if is_linear and is_large and isinstance(rows.x, SparseRows):
        X = csr_array(rows.x.X.multiply(1 / scale))
        # As the encoder does.
        X.data = X.data.clip(-LINEAR_UP_TO, LINEAR_UP_TO)
        return X, -center / scale, spread
    X = net.map_batches(lambda x, encoded: net.module_.read(x, columns, encoded), rows)
    X = X.clip(-_LARGEST, _LARGEST)
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


# -- the penalty, and the scaling of the columns ----------------------------------------------


def _search(solve, head, y, weight, folds, alphas, designs):
    """Return the models with the penalty that is best for rows of other folds.

    Parameters
    ----------
    solve : callable
        `_fit_numbers` or `_fit_in_steps`.
    designs : list of tuples
        Columns, (n_rows, n_columns), a function from their coefficients to those of the encoded
        columns, and the folds without which models are fitted to them.

    Returns
    -------
    loss : float
        Of the rows that have a fold.
    outputs : ndarray of shape (n_rows, n_outputs)
        Of the models that have not seen them.
    coef : ndarray of shape (n_models, n_outputs, n_encoded_columns)
    intercept : ndarray of shape (n_models, n_outputs)
    """
    paths = [solve(head, X, y, weight, folds, left_out, alphas) for X, _, left_out in designs]
    is_new, best = folds >= 0, None
    for models in zip(*paths, strict=False):
        outputs = np.zeros((len(y), head.n_outputs))
        for (X, _, left_out), fits in zip(designs, models, strict=True):
            for fold, coef, intercept in zip(left_out, *fits, strict=True):
                its = folds == fold
                outputs[its, : head.n_targets] = X[its] @ coef.T + intercept
        loss = weight[is_new] @ head.loss(torch.from_numpy(outputs[is_new]), y[is_new]).numpy()
        if best is None or loss < best[0]:
            best = loss, outputs, models
        elif solve is _fit_in_steps:
            break
    loss, outputs, models = best
    coef = np.concatenate([back(m[0]) for (_, back, _), m in zip(designs, models, strict=True)])
    intercept = np.concatenate([intercept for _, intercept in models])
    more = (0, head.n_outputs - head.n_targets)
    return loss, outputs, np.pad(coef, [(0, 0), more, (0, 0)]), np.pad(intercept, [(0, 0), more])


def _search_weighed(search, best, X, gain, left_out):
    """Return the same where each column is also multiplied by what it tells of y by itself.

    The best of powers of that, as long as these are better than what is known.
    """
    _, head, y, weight, folds, _ = search.args
    y = _indicators(head, y)
    told = []
    for fold in left_out:
        w = weight * (folds != fold)
        z = y - w @ y / w.sum()
        told.append(np.sqrt(np.square((w * z.T) @ X).T @ (1 / (w @ z**2 + 1e-6))))
    for power in _POWERS:
        weighed = [_scale(X, gain * (each / each.max()) ** power, weight) for each in told]
        tried = search([(*w, [fold]) for w, fold in zip(weighed, left_out, strict=True)])
        if not tried[0] < best[0]:
            break
        best = tried
    return best


def _scale(X, gain, weight):
    """Return columns times their gains, on their principal axes, and a function back.

    It returns coefficients of X. A rotation keeps inner products of rows, from which all follows:
    penalized models are those of the columns, but more columns than rows become as many, and steps
    are few where none is correlated with another.
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
    scaled = scaled @ axes
    return scaled, lambda coef: coef @ axes.T * gain


# -- models of some columns, for all penalties ------------------------------------------------


def _fit_numbers(head, X, y, weight, folds, left_out, alphas):
    """Return coefficients and intercepts of ridge regressions without each fold, by penalty."""
    y, n_targets, models = y.numpy(), head.n_targets, []
    for fold in left_out:
        its = folds != fold
        # All penalties at once, as if they were so many targets.
        y_of_each = np.tile(y[its].reshape(-1, n_targets), len(alphas))
        ridge = Ridge(np.repeat(alphas, n_targets), copy_X=False, tol=1e-6)
        models.append(ridge.fit(X[its].astype(np.float64), y_of_each, weight[its]))
    coefs = np.stack([m.coef_.reshape(len(alphas), n_targets, -1) for m in models], axis=1)
    intercepts = np.stack([m.intercept_.reshape(len(alphas), n_targets) for m in models], axis=1)
    return zip(coefs, intercepts, strict=True)


def _fit_in_steps(head, X, y, weight, folds, left_out, alphas):
    """Yield the same of classes, labels and rates, each penalty from the one before.

    All models are fitted at once, by L-BFGS.
    """
    kind, n_targets, is_rate = head.kind, head.n_targets, head.kind == "regression"
    has_two_classes = kind == "classes" and n_targets == 2
    if has_two_classes:
        # Whether it is the second one is a label.
        kind, n_targets, y = "multilabel", 1, y.double().unsqueeze(1)
    own = _HEADS[kind](n_targets)
    n_at_once = max(1, MOST_NUMBERS // (X.shape[1] + n_targets * len(left_out)))
    parts = [*gen_batches(len(y), n_at_once)]
    blocks = [_with_one(X[part]) for part in parts]
    weights = torch.from_numpy(weight[:, np.newaxis] * (folds[:, np.newaxis] != left_out))
    # (n_models, n_targets)
    mean = (weights.T.numpy() @ _indicators(own, y)) / weights.sum(0, True).T.numpy()
    # Not so are classes and labels of which a model sees no row, or nothing else.
    is_seen, is_all = mean > 0, (mean > 1 - 1e-12) & (not is_rate)
    theta = np.zeros((*mean.shape, X.shape[1] + 1))
    theta[..., -1] = np.where(is_seen, -_UNSEEN * is_all * (kind == "multilabel"), _UNSEEN)
    # Losses of labels and rates are means.
    unit_penalty = 1 if kind == "classes" else 1 / n_targets
    penalized = np.append(np.full(X.shape[1], unit_penalty), 0)

    def scores_of(theta):
        """Yield rows, columns and scores, (n_rows, n_models, n_targets), of each part."""
        flat = theta.reshape(-1, theta.shape[-1]).T
        for part, block in zip(parts, blocks, strict=True):
            scores = (block @ flat.astype(block.dtype)).astype(np.float64)
            yield part, block, torch.from_numpy(scores.reshape(-1, *mean.shape))

    def curvature(theta):
        """Return about the second derivatives of the loss."""
        total = 0.0
        for part, block, scores in scores_of(theta):
            of_y = own.predict(scores.flatten(0, 1)).reshape(scores.shape)
            each = of_y if is_rate else of_y * (1 - of_y)
            each = (each.clamp(min=1e-3) * weights[part].unsqueeze(2)).flatten(1)
            total += ((block * block).T @ each.numpy().astype(block.dtype)).T
        return total.reshape(theta.shape) * unit_penalty

    @torch.enable_grad()
    def loss(flat, penalty, unit):
        theta = flat.reshape(unit.shape) * unit
        gradient = penalty * theta
        value = (gradient * theta).sum() / 2
        for part, block, scores in scores_of(theta):
            scores.requires_grad_()
            total = (own.losses(scores, y[part]) * weights[part]).sum()
            slopes = torch.autograd.grad(total, scores)[0].numpy() * (is_seen & ~is_all)
            slopes = slopes.reshape(len(slopes), -1).astype(block.dtype)
            gradient += (block.T @ slopes).T.reshape(unit.shape)
            value += total.item()
        return value, (gradient * unit).ravel()

    for alpha in alphas:
        # In these units all second derivatives are about 1.
        unit = 1 / np.sqrt(curvature(theta) + alpha * penalized)
        known = (theta / unit).ravel(), (alpha * penalized, unit)
        best = minimize(loss, *known, "L-BFGS-B", jac=True, options=_STEPS)
        theta = best.x.reshape(unit.shape) * unit
        both = theta * [[-0.5], [0.5]] if has_two_classes else theta
        yield both[..., :-1], both[..., -1]


def _with_one(X):
    """Return columns, and a last one of ones."""
    one = np.ones((X.shape[0], 1), X.dtype)
    return csr_array(hstack([X, one])) if issparse(X) else np.hstack([X, one])


def _indicators(head, y):
    """Return y as numbers, (n_rows, n_targets)."""
    if head.kind == "classes":
        return np.eye(head.n_targets)[y.numpy()]
    return y.reshape(len(y), -1).double().numpy()


# What linear models minimize, whatever the head of the net: likelihoods of classes, labels, rates.
_HEADS = {"classes": SoftmaxHead, "multilabel": SigmoidHead, "regression": PoissonHead}
