"""Linear models of rows, as the solvers of scikit-learn find them."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge, RidgeCV

ALPHAS = np.logspace(-1, 5, 13)
_UNSEEN = -5.0  # score of a class of which an expert sees no sample, logarithm of a rate of 0


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
    model = RidgeCV(ALPHAS)
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
