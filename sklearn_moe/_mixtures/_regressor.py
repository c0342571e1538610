"""MixtureRegressor: a mixture of any regressors."""

from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.linear_model import LinearRegression
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import column_or_1d

from .._data import SamplesLike
from .._data.distributions import check_quantiles, draw_indices, find_quantiles
from .._data.validation import check_numbers
from .._validation import (
    Names,
    last_step,
    name_in_errors,
    refuse_overflow,
    warning_once,
)
from ._base import BaseMixture
from ._em import mix
from ._families import FAMILIES, Gaussian, guess_family


class MixtureRegressor(RegressorMixin, BaseMixture):
    """Mixture of any regressors, whose shares may depend on x, fitted by EM.

    The density of y given x is p(y | x) = sum_k g_k(x) f_k(y | x), where g_k is the probability
    that a sample belongs to component k, by the `gate`, and f_k the density of y in this component,
    by its expert [1]_. With simple experts and a shallow tree as gate the mixture is a few rules
    that one can read, see :func:`~sklearn_moe.inspection.region_rules`. With `gate=None` it is a
    mixture of regressions as in flexmix [3]_. The default parts take data frames as they are.

    Parameters
    ----------
    estimator : estimator, list of estimator or None, default=None
        The expert of all components: a regressor whose `fit` takes `sample_weight`, or a
        :class:`~sklearn.pipeline.Pipeline` that ends in one, whose other steps are fitted once,
        without weights. It is given X as it is. A list holds the models of a stack, or pairs of a
        name and a model, as scikit-learn's stacks have them.
        None: :class:`~sklearn.linear_model.LinearRegression`; with categories or missing values
        :class:`~sklearn.linear_model.Ridge` of the encoded columns: a column per category but the
        first, numbers standardized, and missing ones replaced by the mean, with a column that says
        so. With `n_components="auto"` :class:`~sklearn.linear_model.Lasso` of such columns.

    n_components : int or "auto", default=2
        Number of components. With `method="stack"` all models of the list are used.
        "auto": with the default experts, gate and `family`, without groups, the mixture is a tree
        of linear models, grown without EM: of at most six leaves the fewest that predict five folds
        as well as the best number does, by one standard error of the difference. Otherwise mixtures
        of 1, 2, ... components are fitted by EM, 10 at most, until two in a row are no better by
        BIC. They find regimes that overlap, or whose border is oblique. The parameters of experts
        and gate must be countable, as those of linear models and trees.

    gate : "auto", estimator or None, default="auto"
        How the share of each component depends on x.
        "auto" tries constant shares, a :class:`~sklearn.tree.DecisionTreeClassifier` of at most
        eight leaves, pruned by BIC, and a :class:`~sklearn.linear_model.LogisticRegression`. It
        keeps constant shares unless another gate is better by more than 2 in BIC. It takes tables
        as the default experts do, but is not told which numbers are missing.
        An estimator is a classifier with `predict_proba` whose `fit` takes `sample_weight`, or a
        :class:`~sklearn.pipeline.Pipeline` that ends in one, and is given X as it is. It is fitted
        to each sample once per component, with the responsibilities as weights. A tree gives
        regions that can be read, a logistic regression borders that are linear and soft.
        None: constant shares. `apply` then returns the same component for all x, and predictions
        are the mean of all experts, weighted by their shares.
        With `method="stack"` "auto" is constant weights, unless weights that are linear in the
        encoded columns (before the softmax), or such a tree, predict samples of other folds better
        by more than three standard errors.

    family : {"auto", "gaussian", "poisson"}, default="auto"
        The distribution of y around an expert's prediction. "gaussian" has a standard deviation
        per component. "auto" depends on the estimator: "poisson" for
        :class:`~sklearn.linear_model.PoissonRegressor` and others with such a loss, otherwise
        "gaussian".

    method : {"em", "stack"}, default="em"
        "em": experts and gate are fitted together by expectation maximization. The model with the
        largest likelihood of all iterations is kept.
        "stack": every model of the list `estimator` is fitted to all samples, once. The gate alone
        is learned, from what the models predict of samples that they were not fitted to, by `cv`
        folds: it tells which model to trust where. The loss is the square of the error of the
        weighted mean, with weights of all models that sum to 1; an estimator as gate is fitted by
        EM. Experts need not take `sample_weight` unless `fit` is given weights. The parameters
        `family`, `n_init`, `max_iter`, `tol` and `min_prior` are those of EM, and must be left at
        their defaults.

    n_init : int, default=10
        Number of random starts. All run for 3 iterations, the best three of them for 15 more, and
        the best one of these to the end. With constant shares and up to 500 samples all run for 50,
        and the best four to the end. If the gate is "auto" or a tree, X a table of at most 500
        columns, with one for each category, and there are no groups, one more start is from the
        leaves of a tree of linear models, those that are most alike together. The tree of linear
        models by `n_components="auto"` needs no starts and no iterations: there `n_init`,
        `max_iter` and `tol` have no effect, so that a search may try "auto" beside numbers.

    max_iter : int, default=500
        Maximum number of iterations of a run.

    tol : float, default=1e-6
        A run has converged if the mean log-likelihood per sample changes by less than `tol`, or
        does not improve by more than `tol` in ten iterations: with experts or gates that do not
        maximize the likelihood, such as trees, it may also fall.

    min_prior : float, default=0.05
        Components with a smaller share of the samples, or without any, are removed during the fit.

    cv : int, cross-validation splitter or None, default=None
        The folds of `method="stack"`. None is 5; of a number of folds, which are shuffled, samples
        of a group, and equal ones, are in one. No sample may be in two. EM has no folds: there it
        may be set, as searches and checks of scikit-learn do, and changes nothing.

    n_jobs : int or None, default=None
        Number of starts, or of fits of a stack, that run in parallel, by joblib. None means 1, -1
        all cores.

    verbose : bool or int, default=0
        Whether a bar counts the steps of the fit: iterations, splits, or models of a stack. It says
        which start, gate and number of experts they belong to. Files and pipes get none.

    random_state : int, RandomState instance or None, default=None
        Source of the starts and of every `random_state` of experts and gate that is None. Pass an
        int for the same result in every call.

    Attributes
    ----------
    experts_ : list of estimator
        The fitted experts of the components that are left. Default experts of data frames, and of
        arrays with missing values, are pipelines that begin with an encoder of X.

    gate_ : estimator or None
        The fitted gate, whose classes are the indices of the components; None for constant shares.
        That of "auto" is a pipeline where it encodes X or is a logistic regression.

    weights_ : ndarray of shape (n_components,)
        The share of each component in the training samples; of a stack its mean weight.

    scale_ : ndarray of shape (n_components,) or None
        Standard deviations ("gaussian"), None of counts. Those of a stack are of errors by folds,
        by which it has densities, quantiles and draws, too.

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
        With `n_components="auto"`, for every number tried. Of a tree of linear models: "n_leaves"
        and "held_out", minus half the mean square of the errors by folds, in variances of y. Else
        "n_components", "log_likelihood", "n_parameters", "bic" and "aic".
        `pandas.DataFrame(selection_)` is a table of it.

    expert_kinds_ : list of str
        With `method="stack"`, the name of each model, or its class, numbered if it is
        there twice.

    oof_predictions_ : ndarray of shape (n_samples, n_components)
        With `method="stack"`, what models predict of the training samples (those of a weight above
        0) that were fitted without their fold; NaN where a sample is in no fold.

    oof_gate_proba_ : ndarray of shape (n_samples, n_components)
        With `method="stack"`, weights by gates that were learned without the fold; NaN for samples
        that no gate was learned from (of more than 10,000 the default gate takes a part).

    n_features_in_ : int
        Number of columns of X.

    feature_names_in_ : ndarray of str
        Names of the columns, where X has names.

    Warns
    -----
    ConvergenceWarning
        If the best run did not converge, components were dropped, or a scale is at its bound.

    See Also
    --------
    MixtureClassifier : A mixture of any classifiers.
    MoERegressor : Neural experts, trained by gradients.
    sklearn.mixture.GaussianMixture : A mixture of densities of x.

    Notes
    -----
    In the tree of linear models, leaves whose common line predicts the folds as well are one
    component. A line counts the line of all samples as some more rows. The lines are then refitted
    together by a lasso of what they share and where they differ. The gate has no doubt, so that
    :func:`~sklearn_moe.inspection.region_rules` says what is predicted.

    The scale of a component is at least .05 of the largest one: a component of a few samples could
    have an infinite likelihood [2]_. A start that ends there is used only if all starts do.

    In BIC n is the number of samples, which weights count as in `fit`, and the log-likelihood is in
    the same units: a factor of all weights does not count. With `groups` the likelihood has the
    geometric mean of a group's gates. It tells numbers of components apart only if gates are
    constant within groups, as with `gate=None`.

    References
    ----------
    .. [1] M. Jordan, R. Jacobs, "Hierarchical Mixtures of Experts and the EM Algorithm", Neural
       Computation 6 (1994).
    .. [2] R. Hathaway, "A Constrained Formulation of Maximum-Likelihood Estimation for Normal
       Mixture Distributions", Annals of Statistics 13 (1985).
    .. [3] F. Leisch, "FlexMix: A General Framework for Finite Mixture Models and Latent Class
       Regression in R", Journal of Statistical Software 11 (2004).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe import MixtureRegressor
    >>> X = np.random.default_rng(0).uniform(size=(500, 2))
    >>> y = np.where(X[:, 0] > 0.5, 3 + 2 * X[:, 1], -4 * X[:, 1])  # one rule on either side
    >>> y += 0.1 * np.random.default_rng(1).normal(size=500)
    >>> mixture = MixtureRegressor(n_components=2, random_state=0).fit(X, y)
    >>> sorted(float(expert.coef_[1].round(1)) for expert in mixture.experts_)
    [-4.0, 2.0]
    >>> mixture.predict_quantiles(X[:2], [0.05, 0.95]).shape
    (2, 2)
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseMixture._parameter_constraints,
        "family": [Names({"auto", *FAMILIES})],
    }
    _predicts = "predict"

    def _default_expert(self, X, y):
        return LinearRegression()

    def _check_y(self, y):
        """Return y, y as the experts take it, and the family."""
        y = self._encode_y(y)
        family = self._choose_family()
        with name_in_errors("y"):
            refuse_overflow("y", y @ y)
        family.check(y)
        return y, y, family

    def _choose_family(self):
        if self.family != "auto":
            return FAMILIES[self.family]()
        # A stack combines the means of its models, whatever these are made for.
        if self.estimator is None or self.method == "stack":
            return Gaussian()
        return FAMILIES[guess_family(last_step(self.estimator))]()

    def _encode_y(self, y):
        return check_numbers(column_or_1d(y, warn=True))

    @warning_once()
    def predict(self, X: SamplesLike) -> np.ndarray:
        """Return the mean of y given each x.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        return mix(self.gate_proba(X), self.expert_predict(X))

    @warning_once()
    def expert_predict(self, X: SamplesLike) -> np.ndarray:
        """Return the prediction of every expert for each sample.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        Returns
        -------
        y : ndarray of shape (n_samples, n_components)
        """
        X = self._check_new(X)
        return np.column_stack([expert.predict(X) for expert in self.experts_])

    def _distributions(self, X):
        """Return a distribution of every component."""
        return [
            self._family.distribution(expert, X, scale)
            for expert, scale in zip(self.experts_, self._scales, strict=True)
        ]

    def predict_quantiles(self, X: SamplesLike, q: ArrayLike) -> np.ndarray:
        """Return quantiles of y given each x.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        q : float or array-like of shape (n_quantiles,)
            Probabilities above 0 and below 1; `[.05, .95]` bound an interval of 90 %.

        Returns
        -------
        quantiles : ndarray of shape (n_samples, n_quantiles)

        Raises
        ------
        ValueError
            If q is no probability.
        """
        X = self._check_new(X)
        q = check_quantiles(q)
        gate = self.gate_proba(X)
        distributions = self._distributions(X)
        # A quantile of the mixture lies between those of its components.
        ends = np.stack([component.ppf(q) for component in distributions])
        ends = np.where(gate.T[..., np.newaxis] > 0, ends, np.nan)
        low, high = np.nanmin(ends, axis=0), np.nanmax(ends, axis=0)
        quantiles = find_quantiles(
            lambda y: mix(gate, np.stack([part.cdf(y) for part in distributions], axis=1)),
            q,
            low,
            high,
        )
        return np.rint(quantiles) if self._family.is_discrete else quantiles

    def predict_interval(self, X: SamplesLike, coverage: float = 0.9) -> np.ndarray:
        """Return an interval for the y of each sample: two of its quantiles.

        As many numbers are to be below as above it.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        coverage : float, default=0.9
            Share of the numbers that are to lie in their intervals, between 0 and 1.

        Returns
        -------
        interval : ndarray of shape (n_samples, 2)
            The lower and the upper end.

        Raises
        ------
        ValueError
            If `coverage` is not between 0 and 1.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_moe import MixtureRegressor
        >>> X = np.linspace(0, 1, 200)[:, None]
        >>> y = 3 * X[:, 0] + np.random.default_rng(0).normal(size=200)
        >>> mixture = MixtureRegressor(n_components=1, random_state=0).fit(X, y)
        >>> low, high = mixture.predict_interval(X).T
        >>> bool(0.85 < ((low < y) & (y < high)).mean() < 0.95)
        True
        """
        check_scalar(coverage, "coverage", Real, min_val=0, max_val=1, include_boundaries="neither")
        return self.predict_quantiles(X, [(1 - coverage) / 2, (1 + coverage) / 2])

    def sample_y(
        self,
        X: SamplesLike,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Draw numbers from the distribution of y given each x.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        n_samples : int, default=1
            Number of draws for each of them.

        random_state : int, RandomState instance or None, default=None
            Source of the draws. Pass an int for the same result in every call.

        Returns
        -------
        y : ndarray of shape (n_samples of X, n_samples)
        """
        X = self._check_new(X)
        random_state = check_random_state(random_state)
        n_samples = check_scalar(n_samples, "n_samples", Integral, min_val=1)
        chosen = draw_indices(self.gate_proba(X), n_samples, random_state)
        drawn = [
            component.rvs(size=chosen.shape, random_state=random_state)
            for component in self._distributions(X)
        ]
        return np.take_along_axis(np.stack(drawn), chosen[None], axis=0)[0].astype(float)
