"""The parameters of the estimators: their values and documentation, written once for both.

What belongs to one part of a mixture is kept in an object of that part, see `parts`.
"""

import copy
import os
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

from .._validation import Count, HasNames, Names, documented_by
from ..nn import ExpertSpec, LossSpec, RouterSpec
from ..optim import SolverSpec
from .parts import AUTO, PARTS, RATE, BalanceParams, RouterParams, SolverParams

if TYPE_CHECKING:
    from typing_extensions import Self


class EstimatorParams(HasNames):
    """What both estimators do with their parameters; each documents itself those in braces.

    Parameters
    ----------
    n_experts : int, default="auto"
        Number of experts, M. With 1 there is no router, and the model is the single expert, on a
        table a pool of one kind (see `expert`). "auto" is the number of kinds in a pool, and 8
        otherwise. Of a list the first M kinds are a pool, and more than there are kinds are
        refused. On a table with `expert="auto"`, M networks are of the kind "mlp".

    expert : str, callable, ExpertSpec or a list of these and of estimators, default="auto"
        Network of an expert, or a list of kinds:

        - "patch": the sum over patches and filters of sigma(<w, x_p>), without biases
          (section 3.2 of [1]_);
        - "patch_conv": the same with a bias per filter and uniform initial weights, as in the
          authors' code;
        - "mlp": one hidden layer and a linear output, or more layers:
          `EXPERTS["mlp"].with_options(n_layers=3)`;
        - "deep": "mlp" with two hidden layers;
        - "piecewise": the same, of the columns of a table and their piecewise-linear encoding;
        - "linear": a linear function of the columns of a table, without a bound of the columns;
        - "trees": boosted trees of scikit-learn (`HistGradientBoostingClassifier` or `-Regressor`),
          as many as predict unseen rows best; only in a pool;
        - "cnn": two convolutions and two fully connected layers;
        - "resnet18", "mobilenet_v2": those of torchvision, with first layers for small images and
          without downloaded weights; "resnet18_gn", "mobilenet_v2_gn": the same with GroupNorm
          in place of BatchNorm, so that no sample depends on others, also in training;
        - a callable `(input_shape, n_outputs) -> torch.nn.Module`, called once per expert. It is
          given `activation` and `expert_width` if it has arguments `activation` and `width`. A
          network for images is better as `trunk`, see there;
        - a name of your own (`sklearn_moe.nn.EXPERTS.register`), or one of these with other
          options: `EXPERTS["patch"].with_options(init_scale=0.01)`;
        - in a list for a table, an estimator of scikit-learn: `["deep", "linear",
          RandomForestClassifier()]`. It reads standardized numbers, marks of missing values, and a
          column for each category; a classifier needs `predict_proba`.

        "auto" is "patch" for X of 3 dimensions, "mlp" after a trunk, which images have by default,
        and `["deep", "piecewise", "linear"]` for a table, with "trees" from 300 rows and up to 300
        columns. There it is "mlp" if `n_experts` is a number, with what excludes a pool (see
        below), and for a model that begins with `partial_fit`. These trees are kept if the first
        member lowers the loss of unseen rows by half a per cent and by more than chance; otherwise
        their weight is 0.

        Several kinds on a table are a pool, as is a single one with `n_experts=1`. Its kinds are
        fitted one after the other. A kind of networks, trees or an estimator is a bag of five
        members of equal weight, four from 2,000 rows on and two from 10,000 on, with other rows
        hidden from each; "linear" is a `Ridge`, `LogisticRegression` or `PoissonRegressor`. Then
        the router is learned from what they predict of rows that they did not see. In the end the
        networks are trained on all rows for 40 % as many epochs as were best.

        A pool is excluded by another router than "soft", `balance`, `router__learning_rate`,
        `router__network`, an `expert_loss_weight` below 1, `standardize=False`, a trunk,
        `activation="linear"`, and `solver="normalized_sgd"`. With these, and for patches and
        images, a list is repeated over the experts; with estimators, or if only some of its kinds
        are "linear" or "piecewise", it is refused; and so is "trees".

    router : str, subclass of sklearn_moe.nn.Router, RouterSpec or RouterParams, default="auto"
        Which experts compute a sample, and how their outputs are combined.

        - "top1": the expert of highest score (Algorithm 1 of [1]_);
        - "topk": the `top_k` experts of highest score, one unless `top_k` is set; their outputs
          times their gates are added;
        - "sampled": "topk" with Gumbel noise: in training experts are drawn from the softmax of
          the scores, at prediction those of highest score are used;
        - "soft": all experts, as the classical mixture model sum_m gate_m p_m(y | x), trained by
          its likelihood;
        - "sigmoid": all experts, each weighted by the sigmoid of its own score [2]_;
        - "random": "topk" with scores by a random linear projection, which is not trained: a
          baseline for learned routers;
        - a class of your own, `functools.partial` of it, or one of these with options that are
          rarely needed, such as `ROUTERS["top1"].with_options(noise_at_predict=True)`;
        - `RouterParams("topk", noise=None)`: any of these with other scores, noise, gate, shared
          experts or learning rate, see :class:`~sklearn_moe.RouterParams`. In a search these are
          `router__noise` and so on, also if `router` is a name.

        "auto" is "soft" for tables and after a trunk, if the loss is one of those below or a `Head`
        with `mix`. Otherwise, and with `n_shared_experts`, whose outputs are added, it is "top1".

    {loss}

    balance : str, callable, BalanceParams or None, default=None
        What keeps the load of the experts even. Sample weights count.

        - "switch": the loss M sum_m f_m P_m, with f_m the running load (over ten batches) and P_m
          the mean softmax of expert m;
        - "bias": no loss, but a bias on the scores of the choice. In every step it changes by its
          weight in favor of the experts with too little load [3]_; at prediction it is constant;
        - a callable `(n_experts, weight) -> sklearn_moe.nn.Balance`, such as a subclass of it;
        - `BalanceParams("switch", weight=0.001)`: any of these with another weight than 0.01, in a
          search `balance__weight`.

        None is best if the experts should follow clusters, which may have different sizes, and on
        most tables. On a table a balance has the router trained together with the experts, which
        are then "mlp" unless `expert` is set.

    learning_rate_init : float, default="auto"
        Learning rate of the experts, with "cosine" the highest one. "auto" depends on the solver:

        - "adamw": on a table of k times 200 samples, whatever these weigh, 0.01 sqrt(k / 10), at
          most 0.01, times 100 / n_features if there are more columns than samples; 0.002 on images;
          else 0.005;
        - "adam": 0.001;
        - "sgd": 0.01;
        - "normalized_sgd": 0.06 / r, with r the root mean square norm of the training patches.

    {max_iter}

    {early_stopping}

    {batch_size}

    {class_weight}

    verbose : bool or int, default=0
        Whether to show a progress bar over the epochs of each training, of a pool one for each kind
        of networks. A file or pipe gets none. 2 prints a row of losses and scores for each epoch
        instead, by skorch's `PrintLog`.

    random_state : int, RandomState instance or None, default=None
        Source of the initial weights, the shuffling, the noise and the validation split.
        With an int the global generators of torch and NumPy do not change. It is read when a model
        begins: `partial_fit`, and `fit` with `warm_start`, go on with its draws.

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
        The values of all parameters that can be "auto".

    n_iter_ : int
        Number of epochs run, of a pool the sum over its kinds of networks, without their last
        epochs on all rows.

    loss_curve_ : list of float
        Training loss of every epoch, mean over its batches, without the loss of balancing. For
        regression in units of the standardized target. Of a pool, the epochs of its kinds of
        networks in a row; each row of `net_.history` has the "kind".

    oob_loss_curve_ : list of float
        Out-of-bag loss of every epoch: the loss of each training sample by the experts that are not
        trained on it, mean over the batches. Only with `early_stopping="out_of_bag"`, and of a pool
        also with False.

    {oob_decision_function_}

    {oob_prediction_}

    {validation_scores_}

    {scale_}

    {scale_slope_}

    expert_load_ : ndarray of shape (n_experts,)
        Share of the training samples that each expert computes, by weight. If all experts compute
        every sample, this is the mean of their gates.

    expert_kinds_ : ndarray of shape (n_experts,)
        Name of the kind of each expert, in a pool numbered where several have the same.

    coef_ : ndarray of shape (n_experts, n_columns) or (n_experts, n_outputs, n_columns)
        Coefficients of the experts of a table, if all are linear (of the kind "linear", or with
        `activation="linear"`): for regression in the units of y, for classes those
        of the logits, (n_experts, n_classes, n_columns). Numeric columns are in
        their own units. If a column had missing values in `fit`, a missing value is
        its mean, and there is a second coefficient for the mark of missing values. There is a
        coefficient for each category.

    intercept_ : ndarray of shape (n_experts,) or (n_experts, n_outputs)
        Intercepts of linear experts.

    coef_names_ : ndarray of shape (n_columns,)
        Names of the columns of `coef_`: "age", "age=missing", "vendor=A".

    net_ : skorch.NeuralNet
        The fitted net, for tools of skorch. It does not know labels and units: its classes are 0,
        1, ... in the order of `classes_`, its targets are standardized.

    module_ : torch.nn.Module
        The mixture itself, with `experts` and `router`; `encoder` standardizes, `trunk` has the
        layers that they share.

    Other Parameters
    ----------------
    activation : str or callable, default="auto"
        Nonlinearity of the experts, sigma: "cubic", "linear", "relu", "celu", "gelu", "tanh" or
        an elementwise callable. "auto" is "cubic" for patch experts and "relu" for the others;
        a callable expert keeps its own. On a table the experts with "linear" are linear functions
        of the columns, see `coef_`, that are trained together with the router.

    expert_width : int, default=None
        Filters per output of a patch expert (J, 8 by default), hidden units of an MLP (100, or 80
        in each of several layers), channels of a CNN (64), channels of the first layer of ResNet-18
        (64) or MobileNetV2 (32). With several kinds of experts it is for those that have a width.

    trunk : str, callable, torch.nn.Module or None, default="auto"
        Layers that come before the mixture, shared by router and experts and trained with them. The
        input of the router is their output, scaled to mean 0 and norm 1.

        - "cnn": two convolutions, those of `expert="cnn"`;
        - "resnet18", "mobilenet_v2": the experts of that name without their last layer;
        - a module, of which a copy is trained, or a callable `input_shape -> torch.nn.Module`,
          which is given `activation` if it has such an argument; they map samples to features,
          (n_samples, n_features) as a rule;
        - None: no shared layers, as in the paper: every expert is a whole network.

        "auto" is "cnn" for images with `expert="auto"`, and None otherwise. A whole network per
        expert, also one of your own, has no shared layers: "top1" then computes one of them,
        because "soft" would take as much longer as there are experts.

    sample_shape : tuple of int, default=None
        Read each row of a 2-D X as patches, (n_patches, patch_size), or as an image,
        (n_channels, height, width): for tools that need 2-D arrays. -1 stands for a length that
        follows from the others.

    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        Columns of a table that hold categories. Inside the model each of up to 30 becomes a column
        of zeros and ones; all are 0 if the category is missing or was not in `fit`. A column of
        more categories becomes numbers: what y is on average of each, shrunk to the mean of all.

        - "from_dtype": the columns of a pandas or polars frame that are categorical or hold
          strings, and none of an array;
        - indices, names or a mask: these columns;
        - None: no column; columns of strings or categories in a frame are an error.

    standardize : "auto" or bool, default="auto"
        Whether the model standardizes X, for router and experts. "auto" is True for tables and
        images.

        - Each channel of images gets mean 0 and standard deviation 1, over the pixels of the
          training set.
        - In the columns of a table z, the distance from the mean in standard deviations, becomes
          z / sqrt(1 + (z / 3)^2), which is never larger than 3, so that outliers have little
          effect. For experts of the kind "linear" it remains z, and with `activation="linear"` z of
          at most 100. Experts of the kind "piecewise" also read which piece of the column it is in.
          In a column of two values z is 0 and 1. A missing value, NaN, becomes 0, and a column that
          had some in `fit` gets a second column that marks them.

        False leaves X unchanged; NaN and categories are then errors.

    top_k : int, default="auto"
        Experts per sample of routers that choose. "auto" is 1.

    expert_loss_weight : float, default="auto"
        Share w of the losses of single experts in the training loss,
        (1 - w) * loss of the mixture + w * mean of the losses of the experts, over all samples that
        an expert is trained on, whatever the gate is. With 0 an expert may be poor outside its own
        part of the samples. With 1 the router is not trained with the experts: in a pool it is
        learned after them, otherwise all gates are equal. Routers other than "soft" allow 0 only.

        "auto" is 1 in a pool; 0.7 for several experts with `router="soft"` on a table or after a
        trunk, but 0 if all are linear, because a linear expert can learn only a part of the
        samples; otherwise 0.

    solver : str, callable, SolverSpec or SolverParams, default="auto"
        How the weights are trained:

        - "normalized_sgd": the gradient of each expert is scaled to norm 1 (Algorithm 1 of [1]_),
          the router is trained by plain SGD;
        - "sgd", "adam", "adamw": those of torch;
        - a callable `(parameters, lr) -> torch.optim.Optimizer`, such as `torch.optim.RMSprop`;
        - a registered solver with other options:
          `SOLVERS["normalized_sgd"].with_options(norm="sum")`;
        - `SolverParams("adamw", weight_decay=0.1)`: any of these with another schedule, momentum or
          weight decay, see :class:`~sklearn_moe.SolverParams`; in a search `solver__weight_decay`.

        "auto" depends on the expert: "normalized_sgd" for patch experts, "adam" for callables, but
        on images "adamw", and "adamw" for the others.

    validation_fraction : float, default=0.1
        Share of the samples that `early_stopping=True` holds out.

    n_iter_no_change : int, default=10
        Number of epochs without an improvement of `tol` after which training stops. They must
        also be 50 steps, because a small X has one step per epoch; and with "out_of_bag" a tenth of
        `max_iter` and a quarter of the epochs so far. In a pool with "out_of_bag" each kind stops
        for itself, after half of this number or 3 % of `max_iter` if that is more, and about 15 %
        of the epochs until its best one.

    {tol}

    warm_start : bool, default=False
        Whether `fit` continues from the weights of the last fit, with its standardization. A
        parameter of the model that was changed is refused; all others act, another solver
        included, but for `random_state`.

    train_transform : callable, default=None
        A function that changes the samples of every training batch, never at prediction. It is
        given a tensor of floats on the device of training (uint8 images are already 0 ... 1, tables
        are not yet standardized), and returns one of the same shape and type. Its random draws by
        torch come from `random_state`.

    callbacks : list of skorch callbacks, default=None
        They are called at every batch and epoch of the fit, in a pool in the training of each kind
        of networks, as in skorch; see `sklearn_moe.callbacks`.

    checkpoint : str or os.PathLike, default=None
        File or folder in which the fit is stored once a minute, and at its end. A fit that was
        stopped continues from there if it is called again with the same data and parameters, and
        the result is the same model; a finished fit returns at once. A folder, or a path without a
        suffix, has a file for every fit, as a search needs it. `partial_fit` does not use it.

    device : str or torch.device, default="auto"
        "auto" is a GPU if there is one and a training step is enough work for it, as for most
        images, otherwise the CPU. On GPUs and processors that multiply in bfloat16 the experts for
        images are trained in mixed precision if each network computes 100 or more samples in a
        step (`net_.precision`); weights, routes, losses and predictions remain in float32. Not
        where X is float64.
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_experts": [AUTO, Count(1)],
        "expert": [str, callable, ExpertSpec, list, tuple],
        "router": [str, callable, RouterSpec, RouterParams],
        "loss": [str, callable, LossSpec],
        "balance": [str, callable, None, BalanceParams],
        "learning_rate_init": [AUTO, Interval(Real, 0, None, closed="neither")],
        "max_iter": [AUTO, Count(1)],
        "early_stopping": [Names({"auto", "out_of_bag"}), "boolean"],
        "batch_size": [AUTO, Count(1), None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "activation": [str, callable],
        "expert_width": [Count(1), None],
        "trunk": [str, callable, None],
        "sample_shape": ["array-like", None],
        "categorical_features": [Names({"from_dtype"}), "array-like", None],
        "standardize": [AUTO, "boolean"],
        "top_k": [AUTO, Count(1)],
        "expert_loss_weight": [AUTO, Interval(Real, 0, 1, closed="both")],
        "solver": [str, callable, SolverSpec, SolverParams],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Count(1)],
        "tol": [AUTO, RATE, None],
        "warm_start": ["boolean"],
        "train_transform": [callable, None],
        "callbacks": [list, tuple, None],
        "checkpoint": [str, os.PathLike, None],
        "device": [str, torch.device],
    }

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters of this estimator.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return the parameters of router, balance and solver as well, also where
            these are names: `router__gate` and so on.

        Returns
        -------
        params : dict
            Names and values.
        """
        # Not those of other values: transforms of torchvision have a `get_params`, too.
        params = super().get_params(deep=False)
        if deep:
            for name, kind in PARTS.items():
                part = _as_part(kind, params[name]).get_params()
                params |= {f"{name}__{key}": value for key, value in part.items()}
        return params

    def set_params(self, **params: Any) -> "Self":
        """Set the parameters of this estimator.

        Parameters
        ----------
        **params : dict
            Names and values. `router__gate` is the gate of the router and so on, also where
            `router` is a name.

        Returns
        -------
        self : estimator instance
        """
        for name, kind in PARTS.items():
            if any(key.startswith(f"{name}__") for key in params):
                params[name] = _as_part(kind, params.get(name, getattr(self, name)))
        return super().set_params(**params)

    def _validate_params(self):
        """Check the types of the parameters, those of the parts included."""
        super()._validate_params()
        for name, kind in PARTS.items():
            _as_part(kind, getattr(self, name))._validate_params()

    def __sklearn_clone__(self):
        """Copy a transform by value, where scikit-learn would take it for an estimator."""
        shell = copy.copy(self)
        shell.train_transform = None
        twin = BaseEstimator.__sklearn_clone__(shell)
        twin.train_transform = copy.deepcopy(self.train_transform)
        return twin


def _as_part(kind, choice):
    """Return an object of a part as it is, and its defaults for a name or anything else."""
    return choice if isinstance(choice, kind) else kind(choice)


documented = documented_by(EstimatorParams.__doc__)
