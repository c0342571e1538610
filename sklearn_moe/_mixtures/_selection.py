"""Which gate, and how many components, by information criteria."""

from dataclasses import replace

import numpy as np

from .._compat import move_on
from ._defaults import default_gates
from ._em import MixtureFit, fit_best, maximize, rank, start, start_by_residuals
from ._model_tree import find_regions
from ._weighted import Template, count_parameters

# The largest number of components that is tried.
_MAX_COMPONENTS = 10


def count_all(model, family):
    """Return the number of parameters of a model, None if it cannot be counted."""
    counts = [_count_gate(model), *map(count_parameters, model.experts)]
    if None in counts:
        return None
    return int(sum(counts)) + family.has_scale * len(model.experts)


def _count_gate(model):
    return len(model.experts) - 1 if model.gate is None else count_parameters(model.gate)


def criteria(log_likelihood, n_parameters, weight):
    """Return the information criteria, NaN where parameters cannot be counted."""
    n_parameters = np.nan if n_parameters is None else n_parameters
    bic = n_parameters * np.log(weight.sum()) - 2 * log_likelihood
    aic = 2 * n_parameters - 2 * log_likelihood
    return {"bic": float(bic), "aic": float(aic)}


def fit_gates(mixture, problem, seeds, design):
    """Return the fit with the gate of a mixture, of "auto" that with the best one."""
    n_components = len(problem.experts)
    runs = [start(problem, seed) for seed in seeds]
    if design is not None and n_components > 1:
        leaves = find_regions(design, n_components, problem.min_prior).groups
        of_tree = np.eye(n_components)[leaves]
        if of_tree.any(axis=0).all():
            runs = [replace(runs[0], responsibilities=of_tree), *runs]
    is_auto = isinstance(mixture.gate, str)
    defaults = default_gates(problem.X, problem.unit_weight, n_components) if is_auto else None
    gates = defaults or [mixture.gate]
    fits = _fit_each(gates, problem, runs, mixture.n_jobs)
    by_residuals = start_by_residuals(problem, seeds[0]) if n_components > 1 else None
    if by_residuals is not None:
        # Early iterations do not tell whether it is better than the others.
        others = _fit_each(gates, problem, [by_residuals], mixture.n_jobs)
        pairs = zip(fits, others, strict=True)
        fits = [min(pair, key=lambda fit: rank(fit.run)) for pair in pairs]
    return fits[0] if len(fits) == 1 else min(fits, key=_rank_gate)


def _fit_each(gates, problem, runs, n_jobs):
    """Return the fit with each gate: the first has all starts, and others go on from its end."""
    fits = []
    for gate in gates:
        parts = problem.X, problem.target, problem.weight
        template = None if gate is None else Template(gate, *parts)
        name = "constant" if gate is None else type(template.last).__name__
        move_on(0, experts=len(problem.experts), gate=name)
        problem = replace(problem, gate=template)
        fits.append(MixtureFit(problem, fit_best(problem, runs, n_jobs)))
        first = fits[0].run
        responsibilities = np.zeros((len(problem.y), len(problem.experts)))
        responsibilities[:, first.components] = first.responsibilities
        runs = [replace(runs[0], responsibilities=responsibilities)]
    return fits


def _rank_gate(fit):
    """Return what is least of the best of some fits that differ in the gate alone.

    Constant shares stay unless another gate is clearly better. It is BIC in any case: parameters of
    experts that cannot be counted are as many in all fits.
    """
    problem, run = fit
    n_parameters = count_all(run.model, problem.family)
    if n_parameters is None:
        n_parameters = _count_gate(run.model)
    bic = criteria(run.log_likelihood, n_parameters, problem.weight)["bic"]
    # A smaller difference of an information criterion is no evidence.
    bonus = 2 * (run.model.gate is None)
    return run.model.is_degenerate, bic - bonus


def find_doubt(fit):
    """Return a sentence if one expert explains the samples as well by BIC, else ""."""
    problem, run = fit
    one = replace(problem, experts=problem.experts[:1], gate=None)
    every = np.ones((len(problem.y), 1))
    model, _, log_density = maximize(one, np.arange(1), every, seed=run.seed)
    fits = (model, problem.unit_weight @ log_density), (run.model, run.log_likelihood)
    before, after = (
        criteria(log_likelihood, count_all(each, problem.family), problem.weight)["bic"]
        for each, log_likelihood in fits
    )
    n_experts = len(run.model.experts)
    # NaN cannot tell.
    if n_experts == 1 or not before <= after:
        return ""
    return f"One expert is as good as {n_experts}, by BIC: no regimes found."


def fit_numbers(mixture, problem, seeds, design):
    """Return the fit with the best number of components, and a table of all tried."""
    fits, rows = [], []
    for n_components in range(1, _MAX_COMPONENTS + 1):
        tried = replace(problem, experts=problem.experts * n_components)
        fit = fit_gates(mixture, tried, seeds, design)
        fits.append(fit)
        model, log_likelihood = fit.run.model, float(fit.run.log_likelihood)
        counts = {
            "log_likelihood": log_likelihood,
            "n_parameters": count_all(model, problem.family),
        }
        values = criteria(**counts, weight=problem.weight)
        rows.append({"n_components": n_components, **counts, **values})
        values = np.array([row["bic"] for row in rows])
        if np.isnan(values).any():
            raise ValueError(
                "n_components='auto' needs experts and a gate whose parameters can be counted, "
                "such as linear models and trees. Pass a number, or search for it with the scoring "
                "lambda mixture, X, y: mixture.score_samples(X, y).mean()."
            )
        best = int(values.argmin())
        # Two more brought nothing.
        if n_components - 1 - best >= 2:
            break
    return fits[best], {key: [row[key] for row in rows] for key in rows[0]}
