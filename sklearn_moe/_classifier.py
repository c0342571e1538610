"""MoEClassifier: the mixture of experts as a scikit-learn classifier."""

from typing import ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from ._base import BaseMoE
from ._data.frames import is_missing
from ._data.targets import ClassTarget, LabelTarget
from .nn import LOSSES, LossSpec

__all__ = ["MoEClassifier"]


class MoEClassifier(ClassifierMixin, BaseMoE):
    """Mixture of experts with a learned router.

    The rows of a table are answered by all experts, whose probabilities are mixed by the router,
    p(y | x) = sum_m pi_m(x) p_m(y | x). So are pictures, after convolutions that router and experts
    share: the mixture is the last layer of a network. A bag of patches is sent to the expert of
    highest router score, and the class probabilities are made of that expert's answer times its
    gate value, F(x) = pi_m(x) f_m(x) [1]_; an expert then computes its own samples only, and more
    experts of the same size are more parameters, not more work for a large batch. Either rule, or
    another one, may be chosen by `router`. Router and experts are trained together.

    Y may also hold several labels per sample, as an array (n_samples, n_labels) of zeros and ones.

    The defaults depend on the shape of X: tables are standardized and given to multilayer
    perceptrons, bags of patches to the paper's patch CNN with cubic activation; pictures are
    standardized and given to a small CNN, which ends in multilayer perceptrons. A table, here and
    below, is an X of 2 dimensions that `sample_shape` does not read as patches or pictures.

    The parameters that most people need come first. The others, in this order: the experts and
    their samples, the router, the solver, the course of training, the machine.

    Parameters
    ----------
    n_experts : int, default=8
        Number of experts, M. With 1 there is no router and the gate is exactly 1: the model is
        the single expert.

    expert : str, callable or ExpertSpec, default="auto"
        Network of an expert:

        - "patch": the sum over patches and filters of sigma(<w, x_p>), without biases
          (section 3.2 of [1]_);
        - "patch_conv": the same with a bias per filter and uniform initial weights, as in the
          authors' code;
        - "mlp": one hidden layer and a readout;
        - "cnn": two convolutions and two fully connected layers;
        - "resnet18", "mobilenet_v2": those of torchvision, with stems for small pictures and
          without downloaded weights; "resnet18_gn", "mobilenet_v2_gn": the same with GroupNorm
          in place of BatchNorm, so that no sample depends on others in training either;
        - a callable `(input_shape, n_outputs) -> torch.nn.Module`, called once per expert. It is
          given `activation` and `expert_width` if it has arguments `activation` and `width`;
        - a name of your own (`sklearn_moe.nn.EXPERTS.register`), or one of these with other
          options: `EXPERTS["patch"].with_options(init_scale=0.01)`.

        "auto" is "mlp" or "patch" for X of 2 or 3 dimensions, and "mlp" behind a trunk, as pictures
        have one by default.

    router : str, subclass of sklearn_moe.nn.Router or Preset, default="auto"
        The rule by which experts answer. "auto" is "soft" for tables and behind a trunk, if the
        loss can mix (all losses below but a `Head` without `mix`), and "top1" otherwise, also where
        `n_shared_experts` or `upcycle` ask for answers that add up.

        - "top1": the expert of highest score (Algorithm 1 of [1]_);
        - "topk": the `top_k` experts of highest score, their gated answers added up;
        - "noisy_topk": "topk" with Gaussian noise of learned scale, and the gate taken from the
          noisy scores [2]_;
        - "sampled": "topk" with Gumbel noise: in training experts are drawn from the softmax of
          the scores, at prediction the best are taken;
        - "soft": all experts, as the classical mixture model sum_m gate_m p_m(y | x), trained by
          its likelihood;
        - "sigmoid": all experts, each weighted by the sigmoid of its own score [3]_;
        - "relu": the experts of positive score, weighted by it, `top_k` of them on average [4]_;
        - "merge": one expert per sample, whose weights are the gated mean of all experts' [5]_;
        - "patch_choice": within a sample every expert answers to the `top_k` patches it scores
          highest [6]_; for bags of patches;
        - "random", "kmeans": "topk" by a random linear projection, or by the nearest center of
          k-means: the null models of learned routing, whose scores are not trained;
        - a class of your own, or a `Preset` with options that few people set, such as
          `dataclasses.replace(ROUTERS["top1"], dense_gradient=True)`.

    loss : str or callable, default="log_loss"
        What the outputs of the experts mean:

        - "log_loss": one output per class and cross-entropy; of several labels one output per
          label and the logistic loss of each;
        - "margin": a single output for two classes and the logistic loss (section 3.2 of [1]_);
        - "probabilities": the softmax taken twice, as in the authors' code, which bounds the
          loss from below;
        - a subclass of `sklearn_moe.nn.Head`, or a name of your own (`LOSSES.register`).

    balance : str, callable or None, default=None
        What keeps the load of the experts even, counting sample weights.

        - "switch": the loss M sum_m f_m P_m, with f_m the running load (over ten batches) and P_m
          the mean softmax of expert m;
        - "importance": the squared coefficient of variation of P_m [2]_;
        - "load": the same of the chance of each expert to be chosen, were its noise drawn anew
          [2]_;
        - "bias": no loss, but a bias on the scores that choose, moved by `balance_weight` in every
          step towards the experts of too little load [7]_; it stays as it is at prediction;
        - "z_loss": the mean squared logsumexp of the scores, which keeps them small and evens
          nothing by itself;
        - a callable `(n_experts, weight) -> sklearn_moe.nn.Balance`, such as a subclass of it.

        Where the clusters, not the load, should decide, None is best.

    learning_rate_init : float, default="auto"
        Learning rate of the experts, of "cosine" the highest. "auto" is 0.005 for "adamw", but
        0.002 on pictures, 0.001 for "adam", 0.01 for "sgd" and, for "normalized_sgd", 0.06 / r with
        r the root mean square norm of the training patches.

    max_iter : int, default="auto"
        Maximum number of epochs, over which the rates of "cosine" fall. "auto" is, for "cosine",
        as many as make about 3,000 steps, but 10 at least and 150 at most, or as many more as make
        1,000 steps; else 1000, and `tol` ends most fits far earlier.

    early_stopping : {"auto", "out_of_bag"} or bool, default="auto"
        Whether to stop when the mixture ceases to improve on samples that it was not trained on,
        and to return to the best weights.

        - "out_of_bag": every training sample is hidden from some of the experts,
          `validation_fraction` of them and one at least, equal samples from the same. The mixture
          of these is tested by it. No sample is lost to the training, and the test costs next to
          nothing. Needs `router="soft"` and several experts;
        - True: `validation_fraction` of the training samples are held out, stratified by class,
          and tested by accuracy;
        - False: what is watched is the training loss, and nothing is returned to.

        "auto" is "out_of_bag" for a table with several experts, `router="soft"` and
        `expert_loss_weight` above 0, else False: experts that know their own part only cannot
        judge what was hidden from them.

    batch_size : int or None, default="auto"
        Samples per step; None takes all of them (gradient descent). "auto" is 1024 for
        "normalized_sgd", 200 for "adamw" and a quarter of the samples, but 32 at least and 200 at
        most, for the others. A batch that holds all samples is not shuffled. Where weights are
        uneven, "auto" is up to four times as many.

    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes, which multiply `sample_weight`.

    verbose : bool or int, default=0
        Whether to show a progress bar.

    random_state : int, RandomState instance or None, default=None
        Source of the initial weights, the shuffling, the noise and the validation split.
        The global generators of torch and NumPy are never touched by an int.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels; of several labels their indices.

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
        Training loss of every epoch, mean over its batches, without what balancing adds.

    oob_loss_curve_ : list of float
        Loss of the training samples by the mixture of the experts that they are hidden from, in
        every epoch, mean over its batches. With `early_stopping="out_of_bag"` only.

    validation_scores_ : list of float
        Accuracy on the held-out samples after every epoch, with `early_stopping=True` only; of
        several labels the share of right ones.

    router_gradient_curve_ : list of float
        Norm of the router's gradient in every epoch, mean over its batches. A router whose
        gradient is 0 from the start learns nothing.

    expert_load_ : ndarray of shape (n_experts,)
        Share of the training samples that each expert answers, by weight. Where all experts
        answer, a sample counts for each by its share of the gate.

    net_ : skorch.NeuralNet
        The fitted net, for tools of skorch. It knows no labels: its classes are 0, 1, ... in the
        order of `classes_`.

    module_ : torch.nn.Module
        The mixture itself, with `experts` and `router`; `encoder` standardizes, `trunk` is what
        they share.

    Other Parameters
    ----------------
    activation : str or callable, default="auto"
        Nonlinearity of the experts, sigma: "cubic", "linear", "relu", "celu", "gelu", "tanh" or
        an elementwise callable. "auto" is "cubic" for patch experts and "relu" for the others;
        a callable expert keeps its own.

    expert_width : int, default=None
        Filters per output of a patch expert (J, 8 by default), hidden units of an MLP (100),
        channels of a CNN (64), of the stem of ResNet-18 (64) or MobileNetV2 (32).

    trunk : str, callable, torch.nn.Module or None, default="auto"
        Layers in front of the mixture, shared by router and experts and trained with them. The
        router then reads their output, scaled to mean 0 and norm 1.

        - "cnn": two convolutions, those of `expert="cnn"`;
        - "resnet18", "mobilenet_v2": the experts of that name without their last layer;
        - a module, of which a copy is trained, or a callable `input_shape -> torch.nn.Module`,
          which is given `activation` if it has such an argument; they map samples to features,
          (n_samples, n_features) as a rule;
        - None: there are none, as in the paper: every expert is a whole network.

        "auto" is "cnn" for pictures with `expert="auto"`, and None otherwise; also for "kmeans",
        whose centers are those of samples.

    n_shared_experts : int, default=0
        Experts that answer every sample beside the chosen ones, whose answers are added to theirs
        without a gate [8]_. For routers that add answers: not for "soft".

    sample_shape : tuple of int, default=None
        Read each row of a 2-D X as patches, (n_patches, patch_size), or as a picture,
        (n_channels, height, width): for tools that know rows only. -1 stands for a side that
        follows from the others.

    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        Columns of a table that hold categories. Inside the model each becomes a column of zeros
        and ones per category, all 0 where it is missing or was not there in `fit`. At most 100
        categories of a column are told apart; of more, the rarest count as one.

        - "from_dtype": the columns of a pandas or polars frame that are categorical or hold
          strings, and none of an array;
        - indices, names or a mask: these columns;
        - None: no column; a frame with columns of strings or categories is refused.

    standardize : "auto" or bool, default="auto"
        Whether the model standardizes X, for router and experts. Each channel of pictures gets mean
        0 and deviation 1, over the pixels of the training set. Of the columns of a table z, the
        distance from the mean in standard deviations, becomes z / sqrt(1 + (z / 3)^2), which no
        outlier takes beyond 3. Of a column of two values z is 0 and 1. A missing value, NaN,
        becomes 0, and a column that had some in `fit` has a second one that marks them. "auto" is
        True for tables and pictures. False leaves X as it is, and refuses NaN and categories.

    top_k : int, default="auto"
        Experts per sample of routers that choose (on average for "relu"); patches per expert for
        "patch_choice". "auto" is 1, and 2 for "patch_choice".

    router_network : {"auto", "linear", "mlp", "cnn"} or callable, default="auto"
        Scores of a sample: "linear" in its patches and summed over them (section 3.2 of [1]_;
        images are cut into 4 x 4 pixels, a strided convolution), "mlp" with one hidden layer on
        every patch, "cnn" with two strided convolutions of a picture and the mean over space, or a
        callable `(input_shape, n_experts) -> torch.nn.Module`. "auto" is
        "linear" unless `router` has scores of its own.

    router_noise : {"auto", "uniform", "gaussian", "gumbel"}, callable or None, default="auto"
        Added to the scores that choose the expert in training, not to the gate: U[0, 1]
        (Algorithm 1 of [1]_), N(0, 1) or Gumbel(0, 1), drawn anew for every sample, expert and
        step; or a callable `(x, scores, generator) -> noise`, in torch. For 2-D X the noise is a
        hash of the row, redrawn each step: equal rows get equal noise, so that a sample of
        weight 2 counts exactly as the sample twice. None: no noise, and small random initial
        router weights to tell the experts apart. "auto" is what `router` says, "uniform" for
        most; routers in which all experts answer have no noise.

    gate : {"auto", "softmax", "renormalized", "relative", "sigmoid", "logit"} or callable, \
            default="auto"
        Weight of a chosen expert's answer: the softmax of the noise-free scores over all experts
        (section 3.2 of [1]_), over the chosen ones only, `n_experts` times the softmax over all
        ("relative": 1 as long as the router has no preference, so that the answer is not shrunk at
        the start), the sigmoid of its score, or its raw noisy score (authors' notebooks). "auto" is
        "softmax" for routers that have the choice, but with `upcycle` "relative", or "renormalized"
        for several experts. "renormalized" needs `top_k >= 2`: of a single expert it is always 1,
        and the router would learn nothing. "relu" is that of `router="relu"`, and of no other.

    balance_weight : float, default=0.01
        Factor of the balancing loss, or the step of "bias".

    expert_loss_weight : float, default="auto"
        Share of the training loss that is the experts' own, the mean of their losses over all
        samples that they are shown, whoever is to answer; the rest is the loss of the mixture.
        With 0 an expert may know nothing outside its own part of the samples; 1 is an ensemble,
        whose router learns nothing. "auto" is 0.7 for a table or behind a trunk with several
        experts and `router="soft"`, where few samples make no regions, and 0 otherwise, also for
        `activation="linear"`, whose experts can do a part only; others than "soft" take 0 only.

    solver : str, callable or SolverSpec, default="auto"
        "normalized_sgd" scales each expert's gradient to norm 1 (Algorithm 1 of [1]_) and
        trains the router by plain SGD; "sgd", "adam" and "adamw" are those of torch. Or a callable
        `(parameters, lr) -> torch.optim.Optimizer`, such as
        `partial(NormalizedSGD, norm="sum")` or `torch.optim.RMSprop`. "auto" is what suits the
        expert: "normalized_sgd" for patch experts, "adam" for callables and "adamw" for the others.

    learning_rate : {"auto", "constant", "cosine", "residual"}, default="auto"
        Schedule of the learning rates.

        - "constant": none;
        - "cosine": the rates of experts and router rise over the first twentieth of the steps and
          fall to 0 by half a period of the cosine, in `max_iter` epochs;
        - "residual", for "normalized_sgd", multiplies an expert's step by its current mean
          probability of error over its own samples, relative to a blind guess: a normalized step
          never gets shorter by itself, and experts that are done would otherwise disturb those
          that are not.

        "auto" is "cosine" for "adamw", "residual" for "normalized_sgd" and "constant" for the
        others.

    router_learning_rate_init : float, default="auto"
        Learning rate of the router. "auto" is 0.0015 for "adamw", 0.0003 for "adam", 0.01 for "sgd"
        and 1 / r^2 for "normalized_sgd"; but for `router="soft"` on a table or behind a trunk twice
        that of the experts, except for "normalized_sgd". On pictures it is less: that of "adamw" is
        multiplied by 0.4, and without a trunk all are divided by the number of squares whose scores
        are added up.

    momentum : float, default=0.0
        Momentum of "normalized_sgd" and "sgd"; other solvers have none, and refuse it.

    weight_decay : float, default=0.0
        Strength of the L2 penalty; of "adamw" the rate at which weights decay, apart from the
        gradient.

    upcycle : float, default=0.0
        Share of the epochs in which all samples go through one expert, of which the others then
        are copies, with the state of its optimizer: a network is trained first, and split into
        experts later [9]_. The answers are the same before and after. For routers that choose
        ("top1", "topk", "noisy_topk", "sampled"), with noise, which is what parts the copies.

    validation_fraction : float, default=0.1
        Share of the samples held out for early stopping; for "out_of_bag" share of the experts
        that each sample is hidden from.

    n_iter_no_change : int, default=10
        Epochs without an improvement of `tol` after which training stops, though never before
        50 steps without one: a small X has one step per epoch. For "out_of_bag" they must also be
        a tenth of `max_iter` and half of the epochs so far.

    tol : float or None, default="auto"
        Smallest improvement that counts: of the training loss, or with `early_stopping` of the
        out-of-bag loss or the validation accuracy. Training also stops when the training loss
        itself, if that is watched, is below `tol`. None trains for exactly `max_iter` epochs.
        "auto" is 0 for "out_of_bag"; else None for "cosine" without early stopping, and 1e-4.

    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last one, and with its standardization.

    train_transform : callable, default=None
        Applied to the samples of every training batch, never at prediction: a tensor of floats
        (bytes of pictures have become 0 ... 1 by then, tables are not yet standardized) on the
        device of training, to be returned in the same shape and type. Its torch draws come from
        `random_state`.

    callbacks : list of skorch callbacks, default=None
        Told of every batch and epoch of the fit, as in skorch; see `sklearn_moe.callbacks`.
        Callbacks of scikit-learn 1.9 are set by `set_callbacks`.

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
        Of training on images: "bf16" computes the experts in mixed precision, with weights,
        routes and losses in float32. "auto" is "bf16" on GPUs that are fast in it, if a network
        sees 100 samples in a step or more. Prediction is in the precision of the weights, which
        on a GPU includes torch's TF32 for convolutions unless `torch.backends.cudnn.allow_tf32`
        is off.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` epochs at rates that do not fall to 0 were not enough.
    ExpertCollapseWarning
        If one expert answers more than 95 % of the training samples.

    See Also
    --------
    sklearn.neural_network.MLPClassifier : A single multilayer perceptron.
    sklearn_moe.datasets.make_cluster_patches : The problem of the paper.

    Notes
    -----
    X of float64 is trained in float64 (about three times as slow), anything else in float32;
    columns of integers that float32 would round are standardized in float64 first.
    Images of dtype uint8 stay as they are until their batch, then 0 ... 255 becomes 0 ... 1.
    Sparse tables become dense batch by batch.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022.
    .. [2] N. Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated
       Mixture-of-Experts Layer", ICLR 2017.
    .. [3] H. Nguyen, N. Ho, A. Rinaldo, "Sigmoid Gating is More Sample Efficient than Softmax
       Gating in Mixture of Experts", arXiv 2405.13997.
    .. [4] Z. Wang, J. Zhu, J. Chen, "ReMoE: Fully Differentiable Mixture-of-Experts with ReLU
       Routing", arXiv 2412.14711.
    .. [5] M. Muqeeth, H. Liu, C. Raffel, "Soft Merging of Experts with Adaptive Routing",
       arXiv 2306.03745.
    .. [6] M. Chowdhury et al., "Patch-level Routing in Mixture-of-Experts is Provably
       Sample-efficient for Convolutional Neural Networks", arXiv 2306.04073.
    .. [7] L. Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts",
       arXiv 2408.15664.
    .. [8] D. Dai et al., "DeepSeekMoE: Towards Ultimate Expert Specialization in
       Mixture-of-Experts Language Models", arXiv 2401.06066.
    .. [9] A. Komatsuzaki et al., "Sparse Upcycling: Training Mixture-of-Experts from Dense
       Checkpoints", arXiv 2212.05055.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
    >>> X, y, clusters = make_cluster_patches(
    ...     4000, return_clusters=True, random_state=0, **PAPER_SETTINGS[1])
    >>> clf = MoEClassifier(random_state=0).fit(X[:2000], y[:2000])
    >>> clf.score(X[2000:], y[2000:]) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseMoE._parameter_constraints,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        n_experts=8,
        *,
        expert="auto",
        router="auto",
        loss="log_loss",
        balance=None,
        learning_rate_init="auto",
        max_iter="auto",
        early_stopping="auto",
        batch_size="auto",
        class_weight=None,
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
        self.class_weight = class_weight
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

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, of any type; or several labels, as zeros and ones.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. A sample of weight 0 is left out. None: all weigh the same.

        groups : array-like of shape (n_samples,), default=None
            The group of each sample, labels of any type. Samples of one group are hidden from the
            same experts, and held out together: for repeated measurements, copies, or frames of
            one video, of which one tells about the others. Request it by
            `set_fit_request(groups=True)` where `fit` is called by another estimator.

        Returns
        -------
        self : MoEClassifier

        Raises
        ------
        ValueError
            If X or y is malformed, fewer than two classes have positive weight, a parameter
            does not fit X or the others, or the training loss stops being finite.
        """
        return self._fit(X, y, sample_weight, groups)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, classes=None, sample_weight=None):
        """Train for one epoch on these samples, from where the model stands.

        What X is standardized by, categories, rates and batch size are those of the first call,
        so let it hold a thousand samples or more, drawn at random. What the solver remembers, such
        as momentum, is kept between calls; after `fit` it begins anew. `max_iter`, `tol`,
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

        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            None if X yields it.

        classes : array-like of shape (n_classes,), default=None
            All classes that will ever be seen; required in the first call. Of several labels
            their indices, `np.arange(n_labels)`.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. None: all weigh the same.

        Returns
        -------
        self : MoEClassifier

        Raises
        ------
        TypeError
            If an item that X yields is no such tuple.
        ValueError
            If samples are malformed or unlike those of the first call, or X yields nothing. What
            was learned of the batches before is kept, but in the first call.
            If the training diverges; the model is then what it was before the call.
        """
        if classes is not None:
            classes = np.unique(classes)
            known = getattr(self, "classes_", classes)
            if not np.array_equal(classes, known):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                    f"{known!r}"
                )
        elif not self.__sklearn_is_fitted__():
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._partial_fit(X, y, sample_weight, classes=classes)

    def _check_y(self, y):
        if y.dtype == object and (missing := is_missing(y.ravel())).any():
            raise ValueError(
                f"y holds None or NaN for {missing.sum()} samples, the first one at place "
                f"{missing.argmax()}. Leave these samples out."
            )
        check_classification_targets(y)
        if type_of_target(y) == "multilabel-indicator":
            return y.toarray() if hasattr(y, "toarray") else y
        if y.ndim == 2 and y.shape[1] > 1:
            raise ValueError(
                f"y of shape {y.shape} must hold zeros and ones, a column per label. For several "
                "outputs of several classes each use sklearn.multioutput.MultiOutputClassifier."
            )
        return column_or_1d(y, warn=True)

    def _make_target(self, y, weight, classes=None):
        if y.ndim == 2:
            return LabelTarget(y.shape[1])
        if classes is None:
            classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError(
                f"MoEClassifier needs samples of at least 2 classes, got 1 class: "
                f"{classes.tolist()[0]!r}."
            )
        return ClassTarget(classes)

    def _describe(self, net):
        return super()._describe(net) | {"classes_": self._target.classes}

    def predict_proba(self, X):
        """Return the class probabilities of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`. Of several labels the probability of each,
            (n_samples, n_labels).
        """
        return self._outputs(X, "predict")

    def decision_function(self, X):
        """Return scores before they become probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        score : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Of two classes the log odds of the second one; of more classes scores whose softmax
            are the probabilities; of several labels the log odds of each.
        """
        scores = self._outputs(X, "decision")
        if self._target.kind == "classes" and len(self.classes_) == 2:
            return scores[:, 1] - scores[:, 0]
        return scores

    def predict_log_proba(self, X):
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X):
        """Return the most probable class of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Of several labels those of probability above one half, (n_samples, n_labels) zeros and
            ones.
        """
        proba = self.predict_proba(X)
        return self._target.decode(proba)

    def expert_proba(self, X):
        """Return what every expert would say of each sample.

        The prediction if this expert replaced those that are selected, scaled by the sum of their
        gates: where one expert is selected, its entry is `predict_proba`. With
        `router="patch_choice"` it is the expert's output for the patches that it picked.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples, as `fit` takes them.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_experts, n_classes)
        """
        return self._expert_predictions(X)

    def __sklearn_tags__(self):
        """Say that y may hold several labels, if the loss has a meaning for them."""
        tags = super().__sklearn_tags__()
        loss = LOSSES.get(self.loss) if isinstance(self.loss, str) else self.loss
        kind = getattr(loss, "kind", "labels")  # of a head of one's own
        has_labels = loss.labels is not None if isinstance(loss, LossSpec) else kind == "labels"
        tags.classifier_tags.multi_label = has_labels
        return tags
