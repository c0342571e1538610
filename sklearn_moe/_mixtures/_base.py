"""What mixtures of numbers and of classes share: the fit, its checks, and densities."""

from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, MetaEstimatorMixin, _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.utils import check_array, check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.metaestimators import _BaseComposition, available_if
from sklearn.utils.validation import _num_samples, check_is_fitted, validate_data

from .._compat import show_progress
from .._data import SamplesLike
from .._data.experts import view_of
from .._data.tables import hash_rows, is_frame, refuse_repeated_names
from .._data.validation import as_row_counts, check_groups, check_weight
from .._threads import threads_for, work_of_table
from .._validation import Count, HasNames, Names, check_same_length, last_step, warn, warning_once
from ._defaults import default_expert
from ._em import Problem, code_samples, gate_shares, log_densities, log_joint, log_shares, posterior
from ._families import LEAST_SCALE, Gaussian, LogLoss, Poisson
from ._model_tree import TreeDesign, fit_tree
from ._selection import count_all, criteria, find_doubt, fit_gates, fit_numbers
from ._stack import check_stack, find_samples, fit_stack, models_of
from ._weighted import LARGEST_SEED, Template, takes_weights

if TYPE_CHECKING:
    from typing_extensions import Self

# Attributes that not every fit has.
_OF_SOME_FITS = "selection_ lower_bounds_ expert_kinds_ oof_predictions_ oof_gate_proba_".split()
_OF_SOME_FITS += ["_seen", "_doubt"]


class BaseMixture(MetaEstimatorMixin, HasNames, _BaseComposition):
    """What mixtures of numbers and of classes share."""

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [HasMethods(["fit", "predict"]), list, None],
        "n_components": [Count(1), Names({"auto"})],
        "gate": [HasMethods(["fit"]), Names({"auto"}), None],
        "method": [Names({"em", "stack"})],
        "n_init": [Count(1)],
        "max_iter": [Count(1)],
        "tol": [Interval(Real, 0, None, closed="left")],
        "min_prior": [Interval(Real, 0, 1, closed="left")],
        "cv": ["cv_object"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    # What a fit and the two kinds of mixtures add.
    oof_predictions_: np.ndarray
    oof_gate_proba_: np.ndarray
    _encode_y: Any
    predict: Any

    def __init__(
        self,
        estimator: Any = None,
        n_components: int | Literal["auto"] = 2,
        *,
        gate: Any = "auto",
        family: str = "auto",
        method: str = "em",
        n_init: int = 10,
        max_iter: int = 500,
        tol: float = 1e-6,
        min_prior: float = 0.05,
        cv: Any = None,
        n_jobs: int | None = None,
        verbose: bool | int = 0,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.n_components = n_components
        self.gate = gate
        self.family = family
        self.method = method
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.min_prior = min_prior
        self.cv = cv
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; of a stack of pairs also the models and theirs, by their names.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return parameters of experts and gate as well.

        Returns
        -------
        params : dict
        """
        models = self.estimator if isinstance(self.estimator, list) else [None]
        if all(isinstance(model, tuple) for model in models):
            return self._get_params("estimator", deep)
        return super().get_params(deep)

    def set_params(self, **params: Any) -> "Self":
        """Set parameters, by the names that `get_params` returns.

        Parameters
        ----------
        **params : dict
            Of a stack `ridge=Ridge()` replaces the model of this name, `ridge__alpha=3` changes it.

        Returns
        -------
        self : object
        """
        self._set_params("estimator", **params)
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: SamplesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> "Self":
        """Fit experts and gate by expectation maximization.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Training samples, as the experts and the gate take them. The default parts take frames
            with numbers, bools, categories, texts (as categories) and missing values.

        y : array-like of shape (n_samples,)
            Numbers or classes.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. Their scale does not count: a factor of all weights changes
            nothing. If all are whole multiples of the smallest one, up to 100 times, a sample is
            there as often as this multiple says; of others (sum w)^2 / sum w^2 is the number of
            samples, Kish's effective size. Experts and gates are given weights in these units.
            None: all weigh the same.

        groups : array-like of shape (n_samples,), default=None
            Labels of groups. All samples of a group belong to one component, such as repeated
            measurements of one person, and a group counts as one sample for the gate.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If X or y is malformed, a parameter does not fit them, or all components die.
        """
        random_state = check_random_state(self.random_state)
        X = _check_X(X)
        experts = self._check_parts(X, y)
        problem = self._state_problem(X, y, sample_weight, groups)
        name = type(self).__name__
        with threads_for(work_of_table(X), "blas"), show_progress(name, self.verbose):
            if self.method == "stack":
                return self._adopt(problem, *fit_stack(self, problem, experts, random_state))
            return self._fit_em(problem, experts[0], random_state)

    def _check_parts(self, X, y):
        """Return the unfitted models of a stack, or the one expert of all components."""
        is_stack = self.method == "stack"
        if isinstance(self.estimator, list) and not is_stack:
            raise ValueError(
                f"estimator={self.estimator!r}: a list of models needs method='stack'. With "
                "method='em' pass one estimator for all components."
            )
        expert = self._default_expert(X, y) if self.estimator is None else self.estimator
        experts = check_stack(self) if is_stack else [expert]
        for expert in experts:
            _check_part("estimator", expert, self._predicts, not is_stack)
            if not is_classifier(self) and is_classifier(last_step(expert)):
                raise ValueError(f"estimator must be a regressor, got {expert!r}.")
        if not (self.gate is None or isinstance(self.gate, str)):
            _check_part("gate", self.gate, "predict_proba", True)
        return experts

    def _state_problem(self, X, y, sample_weight, groups):
        """Return what is to be fitted, without experts and gate, of checked samples."""
        y, target, family = self._check_y(y)
        check_same_length(X=X, y=y)
        weight = as_row_counts(check_weight(sample_weight, X))
        groups = check_groups(groups, X)
        limits = self.max_iter, self.tol, self.min_prior
        problem = Problem(X, y, target, weight, groups, family, *limits)
        splits = None
        if self.method == "stack" and not (self.cv is None or isinstance(self.cv, Integral)):
            # Folds count all samples, those of weight 0 included, which are left out then.
            splits = check_cv(self.cv, target, classifier=is_classifier(self))
            kept = weight > 0
            places = np.cumsum(kept) - 1
            splits = [
                [places[part[kept[part]]] for part in split]
                for split in splits.split(X, target, groups)
            ]
        problem = replace(problem.without_weightless(), splits=splits)
        if is_classifier(self) and not np.ptp(problem.y):
            raise ValueError(
                f"y holds one class only, {problem.target.tolist()[0]!r}, in samples of weight "
                "above 0. A classifier needs samples of two classes or more."
            )
        return problem

    # -- by EM, or as a tree of linear models ----------------------------------------------------

    def _fit_em(self, problem, expert, random_state):
        if self.estimator is None:
            expert = default_expert(expert, problem.X)
        n_components = 1 if self.n_components == "auto" else self.n_components
        expert = Template(expert, problem.X, problem.target, problem.weight)
        experts = (expert,) * n_components
        problem = replace(problem, experts=experts, codes=code_samples(problem.X, problem.y))
        design = self._make_design(problem)
        if design is not None and self._is_model_tree(problem):
            return self._adopt_run(*fit_tree(problem, design))
        seeds = random_state.randint(LARGEST_SEED, size=self.n_init).tolist()
        if self.n_components == "auto":
            return self._adopt_run(*fit_numbers(self, problem, seeds, design))
        fit = fit_gates(self, problem, seeds, design)
        return self._adopt_run(fit, doubt=find_doubt(fit))

    def _make_design(self, problem):
        """Return what a tree of linear models is grown on, None if no start comes from it."""
        gate = last_step(self.gate)
        is_tree = gate == "auto" if isinstance(gate, str) else hasattr(gate, "max_leaf_nodes")
        # A group, whose samples belong to one component, is no part of the tree.
        if not is_tree or problem.groups is not None:
            return None
        try:
            return TreeDesign.of(problem)
        except (TypeError, ValueError):
            # Experts of the user may take columns that the tree does not.
            return None

    def _is_model_tree(self, problem):
        """Tell whether the number of components is that of the leaves of a tree."""
        return (
            (self.estimator, self.n_components, self.gate) == (None, "auto", "auto")
            and isinstance(problem.family, Gaussian | LogLoss)
            and not issparse(problem.X)
        )

    def _adopt_run(self, fit, selection=None, doubt=""):
        """Make the attributes of a fit by EM."""
        problem, run = fit
        model = run.model
        if model.is_degenerate:
            warn(
                f"A scale is at its lower bound, {LEAST_SCALE} of the largest one, in every start: "
                "a component describes a few samples only. Use fewer components, or a larger "
                "min_prior.",
                ConvergenceWarning,
            )
        if not run.converged:
            warn(
                f"EM did not converge in max_iter={self.max_iter} iterations. Raise max_iter or "
                "tol.",
                ConvergenceWarning,
            )
        n_dropped = len(problem.experts) - len(model.experts)
        if n_dropped and not selection:
            warn(
                f"{n_dropped} of {len(problem.experts)} components had shares below "
                f"min_prior={self.min_prior}, or no samples, and were dropped.",
                ConvergenceWarning,
            )
        attributes = {
            "experts_": [
                problem.experts[component].whole(expert)
                for component, expert in zip(run.components, model.experts, strict=True)
            ],
            "gate_": None if model.gate is None else problem.gate.whole(model.gate),
            "weights_": model.priors,
            "n_parameters_": count_all(model, problem.family),
            "log_likelihood_": run.log_likelihood,
            "lower_bounds_": list(run.lower_bounds),
            "lower_bound_": run.log_likelihood / problem.unit_weight.sum(),
            "n_iter_": len(run.lower_bounds),
            "converged_": run.converged,
            "_doubt": doubt,
        }
        attributes |= {"selection_": selection} if selection else {}
        return self._adopt(problem, problem.family, model.scales, attributes)

    def _adopt(self, problem, family, scales, attributes):
        """Make the attributes of a fit, all of them after whatever may fail."""
        # The names and the number of the columns.
        validate_data(self, problem.X, skip_check_array=True)
        for name in _OF_SOME_FITS:
            vars(self).pop(name, None)
        vars(self).update(attributes)
        self._family = family
        self._has_groups = problem.groups is not None
        self._scales = scales
        self.n_components_ = len(self.experts_)
        self.scale_ = np.array(scales) if family.has_scale else None
        if is_classifier(self):
            self.classes_ = family.classes
        return self

    # -- what a fitted mixture says --------------------------------------------------------------

    def gate_proba(self, X: SamplesLike) -> np.ndarray:
        """Return the probability of each component before y is known.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_components)
            Rows sum to 1.
        """
        return self._shares(self._check_new(X))

    def apply(self, X: SamplesLike) -> np.ndarray:
        """Return the component of largest probability before y is known.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        Returns
        -------
        component : ndarray of int of shape (n_samples,)
        """
        return self.gate_proba(X).argmax(axis=1)

    @warning_once()
    def responsibilities(
        self, X: SamplesLike, y: ArrayLike, groups: ArrayLike | None = None
    ) -> np.ndarray:
        """Return the probability of each component once y is known.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        y : array-like of shape (n_samples,)
            Their numbers or classes.

        groups : array-like of shape (n_samples,), default=None
            Labels of groups whose samples belong to one component.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_components)
            Rows sum to 1.
        """
        X = self._check_new(X)
        y = self._check_new_y(X, y)
        return posterior(self._log_joint(X, y, check_groups(groups, X)))[0]

    @warning_once()
    def score_samples(self, X: SamplesLike, y: ArrayLike | None = None) -> np.ndarray:
        """Return the logarithm of the density, or of the probability, of each y given its x.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        y : array-like of shape (n_samples,), default=None
            Their numbers or classes. None: what `predict` returns.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
        """
        X = self._check_new(X)
        # What is predicted is not checked: a mean of counts need not be a count.
        y = self._encode_y(self.predict(X)) if y is None else self._check_new_y(X, y)
        return posterior(self._log_joint(X, y))[1]

    def _experts_view(self, X):
        """Return what metrics and inspection read of the fitted mixture."""
        check_is_fitted(self)
        known = {"is_log": isinstance(self._family, Poisson)}
        known["doubt"] = getattr(self, "_doubt", "")
        if hasattr(self, "oof_predictions_"):
            known["out_of_fold"] = self.out_of_fold(X)
        kinds = getattr(self, "expert_kinds_", ())
        return view_of(self, X, kinds, has_groups=self._has_groups, **known)

    @available_if(lambda self: hasattr(self, "oof_predictions_"))
    def out_of_fold(self, X: SamplesLike) -> tuple[np.ndarray, np.ndarray]:
        """Return gates and predictions that did not learn from the sample, with `method="stack"`.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        Returns
        -------
        gates : ndarray of shape (n_samples, n_components)
            Of training samples those by folds; of others, and of samples in no fold,
            `gate_proba`.

        predictions : ndarray of shape (n_samples, n_components[, n_classes])
            Of training samples those by folds, NaN of samples in no fold; of others those of
            `experts_`. Training samples are known by their values: if these were rounded, or
            stored in another precision, the samples are new.
        """
        X = self._check_new(X)
        gates = self._shares(X)
        outputs = self._outputs(X).astype(float)
        is_known, places = find_samples(hash_rows(X), self._seen)
        of_folds = self.oof_gate_proba_[places]
        gates[is_known] = np.where(np.isnan(of_folds), gates[is_known], of_folds)
        outputs[is_known] = self.oof_predictions_[places]
        return gates, outputs

    def bic(self, X: SamplesLike, y: ArrayLike) -> float:
        """Return the Bayesian information criterion; lower is better.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them. All weigh the same, and none are of one group.

        y : array-like of shape (n_samples,)
            Their numbers or classes.

        Returns
        -------
        bic : float
            -2 log-likelihood + log(n) x number of parameters.

        Raises
        ------
        ValueError
            If the number of parameters of an expert or of the gate cannot be counted.
        """
        return self._criteria_of(X, y)["bic"]

    def aic(self, X: SamplesLike, y: ArrayLike) -> float:
        """Return Akaike's information criterion; lower is better.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them. All weigh the same, and none are of one group.

        y : array-like of shape (n_samples,)
            Their numbers or classes.

        Returns
        -------
        aic : float
            -2 log-likelihood + 2 x number of parameters.

        Raises
        ------
        ValueError
            If the number of parameters of an expert or of the gate cannot be counted.
        """
        return self._criteria_of(X, y)["aic"]

    def _criteria_of(self, X, y):
        X = self._check_new(X)
        y = self._check_new_y(X, y)
        if self.n_parameters_ is None:
            raise ValueError(
                "The parameters of this mixture cannot be counted. Compare mixtures by the mean of "
                "score_samples on samples that were held out."
            )
        weight = np.ones(len(y))
        log_likelihood = weight @ posterior(self._log_joint(X, y))[1]
        return criteria(log_likelihood, self.n_parameters_, weight)

    def _check_new(self, X):
        """Return X as `fit` made it."""
        check_is_fitted(self)
        return validate_data(self, _check_X(X), reset=False, skip_check_array=True)

    def _check_new_y(self, X, y):
        """Return y as `fit` made it."""
        y = self._encode_y(y)
        check_same_length(X=X, y=y)
        self._family.check(y)
        return y

    def _outputs(self, X):
        """Return what the experts predict, (n_samples, n_experts[, n_classes])."""
        with threads_for(work_of_table(X), "blas"):
            return np.stack([self._family.predict(expert, X) for expert in self.experts_], axis=1)

    def _shares(self, X):
        if self.gate_ is None:
            return np.tile(self.weights_, (_num_samples(X), 1))
        with threads_for(work_of_table(X), "blas"):
            return gate_shares(self.gate_, X, self.n_components_)

    def _log_joint(self, X, y, groups=None):
        with threads_for(work_of_table(X), "blas"):
            predictions = [self._family.predict(expert, X) for expert in self.experts_]
            density = log_densities(self._family, y, predictions, self._scales)
        return log_joint(log_shares(self._shares(X)), density, np.ones(len(y)), groups)

    def __sklearn_tags__(self):
        """Take what all experts and the gate take."""
        tags = super().__sklearn_tags__()
        experts = self.estimator if isinstance(self.estimator, list) else [self.estimator]
        # Default parts take everything.
        parts = [*models_of(experts), self.gate]
        taken = [get_tags(part).input_tags for part in parts if isinstance(part, BaseEstimator)]
        tags.input_tags.sparse = all(part.sparse for part in taken)
        tags.input_tags.allow_nan = all(part.allow_nan for part in taken)
        return tags


def _check_X(X):
    """Return X as an array, sparse matrix or frame; what it holds is up to the experts."""
    if is_frame(X):
        refuse_repeated_names(X)
        if not X.shape[1]:
            raise ValueError("X has no columns. Pass a table of one column or more.")
        return X
    return check_array(X, accept_sparse="csr", dtype=None, ensure_all_finite=False)


def _check_part(name, part, method, needs_weights):
    """Refuse an expert or a gate that lacks a method."""
    if isinstance(part, type) or not (hasattr(part, "fit") and hasattr(part, method)):
        raise ValueError(
            f"{name} must be an estimator with the methods fit and {method}, got {part!r}."
        )
    if needs_weights and not takes_weights(part):
        raise ValueError(
            f"{name}={part!r}: `fit` of {type(last_step(part)).__name__} must take sample_weight, "
            "which tells the samples of a component from the others."
        )
