"""Expectation maximization (EM): the iterations of mixtures, and of regimes in a pool."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np


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


def climb(run, step, find_alive, weight, *, max_iter, tol, patience, keep_last=False):
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
        A run has converged if the mean log-likelihood changes by no more, or gains no more in
        `patience` iterations.
    patience : int
    keep_last : bool, default=False
        Whether to return the last model, and not that of the largest likelihood. Where steps have
        a penalty the last one is best, even if its likelihood falls.
    """
    best = run
    components, responsibilities, model = run.components, run.responsibilities, run.model
    bounds = list(run.lower_bounds)
    total = weight.sum()
    n_stale = 0
    converged = False
    for _ in range(max_iter):
        alive = find_alive(weight @ responsibilities)
        if not alive.all():
            components = components[alive]
            responsibilities = _rescaled(responsibilities[:, alive])
            # The likelihood of more components is not compared with that of fewer.
            best = replace(best, log_likelihood=-np.inf)
        model, responsibilities, log_density = step(components, responsibilities, model)
        likelihood = float(weight @ log_density)
        bounds.append(likelihood / total)
        gain = (likelihood - best.log_likelihood) / total
        if gain > 0 or keep_last:
            best = Run(components, responsibilities, model, likelihood, seed=run.seed)
        n_stale = 0 if gain > tol else n_stale + 1
        converged = abs(gain) <= tol or n_stale >= patience
        if converged:
            break
    return replace(best, lower_bounds=tuple(bounds), converged=converged)


def _rescaled(responsibilities):
    """Return what is left of responsibilities, with sums of 1; equal ones where nothing is."""
    total = responsibilities.sum(axis=1, keepdims=True)
    equal = np.full_like(responsibilities, 1 / responsibilities.shape[1])
    return np.divide(responsibilities, total, out=equal, where=total > 0)
