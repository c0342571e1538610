"""What mixtures of numbers and of classes share: the fit, its checks, and densities."""

import re
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    _fit_context,
    is_classifier,
    is_regressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, check_cv
from sklearn.utils import check_array, check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_is_fitted, validate_data

from .._compat import warn
from .._data import SamplesLike
from .._data.tables import Table
from .._data.validation import check_groups
from .._validation import Count, check_named, check_same_length
from ._defaults import default_expert
from ._em import Problem, code_samples, gate_log_proba, log_joint, posterior, weigh_units
from ._families import Gaussian, LogLoss
from ._model_tree import Design, fit_tree
from ._selection import count_all, criteria, fit_gates, fit_numbers, spread_over_groups
from ._stack import check_stack, find_samples, fit_stack
from ._weighted import LARGEST_SEED, Template, check_weight, last_step, takes_weights

if TYPE_CHECKING:
    from typing_extensions import Self

# Attributes that not every fit has.
_OF_SOME_FITS = (
    *("selection_", "lower_bounds_", "expert_kinds_", "oof_predictions_", "oof_gate_proba_"),
    *("sharpness_", "_seen"),
)
_OF_PROBLEM = ("max_iter", "tol", "min_prior", "min_scale")

# What scikit-learn says of X, what a column of X then holds, and what helps.
_REMEDIES = {
    "convert string|bytes/strings|no numbers": (
        "text",
        lambda column: any(isinstance(value, str) for value in column.values),
        "Pass a data frame, of which the default experts and gate take such columns, or encode it "
        "in pipelines of your own, for instance make_pipeline(make_column_transformer("
        "(OneHotEncoder(), columns), remainder='passthrough'), Ridge()).",
    ),
    "contains NaN": (
        "NaN",
        lambda column: column.missing.any(),
        "Begin the pipelines of experts and gate by SimpleImputer(), or use estimators that take "
        "missing values, such as trees.",
    ),
    "contains infinity": (
        "infinity",
        lambda column: column.values.dtype.kind == "f" and np.isinf(column.values).any(),
        "Replace it by finite numbers.",
    ),
}


class BaseMixture(MetaEstimatorMixin, BaseEstimator):
    """What mixtures of numbers and of classes share."""

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [HasMethods(["fit", "predict"]), list, None],
        "n_components": [Count(1), StrOptions({"auto"})],
        "gate": [HasMethods(["fit"]), StrOptions({"auto"}), None],
        "method": [StrOptions({"em", "stack"})],
        "criterion": [StrOptions({"auto", "stable", "bic", "aic", "held_out"})],
        "n_init": [Count(1)],
        "init": [StrOptions({"auto", "tree", "random", "lines"}), "array-like"],
        "max_iter": [Count(1)],
        "tol": [Interval(Real, 0, None, closed="left")],
        "min_prior": [Interval(Real, 0, 1, closed="left")],
        "min_scale": [Interval(Real, 0, 1, closed="left")],
        "cv": ["cv_object"],
        "warm_start": ["boolean"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    # What a fit and the two kinds of mixtures add.
    oof_predictions_: np.ndarray
    oof_gate_proba_: np.ndarray
    _predicts: ClassVar[str]
    _default_expert: Any
    _check_y: Any
    _encode_y: Any
    predict: Any

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
            Weights of the samples; a weight of 2 is the sample twice. None: all weigh 1.

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
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        experts = self._check_parts()
        problem = self._state_problem(X, y, sample_weight, groups, random_state)
        with _naming_columns(problem.X):
            if self.method == "stack":
                return self._adopt(problem, *fit_stack(self, problem, experts, random_state))
            return self._fit_em(problem, experts, random_state)

    def _given_experts(self):
        return self.estimator if isinstance(self.estimator, list) else [self.estimator]

    def _check_parts(self):
        """Return the unfitted experts, a single one for "auto"."""
        n_components = self.n_components
        if self.method == "stack":
            experts = check_stack(self)
        elif not isinstance(self.estimator, list):
            expert = self._default_expert() if self.estimator is None else self.estimator
            experts = [expert] * (1 if n_components == "auto" else n_components)
        elif len(self.estimator) != n_components:
            raise ValueError(
                f"estimator is a list of {len(self.estimator)}, one per component, but "
                f"n_components={n_components!r}. Pass n_components={len(self.estimator)}."
            )
        else:
            experts = self.estimator
        for expert in experts:
            _check_part("estimator", expert, self._predicts, self.method == "em")
            if is_regressor(self) and is_classifier(last_step(expert)):
                raise ValueError(f"estimator must be a regressor, got {expert!r}.")
        if not (self.gate is None or isinstance(self.gate, str)):
            _check_part("gate", self.gate, "predict_proba", True)
        return experts

    def _state_problem(self, X, y, sample_weight, groups, random_state):
        """Return what is to be fitted, without experts and gate, of checked samples."""
        y, target, family = self._check_y(y)
        check_same_length(X=X, y=y)
        weight = check_weight(sample_weight, X)
        groups = check_groups(groups, X)
        init = self._check_init(X, y, groups)
        is_stack = self.method == "stack"
        splits = None
        # A stack makes these itself.
        if not (is_stack and isinstance(self.cv, Integral)):
            splits = self._splits(self.cv, X, target, groups, random_state)
        options = {name: getattr(self, name) for name in _OF_PROBLEM}
        problem = Problem(X, y, target, weight, groups, splits, init, family, **options)
        problem = problem.without_weightless()
        if splits is None:
            return problem
        splits = [split for split in problem.splits if len(split[1])]
        if not (splits and all(len(train) for train, _ in splits)):
            raise ValueError(
                f"cv={self.cv!r}: samples of a weight above 0 are all in one fold, or missing from "
                "the others. Shuffle the folds, or use fewer."
            )
        if is_stack and np.bincount(np.concatenate([test for _, test in splits])).max() > 1:
            raise ValueError(
                f"cv={self.cv!r} predicts some samples in several folds. With method='stack' a "
                "sample may be in one fold, such as of KFold or GroupKFold."
            )
        return replace(problem, splits=splits)

    def _goes_on(self):
        """Tell whether a fit starts from the one before."""
        return self.warm_start and len(getattr(self, "experts_", ())) == self.n_components

    def _check_init(self, X, y, groups):
        """Return how to start: a name, or responsibilities."""
        init = self.init
        n_components = self.n_components
        if self._goes_on():
            validate_data(self, X, reset=False, skip_check_array=True)
            init = self._posterior(X, y, groups)
        if isinstance(init, str):
            return init
        init = check_named(init, "init", dtype=np.float64)
        if n_components == "auto":
            raise ValueError(
                f"init holds responsibilities of {init.shape[1]} components, but "
                f"n_components='auto'. Pass n_components={init.shape[1]}, or init='random'."
            )
        if init.shape != (len(y), n_components) or init.min() < 0 or not init.any(axis=1).all():
            raise ValueError(
                "init must be responsibilities of 0 or more, not all 0 for a sample, of shape "
                f"(n_samples, n_components) = ({len(y)}, {n_components}), got shape {init.shape} "
                f"with a smallest of {init.min():.3g}."
            )
        return spread_over_groups(init, groups)

    def _splits(self, cv, X, y, groups, random_state):
        """Return pairs (train, test) of indices; of a number of folds these are shuffled."""
        if cv is None:
            return None
        if isinstance(cv, Integral):
            seed = random_state.randint(LARGEST_SEED)
            kind = StratifiedKFold if is_classifier(self) else KFold
            cv = GroupKFold(cv) if groups is not None else kind(cv, shuffle=True, random_state=seed)
        return [*check_cv(cv, y, classifier=is_classifier(self)).split(X, y, groups)]

    # -- by EM, or as a tree of linear models ----------------------------------------------------

    def _fit_em(self, problem, experts, random_state):
        is_default = self.estimator is None
        if is_default:
            experts = [default_expert(experts[0], problem.X, problem.weight)] * len(experts)
        # Equal experts share their transformers.
        templates = {id(expert): Template(expert, problem.X, problem.target) for expert in experts}
        experts = tuple(templates[id(expert)] for expert in experts)
        # Default experts are given numbers, whatever the columns of X hold.
        numbers = experts[0].X if is_default else problem.X
        problem = replace(problem, experts=experts, codes=code_samples(numbers, problem.y))
        design = self._make_design(problem)
        if design is not None and self._is_model_tree(problem):
            return self._adopt_run(*fit_tree(problem, design, self.criterion == "stable"))
        if (self.criterion, self.n_components) == ("stable", "auto"):
            raise ValueError(
                "criterion='stable' chooses the leaves of a tree of linear models. It needs "
                "default experts, gate, init, family, method and cv, no groups, and an X of at "
                "most 500 columns that is not sparse."
            )
        n_init = self.n_init if isinstance(problem.init, str) else 1
        seeds = random_state.randint(LARGEST_SEED, size=n_init).tolist()
        if self.n_components == "auto":
            return self._adopt_run(*fit_numbers(self, problem, seeds, design, random_state))
        return self._adopt_run(fit_gates(self, problem, seeds, design, "EM"))

    def _make_design(self, problem):
        """Return what a tree of linear models is grown on, None if no start comes from it."""
        init = problem.init
        gate = last_step(self.gate)
        is_tree = gate == "auto" if isinstance(gate, str) else hasattr(gate, "max_leaf_nodes")
        if not (isinstance(init, str) and (init == "tree" or (init == "auto" and is_tree))):
            return None
        design = None
        try:
            design = Design.of(problem)
        except (TypeError, ValueError):
            # Experts of the user may take columns that the tree does not.
            if init == "tree":
                raise
        if design is None and init == "tree":
            raise ValueError(
                "init='tree' takes tables of at most 500 columns, one for each category, got X of "
                f"shape {problem.X.shape}. Use init='random' or 'lines'."
            )
        return design

    def _is_model_tree(self, problem):
        """Tell whether the number of components is that of the leaves of a tree."""
        return (
            (self.n_components, self.gate, self.method) == ("auto", "auto", "em")
            and self.criterion in ("auto", "stable")
            and self.estimator is None
            and problem.splits is problem.groups is None
            and isinstance(problem.family, Gaussian | LogLoss)
            and not issparse(problem.X)
        )

    def _adopt_run(self, fit, selection=None):
        """Make the attributes of a fit by EM."""
        problem, run = fit
        model = run.model
        if model.is_degenerate:
            warn(
                f"A scale is at its lower bound, min_scale={self.min_scale} of the largest one, in "
                "every start: a component describes a few samples only. Use fewer components, or "
                "a larger min_prior.",
                ConvergenceWarning,
            )
        if not run.converged:
            warn(
                f"EM did not converge in max_iter={self.max_iter} iterations. Raise max_iter or "
                "tol.",
                ConvergenceWarning,
            )
        n_dropped = len(problem.experts) - len(model.experts)
        if n_dropped and selection is None:
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
        }
        if selection is not None:
            attributes["selection_"] = selection
        return self._adopt(problem, problem.family, model.scales, attributes)

    def _adopt(self, problem, family, scales, attributes):
        """Make the attributes of a fit, all of them after whatever may fail."""
        # The names and the number of the columns.
        validate_data(self, problem.X, skip_check_array=True)
        for name in _OF_SOME_FITS:
            vars(self).pop(name, None)
        vars(self).update(attributes)
        self._family = family
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
        return np.exp(self._log_gate(self._check_new(X)))

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
        return self._posterior(X, y, check_groups(groups, X))

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
            `experts_`.
        """
        X = self._check_new(X)
        gates = np.exp(self._log_gate(X))
        outputs = self._outputs(X).astype(float)
        is_known, places = find_samples(outputs, self._seen)
        of_folds = self.oof_gate_proba_[places]
        gates[is_known] = np.where(np.isnan(of_folds), gates[is_known], of_folds)
        outputs[is_known] = self.oof_predictions_[places]
        return gates, outputs

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
            -2 log-likelihood + log(n) x number of parameters. The notes of the class say how
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
        X = self._check_new(X)
        y = self._check_new_y(X, y)
        if self.n_parameters_ is None:
            raise ValueError(
                "The parameters of this mixture cannot be counted. Compare mixtures by the mean of "
                "score_samples on samples that were held out."
            )
        weight = check_weight(sample_weight, X)
        groups = check_groups(groups, X)
        log_likelihood = self._log_likelihood(X, y, weight, groups)
        return criteria(log_likelihood, self.n_parameters_, weight, groups)

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
        return np.stack([self._family.predict(expert, X) for expert in self.experts_], axis=1)

    def _log_gate(self, X):
        if self.gate_ is None:
            return np.tile(np.log(self.weights_), (_num_samples(X), 1))
        return gate_log_proba(self.gate_, X, self.n_components_)

    def _log_joint(self, X, y, groups=None, weight=None):
        density = [
            self._family.log_density(y, self._family.predict(expert, X, y), scale)
            for expert, scale in zip(self.experts_, self._scales, strict=True)
        ]
        if weight is None:
            weight = np.ones(len(y))
        return log_joint(self._log_gate(X), np.column_stack(density), weight, groups)

    def _posterior(self, X, y, groups):
        return posterior(self._log_joint(X, y, groups))[0]

    def _log_likelihood(self, X, y, weight, groups):
        log_density = posterior(self._log_joint(X, y, groups, weight))[1]
        return weigh_units(weight, groups) @ log_density

    def __sklearn_tags__(self):
        """Take what all experts and the gate take."""
        tags = super().__sklearn_tags__()
        # Default parts take everything.
        parts = [*self._given_experts(), self.gate]
        taken = [get_tags(part).input_tags for part in parts if isinstance(part, BaseEstimator)]
        is_stable = (self.criterion, self.n_components) == ("stable", "auto")
        tags.input_tags.sparse = all(part.sparse for part in taken) and not is_stable
        tags.input_tags.allow_nan = all(part.allow_nan for part in taken)
        return tags


def _check_X(X):
    """Return X as an array, sparse matrix or frame; what it holds is up to the experts."""
    if hasattr(X, "columns"):
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


@contextmanager
def _naming_columns(X):
    """Say which columns of X hold what an expert or a gate does not take."""
    try:
        yield
    except (TypeError, ValueError) as error:
        for words, (what, is_wrong, advice) in _REMEDIES.items():
            if issparse(X) or not re.search(words, str(error)):
                continue
            names = [column.name for column in Table(X) if is_wrong(column)]
            if names:
                raise ValueError(f"X contains {what} in columns {names}. {advice}") from error
        raise
