"""Gates of pools and of stacks, learned from what experts predict of rows they did not see.

torch is imported where it is used: mixtures of estimators that are no stack do without it.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

# Each fold is as large as what is hidden from one of five networks.
N_FOLDS = 5
# Of the squared slopes, in sums of losses over rows. One after the other is tried, the strongest
# first, as long as rows of other folds are predicted better.
_PENALTIES = (300.0, 30.0, 3.0, 0.3)


# A score whose softmax is next to nothing.
NO_WEIGHT = -40.0


class Weights(NamedTuple):
    """Scores of the kinds of experts: `features @ slopes.T + intercept`, before the softmax."""

    # (n_kinds, n_features)
    slopes: np.ndarray
    # (n_kinds,)
    intercept: np.ndarray
    # The gates of each row by weights of the other folds, (n_rows, n_kinds).
    unseen: np.ndarray | None = None

    def gates(self, features):
        """Return the weight of each kind for each row, (n_rows, n_kinds)."""
        return softmax(features @ self.slopes.T + self.intercept, axis=1)


def fit_router(values, losses, weight, features, folds, lines=()):
    """Return the weights of kinds of experts by which the loss of their mixture is least.

    They are functions of the features if these predict rows of other folds better, by more than
    chance gains; otherwise they are constant. A line that is as good as the mixture, by less than
    one standard error, has all the weight: it holds beyond the rows, too.

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
    lines : iterable of int
        The kinds that are linear.

    Returns
    -------
    weights : Weights
    """
    fit = _Objective(
        values, losses, np.asarray(weight, dtype=float), np.asarray(features, dtype=float)
    )
    every = np.ones((1, len(weight)), dtype=bool)
    unseen = folds % N_FOLDS == np.arange(N_FOLDS)[:, np.newaxis]
    unseen = unseen[unseen.any(1) & ~unseen.all(1)]
    constant = fit.minimize(every)[0]
    simplest = _line_or(constant, lines, fit, every)
    if fit.n_kinds == 1 or not features.shape[1] or not len(unseen):
        return simplest
    constants = fit.minimize(~unseen)
    first = fit.losses(constants, unseen)
    weight = fit.weight[np.nonzero(unseen)[1]]
    penalty, least, of_folds, sloped = None, first, constants, constants
    # Whether slopes gain anything does not depend on their last digits.
    tol = 1e-5 * min(1.0, abs(np.average(first, weights=weight)))
    for tried in _PENALTIES:
        sloped = fit.minimize(~unseen, tried, sloped, tol)
        losses = fit.losses(sloped, unseen)
        if not weight @ losses < weight @ least:
            break
        # Where slopes help, even the smallest ones gain more than by chance.
        if penalty is None and not is_clearly_positive(first - losses, weight, 1):
            break
        penalty, least, of_folds = tried, losses, sloped
    # As many slopes as columns gain something by chance.
    if penalty is not None and is_clearly_positive(first - least, weight):
        chosen = fit.minimize(every, penalty, [constant])[0]
        of_folds = fit.minimize(~unseen, penalty, of_folds)
    else:
        chosen, of_folds = simplest, constants
    gates = chosen.gates(fit.features)
    for weights, part in zip(of_folds, unseen, strict=True):
        gates[part] = weights.gates(fit.features[part])
    return chosen._replace(unseen=gates)


def _line_or(constant, lines, fit, every):
    """Return constant weights, or all of it for a line that is as good by one standard error."""
    of_mixture = fit.losses([constant], every)
    for kind in lines:
        # Others have next to no weight.
        alone = Weights(constant.slopes, np.where(np.arange(fit.n_kinds) == kind, 0.0, NO_WEIGHT))
        if not is_clearly_positive(fit.losses([alone], every) - of_mixture, fit.weight, 1):
            return alone
    return constant


def is_clearly_positive(gain, weight, n_errors=3):
    """Tell whether the mean gain of rows is more than so many of its standard errors."""
    mean = np.average(gain, weights=weight)
    error = np.sqrt(np.average((gain - mean) ** 2, weights=weight) / weight.sum())
    return mean > n_errors * error


def mixed_losses(values, losses, gates):
    """Return the losses of rows by given gates, (n_rows,); the rest is as of `fit_router`."""
    import torch

    mixed = (torch.from_numpy(gates[:, :, np.newaxis]) * torch.as_tensor(values)).sum(1)
    return losses(mixed, torch.arange(len(mixed))).numpy()


class _Objective:
    """The losses of mixtures by the scores of their kinds, and where each is least.

    Mixtures of several parts of the rows, (n_parts, n_rows) bool, are found side by side.
    """

    def __init__(self, values, losses, weight, features):
        import torch

        self.values = torch.as_tensor(values)
        self.loss_of = losses
        self.weight = weight
        self.features = features
        self.n_kinds = self.values.shape[1]

    def losses(self, weights, parts):
        """Return the losses of each mixture on its part, one part after the other."""
        of_rows = [mixed_losses(self.values, self.loss_of, w.gates(self.features)) for w in weights]
        return np.stack(of_rows)[parts]

    def minimize(self, parts, penalty=None, starts=None, tol=2.220446049250313e-09):
        """Return the weights with the least loss on each part; without penalty, constant ones.

        It ends when a step changes the loss by less than `tol`, relative to losses above 1.
        """
        import torch

        # A constant gate is that of any row.
        columns = self.features[:1, :0] if penalty is None else self.features
        x = torch.from_numpy(np.pad(columns, [(0, 0), (0, 1)], constant_values=1)).T
        rows = torch.arange(len(self.weight)).repeat(len(parts))
        weight = torch.from_numpy(parts * self.weight)
        of_slopes = (penalty or 0) / weight.sum(1)[:, None, None]
        weight = (weight / weight.sum(1, True)).flatten()
        # torch is slow along a short last axis: rows come last, but for the values.
        values = self.values.transpose(0, 1).contiguous()

        def loss(flat):
            theta = torch.from_numpy(flat).reshape(len(parts), self.n_kinds, -1)
            gates = (theta @ x).softmax(1)
            mixed = (gates.unsqueeze(3) * values).sum(1).requires_grad_()
            with torch.enable_grad():
                total = self.loss_of(mixed.flatten(0, 1), rows) @ weight
                of_mixed = torch.autograd.grad(total, mixed)[0]
            of_gates = (of_mixed.unsqueeze(1) * values).sum(3).sum_to_size(gates.shape)
            of_scores = gates * (of_gates - (gates * of_gates).sum(1, True))
            penalty_gradient = of_slopes * theta
            penalty_gradient[..., -1] = 0
            value = total + (penalty_gradient * theta).sum() / 2
            return value.item(), (of_scores @ x.T + penalty_gradient).numpy().ravel()

        theta = np.zeros((len(parts), self.n_kinds, len(x)))
        if starts is not None:
            theta[:] = [np.column_stack([start.slopes, start.intercept]) for start in starts]
        options = {"maxiter": 100, "ftol": tol}
        result = minimize(loss, theta.ravel(), jac=True, method="L-BFGS-B", options=options)
        theta = result.x.reshape(theta.shape)
        slopes = np.zeros((len(parts), self.n_kinds, self.features.shape[1]))
        slopes[..., : columns.shape[1]] = theta[..., :-1]
        return [*map(Weights, slopes, theta[..., -1])]
