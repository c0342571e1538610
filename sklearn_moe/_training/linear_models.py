"""Linear models of rows, as the solvers of scikit-learn find them."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV

ALPHAS = np.logspace(-1, 5, 13)
_UNSEEN = -5.0  # score of a class of which an expert sees no sample


def fit_linear(head, X, y, weight, alpha=None):
    """Return coefficients and intercepts of a penalized linear model of samples.

    Parameters
    ----------
    head : Head
        What an output means. Outputs beyond one per target are 0.
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
    weight : ndarray of shape (n_samples,)
    alpha : float or None, default=None
        Penalty of a model of numbers. None: by leaving out one sample at a time.

    Returns
    -------
    coef : Tensor of shape (n_outputs, n_features)
    intercept : Tensor of shape (n_outputs,)
    """
    coef = np.zeros((head.n_outputs, X.shape[1]))
    intercept = np.zeros(head.n_outputs)
    coef[: head.n_targets], intercept[: head.n_targets] = _FITS[head.kind](
        X, y, weight.astype(np.float64), head.n_targets, alpha
    )
    return torch.from_numpy(coef), torch.from_numpy(intercept)


def _fit_numbers(X, y, weight, n_targets, alpha=None):
    by_leaving_out = alpha is None and len(X) > 2
    with np.errstate(divide="ignore", invalid="ignore"):  # where a row has nearly all weight
        model = (RidgeCV(ALPHAS) if by_leaving_out else Ridge(alpha or 1.0)).fit(X, y, weight)
    return model.coef_.reshape(n_targets, -1), model.intercept_


def _fit_classes(X, y, weight, n_targets, alpha=None):
    coef, intercept = np.zeros((n_targets, X.shape[1])), np.full(n_targets, _UNSEEN)
    classes = np.unique(y)
    if len(classes) == 1:
        intercept[classes] = 0
        return coef, intercept
    model = LogisticRegression(max_iter=1000).fit(X, y, weight)
    both = np.array([[-0.5], [0.5]]) if len(classes) == 2 else 1
    coef[classes], intercept[classes] = both * model.coef_, np.ravel(both * model.intercept_)
    return coef, intercept


def _fit_labels(X, y, weight, n_targets, alpha=None):
    each = [_fit_classes(X, label.astype(int), weight, 2) for label in y.T]
    coefs, intercepts = zip(*each, strict=True)  # of no and yes: a label has their difference
    return np.diff(coefs, axis=1)[:, 0], np.diff(intercepts, axis=1)[:, 0]


_FITS = {"regression": _fit_numbers, "classes": _fit_classes, "multilabel": _fit_labels}
