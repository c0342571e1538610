"""A router that is learned from what experts predict of rows that they have not seen."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import softmax

N_FOLDS = 5  # each as large as what is hidden from one of five networks
# Of the squared slopes, in sums of losses over rows. One after the other is tried, the strongest
# first, as long as rows of other folds are predicted better.
_PENALTIES = (300.0, 30.0, 3.0, 0.3)
_MAX_ITER = 100


class Weights(NamedTuple):
    """Scores of the kinds of experts: `features @ slopes.T + intercept`, before the softmax."""

    slopes: np.ndarray  # (n_kinds, n_features)
    intercept: np.ndarray  # (n_kinds,)
    loss: float  # mean loss of the mixture on the rows
    unseen: np.ndarray | None = None  # (n_rows, n_kinds), gates by weights of the other folds

    def gates(self, features):
        """Return the weight of each kind for each row, (n_rows, n_kinds)."""
        return softmax(features @ self.slopes.T + self.intercept, axis=1)


def fit_router(values, losses, weight, features, folds):
    """Return the weights of kinds of experts by which the loss of their mixture is least.

    They are functions of the features if these predict rows of other folds better, by more than
    chance gains; otherwise they are constant.

    Parameters
    ----------
    values : Tensor or ndarray of shape (n_rows, n_kinds, n_values)
    losses : callable
        The loss of the mixture of a row depends on sums of values by weight, see
        `Head.mixing_parts`.
    weight : ndarray of shape (n_rows,)
    features : ndarray of shape (n_rows, n_features)
        What the router reads.
    folds : ndarray of shape (n_rows,), int
        Equal rows are in the same fold.

    Returns
    -------
    weights : Weights
    """
    fit = _Fit(values, losses, np.asarray(weight, dtype=float), np.asarray(features, dtype=float))
    every = np.ones(len(weight), dtype=bool)
    constant = fit.minimize(every)
    if fit.n_kinds == 1 or not features.shape[1]:
        return constant
    parts_of = [(folds % N_FOLDS != fold, folds % N_FOLDS == fold) for fold in range(N_FOLDS)]
    parts_of = [(known, new) for known, new in parts_of if known.any() and new.any()]
    if not parts_of:
        return constant

    def unseen(found):
        return np.concatenate(
            [fit.losses(w, new) for w, (_, new) in zip(found, parts_of, strict=True)]
        )

    rows = np.concatenate([np.flatnonzero(new) for _, new in parts_of])
    found = constants = best = [fit.minimize(known) for known, _ in parts_of]
    least = first = unseen(found)
    penalty = None
    for tried in _PENALTIES:
        found = [
            fit.minimize(known, tried, w) for w, (known, _) in zip(found, parts_of, strict=True)
        ]
        losses = unseen(found)
        if not fit.weight[rows] @ losses < fit.weight[rows] @ least:
            break
        least, penalty, best = losses, tried, found
    # As many slopes as columns gain something by chance.
    if penalty is not None and is_clearly_positive(first - least, fit.weight[rows]):
        chosen = fit.minimize(every, penalty, constant)
    else:
        chosen, best = constant, constants
    gates = np.empty((len(weight), fit.n_kinds))
    for w, (_, new) in zip(best, parts_of, strict=True):
        gates[new] = w.gates(fit.features[new])
    return chosen._replace(unseen=gates)


def is_clearly_positive(gain, weight):
    """Tell whether the mean gain of rows is more than three of its standard errors."""
    mean = np.average(gain, weights=weight)
    error = np.sqrt(np.average((gain - mean) ** 2, weights=weight) / weight.sum())
    return mean > 3 * error


def mixed_losses(values, losses, gates):
    """Return the losses of rows by given gates, (n_rows,); the rest is as of `fit_router`."""
    mixed = (torch.from_numpy(gates[:, :, np.newaxis]) * torch.as_tensor(values)).sum(1)
    return losses(mixed, torch.arange(len(mixed))).numpy()


class _Fit:
    """The loss of a mixture by the scores of its kinds, and where it is least."""

    def __init__(self, values, losses, weight, features):
        self.values, self.loss_of = torch.as_tensor(values), losses
        self.weight, self.features = weight, features
        self.n_kinds = self.values.shape[1]

    def losses(self, weights, rows):
        """Return the losses of some rows, (n_rows,) bool."""
        gates = torch.from_numpy(weights.gates(self.features[rows]))
        return self._losses(gates, torch.from_numpy(rows)).numpy()

    def _losses(self, gates, rows):
        return self.loss_of((gates.unsqueeze(2) * self.values[rows]).sum(1), rows)

    def minimize(self, rows, penalty=None, start=None):
        """Return the weights with the least loss on some rows; without penalty, constant ones."""
        n_features = 0 if penalty is None else self.features.shape[1]
        mask = torch.from_numpy(rows)
        x = torch.from_numpy(np.c_[self.features[rows][:, :n_features], np.ones(rows.sum())])
        weight = torch.from_numpy(self.weight[rows])
        total = weight.sum()

        @torch.enable_grad()
        def loss(flat):
            theta = torch.from_numpy(flat).reshape(self.n_kinds, -1).requires_grad_()
            losses = self._losses((x @ theta.T).softmax(1), mask)
            value = weight @ losses / total
            if n_features:
                value = value + penalty / 2 / total * theta[:, :-1].square().sum()
            (gradient,) = torch.autograd.grad(value, theta)
            return value.item(), gradient.numpy().ravel()

        theta = np.zeros((self.n_kinds, n_features + 1))
        if start is not None:
            theta[:, :-1], theta[:, -1] = start.slopes[:, :n_features], start.intercept
        options = {"maxiter": _MAX_ITER}
        found = minimize(loss, theta.ravel(), jac=True, method="L-BFGS-B", options=options)
        theta = found.x.reshape(theta.shape)
        slopes = np.zeros((self.n_kinds, self.features.shape[1]))
        slopes[:, :n_features] = theta[:, :-1]
        return Weights(slopes, theta[:, -1], float(found.fun))
