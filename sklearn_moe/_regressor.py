"""MoERegressor: the mixture of experts as a scikit-learn regressor."""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import special, stats
from scipy.optimize import minimize_scalar
from sklearn.base import RegressorMixin, _fit_context
from sklearn.linear_model import GammaRegressor
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted

from ._base import BaseMoE
from ._data import SamplesLike
from ._data.distributions import Counts, check_quantiles, draw_indices, find_quantiles
from ._data.indexing import draw_rows
from ._data.targets import NumberTarget, RateTarget, check_numbers
from ._parameters.estimator_params import (
    BalanceChoice,
    CheckpointChoice,
    ExpertChoice,
    LossChoice,
    RouterChoice,
    SolverChoice,
    documented,
)

__all__ = ["MoERegressor"]

_MOST_ROWS = 4000  # by which a scale is measured, to one or two percent
_LEAST_SCALE = 1e-6  # in standard deviations of y
_LOG_FACTORS = np.log([0.01, 10])  # of a scale to the errors, in which the experts differ too
_LOG_DISPERSIONS = np.log([1e-6, 100])
# Levels of quantiles, and how many pseudo-rows speak against any calibration of them.
_LEVELS, _PRIOR_ROWS = np.linspace(0, 1, 201), 50
_MEMORY = 1000  # rows that are remembered while the model changes
_FAR = 3  # standard deviations of y from its mean, where a scale ceases to change


@documented
class MoERegressor(RegressorMixin, BaseMoE):
    """Mixture of experts with a learned router, for regression.

    Several models, the experts, and a router that decides how much each of them counts for a
    sample, for tables, bags of patches and images as in :class:`MoEClassifier`. The parameters are
    the same, without `class_weight`.

    Each output of the target is standardized inside the model, and predictions are in the units of
    y. "Table" means a 2-D X that `sample_shape` does not read as patches or images.

    Parameters
    ----------
    loss : str or callable, default="squared_error"
        What the outputs of the experts mean:

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
        network [6]_, for the other losses exp(-loss) around every expert. The router is learned by
        it, and with `expert_loss_weight` below 1 the experts as well. The width of this density is
        that of y; with `activation="linear"` it is learned, so that each expert follows its own
        samples only.

        After the training, `score_samples`, `responsibilities`, `sample_y` and `predict_quantiles`
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
        about 3,000 steps, but at least 10 and at most 150 epochs, and at least 1,000 steps; for a
        table at most 75 epochs, and at least 500 steps. With other schedules it is 150, because
        more epochs overfit the noise.

    early_stopping : {"auto", "out_of_bag"} or bool, default="auto"
        Whether to stop when the mixture no longer improves on samples that it was not trained on,
        and to restore the best weights.

        - "out_of_bag": no sample is held out. Every training sample is out-of-bag for some experts,
          which are not trained on it and are tested on it: of several kinds on a table for one of
          each kind, and each kind stops for itself; otherwise for a tenth of the experts, at least
          one (a quarter of them up to 500 samples), whose mixture is tested. Equal samples are
          out-of-bag for the same experts. The test needs almost no time. Needs `router="soft"` and
          several experts; or a table and `n_experts=1`: then eight such networks are trained
          out-of-bag to find the best number of epochs, and the single network is trained for as
          many epochs on all samples;
        - True: `validation_fraction` of the training samples are held out, and tested by the loss
          if X is a table, by the squared error otherwise;
        - False: the training loss decides when to stop, and no weights are restored. Of several
          kinds of experts on a table, samples are hidden nevertheless, for the router.

        "auto" is "out_of_bag" for a table with one expert, or with several experts,
        `router="soft"` and `expert_loss_weight` above 0. It is True for other tables with several
        experts, because specialized experts give poor out-of-bag estimates, if ten or more samples
        are held out. Otherwise it is False.

    batch_size : int or None, default="auto"
        Samples per step; None means all of them. "auto" is 200, and up to four times as many if the
        weights of the samples are uneven, or for "adamw" and tables of more than 250,000 rows.

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
        is `r + dispersion_ * r**2`. Only with "poisson" and a y of whole numbers.

    oob_prediction_ : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Prediction of each training sample by the experts that are not trained on it. By default
        these are one expert of each kind, with the weights of the router, so that the errors are
        usually larger than those of the mixture. Without samples of weight 0. Only with
        `early_stopping="out_of_bag"`, and of several kinds of experts also with False.

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
    sklearn.neural_network.MLPRegressor : A single multilayer perceptron.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022.
    .. [2] N. Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated
       Mixture-of-Experts Layer", ICLR 2017.
    .. [3] H. Nguyen, N. Ho, A. Rinaldo, "Sigmoid Gating is More Sample Efficient than Softmax
       Gating in Mixture of Experts", arXiv 2405.13997.
    .. [4] M. Chowdhury et al., "Patch-level Routing in Mixture-of-Experts is Provably
       Sample-efficient for Convolutional Neural Networks", arXiv 2306.04073.
    .. [5] L. Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts",
       arXiv 2408.15664.
    .. [6] C. Bishop, "Mixture density networks", Aston University, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe import MoERegressor
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(1000, 2))
    >>> y = np.where(X[:, 0] > 0, 3 + 2 * X[:, 1], -2 * X[:, 1])  # a regime on either side
    >>> reg = MoERegressor(random_state=0).fit(X[:800], y[:800])
    >>> reg.score(X[800:], y[800:]) > 0.95
    True
    >>> np.unique(reg.apply(X)).size  # linear experts
    2
    >>> low, high = reg.predict_interval(X[800:], coverage=0.9).T
    >>> bool(0.8 < ((low < y[800:]) & (y[800:] < high)).mean() < 1)
    True
    """

    def __init__(
        self,
        n_experts: int | Literal["auto"] = "auto",
        *,
        expert: ExpertChoice = "auto",
        router: RouterChoice = "auto",
        loss: LossChoice = "squared_error",
        balance: BalanceChoice | None = None,
        learning_rate_init: float | Literal["auto"] = "auto",
        max_iter: int | Literal["auto"] = "auto",
        early_stopping: bool | Literal["auto", "out_of_bag"] = "auto",
        batch_size: int | Literal["auto"] | None = "auto",
        verbose: bool | int = 0,
        random_state: int | np.random.RandomState | None = None,
        activation: str | Callable = "auto",
        expert_width: int | None = None,
        trunk: str | Callable | None = "auto",
        sample_shape: Sequence[int] | None = None,
        categorical_features: ArrayLike | None = "from_dtype",
        standardize: bool | Literal["auto"] = "auto",
        top_k: int | Literal["auto"] = "auto",
        expert_loss_weight: float | Literal["auto"] = "auto",
        solver: SolverChoice = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float | Literal["auto"] | None = "auto",
        n_init: int = 1,
        warm_start: bool = False,
        train_transform: Callable | None = None,
        callbacks: list | tuple | None = None,
        checkpoint: CheckpointChoice | None = None,
        device: str | torch.device = "auto",
    ):
        self.n_experts = n_experts
        self.expert = expert
        self.router = router
        self.loss = loss
        self.balance = balance
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.batch_size = batch_size
        self.verbose = verbose
        self.random_state = random_state
        self.activation = activation
        self.expert_width = expert_width
        self.trunk = trunk
        self.sample_shape = sample_shape
        self.categorical_features = categorical_features
        self.standardize = standardize
        self.top_k = top_k
        self.expert_loss_weight = expert_loss_weight
        self.solver = solver
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.n_init = n_init
        self.warm_start = warm_start
        self.train_transform = train_transform
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: SamplesLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> "MoERegressor":
        """Continue the training for one epoch on these samples.

        The first call sets the categories, the learning rates and the batch size. It should have a
        thousand samples or more, drawn at random. The scales of X and y are measured anew by each
        call until they are those of a thousand samples; a column, or y, that is constant until then
        is measured when it begins to vary. The state of the solver, such as momentum, is kept
        between calls, but not after `fit`. `max_iter`, `tol`, `n_iter_no_change`, `n_init`,
        `checkpoint` and "out_of_bag" have no effect, and the rates of "cosine" keep
        their highest values. `early_stopping=True` is an error: hold out samples yourself.

        What is set between two calls acts at once: learning rates, `batch_size`, the options of the
        solver, the weight of the balance, `expert_loss_weight`, `class_weight`, `train_transform`,
        `callbacks`. What "auto" was in the first call it remains. Parameters of the model, and
        another solver, are refused; `random_state` and `device` are those of the first call.

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
        outputs = self._expert_outputs(X)
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
        weights, *parts = self._parts(X)
        if (n_outputs := parts[0].shape[2]) > 1:
            raise ValueError(
                f"predict_quantiles needs a y of one output, got {n_outputs}: fit a model for each."
            )
        # Between the least and the largest quantile of the parts.
        levels = np.interp(q, self._shares, self._levels)
        each = self._family.ppf(levels, *parts)
        found = find_quantiles(
            lambda y: self._share_below(y, weights, *parts),
            levels,
            each.min(axis=1),
            each.max(axis=1),
        )
        return self._possible(self._target.decode(found[:, :, np.newaxis]))

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

    def sample_y(
        self,
        X: SamplesLike,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Draw numbers from the density of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, ...)
            Samples, as `fit` takes them.

        n_samples : int, default=1
            Number of draws for each sample.

        random_state : int, RandomState instance or None, default=None
            Source of the draws.

        Returns
        -------
        y : ndarray of shape (n_samples_X, n_samples) or (n_samples_X, n_outputs, n_samples)

        Raises
        ------
        ValueError
            If the loss belongs to no density.
        """
        random_state = check_random_state(random_state)
        n_samples = check_scalar(n_samples, "n_samples", Integral, min_val=1)
        weights, *parts = self._parts(X)
        chosen = draw_indices(weights, n_samples, random_state)[:, :, np.newaxis]
        parts = (np.take_along_axis(part, chosen, axis=1) for part in parts)
        drawn = self._target.decode(self._family.rvs(*parts, random_state=random_state))
        drawn = self._possible(drawn)
        return drawn if self._target.is_column else drawn.transpose(0, 2, 1)

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

    @property
    def _family(self):
        if self._is_count:
            return Counts(self._target.scale)
        return getattr(stats, self.net_.criterion_.family)

    @property
    def _is_count(self):
        return self.net_.criterion_.family == "nbinom"

    def _possible(self, numbers):
        """Return numbers that y can be, which rounding has made others."""
        return np.rint(numbers) if self._is_count else numbers

    def _likeliest(self, X):
        return self._possible(self.predict(X))

    def _has_density(self, head):
        family = getattr(head, "family", None)
        return self._target.is_count if family == "nbinom" else family is not None

    def _density_method(self):
        check_is_fitted(self)
        if self._has_density(self.net_.criterion_):
            return "parts"
        loss = f"loss={self._architecture['loss']!r}"
        if isinstance(self._target, RateTarget):
            raise ValueError(
                f"{loss} has probabilities of whole numbers only, the y of the fit held others. "
                "Fit counts, or use loss='squared_error'."
            )
        raise ValueError(
            f"{loss} belongs to no density, which this needs. Use 'gaussian' or another loss of "
            "the library; a RegressionHead names its density by `family`."
        )

    def _split(self, parts):
        """Return log weights, points and scales of parts, in standardized units.

        The scales of counts are dispersions.
        """
        unit = self._target.scale
        weights, points, scales = np.split(parts, [1, 1 + self._target.n_targets], axis=-1)
        if self._is_count:
            return weights[..., 0], points, scales * self.dispersion_
        slope = getattr(self, "scale_slope_", 0.0)
        scales = scales * np.exp(slope * points.clip(-_FAR, _FAR))
        return weights[..., 0], points, scales * getattr(self, "scale_", unit) / unit

    def _parts(self, X):
        """Return weights, (n_samples, n_parts), points and scales, (n_samples, n_parts, ...)."""
        log_weights, *parts = self._split(self._outputs(X, self._density_method()))
        return np.exp(log_weights), *parts

    def _share_below(self, numbers, weights, points, scales):
        """Return the distribution function at standardized numbers, (n_samples, n_numbers)."""
        shares = self._family.cdf(numbers[:, np.newaxis], points, scales)
        return (weights[:, :, np.newaxis] * shares).sum(axis=1)

    def _log_density(self, parts, codes):
        """Return the log density of standardized numbers, in the units of y."""
        log_weights, *parts = self._split(parts)
        log_density = self._family.logpdf(codes[..., np.newaxis, :], *parts).sum(axis=-1)
        joint = special.logsumexp(log_weights + log_density, axis=-1)
        return joint if self._is_count else joint - np.log(self._target.scale).sum()

    def _judge(self, net, rows):
        """Return what the net says of some rows: parts of densities, y and weights, or None."""
        if not self._has_density(net.criterion_):
            return None
        self.net_, head = net, net.criterion_
        x, *rest, _ = rows.sample(_MOST_ROWS, torch.device(net.device))
        y, weight = (column.double().cpu().numpy() for column in rest)
        generator = self._predict_generator()
        parts = net.map_batches(lambda x: head.parts(net.module_(x, generator).output), x)
        return parts, y, weight

    def _calibrate(self, net, rows, oob=None, judged=None):
        """Set the scale of the density, by likelihood, and the levels by which quantiles are right.

        On held-out rows or, by out-of-bag predictions, as if the mixture erred in the same way as
        the experts that are not trained on a row. What was `judged` of rows before they were
        trained on changes what was measured before by as much as these rows are worth.
        """
        vars(self).pop("oob_prediction_", None)
        if oob is not None:
            self.oob_prediction_ = self._target.decode(oob)
        n_outputs, n_before = self._target.n_targets, self._n_measured if judged else 0
        if not judged:
            for name in ("scale_", "scale_slope_", "dispersion_"):
                vars(self).pop(name, None)
            judged = self._judge(net, rows)
        if not judged:  # there is no density
            return
        parts, y, weight = judged
        honest = mean = (np.exp(parts[..., :1]) * parts[..., 1 : 1 + n_outputs]).sum(axis=1)
        if oob is not None:
            some = draw_rows(len(rows.y), _MOST_ROWS)
            honest = self._target.encode(self.oob_prediction_[some], np.float64)
            known = ~np.isnan(honest).any(axis=1)  # few experts of a kind have seen many rows
            columns = parts, y, weight, honest, mean
            parts, y, weight, honest, mean = (column[known] for column in columns)
        n_rows = weight.sum()
        if self._is_count:  # a rate is wrong by a factor
            y = np.rint(y * self._target.scale) / self._target.scale
            factor = honest / np.maximum(mean, np.finfo(float).tiny)
            parts[..., 1 : 1 + n_outputs] *= factor[:, np.newaxis]
            self._measure_dispersion(parts, y, weight, n_before)
        else:
            errors = y - honest
            y = mean + errors
            if not net.criterion_.has_scale:
                self._measure_scale(parts, y, weight, honest, errors, n_before)
        self._n_measured = min(n_before + n_rows, _MEMORY)
        log_weights, *parts = self._split(parts)
        if n_outputs > 1:
            return
        below = self._share_below(y, np.exp(log_weights), *parts)[:, 0]
        if self._is_count:  # a count stands for all levels up to its own
            less = self._share_below(y - 1 / self._target.scale, np.exp(log_weights), *parts)[:, 0]
            places = np.random.RandomState(self._predict_seed).uniform(size=len(y))
            below = less + places * (below - less)
        if n_before:
            share = n_rows / (n_rows + n_before + _PRIOR_ROWS)
            found = weight @ (below[:, np.newaxis] <= self._levels) / n_rows
            self._shares = (1 - share) * self._shares + share * found
        else:
            order, trust = np.argsort(below), len(y) / (len(y) + _PRIOR_ROWS)
            shares = np.cumsum(weight[order]) - weight[order] / 2
            levels = np.interp(_LEVELS, shares / weight.sum(), below[order])
            self._levels, self._shares = trust * levels + (1 - trust) * _LEVELS, _LEVELS

    def _measure_scale(self, parts, y, weight, honest, errors, n_before):
        """Set the scale, and its slope, by errors and by as many rows that agree with the last."""
        size = np.sqrt(np.average(np.square(errors), axis=0, weights=weight))
        unit = np.maximum(size, _LEAST_SCALE) * self._target.scale
        if n_before:  # what the outputs have in common is found below
            share, ratio = weight.sum() / (weight.sum() + n_before), np.square(unit / self.scale_)
            common = np.exp(np.log(ratio).mean())
            unit = self.scale_ * np.sqrt(1 + share * (ratio / common - 1))
        line = GammaRegressor(alpha=(_PRIOR_ROWS + n_before) / len(y))  # of an error's log size
        z, slope = honest.clip(-_FAR, _FAR), getattr(self, "scale_slope_", np.zeros(len(unit)))
        sizes = np.abs(errors) * np.exp(-slope * z) + _LEAST_SCALE
        lines = [line.fit(z[:, [k]], sizes[:, k], weight).coef_ for k in range(len(unit))]
        self.scale_slope_ = slope + np.concatenate(lines)

        def loss(log_factor):
            self.scale_ = unit * np.exp(log_factor)
            agreeing = log_factor + np.exp(-2 * log_factor) / 2  # of normal errors of that scale
            return n_before * len(unit) * agreeing - weight @ self._log_density(parts, y)

        loss(minimize_scalar(loss, bounds=_LOG_FACTORS, method="bounded").x)

    def _measure_dispersion(self, parts, y, weight, n_before):
        """Set the dispersion of each output, by likelihood, beside that of the rows before."""
        log_weights, points, _ = np.split(parts, [1, 1 + y.shape[1]], axis=-1)
        found, share = [], weight.sum() / (weight.sum() + n_before)
        for k, unit in enumerate(self._target.scale):
            counts = Counts(unit)

            def loss(log_dispersion, k=k, counts=counts):
                log_proba = counts.logpdf(y[:, [k]], points[..., k], np.exp(log_dispersion))
                return -weight @ special.logsumexp(log_weights[..., 0] + log_proba, axis=1)

            best = minimize_scalar(loss, bounds=_LOG_DISPERSIONS, method="bounded").x
            found.append(np.exp(best))
        before = self.dispersion_ if n_before else 0.0
        self.dispersion_ = share * np.array(found) + (1 - share) * before

    _check_y = staticmethod(check_numbers)

    def _make_target(self, y, weight, classes, chunk_weight):
        head = self._head_to_ask(NumberTarget.kind, math.prod(y.shape[1:]))
        target = RateTarget if getattr(head, "is_rate", False) else NumberTarget
        return target(y, weight, chunk_weight)

    def __sklearn_tags__(self):
        """Declare that y may have several columns, and whether it must not be negative."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags
