"""Newton's method for linear models of scikit-learn, from where they stand.

An M step changes the weights of the samples only a little: a few steps from the coefficients before
take the place of a fit from nothing.
"""

import copy

import numpy as np
from scipy.sparse import issparse
from scipy.special import softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.utils.validation import validate_data

# Solvers that take no penalty but that of ridge regression.
_RIDGE_ONLY = ("lbfgs", "newton-cg", "newton-cholesky")


def refit(model, X, y, weight):
    """Return a linear model with the coefficients of these weights, from those it has on.

    They are those that its own solver would find: the gradient is at most `tol`, after `max_iter`
    steps at most. None of other models, of large ones, and if the method does not converge.
    """
    if issparse(X) or not _is_known(model):
        return None
    share = weight / weight.sum()
    if type(model) is PoissonRegressor:
        classes = None
        n_rows = 1
        penalty = model.alpha
        slopes = _poisson_slopes
        target = y[:, np.newaxis]
    else:
        classes = np.unique(y)
        n_rows = 1 if len(classes) == 2 else len(classes)
        penalty = 0 if model.penalty is None else 1 / (model.C * weight.sum())
        slopes = _softmax_slopes
        target = y[:, np.newaxis] == classes
    # The work of a step grows with the square of the number of coefficients.
    if n_rows * (X.shape[1] + 1) > 100:
        return None
    if not (hasattr(model, "coef_") and np.array_equal(getattr(model, "classes_", None), classes)):
        model = without_slopes(model, X, y if classes is None else classes)
    level = np.full(len(y), float(model.fit_intercept))
    Z = np.column_stack([np.asarray(X, dtype=float), level])
    start = np.column_stack([np.atleast_2d(model.coef_), np.ravel(model.intercept_)])
    ridge = np.tile(np.append(np.full(X.shape[1], penalty), 0), n_rows)

    def derivatives(coef):
        """Return the first and the second derivatives of the penalized mean loss."""
        first, second = slopes(Z @ coef.reshape(start.shape).T, target)
        gradient = (share * first.T) @ Z
        blocks = [np.hstack([Z.T * (share * part) @ Z for part in row]) for row in second.T]
        return gradient.ravel() + ridge * coef, np.vstack(blocks) + np.diag(ridge)

    coef, n_iter = _minimize(derivatives, start.ravel(), model.tol, model.max_iter)
    if coef is None:
        return None
    coef = coef.reshape(start.shape)
    parts = {"coef_": coef[:, :-1], "intercept_": coef[:, -1], "n_iter_": np.array([n_iter])}
    model = copy.copy(model)
    # Of regressors these are vectors and numbers.
    for name, values in parts.items():
        setattr(model, name, values.reshape(np.shape(getattr(model, name)))[()])
    return model


def _is_known(model):
    """Tell a model with a smooth convex loss and a ridge penalty, or none."""
    if type(model) is LogisticRegression:
        is_multinomial = getattr(model, "multi_class", "deprecated") == "deprecated"
        return is_multinomial and model.solver in _RIDGE_ONLY and model.class_weight is None
    return type(model) is PoissonRegressor and model.solver in _RIDGE_ONLY


def without_slopes(model, X, y):
    """Return a fitted model of coefficients that are 0: a fit to columns of 0 takes no steps."""
    y = np.array([y.min(), y.max()]) if type(model) is PoissonRegressor else y
    fitted = clone(model).set_params(solver="lbfgs", tol=1.0)
    fitted.fit(np.zeros((len(y), X.shape[1])), y).set_params(**model.get_params())
    # The names of the columns.
    validate_data(fitted, X, skip_check_array=True)
    return fitted


def _poisson_slopes(scores, y):
    """Return the derivatives of half the Poisson deviance by the logarithm of the mean."""
    mean = np.exp(scores)
    return mean - y, mean[:, np.newaxis]


def _softmax_slopes(scores, y):
    """Return the derivatives of the log loss by the scores; of two classes, those of the second."""
    n_free = scores.shape[1]
    if n_free == 1:
        scores = np.column_stack([np.zeros(len(scores)), scores])
    proba = softmax(scores, axis=1)[:, -n_free:]
    second = proba[:, :, np.newaxis] * (np.eye(n_free) - proba[:, np.newaxis])
    return proba - y[:, -n_free:], second


def _minimize(derivatives, coef, tol, max_iter):
    """Return where a convex function has its minimum, None if it is not found, and the steps.

    A step is halved until the slope along it is less steep than before it: a longer one would go
    beyond the minimum.
    """
    n_iter = 0
    with np.errstate(over="ignore", invalid="ignore"):
        gradient, hessian = derivatives(coef)
        while n_iter < min(max_iter, 50) and np.isfinite(hessian).all():
            # The steps are the same in any unit of the columns.
            unit = np.sqrt(hessian.diagonal())
            unit[unit == 0] = 1
            scaled = hessian / np.outer(unit, unit)
            step = -np.linalg.lstsq(scaled, gradient / unit, rcond=None)[0] / unit
            for _ in range(30):
                after = derivatives(coef + step)
                if abs(after[0] @ step) <= abs(gradient @ step):
                    coef, (gradient, hessian) = coef + step, after
                    break
                step = step / 2
            else:
                break
            n_iter += 1
            if np.abs(gradient).max() <= tol:
                return coef, n_iter
    return (coef if np.abs(gradient).max() <= tol else None), n_iter
