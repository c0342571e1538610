"""Linear experts of a pool, as solvers find them."""

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge, RidgeCV
from torch import Tensor

from .._data.indexing import draw_rows
from .._data.router import N_FOLDS
from ..nn.experts import LinearExpert

_ALPHAS = np.logspace(-1, 5, 13)
# Score of a class of which an expert sees no sample, logarithm of a rate of 0.
_UNSEEN = -5.0
# Numbers of columns that a solver is given at once.
MOST_NUMBERS = 2**21


class Rules(NamedTuple):
    """What the experts of a linear kind are, and which of them holds where."""

    # (n_rules, n_outputs, n_columns): one rule for all members, or one for each.
    coef: Tensor
    # (n_rules, n_outputs)
    intercept: Tensor
    # (n_rules, n_router_columns + 1); None: of a single rule.
    gate: Tensor | None = None

    def outputs(self, z):
        """Return the outputs of all rules, (n_rows, n_rules, n_outputs)."""
        return torch.einsum("nd,mod->nmo", z, self.coef) + self.intercept

    def shares(self, features):
        """Return the share of each rule in what the kind says, (n_rows, n_rules)."""
        if self.gate is None:
            return features.new_ones(len(features), 1)
        return (features @ self.gate[:, :-1].T + self.gate[:, -1]).softmax(1)


def solved_kinds(net):
    """Return the kinds whose weights are found by a solver, not in steps."""
    pool = net.module_.experts
    if net.criterion_.n_outputs < net.criterion_.n_targets:
        return []
    return [kind for kind, experts in enumerate(pool.kinds) if type(experts[0]) is LinearExpert]


def solve_kind(net, kind, rows, folds):
    """Fit a linear kind to all rows; return its rule, and those fitted without each fold.

    The penalty is the one by which rows of other folds are predicted best: as equal rows are in one
    fold, a row of weight 2 is the row twice. Rows of fold -1 are in none.
    """
    module, head = net.module_, net.criterion_
    columns, n_columns = module.experts.columns[kind], module.experts.kinds[kind][0].in_features
    n_most = max(1, MOST_NUMBERS // n_columns)
    folds = folds[draw_rows(len(folds), n_most)]
    rows = rows.sample(n_most, torch.device(net.device))

    def read(x, *, encoded):
        return module.encode(x, encoded)[:, columns]

    X = net.map_rows(read, rows).astype(float)
    y, weight = rows.y.cpu().numpy(), rows.weight.cpu().numpy()
    # There may be no out-of-bag rows, or too few for all folds.
    has_folds = (folds >= 0).any() and all((folds != fold).any() for fold in range(N_FOLDS))
    new = folds >= 0 if has_folds else np.ones(len(X), bool)
    alphas = [*_ALPHAS[::2]] if head.kind == "regression" and has_folds else None
    by_fold = [
        fit_linear(head, X[folds != fold], y[folds != fold], weight[folds != fold], alphas)
        for fold in (range(N_FOLDS) if has_folds else ())
    ]
    least, chosen, functions = math.inf, None, []
    oob_outputs = np.zeros((len(X), head.n_outputs))
    for alpha, others in zip(alphas or [None], zip(*by_fold, strict=True), strict=False):
        outputs = np.zeros((len(X), head.n_outputs))
        for fold, (coef, intercept) in enumerate(others):
            outputs[folds == fold] = X[folds == fold] @ coef.numpy().T + intercept.numpy()
        loss = weight[new] @ head.loss(torch.from_numpy(outputs[new]), rows.y.cpu()[new]).numpy()
        if loss < least:
            least, chosen, functions, oob_outputs = loss, alpha and [alpha], others, outputs
    functions = [*fit_linear(head, X, y, weight, chosen), *functions]
    if getattr(head, "has_scale", False):
        errors = y - oob_outputs[:, : head.n_targets]
        scale = np.sqrt(np.average(errors**2, axis=0, weights=weight * new))
        scale = torch.from_numpy(np.log(np.expm1(np.maximum(scale, 0.01))))
        for _, intercept in functions:
            intercept[head.n_targets :] = scale
    return [Rules(coef.unsqueeze(0), intercept.unsqueeze(0)) for coef, intercept in functions]


def fit_linear(head, X, y, weight, alphas=None):
    """Return coefficients and intercepts of penalized linear models of samples.

    Parameters
    ----------
    head : Head
        What an output means. Outputs beyond one per target are 0.
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
    weight : ndarray of shape (n_samples,)
    alphas : sequence of float or None, default=None
        Penalties of models of numbers. None: one, by leaving out one sample at a time; of rates 1.

    Returns
    -------
    models : list of tuples of Tensors
        For each penalty the coefficients, (n_outputs, n_features), and intercepts, (n_outputs,).
    """
    fit = _fit_rates if getattr(head, "is_rate", False) else _FITS[head.kind]
    found = fit(X, y, weight.astype(np.float64), head.n_targets, alphas)
    coef = np.zeros((len(found[0]), head.n_outputs, X.shape[1]))
    intercept = np.zeros(coef.shape[:2])
    coef[:, : head.n_targets], intercept[:, : head.n_targets] = found
    return [*zip(torch.from_numpy(coef), torch.from_numpy(intercept), strict=True)]


def _fit_numbers(X, y, weight, n_targets, alphas=None):
    y, n_models = y.reshape(len(y), n_targets), len(alphas or [None])
    model = RidgeCV(_ALPHAS)
    if alphas is not None or len(X) < 3:  # all at once, as if they were so many targets
        y, model = np.tile(y, n_models), Ridge(np.repeat(alphas or [1.0], n_targets))
    with np.errstate(divide="ignore", invalid="ignore"):  # where a row has nearly all weight
        model.fit(X, y, weight)
    shape = n_models, n_targets
    return model.coef_.reshape(*shape, -1), model.intercept_.reshape(shape)


def _fit_rates(X, y, weight, n_targets, alphas=None):
    coef = np.zeros((len(alphas or [None]), n_targets, X.shape[1]))
    intercept = np.full(coef.shape[:2], _UNSEEN)
    for target, numbers in enumerate(y.reshape(len(y), n_targets).T):
        # Each starts from the one before. Penalties are in sums over the samples, as of Ridge.
        model = PoissonRegressor(max_iter=1000, warm_start=True)
        for place, alpha in enumerate(alphas or [1.0]):
            if weight @ numbers > 0:
                model.set_params(alpha=alpha / weight.sum()).fit(X, numbers, weight)
                coef[place, target], intercept[place, target] = model.coef_, model.intercept_
    return coef, intercept


def _fit_classes(X, y, weight, n_targets, alphas=None):
    coef, intercept = np.zeros((1, n_targets, X.shape[1])), np.full((1, n_targets), _UNSEEN)
    classes = np.unique(y)
    if len(classes) == 1:
        intercept[0, classes] = 0
        return coef, intercept
    model = LogisticRegression(max_iter=1000).fit(X, y, weight)
    both = np.array([[-0.5], [0.5]]) if len(classes) == 2 else 1
    coef[0, classes], intercept[0, classes] = both * model.coef_, np.ravel(both * model.intercept_)
    return coef, intercept


def _fit_labels(X, y, weight, n_targets, alphas=None):
    each = [_fit_classes(X, label.astype(int), weight, 2) for label in y.T]
    coefs, intercepts = (np.concatenate(part) for part in zip(*each, strict=True))
    # Of no and yes: a label has their difference.
    return np.diff(coefs, axis=1)[np.newaxis, :, 0], np.diff(intercepts, axis=1).T


_FITS = {"regression": _fit_numbers, "classes": _fit_classes, "multilabel": _fit_labels}
