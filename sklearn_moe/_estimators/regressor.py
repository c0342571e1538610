"""MoERegressor: the mixture of experts as a scikit-learn regressor."""

from numbers import Real
from typing import Any, ClassVar, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from .._data import SamplesLike
from .._data.distributions import check_quantiles
from .._data.targets import RateTarget, learn_numbers
from .._data.validation import check_numbers
from .._parameters.estimator_params import documented
from .fit import BaseMoE

__all__ = ["MoERegressor"]


@documented
class MoERegressor(RegressorMixin, BaseMoE):
    """Mixture of experts with a learned router, for regression.

    Several models, the experts, and a router that decides how much each of them counts for a
    sample, for tables, bags of patches and images as in :class:`MoEClassifier`, with the same
    parameters.

    Each output of the target is standardized inside the model, and predictions are in the units of
    y. "Table" means a 2-D X that `sample_shape` does not read as patches or images.

    Parameters
    ----------
    loss : str or callable, default="auto"
        What the outputs of the experts mean. "auto" is "squared_error":

        - "squared_error": half the squared error, whose prediction is the mean;
        - "absolute_error": whose prediction is the median of an expert's samples;
        - "huber": squared up to one standard deviation of y, linear beyond;
        - "gaussian": mean and standard deviation of a normal distribution and its negative log
          density, for `predict(X, return_std=True)`;
        - "poisson": for counts, and for rates of 0 or more. An expert predicts the logarithm of the
          rate, and the loss is half the deviance of Poisson's distribution, of y divided by its
          mean. Of counts per exposure y is the rate, and `sample_weight` the exposure;
        - a subclass of `sklearn_moe.nn.Head`, or a name of your own (`LOSSES.register`).

        With `router="soft"` the density is that of a mixture: for "gaussian" a mixture density
        network [4]_, for the other losses exp(-loss) around every expert. The router is learned by
        it, and with `expert_loss_weight` below 1 the experts as well. The width of this density is
        that of y; with `activation="linear"` it is learned, so that each expert follows its own
        samples only.

        After the training, `score_samples`, `responsibilities` and `predict_quantiles`
        use a density around every expert: a normal one for "squared_error", Laplace's for
        "absolute_error", a logistic one for "huber". Its scale depends on the prediction, by
        `scale_` and `scale_slope_`. Around the rates of "poisson" it is a negative binomial
        distribution of counts, by `dispersion_`; there is none if y holds other than whole numbers.
        It is measured on samples that were not trained on: with "out_of_bag" by the out-of-bag
        experts, with `early_stopping=True` on the held-out samples. Otherwise it is that of the
        training samples, and too small if the model overfits.

    max_iter : int, default="auto"
        Number of epochs, with `early_stopping` or `tol` the maximum number, over which the learning
        rates of the schedule "cosine" fall. With "cosine", "auto" is the number of epochs with
        about 3,000 steps, but at least 10, and at most 75 for a table if these have 500 steps, 60
        for images if these have 300, and 150 for patches if these have 1,000. With other schedules
        it is 150, because more epochs overfit the noise.

    early_stopping : {"auto", "out_of_bag"} or bool, default="auto"
        Whether to stop when the mixture no longer improves on samples that it was not trained on,
        and to restore the best weights.

        - "out_of_bag": no sample is held out. Every training sample is out-of-bag for some experts,
          which are not trained on it and are tested on it: in a pool for a member of each kind, and
          each kind stops for itself; otherwise for a tenth of the experts, at least one (a quarter
          of them up to 500 samples), whose mixture is tested. Equal samples are out-of-bag for the
          same experts. The test needs almost no time. Needs a pool, or `router="soft"` and several
          experts;
        - True: `validation_fraction` of the training samples are held out, and tested by the loss
          if X is a table, by the squared error otherwise;
        - False: the training loss decides when to stop, and no weights are restored. In a pool
          samples are hidden nevertheless, for the router.

        "auto" is "out_of_bag" in a pool, and for a table with several experts, `router="soft"` and
        `expert_loss_weight` above 0. It is True for other tables with several
        experts, because specialized experts give poor out-of-bag estimates, if ten or more samples
        are held out. Otherwise it is False.

    batch_size : int or None, default="auto"
        Samples per step; None means all of them. "auto" is 200, and up to four times as many if the
        weights of the samples are uneven, or for "adamw" and tables of more than 50,000 rows.

    class_weight : None, default=None
        Numbers have no classes. It is here because both estimators have the same parameters, so
        that one grid of a search serves both.

    tol : float or None, default="auto"
        Smallest improvement that counts: of the training loss, or with `early_stopping` of the
        out-of-bag loss or the validation score. None trains for exactly `max_iter` epochs. "auto"
        is 1e-4 for "out_of_bag" and None otherwise.

    validation_scores_ : list of float
        One minus the squared error on the held-out samples after every epoch, in units of the
        variance of the training target: about R2. Only with `early_stopping=True`.

    scale_ : ndarray of shape (n_outputs,)
        Scale of the density around the prediction of an expert, in the units of y, if this
        prediction is the mean of y. Not with "poisson", and not with "gaussian", whose experts
        predict standard deviations.

    scale_slope_ : ndarray of shape (n_outputs,)
        How the scale grows with the prediction: around one that is z standard deviations of y above
        the mean of y it is `scale_ * exp(scale_slope_ * z)`, with z between -3 and 3. Only with
        `scale_`.

    dispersion_ : ndarray of shape (n_outputs,)
        How much more a count varies than Poisson's distribution says: around a rate r the variance
        is `r + dispersion_ * r**2`, or `s * r + dispersion_ * r**2` if all of y are multiples of s,
        as the rates of exposures of 1 / s are. Only with "poisson" and a y of whole numbers that
        are no rates of several exposures.

    oob_prediction_ : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Prediction of each training sample by the experts that are not trained on it. In a pool
        these are one member of each kind, with the weights of the router, so that the errors are
        usually larger than those of the mixture. NaN where all members of a kind are trained on the
        sample: for four fifths of the samples of a pool from 10,000 rows on. Without samples of
        weight 0. Only with `early_stopping="out_of_bag"`, and of a pool also with False.

    Warns
    -----
    ConvergenceWarning
        If `tol` is set and the loss was still changing after `max_iter` epochs with rates that do
        not fall to 0, or if the loss of samples that were not trained on is worse than that of a
        constant prediction.
    ExpertCollapseWarning
        If one expert computes more than 95 % of the training samples, unless the router was learned
        from samples that the experts did not see.

    See Also
    --------
    MoEClassifier : A mixture of experts for classification.
    MixtureRegressor : A mixture of estimators, which finds regimes.
    sklearn.neural_network.MLPRegressor : A single multilayer perceptron.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022.
    .. [2] H. Nguyen, N. Ho, A. Rinaldo, "Sigmoid Gating is More Sample Efficient than Softmax
       Gating in Mixture of Experts", arXiv 2405.13997.
    .. [3] L. Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts",
       arXiv 2408.15664.
    .. [4] C. Bishop, "Mixture density networks", Aston University, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe import MoERegressor
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(1000, 2))
    >>> y = np.where(X[:, 0] > 0, 3 + 2 * X[:, 1], -2 * X[:, 1])
    >>> reg = MoERegressor(random_state=0).fit(X[:800], y[:800])
    >>> reg.score(X[800:], y[800:]) > 0.95
    True
    >>> low, high = reg.predict_interval(X[800:], coverage=0.9).T
    >>> bool(0.8 < ((low < y[800:]) & (y[800:] < high)).mean() < 1)
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseMoE._parameter_constraints,
        "class_weight": [None],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: SamplesLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> "MoERegressor":
        """Continue the training for one epoch on these samples.

        In a pool networks and the linear kind are trained; trees, estimators and the weights of the
        kinds stay as they are, of which a warning tells. Alone they are refused.
        The first call sets the scales of X and y, the categories, the learning rates and the batch
        size. It should have a thousand samples or more, drawn at random: what has a single value in
        it is warned of. A number of X then gets its scale from the first call that has another, but
        other categories, and other values of y, have no effect. The state of the solver, such as
        momentum, is kept between calls, but not after `fit`. `max_iter`, `tol`, `n_iter_no_change`,
        `checkpoint` and "out_of_bag" have no effect, and the rates of "cosine" keep their highest
        values. `early_stopping=True` is an error: hold out samples yourself.

        What is set between two calls acts at once: learning rates, `batch_size`, the options of the
        solver, the weight of the balance, `expert_loss_weight`, `train_transform`, `callbacks`.
        What "auto" was in the first call it remains. Parameters of the model, and another solver,
        are refused; `random_state` and `device` are those of the first call.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them. They are shuffled, and divided into batches.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers, with one column or several.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. None: all weigh the same.

        Returns
        -------
        self : MoERegressor

        Raises
        ------
        ValueError
            If samples are malformed or unlike those of the first call, a parameter cannot change
            between calls, or the training diverges. A call that fails, or is interrupted, leaves
            the model as it was.
        """
        return self._partial_fit(X, y, sample_weight)

    @overload
    def predict(self, X: SamplesLike, return_std: Literal[False] = False) -> np.ndarray: ...

    @overload
    def predict(
        self, X: SamplesLike, return_std: Literal[True]
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def predict(self, X: SamplesLike, return_std: bool = False) -> Any:
        """Return the number of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        return_std : bool, default=False
            Whether to return the standard deviation as well, for `loss="gaussian"`.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)

        std : ndarray of the shape of y
            Only with `return_std`: of the noise in y, and of what experts differ by where several
            are used.

        Raises
        ------
        ValueError
            If the loss says nothing about the deviation.
        """
        numbers = self._outputs(X, "predict")
        mean = self._target.decode(numbers)
        if not return_std:
            return mean
        if not hasattr(self.net_.criterion_, "std"):
            raise ValueError(
                "return_std=True needs loss='gaussian', the model was fitted with "
                f"loss={self._architecture['loss']!r}."
            )
        return mean, self._target.decode_deviation(self._outputs(X, "std"))

    def expert_predict(self, X: SamplesLike) -> np.ndarray:
        """Return the prediction of every expert for each sample.

        The prediction if this expert replaced those that are selected, scaled by the sum of their
        gates: where one expert is selected, its entry is `predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        y : ndarray of shape (n_samples, n_experts) or (n_samples, n_experts, n_outputs)
        """
        outputs = np.stack(self._expert_outputs(X), axis=1)
        return self._target.decode(outputs)

    def predict_quantiles(self, X: SamplesLike, q: ArrayLike) -> np.ndarray:
        """Return quantiles of y for each sample.

        They are those of the density of `score_samples`, of a mixture in which every expert has its
        own center, at levels that are calibrated: a twentieth of the samples by which `scale_` is
        measured lies below the quantile of .05. Of few samples the levels stay close to q.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        q : float or array-like of shape (n_quantiles,)
            Between 0 and 1, such as [.05, .95] for intervals that hold 90 % of the numbers.

        Returns
        -------
        quantiles : ndarray of shape (n_samples, n_quantiles)

        Raises
        ------
        ValueError
            If the loss belongs to no density, y has several outputs, or a q is not between 0 and 1.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn_moe import MoERegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> reg = MoERegressor(max_iter=20, random_state=0).fit(X[:300], y[:300])
        >>> low, high = reg.predict_quantiles(X[300:], [0.05, 0.95]).T
        >>> bool(0.8 < ((low < y[300:]) & (y[300:] < high)).mean() < 1)
        True
        """
        q = check_quantiles(q)
        parts = self._outputs(X, self._density_method())
        if (n_outputs := self._target.n_targets) > 1:
            raise ValueError(
                f"predict_quantiles needs a y of one output, got {n_outputs}: fit a model for each."
            )
        quantiles = self._density.quantiles(parts, q)[:, :, np.newaxis]
        return self._density.possible(self._target.decode(quantiles))

    def predict_interval(self, X: SamplesLike, coverage: float = 0.9) -> np.ndarray:
        """Return an interval for the y of each sample: two of its quantiles.

        As many numbers are to be below as above it. See `predict_quantiles` for how they are found.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
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
            If the loss belongs to no density, y has several outputs, or `coverage` is not between
            0 and 1.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn_moe import MoERegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> reg = MoERegressor(max_iter=20, random_state=0).fit(X[:300], y[:300])
        >>> low, high = reg.predict_interval(X[300:]).T
        >>> bool(0.8 < ((low < y[300:]) & (y[300:] < high)).mean() < 1)
        True
        """
        check_scalar(coverage, "coverage", Real, min_val=0, max_val=1, include_boundaries="neither")
        return self.predict_quantiles(X, [(1 - coverage) / 2, (1 + coverage) / 2])

    def _in_units_of_y(self, coef, intercept):
        target = self._target
        # The first outputs of an expert are the means, or the logarithms of the rates.
        coef, intercept = coef[:, : target.n_targets], intercept[:, : target.n_targets]
        if isinstance(target, RateTarget):
            intercept = intercept + np.log(target.scale)
        else:
            coef = coef * target.deviation[:, np.newaxis]
            intercept = intercept * target.deviation + target.mean
        return (coef[:, 0], intercept[:, 0]) if target.is_column else (coef, intercept)

    def _density_method(self):
        check_is_fitted(self)
        if self._density is not None:
            return "parts"
        loss = f"loss={self._architecture['loss']!r}"
        if isinstance(self._target, RateTarget):
            raise ValueError(
                f"{loss} has probabilities of whole numbers only, the y of the fit held others, or "
                "rates of several exposures. Fit counts, or use loss='squared_error'."
            )
        raise ValueError(
            f"{loss} belongs to no density, which this needs. Use 'gaussian' or another loss of "
            "the library; a RegressionHead names its density by `family`."
        )

    def _log_density(self, parts, codes):
        return self._density.log_density(parts, codes)

    def _likeliest(self, X):
        return self._density.possible(self.predict(X))

    _check_y = staticmethod(check_numbers)
    _learn_target = staticmethod(learn_numbers)

    def __sklearn_tags__(self):
        """Declare that y may have several columns, and whether it must not be negative."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags
