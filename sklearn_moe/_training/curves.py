"""What there is in place of regimes: curves, or rules that change gradually."""

import numpy as np
import torch

from .linear_models import NO_FOLD
from .regimes import open_design, with_one

# Parts of what regimes gain over a single line: they are believed if curves gain less than the
# first one, and less than the second one together with products of columns. These gain .75 of what
# a sign times a column does.
_MOST_OF_CURVES = 0.75
_MOST_OF_PRODUCTS = 0.9
# Of more columns there are no products.
_MOST_FACTORS = 30
# No row counts more than so many mean losses of regimes: few rows are beside a step, which no curve
# follows.
_MOST_LOSS = 2.0
# Of the coefficients of curves, in those of regimes; and steps of logistic regressions.
_PENALTY = 10
_N_STEPS = 100
# Columns that bend: how many are named, and their part of all that bends.
_MOST_NAMED = 2
_LEAST_PART = 0.1


def find_curves(net, rows, folds, unseen, losses):
    """Return what there is in place of regimes; None if these are some.

    Regimes predict unseen rows clearly better than curves do: a sum of piecewise-linear functions
    of each column, and of products of two columns, fitted to the same rows as the regimes.

    Parameters
    ----------
    net : MoENet
    rows : Rows
    folds : ndarray of shape (n_rows,), int
        Rows and folds are those of `seek_regimes`.
    unseen : UnseenOutputs
        Rows that are new to the experts.
    losses : sequence of two ndarrays of shape (n_unseen,)
        Of a single linear rule, and of the regimes.

    Returns
    -------
    bends : tuple of int, or None
        The columns of X whose curves bend, those that bend most first. There is none if rules
        change gradually, as those of a product of two columns do.
    """
    encoder = net.module_.encoder
    # Columns of two values do not bend.
    if not encoder.has_pieces:
        return None
    weight, y = unseen.rows.weight.cpu().double().numpy(), unseen.rows.y.cpu()
    most = _MOST_LOSS * np.average(losses[1], weights=weight)

    def mean(losses):
        return np.average(np.minimum(losses, most), weights=weight)

    of_line, of_regimes = map(mean, losses)
    n_factors = len(encoder.numeric) * (len(encoder.numeric) <= _MOST_FACTORS)
    for n, part in ((0, _MOST_OF_CURVES), (n_factors, _MOST_OF_PRODUCTS)):
        x, outputs, coef = _fit_curves(net, rows, folds, unseen, n)
        of_curves = mean(net.criterion_.loss(torch.from_numpy(outputs), y).numpy())
        if of_line - of_curves > part * (of_line - of_regimes):
            return () if n else _find_bends(encoder, x, coef, weight)
    return None


def _fit_curves(net, rows, folds, unseen, n_factors):
    """Return columns of unseen rows, what is predicted of these, and coefficients.

    The coefficients, (n_columns, n_targets), are those of all rows that are fitted to.
    """

    def columns(encoded):
        z = encoded[:, encoded.shape[1] - n_factors :]
        i, j = np.triu_indices(n_factors, 1)
        return torch.cat([encoded, z[:, i] * z[:, j]], 1)

    table, _, folds = open_design(net, columns, rows, folds)
    left_out = np.append(NO_FOLD, np.arange(folds.max() + 1))
    weight = table.weight / _PENALTY * (folds != left_out[:, np.newaxis])
    start = np.zeros((len(weight), len(table.y), table.Z.shape[1]))
    coef = table.model.fit(table, weight, start, _N_STEPS).transpose(0, 2, 1)
    # Of rows that were held out all models are fitted to the same rows.
    others = coef[min(1, len(coef) - 1) :]
    x = with_one(columns(net.module_.encode(net.as_input(unseen.rows.x))))
    outputs = (x @ others)[unseen.hidden.numpy() % len(others), np.arange(len(x))]
    return x, outputs, coef[0]


def _find_bends(encoder, x, coef, weight):
    """Return the columns of X whose curves vary most around lines."""
    n_numeric = len(encoder.numeric)
    # What bends comes first, the pieces of numbers and then these, with a bound. The last columns
    # are numbers without one, and ones.
    column = np.append(encoder.of_column.cpu(), np.arange(n_numeric))
    bends = np.zeros(n_numeric)
    for place in range(n_numeric):
        its = np.flatnonzero(column == place)
        z, curve = x[:, place - n_numeric - 1], x[:, its] @ coef[its]
        # The weighted sums of squares around a line.
        bends[place] = np.polyfit(z, curve, 1, w=np.sqrt(weight), full=True)[1].sum()
    order = bends.argsort()[::-1][:_MOST_NAMED]
    bent = order[bends[order] > _LEAST_PART * bends.sum()]
    return tuple(encoder.numeric.cpu().numpy()[bent].tolist())
