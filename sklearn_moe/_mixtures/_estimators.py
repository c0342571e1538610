"""MixtureRegressor and MixtureClassifier."""

from numbers import Integral
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.utils import check_array, check_random_state, check_scalar
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from .._data import SamplesLike
from .._data.distributions import check_quantiles, draw_indices, find_quantiles
from .._validation import (
    check_named,
    check_same_length,
    documented_by,
    name_in_errors,
    refuse_overflow,
)
from ._base import BaseMixture
from ._families import FAMILIES, Custom, Family, LogLoss, OwnDensity, guess_family
from ._weighted import last_step


@documented_by(BaseMixture.__doc__)
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
        The expert of each component: a regressor whose `fit` takes `sample_weight`, or a
        :class:`~sklearn.pipeline.Pipeline` that ends in one, whose other steps are fitted once,
        without weights. A list has one expert per component. An expert may be a mixture (a
        hierarchical mixture). All are given X as it is. None:
        :class:`~sklearn.linear_model.LinearRegression`; with categories or missing values
        :class:`~sklearn.linear_model.Ridge` of the encoded columns: a column per category but the
        first, numbers standardized, and missing ones replaced by the mean, with a column that says
        so. With `n_components="auto"` :class:`~sklearn.linear_model.Lasso` of such columns.

    family : {"auto", "gaussian", "poisson", "gamma"} or callable, default="auto"
        The distribution of y around an expert's prediction. "gaussian" has a standard deviation
        and "gamma" a coefficient of variation per component. "auto" depends on the loss of the
        estimator: "poisson" for :class:`~sklearn.linear_model.PoissonRegressor` and others with
        such a loss, "gamma" likewise, for a mixture its own density, otherwise "gaussian". A
        callable takes `(y, prediction, weight)` and returns the log density of each y; it may
        estimate a scale with the weights, which are 0 for samples outside of the training.

    scale_ : ndarray of shape (n_components,) or None
        Standard deviations ("gaussian"), or coefficients of variation ("gamma"). Those of a stack
        are of errors by folds, by which it has densities, quantiles and draws, too.

    Warns
    -----
    ConvergenceWarning
        If the best run did not converge, components were dropped, or a scale is at its bound.

    See Also
    --------
    MixtureClassifier : A mixture of any classifiers.
    MoERegressor : Neural experts, trained by gradients.
    sklearn.mixture.GaussianMixture : A mixture of densities of x.

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
        "family": [StrOptions({"auto", *FAMILIES}), callable],
    }
    _predicts = "predict"

    @staticmethod
    def _default_expert():
        return LinearRegression()

    def _check_y(self, y):
        """Return y, y as the experts take it, and the family."""
        y, family = self._encode_y(y), self.family
        if isinstance(family, str) and family == "auto":
            experts = self.estimator if isinstance(self.estimator, list) else [self.estimator]
            experts = [] if self.method == "stack" else experts  # their means alone are combined
            found = {guess_family(last_step(expert)) for expert in experts if expert is not None}
            if len(found) > 1:
                raise ValueError(
                    f"family='auto': the estimators are made for {sorted(found)}, a mixture needs "
                    f"one of them. Set family to one of {sorted(FAMILIES)}."
                )
            family = found.pop() if found else "gaussian"
        if callable(family):
            family = Custom(family, Family())
        else:
            family = OwnDensity() if family == "own" else FAMILIES[family]()
        with name_in_errors("y"):
            refuse_overflow("y", y @ y)
        family.check(y)
        return y, y, family

    def _encode_y(self, y):
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        return column_or_1d(y, warn=True)

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
        return (self.gate_proba(X) * self.expert_predict(X)).sum(axis=1)

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
        X = self._checked(X)
        return np.column_stack([expert.predict(X) for expert in self.experts_])

    def cdf(self, X: SamplesLike, y: ArrayLike) -> np.ndarray:
        """Return the probability of at most y given each x.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        y : array-like of shape (n_samples,) or (n_samples, n_values)
            One or several numbers for each of them.

        Returns
        -------
        proba : ndarray of the shape of y
        """
        X = self._checked(X)
        y = check_named(y, "y", ensure_2d=False, dtype=np.float64)
        check_same_length(X=X, y=y)
        gate, parts = self.gate_proba(X), self._distributions(X)
        proba = self._mixed_cdf(gate, parts, y.reshape(len(y), -1))
        return proba.reshape(y.shape)

    def _mixed_cdf(self, gate, parts, y):
        return sum(g[:, None] * part.cdf(y) for g, part in zip(gate.T, parts, strict=True))

    def _distributions(self, X):
        """Return a distribution of every component."""
        if not hasattr(self._family, "distribution"):
            raise ValueError(f"family={self.family!r} has a density, but no distribution function.")
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
            If q is no probability, or the family is a function of your own.
        """
        X, q = self._checked(X), check_quantiles(q)
        gate, parts = self.gate_proba(X), self._distributions(X)
        ends = np.stack([part.ppf(q) for part in parts])
        bounds = ends.min(axis=0), ends.max(axis=0)
        found = find_quantiles(lambda y: self._mixed_cdf(gate, parts, y), q, *bounds)
        return np.rint(found) if self._family.is_discrete else found

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
        X, random_state = self._checked(X), check_random_state(random_state)
        n_samples = check_scalar(n_samples, "n_samples", Integral, min_val=1)
        chosen = draw_indices(self.gate_proba(X), n_samples, random_state)
        drawn = [
            part.rvs(size=chosen.shape, random_state=random_state)
            for part in self._distributions(X)
        ]
        return np.take_along_axis(np.stack(drawn), chosen[None], axis=0)[0].astype(float)


@documented_by(BaseMixture.__doc__)
class MixtureClassifier(ClassifierMixin, BaseMixture):
    """Mixture of any classifiers, whose shares may depend on x, fitted by EM.

    The probability of a class given x is p(y | x) = sum_k g_k(x) f_k(y | x), where g_k is the
    probability that a sample belongs to component k, by the `gate`, and f_k the probability of the
    class in this component, by its expert [1]_. With logistic experts and a shallow tree as gate
    the mixture is a few rules that one can read, see
    :func:`~sklearn_moe.inspection.region_rules`. The default parts take data frames as they are.

    Parameters
    ----------
    estimator : estimator, list of estimator or None, default=None
        The expert of each component: a classifier with `predict_proba` whose `fit` takes
        `sample_weight`, or a :class:`~sklearn.pipeline.Pipeline` that ends in one, whose other
        steps are fitted once, without weights. A list has one expert per component. An expert may
        be a mixture (a hierarchical mixture). All are given X as it is. None:
        :class:`~sklearn.linear_model.LogisticRegression` with `max_iter=1000`; of data frames, and
        of arrays with missing values, of the encoded columns: a column per category but the first,
        numbers standardized, and missing ones replaced by the mean, with a column that says so.

    family : {"auto", "log_loss"} or callable, default="auto"
        Both names mean the probability of the class by an expert. A callable takes
        `(y, prediction, weight)`, with the indices of classes as y and predictions of shape
        (n_samples, n_classes), and returns the log density of each y.

    classes_ : ndarray of shape (n_classes,)
        The classes.

    sharpness_ : float
        With `method="stack"`, a factor of the logits of all experts, also in `expert_proba`: 1
        unless another one has a clearly lower loss by folds. A model that is right in its region
        alone is less certain, as it is fitted to all samples, than it may be there.

    Warns
    -----
    ConvergenceWarning
        If the best run did not converge, components were dropped, or a scale is at its bound.

    See Also
    --------
    MixtureRegressor : A mixture of any regressors.
    MoEClassifier : Neural experts, trained by gradients.
    sklearn.ensemble.VotingClassifier : Experts whose shares do not depend on x.

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
    >>> from sklearn_moe import MixtureClassifier
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(500, 2))
    >>> y = np.where(X[:, 0] > 0, X[:, 1] > 0, X[:, 1] < 0)  # one rule on either side
    >>> mixture = MixtureClassifier(n_components=2, random_state=0).fit(X, y)
    >>> mixture.score(X, y) > 0.95
    True

    A stack says which of several models to trust where:

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.naive_bayes import GaussianNB
    >>> models = [LogisticRegression(), GaussianNB()]
    >>> stack = MixtureClassifier(models, method="stack", random_state=0).fit(X, y)
    >>> stack.gate_proba(X).shape
    (500, 2)
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseMixture._parameter_constraints,
        "family": [StrOptions({"auto", "log_loss"}), callable],
    }
    _predicts = "predict_proba"

    @staticmethod
    def _default_expert():
        return LogisticRegression(max_iter=1000)

    def _check_y(self, y):
        """Return the codes of the classes, the classes, and the family."""
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"y holds one class only, {classes.tolist()[0]!r}. A classifier needs samples of "
                "two classes or more."
            )
        if self._goes_on():
            classes, codes = self.classes_, self._encode_y(y)
        family = LogLoss(classes)
        return codes, y, Custom(self.family, family) if callable(self.family) else family

    def _adopt(self, X, problem, run, selection=None):
        super()._adopt(X, problem, run, selection)
        self.classes_ = problem.family.classes
        return self

    def _encode_y(self, y):
        y = column_or_1d(y, warn=True)
        codes = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if (unknown := self.classes_[codes] != y).any():
            raise ValueError(
                f"y has a class that `fit` did not see: {y[unknown].tolist()[0]!r}; it saw "
                f"{self.classes_.tolist()}. (With warm_start=True `fit` goes on with these.)"
            )
        return codes

    def expert_proba(self, X: SamplesLike) -> np.ndarray:
        """Return the class probabilities of every expert for each sample.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_components, n_classes)
        """
        return self._outputs(self._checked(X))

    def predict_proba(self, X: SamplesLike) -> np.ndarray:
        """Return the class probabilities of each sample.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        proba = np.einsum("nk,nkc->nc", self.gate_proba(X), self.expert_proba(X))
        return np.minimum(proba, 1)  # but for the last digit it is

    def predict_log_proba(self, X: SamplesLike) -> np.ndarray:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: SamplesLike) -> np.ndarray:
        """Return the most probable class of each sample.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples, as `fit` takes them.

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def sample_y(
        self,
        X: SamplesLike,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Draw classes from the distribution of y given each x.

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
        proba = self.predict_proba(X)
        n_samples = check_scalar(n_samples, "n_samples", Integral, min_val=1)
        return self.classes_[draw_indices(proba, n_samples, check_random_state(random_state))]
