"""Coefficients of experts that are linear in the columns of a table, whatever their class."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import pinvh
from scipy.sparse import issparse
from scipy.stats import t as student
from sklearn.linear_model import GammaRegressor, PoissonRegressor
from sklearn.utils import _safe_indexing

from .._data.experts import expert_outputs
from .._data.tables import Table, is_frame
from .._validation import check_named, final_step, last_step
from ..metrics._report import open_view
from ..metrics._words import Wording

# A function is linear up to so many standard deviations of an expert's outputs.
_TOLERANCE = 1e-6
# Nobody reads more coefficients.
MOST_TERMS = 500
TINY = np.finfo(float).tiny


def open_table(estimator, X, needs=("apply", "predict")):
    """Return the view of a mixture that has some methods, and the columns of the table X.

    They are those that the estimator takes, the mixture or the pipeline that ends in it.
    """
    if not (is_frame(X) or issparse(X)):
        X = check_named(X, "X", dtype=None, ensure_all_finite=False)
    view = open_view(estimator, X, needs)
    # Behind other steps of a pipeline the mixture takes other columns.
    return view, Wording(X, view.categorical if view.mixture is estimator else None)


def linear_outputs(view, outputs):
    """Return outputs of experts that may be linear in the columns of X.

    Parameters
    ----------
    view : ExpertView
    outputs : ndarray of shape (n_samples, n_experts, n_outputs)
        Numbers, or probabilities of classes or labels.

    Returns
    -------
    outputs : ndarray of shape (n_samples, n_experts, n_outputs)
        The numbers, or the log odds of the other classes against the first. These are NaN where
        rounded probabilities do not tell them, and for several labels.
    """
    if view.classes is None:
        return outputs
    is_sum = np.isclose(outputs.sum(axis=2, keepdims=True), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.log(outputs[..., 1:]) - np.log(outputs[..., :1])
        is_known = is_sum & (np.abs(odds) < np.log(_tolerance(odds) / np.finfo(odds.dtype).eps))
    return np.where(is_known, odds, np.nan)


class LinearFunctions(NamedTuple):
    """Experts as linear functions of terms: numbers, and indicators of what they are not.

    Attributes
    ----------
    names : list of n_terms str
        The last one is the intercept.
    labels : list of n_terms - 1 str or None
        What is one where it holds: a category, or "missing". None for numbers.
    design : ndarray of shape (n_samples, n_terms - 1)
        Without the intercept.
    owners : ndarray of shape (n_terms - 1,)
        The column of each term.
    coef : ndarray of shape (n_experts, n_terms, n_outputs)
        NaN for experts that are not linear.
    is_log : bool
        Whether the logarithms of their outputs are linear.
    """

    names: list
    labels: list
    design: np.ndarray
    owners: np.ndarray
    coef: np.ndarray
    is_log: bool = False


def find_linear(estimator, view, table, outputs):
    """Return the experts as linear functions of the columns of a table.

    Where none of them is, and all predict positive numbers, their logarithms may be linear: those
    of a Poisson or a gamma regression are.

    Parameters
    ----------
    estimator : estimator
        The mixture, or the pipeline that ends in it.
    view : ExpertView
    table : Wording
    outputs : ndarray of shape (n_samples, n_experts, n_outputs)
        As `linear_outputs` returns them.
    """
    is_class = view.classes is not None
    n_samples, n_experts, n_outputs = outputs.shape
    sizes = (len(table[p].labels or [0]) for p in range(min(table.n_columns, MOST_TERMS + 1)))
    if np.isnan(outputs).all() or sum(sizes) > MOST_TERMS:
        coef = np.full((n_experts, 1, n_outputs), np.nan)
        return LinearFunctions(["intercept"], [], np.empty((n_samples, 0)), np.empty(0, int), coef)
    terms, base = _find_terms(table)
    design = np.array([term.values for term in terms], float).reshape(len(terms), n_samples).T
    owners = np.array([term.owner for term in terms], int)
    # Samples of the probe differ from the first in one column each. The same sample may be rounded
    # in another way in another place, so each is compared with the first one in its own place.
    probe = np.tile(base, (1 + len(terms), 1))
    probe[np.arange(1, len(probe)), owners] = [term.row for term in terms]
    tables = [mix_rows(table.X, rows) for rows in (probe, np.broadcast_to(base, probe.shape))]
    tables = [final_step(estimator, X)[1] for X in tables]
    probed, still = (linear_outputs(view, expert_outputs(view.mixture, X)) for X in tables)
    values = design[probe[:, owners], np.arange(len(terms))]
    is_log = False
    coef = _solve(design, values, outputs, probed, still, is_class)
    if not is_class and np.isnan(coef).all() and (outputs > 0).all():
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = _solve(design, values, np.log(outputs), np.log(probed), np.log(still))
        if not np.isnan(logs).all():
            coef, is_log = logs, True
    names = [*(term.name for term in terms), "intercept"]
    labels = [term.label for term in terms]
    return LinearFunctions(names, labels, design, owners, coef, is_log)


def _solve(design, values, outputs, probed, still, is_class=False):
    """Return the coefficients of the experts by what they say of a probe.

    Parameters
    ----------
    design : ndarray of shape (n_samples, n_terms - 1)
    values : ndarray of shape (n_terms, n_terms - 1)
        The terms of the samples of the probe.
    outputs : ndarray of shape (n_samples, n_experts, n_outputs)
    probed, still : ndarray of shape (n_terms, n_experts, n_outputs)
        Of the samples of the probe, and of its first one in the place of each.
    is_class : bool
        Whether these are log odds.

    Returns
    -------
    coef : ndarray of shape (n_experts, n_terms, n_outputs)
    """
    inverse = np.linalg.inv(values[1:] - values[0])
    effects = (probed - still)[1:].astype(float)
    slopes = np.tensordot(inverse, effects, 1)
    # An effect is rounded like the largest part of an output. Whether a smaller one shows depends
    # on the processor, so it is none.
    size = np.abs(probed[0] - np.tensordot(values[0], slopes, 1))
    size += np.tensordot(np.abs(values).max(axis=0), np.abs(slopes), 1)
    if is_class:
        # Of log odds the part of the rarer class is rounded most.
        size += np.exp(np.abs(still[0]))
    effects[np.abs(effects) <= 4 * np.finfo(outputs.dtype).eps * size] = 0
    slopes = np.tensordot(inverse, effects, 1)
    coef = np.concatenate([slopes, [probed[0] - np.tensordot(values[0], slopes, 1)]])
    error = np.abs(outputs - np.tensordot(design, coef[:-1], 1) - coef[-1])
    is_known = ~np.isnan(outputs).all(axis=0)
    known = np.where(is_known, outputs, 0)
    limit = _tolerance(outputs) * (np.nanstd(known, axis=0) + 1e-4 * np.nanmax(abs(known), axis=0))
    is_linear = (is_known & ~np.isnan(coef[-1]) & ~(error > limit).any(axis=0)).all(axis=1)
    return np.where(is_linear[:, np.newaxis], coef, np.nan).swapaxes(0, 1)


def coefficients(view, functions, outputs, y, holds, share, weight, groups):
    """Return the coefficients of the experts, NaN for those that are not linear.

    Terms that are constant on the samples of an expert have none: they are a part of its intercept.

    Parameters
    ----------
    view : ExpertView
    functions : LinearFunctions
    outputs : ndarray of shape (n_samples, n_experts, n_outputs)
        As `linear_outputs` returns them.
    y : ndarray of shape (n_samples, n_outputs) or None
        Targets, or ones for each class but the first.
    holds : ndarray of bool of shape (n_samples, n_experts)
        Where each expert holds.
    share : ndarray of shape (n_samples, n_experts)
        The share of each sample that belongs to each expert.
    weight : ndarray of shape (n_samples,)
        Weights of the samples; no factor of all of them counts.
    groups : ndarray of int of shape (n_samples,) or None
        Samples of one group, from 0 on, depend on each other.

    Returns
    -------
    coef, half_width : ndarray of shape (n_experts, n_terms, n_outputs)
        The intervals are NaN without `y`, and of logarithms whose loss is not known.
    scale : ndarray of shape (n_terms,)
        Standard deviations of the terms.
    """
    coef = functions.coef.copy()
    half_width = np.full(coef.shape, np.nan)
    design = np.pad(functions.design, [(0, 0), (0, 1)], constant_values=1)
    for k in np.flatnonzero(~np.isnan(coef[:, -1]).any(axis=1)):
        rows = design[holds[:, k] | ~holds[:, k].any(), :-1]
        terms = np.append(np.ptp(rows, axis=0) > 0, True)
        coef[k, -1] += rows[0, ~terms[:-1]] @ coef[k, ~terms]
        coef[k, ~terms] = np.nan
        power = _variance_power(view, k) if functions.is_log else 0
        if y is None or np.isnan(power):
            continue
        if view.classes is None:
            parts = y, outputs[:, k], share[:, k] * weight
            derivatives = _derivatives(*parts, functions.is_log, power)
        else:
            expected = view.outputs[:, k, 1:]
            products = expected[:, np.newaxis] * expected[..., np.newaxis]
            derivatives = y - expected, np.eye(y.shape[1]) * expected[:, np.newaxis] - products
        half_width[k, terms] = _widths(design[:, terms], share[:, k], weight, groups, *derivatives)
    return coef, half_width, np.append(design[:, :-1].std(axis=0), 1.0)


def _variance_power(view, k):
    """Return the power of its mean that an expert takes the variance of y for, if that is known."""
    if view.is_log:
        return 1
    expert = last_step(view.mixture.experts_[k]) if hasattr(view.mixture, "experts_") else None
    known = {PoissonRegressor: 1, GammaRegressor: 2}
    return known.get(type(expert), getattr(expert, "power", np.nan))


def _derivatives(y, expected, weight, is_log, power):
    """Return the first and the negative second derivative of the log density by the outputs.

    These are means, or their logarithms. The variance of y is proportional to a power of its mean.
    """
    slope = expected if is_log else np.ones_like(expected)
    variance = slope**power
    error = y - expected
    least = 1e-30 * np.mean(y**2, axis=0) + TINY
    mean = weight @ (error**2 / variance) / max(weight.sum(), TINY)
    variance = variance * np.maximum(mean, least)
    return error * slope / variance, np.eye(y.shape[1]) * (slope**2 / variance)[:, np.newaxis]


def _widths(design, share, weight, groups, score, curvature):
    """Return half the widths of 95 % intervals of the coefficients of one expert.

    They are those of weighted maximum likelihood, robust against other variances than assumed, and
    against dependence in groups ("sandwich"), and NaN where the samples do not tell a coefficient.
    Where a penalty has moved a coefficient, they are wide enough to cover the true one as well.

    Parameters
    ----------
    design : ndarray of shape (n_samples, n_terms)
    share : ndarray of shape (n_samples,)
        The share of each sample that belongs to the expert.
    weight, groups : ndarray of shape (n_samples,)
        As of `coefficients`.
    score : ndarray of shape (n_samples, n_outputs)
    curvature : ndarray of shape (n_samples, n_outputs, n_outputs)
        Derivative and negative second derivative of the log density by the outputs.

    Returns
    -------
    half_widths : ndarray of shape (n_terms, n_outputs)
    """
    scale = np.sqrt(np.mean(design**2, axis=0))
    design = design / scale
    shape = design.shape[1], score.shape[1]
    # As many samples of equal weights tell as much (Kish).
    n_samples = (share @ weight) ** 2 / max(share @ weight**2, TINY)
    weight = share * weight
    freedom = n_samples - shape[0]
    if groups is None:
        groups = np.arange(len(design))
    else:
        of_group = np.bincount(groups, weight)
        freedom = min(freedom, of_group.sum() ** 2 / max(np.square(of_group).sum(), TINY) - 1)
    if freedom < 1:
        return np.full(shape, np.nan)
    # The correction of Louis (1982): as it is not known which expert a sample belongs to, the
    # likelihood is flatter than that of weighted samples.
    doubt = (1 - share)[:, np.newaxis, np.newaxis]
    curvature = curvature - doubt * score[:, np.newaxis] * score[..., np.newaxis]
    bread = np.einsum("n,na,nb,nqr->aqbr", weight, design, design, curvature, optimize=True)
    bread = bread.reshape(np.prod(shape), -1)
    inverse = pinvh(bread, rtol=1e-10)

    def influences(scores):
        sums = np.zeros((groups.max() + 1, len(bread)))
        np.add.at(sums, groups, scores.reshape(len(design), -1))
        return sums @ inverse

    scores = np.einsum("n,na,nq->naq", weight, design, score)
    influence = influences(scores)
    # Without a group its coefficients would differ by more: the first term of the jackknife.
    steps = np.einsum("na,naq->nq", design, influence[groups].reshape(scores.shape))
    influence += influences(np.einsum("n,na,nqr,nr->naq", weight, design, curvature, steps))
    deviation = np.sqrt(np.square(influence).sum(axis=0))
    # How far the coefficient is from that of largest likelihood, by one step of Newton's method.
    moved = np.abs(inverse @ scores.sum(axis=0).ravel())
    is_known = np.abs(np.diag(inverse @ bread) - 1) < 1e-6
    two_sided, one_sided = student.ppf([0.975, 0.95], freedom)
    width = np.maximum(two_sided * deviation, moved + one_sided * deviation)
    return np.where(is_known, width, np.nan).reshape(shape) / scale[:, np.newaxis]


def _tolerance(outputs):
    return max(_TOLERANCE, 1000 * np.finfo(outputs.dtype).eps)


class _Term(NamedTuple):
    """A term of a linear function of columns, and how to find its coefficient.

    Attributes
    ----------
    name : str
    label : str or None
        A category, "missing", or None for a number.
    values : ndarray of shape (n_samples,)
        Numbers, with the mean where they are missing; ones for the samples of a category, or for
        those where a number is missing.
    owner : int
        The column.
    row : int
        A row of X whose value of the column changes the term.
    """

    name: str
    label: str | None
    values: np.ndarray
    owner: int
    row: int


def _find_terms(table):
    """Return the terms of the columns, and for each column the row of X that others differ from."""
    terms = []
    base = np.zeros(table.n_columns, int)
    for place in range(table.n_columns):
        column = table[place]
        name, values = column.term, column.values
        if column.labels:
            frequent, *others = column.labels
            rows = np.unique(values, return_index=True)[1]
            base[place] = rows[0]
            for code, label in enumerate(others, 1):
                text = f"{name}: {label} instead of {frequent}"
                terms.append(_Term(text, label, values == code, place, rows[code]))
            continue
        missing = ~np.isfinite(values)
        what = "infinite" if np.isinf(values).any() else "missing"
        if missing.all():
            continue
        values = np.where(missing, np.nan, values.astype(float))
        # Two values that occur, one of them near the middle, about a deviation apart.
        base[place] = np.nanargmin(np.abs(values - np.nanmedian(values)))
        apart = np.abs(values - values[base[place]])
        if (apart > 0).any():
            other = np.where(apart > 0, np.abs(apart - np.nanstd(values)), np.inf).argmin()
            filled = np.where(missing, np.nanmean(values), values)
            terms.append(_Term(name, None, filled, place, other))
        if missing.any():
            text = f"{name}: {what} instead of its mean"
            terms.append(_Term(text, "missing", missing, place, missing.argmax()))
    return terms, base


def mix_rows(X, places):
    """Return samples of values from several rows of X, in its container.

    Parameters
    ----------
    X : data frame, ndarray or sparse matrix of shape (n_rows, n_columns)
    places : ndarray of int of shape (n_samples, n_columns)
        The row of X that each value is from.
    """
    if is_frame(X):
        pairs = zip(X.columns, places.T, strict=True)
        columns = {name: _safe_indexing(X[name], rows) for name, rows in pairs}
        if hasattr(X, "iloc"):
            columns = {name: column.reset_index(drop=True) for name, column in columns.items()}
        return type(X)(columns)
    if issparse(X):
        pairs = zip(Table(X), places.T, strict=True)
        return type(X)(np.stack([column.values[rows] for column, rows in pairs], axis=1))
    return X[places, np.arange(places.shape[1])]
