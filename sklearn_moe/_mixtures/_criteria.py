"""Which number of components: information criteria, and the likelihood of held-out samples."""

import numpy as np
from scipy.special import entr
from sklearn.utils import _safe_indexing

from .._data.validation import check_groups, unit_of
from ._em import posterior, weigh_units
from ._families import Custom
from ._weighted import count_parameters

_CLEAR = 2  # of an information criterion: less is no evidence


def count_all(model, family):
    """Return the number of parameters of a model, None if it cannot be counted."""
    counts = [_count_gate(model), *map(count_parameters, model.experts)]
    if None in counts or isinstance(family, Custom):
        return None
    return int(sum(counts)) + family.has_scale * len(model.experts)


def _count_gate(model):
    return len(model.experts) - 1 if model.gate is None else count_parameters(model.gate)


def compare_gates(fits, criterion):
    """Return problem and run of the best gate, of fits that differ in it alone.

    Constant shares stay where others are no better by more than `_CLEAR`. It is an information
    criterion in any case: parameters of experts that cannot be counted are as many in all fits.
    """
    name = criterion if criterion in ("aic", "icl") else "bic"

    def value(fit):
        problem, run = fit
        facts = information(problem, run)
        if facts["n_parameters"] is None:
            facts["n_parameters"] = _count_gate(run.model)
        facts = {key: facts[key] for key in ("log_likelihood", "n_parameters", "entropy")}
        found = criteria(**facts, weight=problem.weight, groups=problem.groups)
        return run.model.is_degenerate, found[name] - _CLEAR * (run.model.gate is None)

    return min(fits, key=value)


def criteria(log_likelihood, n_parameters, entropy, weight, groups):
    """Return the information criteria, NaN where parameters cannot be counted."""
    n_parameters, unit = np.nan if n_parameters is None else n_parameters, unit_of(weight)
    n_samples = weight.sum() / unit
    if groups is None:  # of groups the likelihood is in units of groups
        log_likelihood, entropy = log_likelihood / unit, entropy / unit
    bic = n_parameters * np.log(n_samples) - 2 * log_likelihood
    aic = 2 * n_parameters - 2 * log_likelihood
    return {"bic": float(bic), "aic": float(aic), "icl": float(bic + 2 * entropy)}


def information(problem, run):
    """Return the entries of `selection_` that belong to a run."""
    facts = {
        "log_likelihood": float(run.log_likelihood),
        "n_parameters": count_all(run.model, problem.family),
        "entropy": float(problem.unit_weight @ entr(run.responsibilities).sum(axis=1)),
    }
    return facts | criteria(**facts, weight=problem.weight, groups=problem.groups)


def held_out(mixture, problem, X, splits):
    """Return the mean log-likelihood of samples that a mixture was not fitted to."""
    total = units = 0.0
    for train, test in splits:
        parts = X, problem.target, problem.weight, problem.groups
        fold, (X_test, y, weight, groups) = (
            [None if part is None else _safe_indexing(part, rows) for part in parts]
            for rows in (train, test)
        )
        groups = check_groups(groups, X_test)
        joint = mixture.fit(*fold)._log_joint(X_test, mixture._encode_y(y), groups, weight)
        unit_weight = weigh_units(weight, groups)
        total += unit_weight @ posterior(joint)[1]
        units += unit_weight.sum()
    return float(total / units)
