"""The parameters of the estimators: their defaults, values and documentation, written once.

What belongs to one part of a mixture is kept in an object of that part: `RouterParams`,
`BalanceParams`, `SolverParams`.
"""

import inspect
import os
import re
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from .._validation import Count
from ..nn import ExpertSpec, LossSpec, RouterSpec
from ..optim import SolverSpec

__all__ = [
    "ARCHITECTURE",
    "CONSTRAINTS",
    "PARTS",
    "BalanceParams",
    "FitCheckpoint",
    "RouterParams",
    "SolverParams",
    "constructor",
    "documented",
]

_AUTO = StrOptions({"auto"})
_RATE = Interval(Real, 0, None, closed="left")


class _PartParams(BaseEstimator):
    """Parameters of one part of a mixture, as scikit-learn knows parameters."""

    _parameter_constraints: ClassVar[dict] = {}

    @classmethod
    def of(cls, choice):
        """Return such an object as it is, and the defaults for a name or anything else.

        Parameters
        ----------
        choice : object
            What the estimator was given.

        Returns
        -------
        params : object of this class
        """
        return choice if isinstance(choice, cls) else cls(choice)

    def __eq__(self, other):
        return type(other) is type(self) and self.get_params() == other.get_params()

    __hash__ = None  # type: ignore[assignment]  # may change


class RouterParams(_PartParams):
    """A router and what belongs to it, for the parameter `router`.

    Parameters
    ----------
    kind : str, subclass of sklearn_moe.nn.Router or RouterSpec, default="auto"
        The router, as the parameter `router` of :class:`~sklearn_moe.MoEClassifier` describes it.

    network : {"auto", "linear", "mlp", "cnn"} or callable, default="auto"
        Scores of a sample: "linear" in its patches and summed over them (section 3.2 of [1]_;
        images are cut into 4 x 4 pixels, a strided convolution), "mlp" with one hidden layer on
        every patch, "cnn" with two strided convolutions of an image and the mean over space, or a
        callable `(input_shape, n_experts) -> torch.nn.Module`. "auto" is
        "linear" unless the router has scores of its own.

    noise : {"auto", "uniform", "gaussian", "gumbel"}, callable or None, default="auto"
        Added to the scores that choose the expert in training, not to the gate: U[0, 1]
        (Algorithm 1 of [1]_), N(0, 1) or Gumbel(0, 1), drawn anew for every sample, expert and
        step; or a callable `(x, scores, generator) -> noise`, in torch. For 2-D X the noise is a
        hash of the row, redrawn each step: equal rows get equal noise, so that a sample of
        weight 2 counts exactly as the sample twice. None: no noise, and small random initial
        router weights to tell the experts apart. "auto" is what the router says, "uniform" for
        most; routers that use all experts have no noise.

    gate : {"auto", "softmax", "renormalized", "relative", "sigmoid", "logit"} or callable, \
            default="auto"
        Weight of a chosen expert's output: the softmax of the noise-free scores over all experts
        (section 3.2 of [1]_), over the chosen ones only, `n_experts` times the softmax over all
        ("relative": 1 as long as the router has no preference, so that the output is not shrunk at
        the start), the sigmoid of its score, or its raw noisy score (authors' notebooks). "auto" is
        "softmax" for routers that have the choice, but with `upcycle` "relative", or "renormalized"
        for several experts. "renormalized" needs `top_k >= 2`: of a single expert it is always 1,
        and the router would learn nothing. "relu" is that of the router "relu", and of no other.

    n_shared_experts : int, default=0
        Experts that compute every sample beside the chosen ones, whose outputs are added to theirs
        without a gate [2]_. For routers that add outputs: not for "soft".

    upcycle : float, default=0.0
        Share of the epochs in which all samples go through one expert, of which the others then
        are copies, with the state of its optimizer: a network is trained first, and split into
        experts later [3]_. The outputs are the same before and after. For routers that choose
        ("top1", "topk", "noisy_topk", "sampled"), with noise, which makes the copies different.

    learning_rate : float, default="auto"
        Learning rate of the router. "auto" is 0.0015 for "adamw", 0.0003 for "adam", 0.01 for "sgd"
        and 1 / r^2 for "normalized_sgd", with r the root mean square norm of the training patches
        (8 / r^2 for the router "patch_choice"); but for the router "soft" on a table or behind a
        trunk twice that of the experts, except for "normalized_sgd". On images it is less: that of
        "adamw" is multiplied by 0.4, and without a trunk all are divided by the number of squares
        whose scores are added up.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022.
    .. [2] D. Dai et al., "DeepSeekMoE: Towards Ultimate Expert Specialization in
       Mixture-of-Experts Language Models", arXiv 2401.06066.
    .. [3] A. Komatsuzaki et al., "Sparse Upcycling: Training Mixture-of-Experts from Dense
       Checkpoints", arXiv 2212.05055.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier, RouterParams
    >>> clf = MoEClassifier(router=RouterParams("topk", noise=None), top_k=2)
    >>> clf
    MoEClassifier(router=RouterParams(kind='topk', noise=None), top_k=2)
    >>> clf.set_params(router__gate="renormalized").router
    RouterParams(gate='renormalized', kind='topk', noise=None)
    """

    _parameter_constraints: ClassVar[dict] = {
        "kind": [str, callable, RouterSpec],
        "network": [str, callable],
        "noise": [str, callable, None],
        "gate": [str, callable],
        "n_shared_experts": [Count(0)],
        "upcycle": [Interval(Real, 0, 1, closed="left")],
        "learning_rate": [_AUTO, _RATE],
    }

    def __init__(
        self,
        kind="auto",
        *,
        network="auto",
        noise="auto",
        gate="auto",
        n_shared_experts=0,
        upcycle=0.0,
        learning_rate="auto",
    ):
        self.kind = kind
        self.network = network
        self.noise = noise
        self.gate = gate
        self.n_shared_experts = n_shared_experts
        self.upcycle = upcycle
        self.learning_rate = learning_rate


class BalanceParams(_PartParams):
    """What keeps the load of the experts even, and how strongly, for the parameter `balance`.

    Parameters
    ----------
    kind : str, callable or None, default=None
        As the parameter `balance` of :class:`~sklearn_moe.MoEClassifier` describes it.

    weight : float, default=0.01
        Factor of the balancing loss, or the step of "bias".

    Examples
    --------
    >>> from sklearn_moe import BalanceParams, MoEClassifier
    >>> clf = MoEClassifier(balance=BalanceParams("switch", weight=0.001))
    """

    _parameter_constraints: ClassVar[dict] = {"kind": [str, callable, None], "weight": [_RATE]}

    def __init__(self, kind=None, *, weight=0.01):
        self.kind = kind
        self.weight = weight


class SolverParams(_PartParams):
    """A solver and what belongs to it, for the parameter `solver`.

    Parameters
    ----------
    kind : str, callable or SolverSpec, default="auto"
        The solver, as the parameter `solver` of :class:`~sklearn_moe.MoEClassifier` describes it.

    schedule : {"auto", "constant", "cosine", "residual"}, default="auto"
        Schedule of the learning rates.

        - "constant": none;
        - "cosine": the rates of experts and router rise over the first twentieth of the steps and
          fall to 0 by half a period of the cosine, in `max_iter` epochs;
        - "residual", for "normalized_sgd", multiplies an expert's step by its current mean error
          over its own samples: of classes the probability of error relative to that of guessing, of
          numbers the absolute error in standard deviations of y, 1 at most. A normalized step
          never gets shorter by itself, and experts that are done would otherwise disturb those
          that are not.

        "auto" is "cosine" for "adamw", "residual" for "normalized_sgd" and "constant" for the
        others.

    momentum : float, default=0.0
        Momentum of "normalized_sgd" and "sgd"; other solvers have none, and refuse it.

    weight_decay : float, default=0.0
        Strength of the L2 penalty; of "adamw" the rate at which weights decay, apart from the
        gradient.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier, SolverParams
    >>> clf = MoEClassifier(solver=SolverParams("adamw", weight_decay=0.1))
    """

    _parameter_constraints: ClassVar[dict] = {
        "kind": [str, callable, SolverSpec],
        "schedule": [StrOptions({"auto", "constant", "cosine", "residual"})],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [_RATE],
    }

    def __init__(self, kind="auto", *, schedule="auto", momentum=0.0, weight_decay=0.0):
        self.kind = kind
        self.schedule = schedule
        self.momentum = momentum
        self.weight_decay = weight_decay


PARTS = {"router": RouterParams, "balance": BalanceParams, "solver": SolverParams}


@dataclass(frozen=True)
class FitCheckpoint:
    """A value of the parameter `checkpoint` that says how often, too.

    Parameters
    ----------
    path : str or os.PathLike
        A file, or a folder that holds a file for every fit. A path without a suffix is a folder.
    every : float, default=60.0
        Seconds between two writes, at least; there is one at the end of training in any case.
        0 writes after every epoch.

    Examples
    --------
    >>> from sklearn_moe import FitCheckpoint, MoEClassifier
    >>> clf = MoEClassifier(checkpoint=FitCheckpoint("runs", every=600))
    """

    path: str | os.PathLike
    every: float = 60.0

    def __post_init__(self):
        if not os.fspath(self.path):
            raise ValueError("checkpoint must be the path of a file or folder, got ''.")
        if not self.every >= 0:
            raise ValueError(f"every must be at least 0 seconds, got {self.every!r}.")

    @classmethod
    def of(cls, checkpoint):
        """Return a checkpoint as it is, and one with the defaults for a path.

        Parameters
        ----------
        checkpoint : str, os.PathLike or FitCheckpoint
            A path, or a checkpoint.

        Returns
        -------
        FitCheckpoint
        """
        return checkpoint if isinstance(checkpoint, cls) else cls(checkpoint)


CONSTRAINTS = {
    "n_experts": [Count(1)],
    "expert": [str, callable, ExpertSpec],
    "router": [str, callable, RouterSpec, RouterParams],
    "loss": [str, callable, LossSpec],
    "balance": [str, callable, None, BalanceParams],
    "learning_rate_init": [_AUTO, Interval(Real, 0, None, closed="neither")],
    "max_iter": [_AUTO, Count(1)],
    "early_stopping": [StrOptions({"auto", "out_of_bag"}), "boolean"],
    "batch_size": [_AUTO, Count(1), None],
    "verbose": ["verbose"],
    "random_state": ["random_state"],
    "activation": [str, callable],
    "expert_width": [Count(1), None],
    "trunk": [str, callable, None],
    "sample_shape": ["array-like", None],
    "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
    "standardize": [_AUTO, "boolean"],
    "top_k": [_AUTO, Count(1)],
    "expert_loss_weight": [_AUTO, Interval(Real, 0, 1, closed="both")],
    "solver": [str, callable, SolverSpec, SolverParams],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Count(1)],
    "tol": [_AUTO, _RATE, None],
    "n_init": [Count(1)],
    "warm_start": ["boolean"],
    "train_transform": [callable, None],
    "callbacks": [list, tuple, None],
    "checkpoint": [str, os.PathLike, FitCheckpoint, None],
    "device": [str, torch.device],
}

# What a warm start cannot change: the weights belong to it.
ARCHITECTURE = (
    *("n_experts", "expert", "activation", "expert_width", "trunk", "loss", "standardize", "top_k"),
    *("router__kind", "router__network", "router__noise", "router__gate"),
    *("router__n_shared_experts", "balance__kind"),
)


def documented(estimator):
    """Put the documentation of the shared parameters into that of an estimator.

    Its own docstring has, under the heading "Parameters", the entries in braces of `_shared`.
    """
    if estimator.__doc__ is None:  # python -OO
        return estimator
    head, rest = inspect.cleandoc(estimator.__doc__).split("Parameters\n----------\n")
    own, tail = re.split(r"\n(?=Warns\n-----\n)", rest)
    entries = {text.split(" : ")[0]: text.strip() for text in re.split(r"\n(?=\w+ : )", own)}
    shared = inspect.cleandoc(_shared.__doc__).split("Parameters\n----------\n", 1)[1]
    shared = re.sub(r"\{(\w+)\}\n\n", lambda m: _entry(entries, m[1]), shared)
    estimator.__doc__ = f"{head}Parameters\n----------\n{shared}\n\n{tail}\n"
    return estimator


def _entry(entries, name):
    return f"{entries[name]}\n\n" if name in entries else ""


def _shared(
    self,
    n_experts=8,
    *,
    expert="auto",
    router="auto",
    loss="auto",
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
    sample_shape=None,
    categorical_features="from_dtype",
    standardize="auto",
    top_k="auto",
    expert_loss_weight="auto",
    solver="auto",
    validation_fraction=0.1,
    n_iter_no_change=10,
    tol="auto",
    n_init=1,
    warm_start=False,
    train_transform=None,
    callbacks=None,
    checkpoint=None,
    device="auto",
):
    """Name the parameters of both estimators; each documents itself those in braces.

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
        - "resnet18", "mobilenet_v2": those of torchvision, with stems for small images and
          without downloaded weights; "resnet18_gn", "mobilenet_v2_gn": the same with GroupNorm
          in place of BatchNorm, so that no sample depends on others in training either;
        - a callable `(input_shape, n_outputs) -> torch.nn.Module`, called once per expert. It is
          given `activation` and `expert_width` if it has arguments `activation` and `width`;
        - a name of your own (`sklearn_moe.nn.EXPERTS.register`), or one of these with other
          options: `EXPERTS["patch"].with_options(init_scale=0.01)`.

        "auto" is "mlp" or "patch" for X of 2 or 3 dimensions, and "mlp" behind a trunk, as images
        have one by default.

    router : str, subclass of sklearn_moe.nn.Router, RouterSpec or RouterParams, default="auto"
        Which experts compute a sample, and how their outputs are combined. "auto" is "soft" for
        tables and behind a trunk, if the loss can mix (all losses below but a `Head` without
        `mix`), and "top1" otherwise, also where `n_shared_experts` or `upcycle` ask for outputs
        that add up.

        - "top1": the expert of highest score (Algorithm 1 of [1]_);
        - "topk": the `top_k` experts of highest score, their gated outputs added up;
        - "noisy_topk": "topk" with Gaussian noise of learned scale, and the gate taken from the
          noisy scores [2]_;
        - "sampled": "topk" with Gumbel noise: in training experts are drawn from the softmax of
          the scores, at prediction the best are taken;
        - "soft": all experts, as the classical mixture model sum_m gate_m p_m(y | x), trained by
          its likelihood;
        - "sigmoid": all experts, each weighted by the sigmoid of its own score [3]_;
        - "relu": the experts of positive score, weighted by it, `top_k` of them on average [4]_;
        - "merge": one expert per sample, whose weights are the gated mean of all experts' [5]_;
        - "patch_choice": within a sample every expert computes the `top_k` patches it scores
          highest [6]_; for bags of patches;
        - "random", "kmeans": "topk" by a random linear projection, or by the nearest center of
          k-means: baselines for learned routing, whose scores are not trained;
        - a class of your own, or one of these with options that few people set, such as
          `ROUTERS["top1"].with_options(dense_gradient=True)`;
        - `RouterParams("topk", noise=None)`: any of these with other scores, noise, gate, shared
          experts, upcycling or learning rate, see :class:`~sklearn_moe.RouterParams`. In a search
          these are `router__noise` and so on, also where `router` is a name.

    {loss}

    balance : str, callable, BalanceParams or None, default=None
        What keeps the load of the experts even, counting sample weights.

        - "switch": the loss M sum_m f_m P_m, with f_m the running load (over ten batches) and P_m
          the mean softmax of expert m;
        - "importance": the squared coefficient of variation of P_m [2]_;
        - "load": the same of the chance of each expert to be chosen, were its noise drawn anew
          [2]_;
        - "bias": no loss, but a bias on the scores that choose, moved by its weight in every
          step towards the experts of too little load [7]_; it stays as it is at prediction;
        - "z_loss": the mean squared logsumexp of the scores, which keeps them small and evens
          nothing by itself;
        - a callable `(n_experts, weight) -> sklearn_moe.nn.Balance`, such as a subclass of it;
        - `BalanceParams("switch", weight=0.001)`: any of these with another weight than 0.01, in a
          search `balance__weight`.

        Where the clusters, not the load, should decide, None is best.

    learning_rate_init : float, default="auto"
        Learning rate of the experts, of "cosine" the highest. "auto" is 0.005 for "adamw", but
        0.002 on images and 0.01 sqrt(k / 10) on a table of k times 200 samples, 0.01 at most, times
        100 / n_features where columns outnumber samples. It is 0.001 for "adam", 0.01 for "sgd"
        and, for "normalized_sgd", 0.06 / r with r the root mean square norm of the training
        patches.

    {max_iter}

    {early_stopping}

    {batch_size}

    {class_weight}

    verbose : bool or int, default=0
        Whether to show a progress bar, of which a line with the time stays, and to say early if
        the fit will take minutes.

    random_state : int, RandomState instance or None, default=None
        Source of the initial weights, the shuffling, the noise and the validation split.
        The global generators of torch and NumPy are never touched by an int.

    Attributes
    ----------
    {classes_}

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
        Training loss of every epoch, mean over its batches, without what balancing adds; of numbers
        in units of the standardized target.

    oob_loss_curve_ : list of float
        Out-of-bag loss of every epoch: that of each training sample by the experts that are not
        trained on it, mean over the batches. With `early_stopping="out_of_bag"` only.

    {oob_decision_function_}

    {oob_prediction_}

    {validation_scores_}

    {scale_}

    {scale_slope_}

    router_gradient_curve_ : list of float
        Norm of the router's gradient in every epoch, mean over its batches. A router whose
        gradient is 0 from the start learns nothing.

    expert_load_ : ndarray of shape (n_experts,)
        Share of the training samples that each expert computes, by weight. Where all experts
        are used, a sample counts for each by its share of the gate.

    coef_ : ndarray of shape (n_experts, n_columns) or (n_experts, n_outputs, n_columns)
        Coefficients of linear experts of a table (`activation="linear"`), of numbers in the units
        of y, of classes for their logits, (n_experts, n_classes, n_columns). A column of numbers is
        in its own units; one that had missing values in `fit` counts as its mean where it is
        missing, and has a second column that marks them; one of categories has a column for each.

    intercept_ : ndarray of shape (n_experts,) or (n_experts, n_outputs)
        Intercepts of linear experts.

    coef_names_ : ndarray of shape (n_columns,)
        Names of the columns of `coef_`: "age", "age=missing", "vendor=A".

    net_ : skorch.NeuralNet
        The fitted net, for tools of skorch. It knows no labels and no units: its classes are 0, 1,
        ... in the order of `classes_`, its numbers are standardized.

    module_ : torch.nn.Module
        The mixture itself, with `experts` and `router`; `encoder` standardizes, `trunk` is what
        they share.

    Other Parameters
    ----------------
    activation : str or callable, default="auto"
        Nonlinearity of the experts, sigma: "cubic", "linear", "relu", "celu", "gelu", "tanh" or
        an elementwise callable. "auto" is "cubic" for patch experts and "relu" for the others;
        a callable expert keeps its own. Of a table "linear" makes linear functions of the columns,
        see `coef_`.

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

        "auto" is "cnn" for images with `expert="auto"`, and None otherwise; also for "kmeans",
        whose centers are those of samples.

    sample_shape : tuple of int, default=None
        Read each row of a 2-D X as patches, (n_patches, patch_size), or as an image,
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
        Whether the model standardizes X, for router and experts. Each channel of images gets mean
        0 and deviation 1, over the pixels of the training set. Of the columns of a table z, the
        distance from the mean in standard deviations, becomes z / sqrt(1 + (z / 3)^2), which no
        outlier takes beyond 3; for linear experts it stays z, cut off at 100. Of a column of two
        values z is 0 and 1. A missing value, NaN, becomes 0, and a column that had some in `fit`
        has a second one that marks them. "auto" is True for tables and images. False leaves X as
        it is, and refuses NaN and categories.

    top_k : int, default="auto"
        Experts per sample of routers that choose (on average for "relu"); patches per expert for
        "patch_choice". "auto" is 1, and for "patch_choice" 3, or the number of patches if that
        is smaller.

    expert_loss_weight : float, default="auto"
        Share of the training loss that is the experts' own, the mean of their losses over all
        samples that they are trained on, whichever expert is chosen; the rest is the loss of the
        mixture. With 0 an expert may know nothing outside its own part of the samples; 1 is an
        ensemble, whose router learns nothing. With several experts and `router="soft"` "auto" is 1
        for a table, where few samples make no regions, and 0.7 behind a trunk. It is 0 otherwise,
        also for `activation="linear"`, whose experts can do a part only; others than "soft" take 0
        only. Where "auto" is 1, `fit` looks for regimes in the ensemble of a regression: rules that
        are linear in the columns and hold in a region each. If these predict clearly better they
        take its place, `resolved_params_["expert_loss_weight"]` is 0, and `warm_start` has no
        effect; see the guide on tables.

    solver : str, callable, SolverSpec or SolverParams, default="auto"
        "normalized_sgd" scales each expert's gradient to norm 1 (Algorithm 1 of [1]_) and
        trains the router by plain SGD; "sgd", "adam" and "adamw" are those of torch. Or a callable
        `(parameters, lr) -> torch.optim.Optimizer`, such as `torch.optim.RMSprop`, or a registered
        solver with other options: `SOLVERS["normalized_sgd"].with_options(norm="sum")`. "auto" is
        what suits the expert: "normalized_sgd" for patch experts, "adam" for callables and "adamw"
        for the others. `SolverParams("adamw", weight_decay=0.1)` is any of these with another
        schedule, momentum or weight decay, see :class:`~sklearn_moe.SolverParams`; in a search
        `solver__weight_decay`.

    validation_fraction : float, default=0.1
        Share of the samples that `early_stopping=True` holds out.

    n_iter_no_change : int, default=10
        Epochs without an improvement of `tol`, where it is set, after which training stops, though
        never before 50 steps without one: a small X has one step per epoch. For "out_of_bag" they
        must also be a tenth of `max_iter` and a quarter of the epochs so far.

    {tol}

    n_init : int, default=1
        Number of fits from different initial weights, of which the one with the best out-of-bag
        loss or held-out loss or score is kept, else the one of least training loss: regimes that
        one start misses another one finds. The first start is that of `n_init=1`. A `fit` that
        goes on by `warm_start` and `partial_fit` ignore it; `checkpoint` needs 1.

    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last one, and with its standardization.

    train_transform : callable, default=None
        Applied to the samples of every training batch, never at prediction: a tensor of floats
        (uint8 images have become 0 ... 1 by then, tables are not yet standardized) on the
        device of training, to be returned in the same shape and type. Its torch draws come from
        `random_state`.

    callbacks : list of skorch callbacks, default=None
        Called at every batch and epoch of the fit, as in skorch; see `sklearn_moe.callbacks`.
        Callbacks of scikit-learn 1.9 are set by `set_callbacks`.

    checkpoint : str, os.PathLike or FitCheckpoint, default=None
        File or folder in which the fit is stored once a minute, and in the end. A fit that was
        stopped at any moment goes on from there when it is called again with the same data and
        parameters, to the same model; one that was finished returns at once. A folder, or a path
        without a suffix, holds a file for every fit, as a search needs it.
        `sklearn_moe.FitCheckpoint` sets how often. `partial_fit` does not use it.

    device : str or torch.device, default="auto"
        "auto" is a GPU where there is one and a training step is enough work for it, as most are
        of images, else the CPU; resolved in `fit`. On GPUs that are fast in bfloat16 the experts
        for images are trained in mixed precision if a network sees 100 samples in a step or more;
        weights, routes, losses and predictions stay in float32.
    """


def constructor(*, loss, without=()):
    """Return the `__init__` of an estimator, which sets every parameter and does nothing else.

    Parameters
    ----------
    loss : str
        Default of the parameter of this name.
    without : sequence of str
        Parameters that this estimator does not have.
    """
    shared = inspect.signature(_shared)
    parameters = [
        p.replace(default=loss) if name == "loss" else p
        for name, p in shared.parameters.items()
        if name not in without
    ]
    signature = shared.replace(parameters=parameters)

    def __init__(self, *args, **kwargs):
        try:
            given = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}.__init__() {error}") from None
        given.apply_defaults()
        vars(self).update(list(given.arguments.items())[1:])

    __init__.__signature__ = signature
    return __init__
