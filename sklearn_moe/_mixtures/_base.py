"""What mixtures of numbers and of classes share: the fit, its checks, and densities."""

import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    _fit_context,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, check_cv
from sklearn.utils import _safe_indexing, check_array, check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import (
    _num_samples,
    check_is_fitted,
    validate_data,
)

from .._compat import progress_bar, warn
from .._data import SamplesLike, tables
from .._data.validation import check_groups
from .._validation import Count, check_named, check_same_length
from ._criteria import (
    InformationCriteria,
    compare_gates,
    count_all,
    held_out,
    information,
)
from ._defaults import default_expert, default_gates
from ._em import (
    Problem,
    code_samples,
    fit_best,
    gate_log_proba,
    log_joint,
    posterior,
)
from ._families import Gaussian, LogLoss
from ._model_tree import Table, find_regions, fit_tree
from ._stack import OF_STACK, Stacking, fit_stack
from ._weighted import Template, check_weight, last_step, takes_weights

if TYPE_CHECKING:
    from typing_extensions import Self

_N_FOLDS = 5  # of the held-out likelihood
_MOST_COMPONENTS = 10  # that "auto" tries
_PATIENCE = 2  # numbers of components without improvement, after which "auto" tries no more
_OF_PROBLEM = ("max_iter", "tol", "min_prior", "min_scale")
_LARGEST_SEED = 2**31 - 1 - _MOST_COMPONENTS  # a component adds its index

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


class BaseMixture(Stacking, InformationCriteria, MetaEstimatorMixin, BaseEstimator):
    """What mixtures of numbers and of classes share; each documents itself what is in braces.

    Parameters
    ----------
    {estimator}

    n_components : int or "auto", default=2
        Number of components. "auto" chooses it by `criterion`. With `method="stack"` all models of
        the list are used, whether it is their number or 2; 1 keeps the best one alone, by folds.

    gate : "auto", estimator or None, default="auto"
        How the share of each component depends on x. "auto" fits the mixture with a
        :class:`~sklearn.tree.DecisionTreeClassifier` of at most eight leaves, pruned by BIC, from
        all starts; and from the responsibilities that it finds with constant shares, and with a
        :class:`~sklearn.linear_model.LogisticRegression`. It keeps the best by `criterion` (by
        "bic" for "auto" and "held_out"); constant shares unless another gate is better by more than
        2. It takes tables as the default experts do, but is not told which numbers are missing.
        An estimator is a classifier with `predict_proba` whose `fit` takes `sample_weight`, or a
        :class:`~sklearn.pipeline.Pipeline` that ends in one, and is given X as it is: a tree gives
        regions that can be read, a logistic regression borders that are linear and soft. It is
        fitted to each sample once per component, with the responsibilities as weights.
        None: constant shares. `apply` then returns the same component for all x, and predictions
        are the mean of all experts, weighted by their shares: components are found, but x does not
        tell which one holds.
        With `method="stack"` "auto" is constant weights, unless weights that are linear in the
        encoded columns (before the softmax, with a penalty that is chosen by folds), or such a
        tree, predict samples of other folds clearly better: by more than three standard errors.

    {family}

    method : {"em", "stack"}, default="em"
        "em": expectation maximization. Every expert is fitted to all samples, with their
        responsibilities as weights. The model with the largest likelihood of all iterations is
        kept.
        "stack": every model of the list `estimator` is fitted to all samples, once, and the gate
        alone is learned, from what the models predict of samples that they were not fitted to, by
        `cv` folds. It is a stack whose weights depend on x: the map of which model to trust where.
        The loss is that of the weighted mean of the probabilities of the class, or the square of
        the error of the mean, with weights of all models that sum to 1; an estimator as gate is
        fitted by EM. Experts need not take `sample_weight` unless `fit` is given weights. The
        parameters `family`, `criterion`, `n_init`, `init`, `max_iter`, `tol`, `min_prior`,
        `min_scale` and `warm_start` are those of EM, and must be left at their defaults.

    criterion : {"auto", "stable", "bic", "aic", "held_out"}, default="auto"
        How `n_components="auto"` chooses. With the default experts, gate, `init`, `family`,
        `method` and `cv`, without groups, "auto" grows a tree of linear models, which is the
        mixture, without EM: greedy splits into at most six leaves, the fewest that predict five
        folds as well as the best number does, by one standard error of the difference. Leaves whose
        common line predicts the folds as well are one component. A line counts the line of all
        samples as some more rows; those of numbers are then refitted together by a lasso of what
        they share and where they differ. The gate has no doubt, so that
        :func:`~sklearn_moe.inspection.region_rules` says what is predicted. "stable" takes only as
        many leaves as the trees of the folds agree about (adjusted Rand index above .9 on average),
        perhaps one. Regimes that overlap, or whose border is oblique, are found by the others.
        These fit mixtures of 1, 2, ... components by EM, 10 at most, until two in a row are no
        better, by an information criterion or by the mean log-likelihood of samples that are held
        out ("held_out": `cv` folds, or 5). For parts of your own "auto" is "bic" where the
        parameters of experts and gate can be counted (linear models, trees, mixtures of them), else
        "held_out". For "bic" n is the number of samples: where all weights are whole
        numbers their sum, divided by their greatest common divisor, else Kish's effective size,
        (sum w)^2 / sum w^2. The log-likelihood is scaled alike: a factor of all weights does not
        count. With `groups` the likelihood has the geometric mean of a group's gates: it
        tells numbers of components apart only if gates are constant within groups, as with
        `gate=None`.

    n_init : int, default=10
        Number of random starts. All run for 10 iterations. After that only those continue whose
        log-likelihood per sample is at most .1 below that of the best one.

    init : {"auto", "tree", "random", "lines"} or array-like of shape (n_samples, n_components), \
            default="auto"
        How a run starts: "random" components; "lines", experts fitted to a few random samples each,
        where a sample belongs to the expert that predicts it best; "tree", the leaves of a tree of
        linear models, those that are most alike together, for a single run that does not depend on
        `random_state` and knows no more than 500 columns, with one for each category; or given
        responsibilities, for a single run. "auto" adds "tree" to the random starts if the gate is
        "auto" or a tree, and X is a table that it takes.

    max_iter : int, default=500
        Maximum number of iterations of a run.

    tol : float, default=1e-6
        A run has converged if the mean log-likelihood per sample changes by less than `tol`, or
        does not improve by more than `tol` in ten iterations: with experts or gates that do not
        maximize the likelihood, such as trees, it may also fall.

    min_prior : float, default=0.05
        Components with a smaller share of the samples, or without any, are removed during the fit.

    min_scale : float, default=0.05
        Lower bound of the scales, relative to the largest one. Without it a component of a few
        samples could have an infinite likelihood [2]_. A start that ends at the bound is used only
        if all starts do, with a warning.

    cv : int, cross-validation splitter or None, default=None
        With folds, responsibilities and scales come from predictions for samples that experts and
        gate were not fitted to. Use it for experts that can overfit, such as boosted trees. An int
        is the number of shuffled folds. With `method="stack"` None is 5; samples of a group, and
        equal ones, are then in one fold, and no sample may be in two.

    warm_start : bool, default=False
        Whether `fit` starts from the responsibilities of the model that was fitted before, of as
        many components. It then goes on with its columns and classes.

    n_jobs : int or None, default=None
        Number of starts, or of fits of a stack, that run in parallel, by joblib. None means 1, -1
        all cores.

    verbose : int, default=0
        Whether to show progress bars: of the starts, and of the folds of "held_out".

    random_state : int, RandomState instance or None, default=None
        Source of the starts and of every `random_state` of experts and gate that is None. Pass an
        int for the same result in every call.

    Attributes
    ----------
    {classes_}

    experts_ : list of estimator
        The fitted experts of the components that are left. Default experts of data frames, and of
        arrays with missing values, are pipelines that begin with an encoder of X.

    gate_ : estimator or None
        The fitted gate, whose classes are the indices of the components; None for constant shares.
        That of "auto" is a pipeline where it encodes X or is a logistic regression.

    weights_ : ndarray of shape (n_components,)
        The share of each component in the training samples; of a stack its mean weight.

    n_components_ : int
        Number of components that are left.

    n_parameters_ : int or None
        Number of parameters of the mixture, None if they cannot be counted. A coefficient, a
        threshold and the value of a leaf are one each; penalties are ignored.

    log_likelihood_ : float
        Log-likelihood of the training samples, of a stack by folds.

    lower_bound_ : float
        The same per sample.

    lower_bounds_ : list of float
        `lower_bound_` after every iteration of the run that was kept.

    n_iter_ : int
        Number of iterations of that run.

    converged_ : bool
        Whether it converged.

    selection_ : dict of str to list
        With `n_components="auto"`, for every number tried, of a tree of linear models: "n_leaves",
        "held_out" (of numbers with one standard deviation for all leaves) and "agreement", the mean
        adjusted Rand index of such trees of the folds with that of all samples. Else
        "n_components", "log_likelihood", "n_parameters" (None if they cannot be counted), "bic" and
        "aic" (NaN without a number of parameters), and perhaps "held_out".
        `pandas.DataFrame(selection_)` is a table of it.

    expert_kinds_ : list of str
        With `method="stack"`, the class of each model, numbered if it is there twice.

    oof_predictions_ : ndarray of shape (n_samples, n_components[, n_classes])
        With `method="stack"`, what models predict of the training samples (those of a weight above
        0) that were fitted without their fold; NaN where a sample is in no fold.

    oof_gate_proba_ : ndarray of shape (n_samples, n_components)
        With `method="stack"`, weights by gates that were learned without the fold; NaN for samples
        that no gate was learned from (of more than 20,000 the default gate takes a part).

    n_features_in_ : int
        Number of columns of X.

    feature_names_in_ : ndarray of str
        Names of the columns, where X has names.

    {scale_}
    """

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

    def __init__(
        self,
        estimator: Any = None,
        n_components: int | Literal["auto"] = 2,
        *,
        gate: Any = "auto",
        family: str | Callable = "auto",
        method: str = "em",
        criterion: str = "auto",
        n_init: int = 10,
        init: ArrayLike = "auto",
        max_iter: int = 500,
        tol: float = 1e-6,
        min_prior: float = 0.05,
        min_scale: float = 0.05,
        cv: Any = None,
        warm_start: bool = False,
        n_jobs: int | None = None,
        verbose: bool | int = 0,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.n_components = n_components
        self.gate = gate
        self.family = family
        self.method = method
        self.criterion = criterion
        self.n_init = n_init
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.min_prior = min_prior
        self.min_scale = min_scale
        self.cv = cv
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    def __init_subclass__(cls, **options):
        """Name the constructor, as an error of Python's does, by the class that it makes."""
        super().__init_subclass__(**options)
        init = BaseMixture.__init__
        if cls.__init__ is init:
            own = FunctionType(init.__code__, init.__globals__, "__init__", init.__defaults__)
            own.__kwdefaults__, own.__annotations__ = init.__kwdefaults__, init.__annotations__
            own.__qualname__ = f"{cls.__name__}.__init__"
            cls.__init__ = own

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
        y, target, family = self._check_y(y)
        check_same_length(X=X, y=y)
        weight, groups = check_weight(sample_weight, X), check_groups(groups, X)
        init = self._check_init(X, y, groups)
        is_stack, splits = self.method == "stack", None
        if not (is_stack and isinstance(self.cv, Integral)):  # a stack has others, see below
            splits = self._splits(self.cv, X, target, groups, random_state)
        if not weight.all():
            rows, places = np.flatnonzero(weight), np.cumsum(weight > 0) - 1
            splits = splits and [[places[s[weight[s] > 0]] for s in split] for split in splits]
            X, y, target, weight = (_safe_indexing(part, rows) for part in (X, y, target, weight))
            groups = check_groups(groups if groups is None else groups[rows], X)
            init = init if isinstance(init, str) else init[rows]
        if splits is not None:
            splits = [split for split in splits if len(split[1])]
            if not (splits and all(len(train) for train, _ in splits)):
                raise ValueError(
                    f"cv={self.cv!r}: samples of a weight above 0 are all in one fold, or missing "
                    "from the others. Shuffle the folds, or use fewer."
                )
            if is_stack and np.bincount(np.concatenate([test for _, test in splits])).max() > 1:
                raise ValueError(
                    f"cv={self.cv!r} predicts some samples in several folds. With method='stack' "
                    "a sample may be in one fold, such as of KFold or GroupKFold."
                )
        with _naming_columns(X):
            facts = {"family": family, "y": y, "target": target, "weight": weight, "gate": None}
            facts |= {"groups": groups, "splits": splits, "init": init, "tree": None}
            facts |= {name: getattr(self, name) for name in _OF_PROBLEM}
            if is_stack:
                if splits is None:
                    facts["splits"] = self._stack_splits(X, y, target, groups, random_state)
                options = {name: getattr(self, name) for name in ("gate", "n_jobs", "verbose")}
                options |= {"seed": random_state.randint(_LARGEST_SEED)}
                options |= {"only_best": self.n_components == 1}
                stack = fit_stack(Problem((), codes=None, **facts), experts, X, **options)
                return self._adopt_stack(X, stack)
            of_default = self.estimator is None  # numbers, of a table of any columns
            if of_default:
                experts = [default_expert(experts[0], X, weight)] * len(experts)
            templates = {id(expert): Template(expert, X, target) for expert in experts}
            problem = Problem(
                experts=tuple(templates[id(expert)] for expert in experts),
                codes=code_samples(templates[id(experts[0])].X if of_default else X, y),
                **facts,
            )
            table = self._table(problem, X)
            if table is not None and self._is_default(problem, X):
                return self._adopt(X, *fit_tree(problem, X, table, self.criterion == "stable"))
            if (self.criterion, self.n_components) == ("stable", "auto"):
                raise ValueError(
                    "criterion='stable' chooses the leaves of a tree of linear models. It needs "
                    "default experts, gate, init, family, method and cv, no groups, and an X of at "
                    "most 500 columns that is not sparse."
                )
            n_init = self.n_init if isinstance(init, str) else 1
            seeds = random_state.randint(_LARGEST_SEED, size=n_init).tolist()
            if self.n_components == "auto":
                return self._adopt(X, *self._select(problem, seeds, X, table, random_state))
            return self._adopt(X, *self._fit_gates(problem, seeds, X, table, "EM"))

    def _check_parts(self):
        """Return the unfitted experts, a single one for "auto"."""
        experts, n_components = self.estimator, self.n_components
        if self.method == "stack":
            experts, n_components = self._check_stack(), None
        elif not isinstance(experts, list):
            expert = self._default_expert() if experts is None else experts
            experts = [expert] * (1 if n_components == "auto" else n_components)
        elif len(experts) != n_components:
            raise ValueError(
                f"estimator is a list of {len(experts)}, one per component, but "
                f"n_components={n_components!r}. Pass n_components={len(experts)}."
            )
        named = [("estimator", expert, self._predicts) for expert in experts]
        if not (self.gate is None or isinstance(self.gate, str)):
            named.append(("gate", self.gate, "predict_proba"))
        for name, part, method in named:
            if isinstance(part, type) or not (hasattr(part, "fit") and hasattr(part, method)):
                raise ValueError(
                    f"{name} must be an estimator with the methods fit and {method}, got {part!r}."
                )
            if name == "estimator" and is_regressor(self) and is_classifier(last_step(part)):
                raise ValueError(f"estimator must be a regressor, got {part!r}.")
            if not takes_weights(part) and (name == "gate" or self.method != "stack"):
                raise ValueError(
                    f"{name}={part!r}: `fit` of {type(last_step(part)).__name__} must take "
                    "sample_weight, which tells the samples of a component from the others."
                )
        return experts

    def _table(self, problem, X):
        """Return the table in which a tree of linear models is to be found, or None."""
        init, gate = problem.init, last_step(self.gate)
        is_read = gate == "auto" if isinstance(gate, str) else hasattr(gate, "max_leaf_nodes")
        if not (isinstance(init, str) and (init == "tree" or (init == "auto" and is_read))):
            return None
        table = None
        try:
            table = Table.of(X, problem.y, problem.weight)
        except (TypeError, ValueError):  # experts of the user may take what the tree does not
            if init == "tree":
                raise
        if table is None and init == "tree":
            raise ValueError(
                "init='tree' takes tables of at most 500 columns, one for each category, got X of "
                f"shape {X.shape}. Use init='random' or 'lines'."
            )
        return table

    def _is_default(self, problem, X):
        """Tell whether the number of components is that of the leaves of a tree."""
        defaults = self.n_components, self.gate, self.method
        return (
            defaults == ("auto", "auto", "em")
            and self.criterion in ("auto", "stable")
            and self.estimator is None
            and problem.splits is problem.groups is None
            and isinstance(problem.family, Gaussian | LogLoss)
            and not issparse(X)
        )

    def _goes_on(self):
        """Tell whether a fit starts from the one before."""
        return self.warm_start and len(getattr(self, "experts_", ())) == self.n_components

    def _check_init(self, X, y, groups):
        """Return how to start: a name, or responsibilities."""
        init, n_components = self.init, self.n_components
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
        return _of_groups(init, groups)

    def _splits(self, cv, X, y, groups, random_state):
        """Return pairs (train, test) of indices; of a number of folds these are shuffled."""
        if cv is None:
            return None
        if isinstance(cv, Integral):
            shuffled = {"shuffle": True, "random_state": random_state.randint(_LARGEST_SEED)}
            kind = StratifiedKFold if is_classifier(self) else KFold
            cv = kind(cv, **shuffled) if groups is None else GroupKFold(cv)
        return [*check_cv(cv, y, classifier=is_classifier(self)).split(X, y, groups)]

    def _fit_gates(self, problem, seeds, X, table, name):
        """Return problem and run of the gate, of "auto" those of the best one.

        The first gate has all starts, and the others go on from what it found.
        """
        n_components = len(problem.experts)
        if table is not None and n_components > 1:
            labels = find_regions(table, n_components, problem.min_prior).groups
            start = _of_groups(np.eye(n_components)[labels], problem.groups)
            if problem.init == "tree":
                problem, seeds = replace(problem, init=start), seeds[:1]
            elif start.any(axis=0).all():
                problem = replace(problem, tree=start)
        gates, fits = [self.gate], []
        if isinstance(self.gate, str):
            gates = default_gates(X, problem.unit_weight, n_components)
        for gate in gates:
            template = None if gate is None else Template(gate, X, problem.target)
            init = problem.init
            if fits:
                first, seeds = fits[0][1], seeds[:1]
                problem = replace(problem, tree=None)
                init = np.zeros((len(problem.y), n_components))
                init[:, first.components] = first.responsibilities
            tried = replace(problem, gate=template, init=init)
            fits.append((tried, fit_best(tried, seeds, self.n_jobs, self.verbose, name)))
        return fits[0] if len(fits) == 1 else compare_gates(fits, self.criterion)

    def _select(self, problem, seeds, X, table, random_state):
        """Return problem and run of the best number of components, and a table of all tried."""
        criterion, fits, rows, splits = self.criterion, [], [], None
        for n_components in range(1, _MOST_COMPONENTS + 1):
            tried = replace(problem, experts=problem.experts * n_components)
            name = f"EM, n_components={n_components}"
            fits.append(self._fit_gates(tried, seeds, X, table, name))
            row = {"n_components": n_components, **information(*fits[-1])}
            if criterion == "auto":
                criterion = "held_out" if np.isnan(row["bic"]) else "bic"
            if criterion == "held_out":
                parts = X, problem.target, problem.groups, random_state
                splits = splits or self._splits(self.cv or _N_FOLDS, *parts)
                options = {"n_components": n_components, "warm_start": False, "verbose": 0}
                options["random_state"] = random_state.randint(_LARGEST_SEED)
                gate = fits[-1][0].gate
                options["gate"] = gate and (gate.pipeline or gate.last)
                mixture = clone(self).set_params(**options)
                bar = progress_bar(splits, disable=not self.verbose, desc=f"{name}, held out")
                row["held_out"] = held_out(mixture, problem, X, bar)
            rows.append(row)
            values = np.array([row[criterion] for row in rows])
            if np.isnan(values).any():
                raise ValueError(
                    f"criterion={criterion!r} needs experts and a gate whose parameters can be "
                    "counted, such as linear models and trees. Use criterion='held_out'."
                )
            best = int(values.argmax() if criterion == "held_out" else values.argmin())
            if n_components - 1 - best >= _PATIENCE:
                break
        return *fits[best], {key: [row[key] for row in rows] for key in rows[0]}

    def _adopt(self, X, problem, run, selection=None):
        """Make the attributes of the best run, all of them after whatever may fail."""
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
        validate_data(self, X, skip_check_array=True)  # names and number of the columns
        self._family, self._scales = problem.family, model.scales
        self.experts_ = [
            problem.experts[component].whole(expert)
            for component, expert in zip(run.components, model.experts, strict=True)
        ]
        self.gate_ = None if model.gate is None else problem.gate.whole(model.gate)
        self.weights_ = model.priors
        self.scale_ = np.array(model.scales) if problem.family.has_scale else None
        self.n_components_ = len(self.experts_)
        self.n_parameters_ = count_all(model, problem.family)
        self.log_likelihood_ = run.log_likelihood
        self.lower_bounds_ = list(run.lower_bounds)
        self.lower_bound_ = run.log_likelihood / problem.unit_weight.sum()
        self.n_iter_ = len(run.lower_bounds)
        self.converged_ = run.converged
        for name in ("selection_", *OF_STACK):
            self.__dict__.pop(name, None)
        if selection is not None:
            self.selection_ = selection
        return self

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
        return np.exp(self._log_gate(self._checked(X)))

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
        X, y = self._checked(X, y)
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
        if y is None:  # a mean need not be a count
            X, y = self._checked(X), self._encode_y(self.predict(X))
        else:
            X, y = self._checked(X, y)
        return posterior(self._log_joint(X, y))[1]

    def _checked(self, X, *y):
        """Return X, or X and y, as `fit` made them."""
        check_is_fitted(self)
        X = validate_data(self, _check_X(X), reset=False, skip_check_array=True)
        if not y:
            return X
        y = self._encode_y(y[0])
        check_same_length(X=X, y=y)
        self._family.check(y)
        return X, y

    def _log_gate(self, X):
        if self.gate_ is None:
            return np.tile(np.log(self.weights_), (_num_samples(X), 1))
        return gate_log_proba(self.gate_, X, self.n_components_)

    def _log_joint(self, X, y, groups=None, weight=None):
        density = [
            self._family.log_density(y, self._family.predict(expert, X, y), scale)
            for expert, scale in zip(self.experts_, self._scales, strict=True)
        ]
        weight = np.ones(len(y)) if weight is None else weight
        return log_joint(self._log_gate(X), np.column_stack(density), weight, groups)

    def _posterior(self, X, y, groups):
        return posterior(self._log_joint(X, y, groups))[0]

    def __sklearn_tags__(self):
        """Take what all experts and the gate take."""
        tags = super().__sklearn_tags__()
        experts = self.estimator if isinstance(self.estimator, list) else [self.estimator]
        parts = [*experts, self.gate]  # the default ones take everything
        taken = [get_tags(p).input_tags for p in parts if isinstance(p, BaseEstimator)]
        is_stable = (self.criterion, self.n_components) == ("stable", "auto")
        tags.input_tags.sparse = all(part.sparse for part in taken) and not is_stable
        tags.input_tags.allow_nan = all(part.allow_nan for part in taken)
        return tags


def _check_X(X):
    """Return X as an array, sparse matrix or frame; what it holds is up to the experts."""
    if hasattr(X, "columns"):
        return X
    return check_array(X, accept_sparse="csr", dtype=None, ensure_all_finite=False)


@contextmanager
def _naming_columns(X):
    """Say which columns of X hold what an expert or a gate does not take."""
    try:
        yield
    except (TypeError, ValueError) as error:
        for words, (what, is_wrong, advice) in _REMEDIES.items():
            if issparse(X) or not re.search(words, str(error)):
                continue
            if names := [column.name for column in tables.Table(X) if is_wrong(column)]:
                raise ValueError(f"X contains {what} in columns {names}. {advice}") from error
        raise


def _of_groups(init, groups):
    """Return responsibilities that are the same for all samples of a group, and add up to 1."""
    if groups is not None:
        init = np.stack([np.bincount(groups, column) for column in init.T], axis=1)[groups]
    return init / init.sum(axis=1, keepdims=True)
