"""MixtureClassifier: a mixture of any classifiers."""

from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from .._data import SamplesLike
from .._data.distributions import draw_indices
from .._data.tables import refuse_missing
from .._validation import Names, warning_once
from ._base import BaseMixture
from ._defaults import default_logit
from ._em import mix
from ._families import LogLoss


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
        The expert of all components: a classifier with `predict_proba` whose `fit` takes
        `sample_weight`, or a :class:`~sklearn.pipeline.Pipeline` that ends in one, whose other
        steps are fitted once, without weights. It is given X as it is. A list holds the models of
        a stack, or pairs of a name and a model, as scikit-learn's stacks have them.
        None: :class:`~sklearn.linear_model.LogisticRegression` of the encoded columns: a column per
        category but the first, numbers standardized, and missing ones replaced by the mean, with a
        column that says so. Columns of a sparse matrix are left as they are.

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

    family : {"auto", "log_loss"}, default="auto"
        Both names mean the probability of the class by an expert.

    method : {"em", "stack"}, default="em"
        "em": experts and gate are fitted together by expectation maximization. The model with the
        largest likelihood of all iterations is kept.
        "stack": every model of the list `estimator` is fitted to all samples, once. The gate alone
        is learned, from what the models predict of samples that they were not fitted to, by `cv`
        folds: it tells which model to trust where. The loss is the log loss of the weighted mean of
        the probabilities, with weights of all models that sum to 1; an estimator as gate is fitted
        by EM. Experts need not take `sample_weight` unless `fit` is given weights. The parameters
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
    classes_ : ndarray of shape (n_classes,)
        The classes.

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
        With `n_components="auto"`, for every number tried. Of a tree of linear models: "n_leaves"
        and "held_out", minus the log loss by folds. Else "n_components", "log_likelihood",
        "n_parameters", "bic" and "aic". `pandas.DataFrame(selection_)` is a table of it.

    expert_kinds_ : list of str
        With `method="stack"`, the name of each model, or its class, numbered if it is
        there twice.

    oof_predictions_ : ndarray of shape (n_samples, n_components, n_classes)
        With `method="stack"`, what models predict of the training samples (those of a weight above
        0) that were fitted without their fold; NaN where a sample is in no fold.

    oof_gate_proba_ : ndarray of shape (n_samples, n_components)
        With `method="stack"`, weights by gates that were learned without the fold; NaN for samples
        that no gate was learned from (of more than 10,000 the default gate takes a part).

    sharpness_ : float
        With `method="stack"`, a factor of the logits of all models, also in `expert_proba` and
        `oof_predictions_`: 1 unless another one has a clearly lower loss by folds. A model that is
        right in its region alone is less certain, as it is fitted to all samples, than it may be
        there.

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
    MixtureRegressor : A mixture of any regressors.
    MoEClassifier : Neural experts, trained by gradients.
    sklearn.ensemble.VotingClassifier : Experts whose shares do not depend on x.

    Notes
    -----
    In the tree of linear models, leaves whose common line predicts the folds as well are one
    component. A line counts the line of all samples as some more rows. The gate has no doubt, so
    that :func:`~sklearn_moe.inspection.region_rules` says what is predicted.

    In BIC n is the number of samples, which weights count as in `fit`, and the log-likelihood is in
    the same units: a factor of all weights does not count. With `groups` the likelihood has the
    geometric mean of a group's gates. It tells numbers of components apart only if gates are
    constant within groups, as with `gate=None`.

    References
    ----------
    .. [1] M. Jordan, R. Jacobs, "Hierarchical Mixtures of Experts and the EM Algorithm", Neural
       Computation 6 (1994).

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
        "family": [Names({"auto", "log_loss"})],
    }
    _predicts = "predict_proba"

    def _default_expert(self, X, y):
        # What classes are is checked later.
        return default_logit(X, n_classes=len(set(np.asarray(y).ravel().tolist())))

    def _check_y(self, y):
        """Return the codes of the classes, the classes, and the family."""
        y = column_or_1d(y, warn=True)
        refuse_missing("y", y, "Leave these samples out.")
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if all(isinstance(label, str) for label in classes):
            # Texts as objects take each fit of an expert a third longer.
            y = y.astype(str)
        return codes, y, LogLoss(classes)

    def _encode_y(self, y):
        y = column_or_1d(y, warn=True)
        if (unknown := np.setdiff1d(y, self.classes_)).size:
            raise ValueError(
                f"y has classes that `fit` did not see: {unknown.tolist()}; it saw "
                f"{self.classes_.tolist()}."
            )
        return np.searchsorted(self.classes_, y)

    @warning_once()
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
        return self._outputs(self._check_new(X))

    @warning_once()
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
        proba = mix(self.gate_proba(X), self.expert_proba(X))
        # Rounding may make it larger.
        return np.minimum(proba, 1)

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
