"""Which number of components: information criteria, and the likelihood of held-out samples."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing

from .._data import SamplesLike
from .._data.validation import check_groups, unit_of
from ._em import posterior, weigh_units
from ._families import Custom
from ._weighted import check_weight, count_parameters

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
    name = "aic" if criterion == "aic" else "bic"

    def value(fit):
        problem, run = fit
        facts = information(problem, run)
        if facts["n_parameters"] is None:
            facts["n_parameters"] = _count_gate(run.model)
        facts = {key: facts[key] for key in ("log_likelihood", "n_parameters")}
        found = criteria(**facts, weight=problem.weight, groups=problem.groups)
        return run.model.is_degenerate, found[name] - _CLEAR * (run.model.gate is None)

    return min(fits, key=value)


def criteria(log_likelihood, n_parameters, weight, groups):
    """Return the information criteria, NaN where parameters cannot be counted."""
    n_parameters, unit = np.nan if n_parameters is None else n_parameters, unit_of(weight)
    n_samples = weight.sum() / unit
    if groups is None:  # of groups the likelihood is in units of groups
        log_likelihood = log_likelihood / unit
    bic = n_parameters * np.log(n_samples) - 2 * log_likelihood
    aic = 2 * n_parameters - 2 * log_likelihood
    return {"bic": float(bic), "aic": float(aic)}


def information(problem, run):
    """Return the entries of `selection_` that belong to a run."""
    facts = {
        "log_likelihood": float(run.log_likelihood),
        "n_parameters": count_all(run.model, problem.family),
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


class InformationCriteria:
    """The criteria of a fitted mixture, as its methods."""

    def bic(
        self,
        X: SamplesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> float:
        """Return the Bayesian information criterion; lower is better.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        y : array-like of shape (n_samples,)
            Their numbers or classes.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. None: all weigh 1.

        groups : array-like of shape (n_samples,), default=None
            Labels of groups whose samples belong to one component.

        Returns
        -------
        bic : float
            -2 log-likelihood + log(n) x number of parameters. The parameter `criterion` says how
            weights count samples, and what the likelihood of groups is.

        Raises
        ------
        ValueError
            If the number of parameters of an expert or of the gate cannot be counted.
        """
        return self._criteria_of(X, y, sample_weight, groups)["bic"]

    def aic(
        self,
        X: SamplesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> float:
        """Return Akaike's information criterion; lower is better.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        y : array-like of shape (n_samples,)
            Their numbers or classes.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. None: all weigh 1.

        groups : array-like of shape (n_samples,), default=None
            Labels of groups whose samples belong to one component.

        Returns
        -------
        aic : float
            -2 log-likelihood + 2 x number of parameters; with weights or groups as of `bic`.

        Raises
        ------
        ValueError
            If the number of parameters of an expert or of the gate cannot be counted.
        """
        return self._criteria_of(X, y, sample_weight, groups)["aic"]

    def _criteria_of(self, X, y, sample_weight, groups):
        X, y = self._checked(X, y)
        if self.n_parameters_ is None:
            raise ValueError(
                "The parameters of this mixture cannot be counted. Compare mixtures by the mean of "
                "score_samples on samples that were held out."
            )
        weight, groups = check_weight(sample_weight, X), check_groups(groups, X)
        joint, unit_weight = self._log_joint(X, y, groups, weight), weigh_units(weight, groups)
        log_likelihood = unit_weight @ posterior(joint)[1]
        return criteria(log_likelihood, self.n_parameters_, weight, groups)
