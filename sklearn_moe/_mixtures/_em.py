"""The EM of a mixture of estimators: its starts, and its M step."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.utils import _safe_indexing, check_random_state

from .._compat import move_on, numbered
from .._data.tables import hash_rows
from .._data.validation import check_groups
from ._families import Family, predict_known
from ._weighted import Template, fit_weighted

# Iterations of all starts, and how many of them go on: to the next round, or to the end. Few rows
# without a gate have many maxima of the likelihood, and iterations cost little.
_FEW_ROWS, _ROUNDS_OF_FEW, _ROUNDS = 500, ((50, 4),), ((3, 3), (15, 1))
# Smaller shares are 0 in predictions, and as large as this in likelihoods, which have no 0.
LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Problem:
    """What a mixture is fitted to, and how."""

    X: Any
    y: np.ndarray  # of classes their codes
    target: np.ndarray  # y as the experts take it
    weight: np.ndarray
    groups: np.ndarray | None  # codes 0, 1, ...
    family: Family
    max_iter: int
    tol: float
    min_prior: float
    experts: tuple[Template, ...] = ()  # one per component
    gate: Template | None = None
    codes: np.ndarray | None = None  # of equal samples the same, whatever their order
    splits: list | None = None  # pairs (train, test) of the folds of a stack, if they are given

    @property
    def unit_weight(self):
        """Return the weights of samples by which a group counts as one sample."""
        if self.groups is None:
            return self.weight
        return self.weight / np.bincount(self.groups, self.weight)[self.groups]

    def without_weightless(self):
        """Return the problem of those samples that have a weight above 0."""
        if self.weight.all():
            return self
        rows = np.flatnonzero(self.weight)
        parts = {name: getattr(self, name)[rows] for name in ("y", "target", "weight")}
        groups = None if self.groups is None else check_groups(self.groups[rows], rows)
        return replace(self, X=_safe_indexing(self.X, rows), groups=groups, **parts)


@dataclass(frozen=True)
class Run:
    """Where EM stands: the best model so far, and what is needed to go on."""

    components: np.ndarray  # the indices of those that are left
    responsibilities: np.ndarray  # (n_samples, n_components)
    model: Any = None
    log_likelihood: float = -np.inf
    lower_bounds: tuple = ()
    converged: bool = False
    seed: int = 0


class MixtureFit(NamedTuple):
    """A problem that was solved, and how."""

    problem: Problem
    run: Run


class MixtureModel(NamedTuple):
    """A fitted mixture; experts and gate are the last steps of their pipelines."""

    experts: list
    gate: Any
    priors: np.ndarray  # of shape (n_components,)
    scales: list
    is_degenerate: bool  # a scale is at its lower bound


def code_samples(X, y):
    """Return a code per sample, the same for equal samples, whatever their order."""
    values = X if issparse(X) else np.asarray(X)
    if issparse(X) or values.dtype.kind not in "biuf" or np.isnan(values).any():
        values = hash_rows(X)
    return np.unique(np.column_stack([values, y]), axis=0, return_inverse=True)[1].ravel()


def sum_groups(values, groups):
    """Return the sums over the samples of each group, (n_groups, n_columns)."""
    return np.stack([np.bincount(groups, column) for column in values.T], axis=1)


# -- the iterations -----------------------------------------------------------------------------


def climb(run, step, find_alive, weight, *, max_iter, tol):
    """Return the run after at most so many further iterations.

    Parameters
    ----------
    run : Run
    step : callable
        `step(components, responsibilities, model)` returns the model of largest likelihood (the M
        step), which may go on from the one before, its responsibilities (the E step), and the log
        density of the samples.
    find_alive : callable
        Tells by the sums of the responsibilities, (n_components,), which components stay.
    weight : ndarray of shape (n_samples,)
    max_iter : int
    tol : float
        A run has converged if the mean log-likelihood changes by no more, or gains no more in ten
        iterations: experts such as trees do not always climb.
    """
    best = run
    components, responsibilities, model = run.components, run.responsibilities, run.model
    bounds = list(run.lower_bounds)
    total = weight.sum()
    n_stale, last_gain = 0, np.inf
    converged = False
    for _ in range(max_iter):
        alive = find_alive(weight @ responsibilities)
        if not alive.all():
            components = components[alive]
            responsibilities = _rescaled(responsibilities[:, alive])
            # The likelihood of more components is not compared with that of fewer.
            best = replace(best, log_likelihood=-np.inf)
        model, responsibilities, log_density = step(components, responsibilities, model)
        move_on()
        likelihood = float(weight @ log_density)
        bounds.append(likelihood / total)
        gain = (likelihood - best.log_likelihood) / total
        if gain > 0:
            best = Run(components, responsibilities, model, likelihood, seed=run.seed)
        n_stale = 0 if gain > tol else n_stale + 1
        # Components that are equal but for chance part slowly at first: each gain is larger then.
        converged = (abs(gain) <= tol and gain <= last_gain) or n_stale >= 10
        last_gain = gain
        if converged:
            break
    return replace(best, lower_bounds=tuple(bounds), converged=converged)


def _rescaled(responsibilities):
    """Return what is left of responsibilities, with sums of 1; equal ones where nothing is."""
    total = responsibilities.sum(axis=1, keepdims=True)
    equal = np.full_like(responsibilities, 1 / responsibilities.shape[1])
    return np.divide(responsibilities, total, out=equal, where=total > 0)


# -- from several starts -----------------------------------------------------------------------


def rank(run):
    """Return what is least of the best of some runs with one gate."""
    return run.model.is_degenerate, -run.log_likelihood


def fit_best(problem, runs, n_jobs=None):
    """Return the best run: in some rounds all start, and the better ones go on."""
    n_left = problem.max_iter
    is_cheap = problem.gate is None and len(problem.y) <= _FEW_ROWS
    rounds = _ROUNDS_OF_FEW if is_cheap else _ROUNDS
    for n_iter, n_kept in (*rounds, (n_left, 1)):
        n_iter = min(n_iter if len(runs) > 1 else n_left, n_left)
        n_left -= n_iter
        started = numbered("start", runs)
        runs = Parallel(n_jobs)(delayed(_climb)(problem, run, n_iter) for run in started)
        runs = sorted(runs, key=rank)[:n_kept]
    return runs[0]


def _climb(problem, run, max_iter):
    """Return the run after further iterations, if it has not converged."""
    if run.converged or not max_iter:
        return run
    step = partial(maximize, problem, seed=run.seed)
    find_alive, weight = partial(_find_alive, problem), problem.unit_weight
    return climb(run, step, find_alive, weight, max_iter=max_iter, tol=problem.tol)


def start(problem, seed):
    """Return a run that has responsibilities, but no model yet."""
    n_components = len(problem.experts)
    # Equal samples, or those of a group, have the same component.
    codes = problem.codes if problem.groups is None else problem.groups
    drawn = check_random_state(seed).randint(n_components, size=codes.max() + 1)
    return Run(np.arange(n_components), np.eye(n_components)[drawn[codes]], seed=seed)


def start_by_residuals(problem, seed):
    """Return a run whose components begin with equal shares of the residuals of one expert.

    Those of a random start are equal but for chance, which EM can take for an optimum. It is None
    where residuals say nothing: of classes, or of too few values.
    """
    n_components = len(problem.experts)
    one = replace(problem, experts=problem.experts[:1], gate=None)
    model = maximize(one, np.arange(1), np.ones((len(problem.y), 1)), seed=seed)[0]
    [predicted] = predict_all(one, np.arange(1), model.experts)
    if np.ndim(predicted) > 1 or not np.ptp(problem.y):
        return None
    residuals = problem.y - predicted
    if problem.groups is not None:
        parts = np.column_stack([problem.weight * residuals, problem.weight])
        total, weight = sum_groups(parts, problem.groups)[problem.groups].T
        residuals = total / weight
    # Those that differ by rounding are the same.
    residuals = np.round(residuals / np.ptp(problem.y), 9)
    places = np.unique(residuals, return_inverse=True)[1]
    weight = np.bincount(places, problem.unit_weight)
    shares = (weight.cumsum() - weight / 2) / weight.sum()
    components = np.round(n_components * shares, 9).astype(int)
    of_residuals = np.eye(n_components)[components[places]]
    if not of_residuals.any(axis=0).all():
        return None
    # Each has a part of all samples: counts that are all 0 have no mean whose logarithm is finite.
    return Run(np.arange(n_components), 0.9 * of_residuals + 0.1 / n_components, seed=seed)


# -- the M step --------------------------------------------------------------------------------


def _find_alive(problem, sums):
    """Tell which components have a share of `min_prior` at least."""
    shares = sums / problem.unit_weight.sum()
    alive = (shares >= problem.min_prior) & (shares > 0)
    if not alive.any():
        raise ValueError(
            f"All components have shares below min_prior={problem.min_prior}: the largest of "
            f"{len(shares)} is {shares.max():.3g}. Lower min_prior or n_components."
        )
    return alive


def maximize(problem, components, responsibilities, before=None, *, seed=0):
    """Return the model that fits these responsibilities best, its posterior, and the log density.

    The posterior holds the responsibilities by this model.
    """
    # Components that are left after others were dropped begin anew.
    is_first = before is None or len(before.experts) != len(components)
    # What the first iteration has checked needs no further check.
    with config_context(assume_finite=not is_first, skip_parameter_validation=not is_first):
        if is_first:
            experts = [problem.experts[k].draw(seed + int(k)) for k in components]
            gate = None if problem.gate is None else problem.gate.draw(seed)
        else:
            experts, gate = before.experts, before.gate
        weights = [problem.weight * shares for shares in responsibilities.T]
        experts = [
            fit_weighted(expert, problem.experts[k].X, problem.target, weight)
            for expert, k, weight in zip(experts, components, weights, strict=True)
        ]
        predictions = predict_all(problem, components, experts)
        return complete(problem, experts, predictions, responsibilities, gate)


def predict_all(problem, components, experts):
    """Return what the fitted expert of each component predicts of the training samples."""
    return [
        predict_known(problem.family, expert, problem.experts[k].X)
        for k, expert in zip(components, experts, strict=True)
    ]


def complete(problem, experts, predictions, responsibilities, gate):
    """Return what `maximize` does, of experts that are fitted: it adds their scales and a gate.

    The fit of the gate goes on from the given one.
    """
    y, family = problem.y, problem.family
    parts = zip(predictions, responsibilities.T, strict=True)
    scales = [family.fit_scale(y, part, problem.weight * shares) for part, shares in parts]
    scales, is_degenerate = family.bound_scales(y, scales)
    priors = problem.unit_weight @ responsibilities
    priors /= priors.sum()
    gate, log_gate = _fit_gate(problem, responsibilities, priors, gate)
    density = log_densities(family, y, predictions, scales)
    joint = log_joint(log_gate, density, problem.weight, problem.groups)
    return MixtureModel(experts, gate, priors, scales, is_degenerate), *posterior(joint)


def _fit_gate(problem, responsibilities, priors, before):
    """Return the gate, None for constant priors, and the logarithm of its probabilities."""
    template, n_components = problem.gate, len(priors)
    if template is None or n_components == 1:
        return None, np.log(priors)
    # Each sample once per component that it may belong to.
    weight = problem.unit_weight[:, None] * responsibilities
    rows, labels = np.nonzero(responsibilities > 1e-12)
    parts = _safe_indexing(template.X, rows), labels, weight[rows, labels]
    fitted = fit_weighted(before, *parts)
    return fitted, log_shares(gate_shares(fitted, template.X, n_components))


def gate_shares(gate, X, n_components):
    """Return the probability of each component, 0 where it is negligible."""
    proba = np.zeros((X.shape[0], n_components))
    proba[:, gate.classes_] = gate.predict_proba(X)
    return without_negligible(proba)


def without_negligible(proba):
    """Return probabilities of which the smallest are 0: such an expert has no part in a mean.

    It may predict anything there, far from the samples that it was fitted to.
    """
    proba = np.where(proba > LEAST_SHARE, proba, 0)
    return proba / proba.sum(axis=-1, keepdims=True)


def log_shares(proba):
    """Return the logarithm of the probability of each component, none of them quite 0."""
    proba = proba.clip(min=LEAST_SHARE)
    return np.log(proba / proba.sum(axis=1, keepdims=True))


def mix(shares, outputs):
    """Return the mean of what experts predict; one without a share may predict anything.

    Parameters
    ----------
    shares : ndarray of shape (n_samples, n_experts)
    outputs : ndarray of shape (n_samples, n_experts[, n_classes])
    """
    shares = shares.reshape(shares.shape + (1,) * (outputs.ndim - 2))
    return (shares * np.where(shares > 0, outputs, 0)).sum(axis=1)


def log_densities(family, y, predictions, scales):
    """Return the log density of each y by the prediction of each expert."""
    parts = zip(predictions, scales, strict=True)
    return np.column_stack([family.log_density(y, *part) for part in parts])


def log_joint(log_gate, density, weight, groups):
    """Return log(gate x density) of each sample and component, by their logarithms.

    All samples of a group have that of the group: the product of their densities, as often as their
    weights say, times the mean of their gates.
    """
    if groups is None:
        return log_gate + density
    weight = weight[:, None]
    of_density = sum_groups(weight * density, groups)
    of_gate = sum_groups(weight * np.broadcast_to(log_gate, density.shape), groups)
    return (of_density + of_gate / sum_groups(weight, groups))[groups]


def posterior(joint):
    """Return the responsibilities and the log density."""
    # SciPy's softmax and logsumexp would take the exponentials twice.
    highest = joint.max(axis=1, keepdims=True)
    parts = np.exp(joint - highest)
    total = parts.sum(axis=1, keepdims=True)
    return parts / total, (highest + np.log(total))[:, 0]
