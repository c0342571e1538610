"""MoERegressor: the mixture of experts for numbers."""

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils import check_array, column_or_1d

from ._base import BaseMoE
from ._data.targets import NumberTarget

__all__ = ["MoERegressor"]


class MoERegressor(RegressorMixin, BaseMoE):
    """Mixture of experts with a learned router, for numbers.

    The twin of :class:`MoEClassifier`, whose documentation says more about the parameters. The
    target is standardized inside, one or several outputs each by itself, and predictions are in
    its own units. A table is an X of 2 dimensions that `sample_shape` does not read as patches or
    pictures.

    Parameters
    ----------
    n_experts : int, default=8
        Number of experts. With 1 there is no router.

    expert : str, callable or ExpertSpec, default="auto"
        Network of an expert: "patch", "patch_conv", "mlp", "cnn", "resnet18", "resnet18_gn",
        "mobilenet_v2", "mobilenet_v2_gn", a callable `(input_shape, n_outputs) ->
        torch.nn.Module` or an `ExpertSpec`. "auto" is "mlp", "patch" or "cnn" for X of 2, 3 or 4
        dimensions.

    router : str, subclass of sklearn_moe.nn.Router or Preset, default="auto"
        The rule by which experts answer: "top1", "topk", "noisy_topk", "sampled", "soft",
        "sigmoid", "relu", "merge", "patch_choice", "random" or "kmeans". With "soft" all experts
        answer, and each learns most from the samples that it explains better than the others.
        "auto" is "soft" for tables and behind a trunk, if the loss can mix, and "top1" otherwise.

    loss : str or callable, default="squared_error"
        What the outputs of the experts mean:

        - "squared_error": half the squared error, whose prediction is the mean;
        - "absolute_error": whose prediction is the median of an expert's samples;
        - "huber": squared up to one standard deviation of y, linear beyond;
        - "gaussian": mean and standard deviation of a normal distribution and its negative log
          density, for `predict(X, return_std=True)`;
        - a subclass of `sklearn_moe.nn.Head`, or a name of your own (`LOSSES.register`).

        With `router="soft"` the density of the mixture is trained: of "gaussian" a mixture density
        network [1]_, of the others exp(-loss) around every expert.

    balance : str, callable or None, default=None
        What keeps the load of the experts even: "switch", "importance", "load", "bias" or
        "z_loss".

    learning_rate_init : float, default="auto"
        Learning rate of the experts, of "cosine" the highest. "auto" is 0.005 for "adamw", but
        0.002 on pictures, 0.001 for "adam", 0.01 for "sgd" and, for "normalized_sgd", 0.06 / r with
        r the root mean square norm of the training patches.

    max_iter : int, default="auto"
        Number of epochs, the maximum with `early_stopping` or `tol`, over which the rates of
        "cosine" fall. "auto" is, for "cosine", as many as make about 3,000 steps, but 10 at least
        and 150 at most, or as many more as make 1,000 steps; else 150, as the noise in numbers is
        learned by heart if training goes on.

    early_stopping : {"auto", "out_of_bag"} or bool, default="auto"
        Whether to stop when the mixture ceases to improve on samples that it was not trained on,
        and to return to the best weights: "out_of_bag" hides each sample from some of the experts,
        which are tested by it, and needs `router="soft"` and several experts; True holds out
        `validation_fraction` of the samples and looks at the squared error. "auto" is "out_of_bag"
        for a table with several experts, `router="soft"` and `expert_loss_weight` above 0, else
        False.

    batch_size : int or None, default="auto"
        Samples per step; None takes all of them. "auto" is 200. Where weights are
        uneven, "auto" is up to four times as many.

    verbose : bool or int, default=0
        Whether to show a progress bar.

    random_state : int, RandomState instance or None, default=None
        Source of the initial weights, the shuffling, the noise and the validation split.

    Attributes
    ----------
    n_features_in_ : int
        Number of features seen during `fit`, `X.shape[1]`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`, if X has string feature names.

    input_shape_ : tuple of int
        Shape of a sample, as `sample_shape` reads it.

    resolved_params_ : dict
        What every parameter that was "auto" became.

    n_iter_ : int
        Number of epochs run.

    loss_curve_ : list of float
        Training loss of every epoch, of the standardized target, without what balancing adds.

    oob_loss_curve_ : list of float
        Loss of the training samples by the mixture of the experts that they are hidden from, in
        every epoch. With `early_stopping="out_of_bag"` only.

    validation_scores_ : list of float
        One minus the squared error on the held-out samples after every epoch, in variances of
        the training target: about R2. With `early_stopping=True` only.

    router_gradient_curve_ : list of float
        Norm of the router's gradient in every epoch, mean over its batches.

    expert_load_ : ndarray of shape (n_experts,)
        Share of the training samples that each expert answers, by weight.

    net_ : skorch.NeuralNet
        The fitted net, for tools of skorch. Its targets are standardized.

    module_ : torch.nn.Module
        The mixture itself, with `experts` and `router`; `encoder` standardizes, `trunk` is what
        they share.

    Other Parameters
    ----------------
    activation : str or callable, default="auto"
        Nonlinearity of the experts: "cubic", "linear", "relu", "celu", "gelu", "tanh" or an
        elementwise callable. "auto" is "cubic" for patch experts and "relu" for the others.

    expert_width : int, default=None
        Filters per output of a patch expert, hidden units of an MLP, channels of a CNN.

    trunk : str, callable, torch.nn.Module or None, default="auto"
        Layers in front of the mixture, shared by router and experts: "cnn", "resnet18",
        "mobilenet_v2", a module or a callable `input_shape -> torch.nn.Module`. "auto" is "cnn"
        for pictures with `expert="auto"`, and None otherwise.

    n_shared_experts : int, default=0
        Experts that answer every sample beside the chosen ones; not for "soft".

    sample_shape : tuple of int, default=None
        Read each row of a 2-D X as patches, (n_patches, patch_size), or as a picture,
        (n_channels, height, width).

    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        Columns of a table that hold categories, which become columns of zeros and ones inside the
        model: those of a data frame that are categorical or hold strings, or indices, names or a
        mask. None: no column.

    standardize : "auto" or bool, default="auto"
        Whether the model standardizes the channels of pictures, or the columns of a table, where
        it also bounds what lies far out and marks missing values, NaN. "auto" is True for both.

    top_k : int, default="auto"
        Experts per sample of routers that choose; patches per expert for "patch_choice".

    router_network : str or callable, default="auto"
        Scores of a sample: "linear", "mlp", of pictures "cnn", or a callable `(input_shape,
        n_experts) -> torch.nn.Module`.

    router_noise : str, callable or None, default="auto"
        Noise on the scores that choose in training: "uniform", "gaussian" or "gumbel".

    gate : str or callable, default="auto"
        Weight of a chosen expert's answer: "softmax", "renormalized", "relative", "sigmoid" or
        "logit";
        "relu" is that of `router="relu"`.

    balance_weight : float, default=0.01
        Factor of the balancing loss, or the step of "bias".

    expert_loss_weight : float, default="auto"
        Share of the training loss that is the experts' own, the rest being that of the mixture.
        "auto" is 0.7 for a table or behind a trunk with several experts and `router="soft"`, and 0
        otherwise, also for `activation="linear"`; others than "soft" take 0 only.

    solver : str, callable or SolverSpec, default="auto"
        "normalized_sgd", "sgd", "adam", "adamw" or a callable `(parameters, lr) ->
        torch.optim.Optimizer`. "auto" is what suits the expert: "normalized_sgd" for patch
        experts, "adam" for callables and "adamw" for the others.

    learning_rate : {"auto", "constant", "cosine", "residual"}, default="auto"
        Schedule of the learning rates. "cosine" lets them rise over the first twentieth of the
        steps and fall to 0 in `max_iter` epochs. "residual", for "normalized_sgd", multiplies an
        expert's step by the mean absolute error on its own samples, in standard deviations of y
        and 1 at most. "auto" is "cosine" for "adamw", "residual" for "normalized_sgd" and
        "constant" for the others.

    router_learning_rate_init : float, default="auto"
        Learning rate of the router. "auto" is 0.0015 for "adamw", 0.0003 for "adam", 0.01 for "sgd"
        and 1 / r^2 for "normalized_sgd"; but for `router="soft"` on a table or behind a trunk twice
        that of the experts, except for "normalized_sgd".

    momentum : float, default=0.0
        Momentum of "normalized_sgd" and "sgd"; other solvers have none, and refuse it.

    weight_decay : float, default=0.0
        Strength of the L2 penalty; of "adamw" the rate at which weights decay, apart from the
        gradient.

    upcycle : float, default=0.0
        Share of the epochs in which all samples go through one expert, of which the others then
        are copies. For routers that choose, with noise.

    validation_fraction : float, default=0.1
        Share of the samples held out for early stopping; for "out_of_bag" share of the experts
        that each sample is hidden from, one at least.

    n_iter_no_change : int, default=10
        Epochs without an improvement of `tol`, where it is set, after which training stops, though
        never before 50 steps without one. For "out_of_bag" they must also be a tenth of `max_iter`
        and half of the epochs so far.

    tol : float or None, default="auto"
        Smallest improvement that counts: of the training loss, or with `early_stopping` of the
        out-of-bag loss or the validation score. None trains for exactly `max_iter` epochs. "auto"
        is 0 for "out_of_bag" and None otherwise.

    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last one, and with its standardization.

    train_transform : callable, default=None
        Applied to the samples of every training batch, never at prediction.

    callbacks : list of skorch callbacks, default=None
        Told of every batch and epoch of the fit.

    checkpoint : str, os.PathLike or FitCheckpoint, default=None
        File or folder in which the fit is stored once a minute, and in the end. A fit that was
        stopped at any moment goes on from there when it is called again with the same data and
        parameters, to the same model; one that was finished returns at once. A folder, or a path
        without a suffix, holds a file for every fit, as a search needs it.
        `sklearn_moe.checkpoints.FitCheckpoint` sets how often. `partial_fit` does not use it.

    device : str or torch.device, default="auto"
        "auto" is a GPU where there is one and a training step is enough work for it, as most are
        of pictures, else the CPU; resolved in `fit`.

    precision : {"auto", "float32", "bf16"}, default="auto"
        Of training on images.

    Warns
    -----
    ConvergenceWarning
        If `tol` is set and `max_iter` epochs at rates that do not fall to 0 were not enough.
    ExpertCollapseWarning
        If one expert answers more than 95 % of the training samples.

    See Also
    --------
    MoEClassifier : The same for classes.
    sklearn.neural_network.MLPRegressor : A single multilayer perceptron.

    References
    ----------
    .. [1] C. Bishop, "Mixture density networks", Aston University, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe import MoERegressor
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(1000, 2))
    >>> y = np.where(X[:, 0] > 0, 3 + 2 * X[:, 1], -2 * X[:, 1])  # a regime on either side
    >>> reg = MoERegressor(4, router_learning_rate_init=0.1, random_state=0).fit(X[:800], y[:800])
    >>> reg.score(X[800:], y[800:]) > 0.95
    True
    """

    def __init__(
        self,
        n_experts=8,
        *,
        expert="auto",
        router="auto",
        loss="squared_error",
        balance=None,
        learning_rate_init="auto",
        max_iter="auto",
        early_stopping="auto",
        batch_size="auto",
        verbose=0,
        random_state=None,
        activation="auto",
        expert_width=None,
        trunk="auto",
        n_shared_experts=0,
        sample_shape=None,
        categorical_features="from_dtype",
        standardize="auto",
        top_k="auto",
        router_network="auto",
        router_noise="auto",
        gate="auto",
        balance_weight=0.01,
        expert_loss_weight="auto",
        solver="auto",
        learning_rate="auto",
        router_learning_rate_init="auto",
        momentum=0.0,
        weight_decay=0.0,
        upcycle=0.0,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol="auto",
        warm_start=False,
        train_transform=None,
        callbacks=None,
        checkpoint=None,
        device="auto",
        precision="auto",
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
        self.n_shared_experts = n_shared_experts
        self.sample_shape = sample_shape
        self.categorical_features = categorical_features
        self.standardize = standardize
        self.top_k = top_k
        self.router_network = router_network
        self.router_noise = router_noise
        self.gate = gate
        self.balance_weight = balance_weight
        self.expert_loss_weight = expert_loss_weight
        self.solver = solver
        self.learning_rate = learning_rate
        self.router_learning_rate_init = router_learning_rate_init
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.upcycle = upcycle
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.train_transform = train_transform
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.precision = precision

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, groups=None):
        """Fit router and experts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, n_patches, patch_size) or \
                (n_samples, n_channels, height, width)
            Training samples. A table (2-D) may be sparse, hold NaN where a value is missing, and
            have categorical columns.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. A sample of weight 0 is left out. None: all weigh the same.

        groups : array-like of shape (n_samples,), default=None
            The group of each sample, labels of any type. Samples of one group are hidden from the
            same experts, and held out together: for repeated measurements, copies, or frames of
            one video, of which one tells about the others. Request it by
            `set_fit_request(groups=True)` where `fit` is called by another estimator.

        Returns
        -------
        self : MoERegressor

        Raises
        ------
        ValueError
            If X or y is malformed, a parameter does not fit X or the others, or the training
            loss stops being finite.
        """
        return self._fit(X, y, sample_weight, groups)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Train for one epoch on these samples, from where the model stands.

        What X and y are standardized by, categories, rates and batch size are those of the first
        call, so let it hold a thousand samples or more, drawn at random. What the solver remembers,
        such as momentum, is kept between calls; after `fit` it begins anew. `max_iter`, `tol`,
        `upcycle`, `checkpoint` and "out_of_bag" are ignored, and "cosine" rates stay at their
        highest.

        `early_stopping=True` is refused: which samples to hold out is up to the caller.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), iterable or torch.utils.data.Dataset
            Without `y` what yields both: an iterable of batches (X, y) or
            (X, y, sample_weight), such as a `DataLoader`, or a dataset of single samples. One pass
            through it is one epoch, and no more than a batch of it is in memory. Batches are
            trained on as they come, each shuffled and cut if it is larger than `batch_size`; a
            dataset is shuffled, if it can be indexed, and put together to batches. In the first
            call the first 1000 samples are put together, to be measured.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            None if X yields it.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. None: all weigh the same.

        Returns
        -------
        self : MoERegressor

        Raises
        ------
        TypeError
            If an item that X yields is no such tuple.
        ValueError
            If samples are malformed or unlike those of the first call, or X yields nothing. What
            was learned of the batches before is kept, but in the first call.
            If the training diverges; the model is then what it was before the call.
        """
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X, return_std=False):
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
            answer.

        Raises
        ------
        ValueError
            If the loss says nothing about the deviation.
        """
        numbers = self._outputs(X, "predict")
        mean = self._target.decode(numbers)
        if not return_std:
            return mean
        if not hasattr(self.net_.criterion_, "deviation"):
            raise ValueError(
                "return_std=True needs loss='gaussian', the model was fitted with "
                f"loss={self.loss!r}."
            )
        return mean, self._target.decode_deviation(self._outputs(X, "deviation"))

    def expert_predict(self, X):
        """Return what every expert would say of each sample.

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
        numbers = self._expert_predictions(X)
        return self._target.decode(numbers)

    def _check_y(self, y):
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=self)
        return column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _make_target(self, y, weight):
        return NumberTarget(y, weight)

    def __sklearn_tags__(self):
        """Say that y may have several columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
