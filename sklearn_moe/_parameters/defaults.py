"""What "auto" means: what the data are decides what the model is, and both how it is trained."""

import math
import sys
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np

from .._data.rows import row_slices
from .._registry import accepts_argument, overrides, require_override
from .._validation import refuse_overflow
from ..nn import (
    ACTIVATIONS,
    EXPERTS,
    NETWORKS,
    TRUNKS,
    ExpertSpec,
    Head,
    LinearExpert,
    MLPExpert,
    RouterSpec,
    SoftRouter,
)
from ..nn.routers.scores import LinearScores, MLPScores, patches_shape
from ..nn.routers.sparse import PatchChoiceRouter
from ..optim import SOLVERS, SolverSpec

__all__ = ["Plan", "resolve"]

# Nonlinear experts on a table are trained by their own losses only: they form an ensemble, because
# few rows make no regions. Behind a trunk a part of the loss is that of the mixture. Linear experts
# fit a part of a table only, and are trained by the loss of the mixture.
_OWN_LOSS_ON_TABLES, _OWN_LOSS_BEHIND_TRUNK = 1.0, 0.7
_OUT_OF_BAG = 0.1  # of the experts, for each sample
# Of a small table one expert says little about the others: a quarter are out-of-bag.
_OUT_OF_BAG_OF_FEW, _FEW_ROWS = 0.25, 500
# What cannot change while a model is trained further: the weights belong to it, or the state of the
# solver, which a warm start begins anew.
_ARCHITECTURE = (
    *("n_experts", "expert", "activation", "expert_width", "trunk", "loss", "standardize", "top_k"),
    *("router__kind", "router__network", "router__noise", "router__gate"),
    *("router__n_shared_experts", "balance__kind", "sample_shape", "categorical_features"),
    "solver__kind",
)
_BAG = 8  # networks that find out for how many epochs a single one learns
# Experts of a table are of kinds that fail on different data. Each row is hidden from one of the
# five of a kind: fewer would see less of the table, more take longer.
_N_EXPERTS, _N_EXPERTS_ON_TABLES = 8, 15
_KINDS_ON_TABLES = ["deep", "piecewise", "linear"]
_FEWEST_HELD_OUT = 10  # samples that tell when to stop
# The router of a mixture of distributions learns twice as fast as the experts: the gradient of its
# scores is informative from the first steps on.
_ROUTER_LR_FACTOR = 2
# Experts that compute all samples learn features of all clusters unless the router is fast.
_PATCH_ROUTER_LR_FACTOR = 8
# Of the rates for tables: convolutions want smaller steps.
_IMAGE_LR_FACTOR = 0.4
# Samples in a step that make it worth while to copy a network for images into bf16: an estimate.
_WORTH_BF16 = 100
_LEAST_BATCH, _SMALL_BATCH = 32, 200
_MOST_UNEVEN = 4  # times the usual batch size, for samples of uneven weight
_COLUMNS_OF_FULL_RATE = 100  # of a table of more columns than rows
# Rows of a table beyond which batches grow in proportion, up to four times as large: steps of more
# rows take less time for each, and there are still so many that the loss is as low.
_MANY_ROWS, _MOST_GROWTH = 250_000, 4
# Of a schedule that ends at 0: about 3,000 steps for many samples, no fewer than 1,000 for few; on
# tables half of that for few, by larger rates.
_STEPS, _FEWEST_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 3000, 1000, 10, 150
# Of the rate on tables. Few rows are overfitted in few steps: those must be short.
_TABLE_LR_FACTOR, _BATCHES_OF_FULL_RATE = 2, 10


@dataclass(frozen=True)
class DataProfile:
    """What the data are, as far as it decides anything."""

    n_samples: int
    sample_shape: tuple[int, ...]
    dtype: np.dtype
    unevenness: float  # of the weights: Kish's factor, 1 if they are equal
    scale: float  # root mean square norm of patches, 1 for other samples
    is_table: bool  # a sample is a row of numbers
    is_image: bool  # a sample has channels, height and width
    is_wide: bool  # a table of more columns than rows

    @classmethod
    def of(cls, X, weight):
        """Describe samples X, (n_samples, *sample_shape), and their weights."""
        scale = _rms_norm(X, weight) if X.ndim == 3 else 1.0
        weight = weight.astype(np.float64)
        unevenness = np.mean(np.square(weight)) / np.mean(weight) ** 2
        n, is_table, is_image = X.shape[0], X.ndim == 2, X.ndim == 4
        is_wide = is_table and n < X.shape[1]
        return cls(n, X.shape[1:], X.dtype, unevenness, scale, is_table, is_image, is_wide)


@dataclass(frozen=True)
class ModelPlan:
    """What the model is, in the words of `build_mixture`."""

    kinds: tuple[tuple[ExpertSpec, dict[str, Any]], ...]  # of experts, and their options
    trunk: Any
    router: RouterSpec
    router_options: dict[str, Any]
    n_shared_experts: int
    balance: Any
    balance_weight: float
    kind_of: tuple[int, ...]  # the kind of each expert

    @property
    def expert(self):
        """The first kind."""
        return self.kinds[0][0]


@dataclass(frozen=True)
class TrainingPlan:
    """How the model is trained."""

    solver: SolverSpec
    solver_options: dict[str, Any]
    schedule: str
    learning_rate: float
    router_learning_rate: float
    auto_rates: dict[str, float]  # what both would be if they were "auto", by parameter
    expert_loss_weight: float
    holds_out: bool  # samples, to be tested by them
    n_out_of_bag: int  # experts that are not trained on a sample, and tested by it
    n_rehearsing: int  # networks of a bag that finds out for how many epochs a single one learns
    batch_size: int  # of this fit, which may have fewer samples
    largest_batch: int  # of training that goes on with more
    max_iter: int
    tol: float | None
    may_use_bf16: bool
    # Whether the router is learned after the experts, from rows that they did not see. A single
    # expert has none to learn, but may have a solver.
    learns_router: bool

    @property
    def depends_on_max_iter(self):
        """Whether the first epochs, or the patience, follow from how many there are to be."""
        stops = self.n_rehearsing > 0 or (self.n_out_of_bag > 0 and self.tol is not None)
        return self.schedule == "cosine" or stops


@dataclass(frozen=True)
class Plan:
    """All that decides a fit, with no "auto" left; `resolved` is what each "auto" became."""

    data: DataProfile
    standardize: bool
    is_linear: bool  # each expert in the columns of a table
    learns_scale: bool  # of a density around linear experts, which says how far these specialize
    devices: tuple[Any, Any]  # of small steps, and of large ones
    model: ModelPlan
    training: TrainingPlan
    architecture: dict[str, Any]  # what cannot change while it is trained further
    resolved: dict[str, Any]


def _is_auto(choice):
    return isinstance(choice, str) and choice == "auto"  # arrays are compared by entry


class _Choices(dict):
    """The parameters of an estimator, those of its parts by names such as "router__gate"."""

    def __init__(self, params, known):
        super().__init__(params)
        self.known = dict(known)
        self.resolved = {}

    def pick(self, name, default):
        """Return a parameter; if it is "auto", what is known or the default, and record that."""
        if not _is_auto(self[name]):
            return self[name]
        name = name.removesuffix("__kind")
        self.resolved[name] = self.known.get(name, default)
        return self.resolved[name]


def resolve(estimator, X, weight, head, accelerator=None, known=(), *, is_chunk=False):
    """Return the plan of a fit of `estimator` to samples X, (n_samples, *sample_shape).

    Parameters
    ----------
    estimator : estimator instance
        Its parameters are read.
    X : ndarray or sparse matrix
    weight : ndarray of shape (n_samples,)
    head : Head
        What its methods are decides which routers and schedules are possible.
    accelerator : str or None
        That of this machine, if it has one.
    known : dict, default=()
        What "auto" became before, in a training that goes on.
    is_chunk : bool, default=False
        Whether X is the first of many chunks. Kinds of experts are weighed when all rows are known.

    Raises
    ------
    ValueError
        If a name is unknown, or a parameter is set that has no meaning beside the others.
    TypeError
        If the head lacks a method that another parameter needs.
    """
    choices = _Choices(estimator.get_params(deep=True), known)
    data = DataProfile.of(X, weight)
    given = choices["router__kind"]
    router = None if _is_auto(given) else RouterSpec.of(given)
    # A whole network has layers of its own, and a router may look at samples, not at features.
    of_samples = router and router.router_class is PatchChoiceRouter
    shares = data.is_image and _is_auto(choices["expert"]) and not of_samples
    trunk = choices.pick("trunk", "cnn" if shares else None)
    if trunk is not None:
        TRUNKS.resolve(trunk)
    # What the experts read is a vector: a row of a table, or the features of a trunk.
    is_vector = data.is_table or trunk is not None
    ndim = 2 if is_vector else 1 + len(data.sample_shape)
    usual = next(name for name, spec in EXPERTS.items() if spec.ndim == ndim)  # the first of them
    mixes = is_vector and not choices["router__n_shared_experts"] and overrides(head, Head, "mix")
    is_pool = mixes and data.is_table and trunk is None and not is_chunk
    is_pool = is_pool and _learns_router(choices, router) and not _steps_by_expert(choices)
    n_experts = choices.pick("n_experts", _N_EXPERTS_ON_TABLES if is_pool else _N_EXPERTS)
    choices["n_experts"] = n_experts
    chosen = choices.pick("expert", _KINDS_ON_TABLES if is_pool and n_experts > 1 else usual)
    chosen = chosen if isinstance(chosen, list | tuple) else [chosen]
    if not chosen:
        raise ValueError("expert=[] names no kind of experts. Use 'auto', or a list of names.")
    specs = [ExpertSpec.of(EXPERTS.resolve(kind)) for kind in chosen][:n_experts]
    kinds = [spec for i, spec in enumerate(specs) if spec not in specs[:i]]
    kind_of = tuple(kinds.index(spec) for spec in islice(cycle(specs), n_experts))
    expert = kinds[0]
    _check_kinds(choices, kinds, data, trunk)
    usual = expert.solver or ("adamw" if data.is_image else "adam")
    solver = SolverSpec.of(SOLVERS.resolve(choices.pick("solver__kind", usual)))
    usual = choices.pick("router__kind", "soft" if mixes else "top1")
    router = router or RouterSpec.of(usual)
    standardize = choices.pick("standardize", data.is_table or data.is_image)
    if standardize and not (data.is_table or data.is_image):
        raise ValueError(
            "standardize=True is for tables, X of shape (n_samples, n_features), and images, "
            f"(n_samples, n_channels, height, width), got samples of shape {data.sample_shape}. "
            "Use standardize='auto': the steps are in proportion to the scale of patches."
        )
    model = _plan_model(choices, data, kinds, kind_of, trunk, router)
    is_linear = choices["activation"] in ("linear", ACTIVATIONS["linear"])
    is_linear |= all(kind.factory is LinearExpert for kind in kinds)
    training = _plan_training(choices, data, head, solver, model, is_linear)
    is_linear = is_linear and data.is_table and trunk is None
    is_linear = is_linear and expert.factory in (MLPExpert, LinearExpert)
    mixes = router.router_class.mixes_distributions and choices["n_experts"] > 1
    # A small step takes as long on a GPU as on one core: the time that Python takes for it.
    devices = choices.pick("device", ("cpu", accelerator or "cpu"))
    devices = devices if isinstance(devices, tuple) else (devices, devices)
    names = {full.removesuffix("__kind"): full for full in _ARCHITECTURE}
    for name in ("sample_shape", "categorical_features"):  # arrays are not equal or unequal
        choices[name] = np.asarray(choices[name], dtype=object).tolist()
    architecture = {n: choices.resolved.get(n, choices[full]) for n, full in names.items()}
    parts = devices, model, training, architecture, choices.resolved
    return Plan(data, standardize, is_linear, is_linear and mixes, *parts)


def _check_kinds(choices, kinds, data, trunk):
    """Refuse several kinds where the experts must be alike, and columns that there are not."""
    n_shared = choices["router__n_shared_experts"]
    if len(kinds) > 1 and n_shared:
        raise ValueError(
            f"router__n_shared_experts={n_shared!r} needs experts of one kind, got expert="
            f"{choices['expert']!r}. Use router__n_shared_experts=0, or a single expert."
        )
    if len(kinds) > 1 and _steps_by_expert(choices):
        raise ValueError(
            f"solver={choices['solver__kind']!r} needs experts of one kind, got expert="
            f"{choices['expert']!r}. Use solver='auto', or a single expert."
        )
    reads = [kind.name for kind in kinds if kind.columns == "piecewise"]
    is_encoded = data.is_table and trunk is None and choices["standardize"] is not False
    if reads and not is_encoded:
        raise ValueError(
            f"expert={reads[0]!r} reads the standardized columns of a table, got samples of shape "
            f"{data.sample_shape}, standardize={choices['standardize']!r}, trunk={trunk!r}. Use "
            "expert='mlp', or standardize='auto' and trunk=None."
        )


def _plan_model(choices, data, kinds, kind_of, trunk, router):
    """Return what the model is, with all parts of the router."""
    fixed, top_k = router.network, router.top_k
    network = choices.pick("router__network", "linear" if fixed is None else "auto")
    if fixed is not None and not _is_auto(network):
        raise ValueError(
            f"router={router}: its scores are fixed, got router__network={network!r}. Use "
            "router__network='auto'."
        )
    if router.router_class is PatchChoiceRouter:
        top_k = min(top_k, patches_shape(data.sample_shape)[0])
    top_k, gate = choices.pick("top_k", top_k), router.gate or router.gates[0]
    router = router.with_options(
        network=network if fixed is None else fixed,
        top_k=top_k,
        gate=choices.pick("router__gate", gate),
        noise=choices.pick("router__noise", router.noise),
    )
    init_std = 1.0  # of weights that make scores of about 1
    if trunk is None and len(data.sample_shape) == 2:  # the sum of unrelated patches
        init_std = 1 / (data.scale * np.sqrt(data.sample_shape[0]))
    elif trunk is None:
        init_std = 1 / np.sqrt(np.prod(data.sample_shape))
    return ModelPlan(
        kinds=tuple((kind, _expert_options(choices, data, kind, kinds)) for kind in kinds),
        trunk=trunk,
        router=router,
        # Noise is derived from the row for 2-D X, so that sample_weight=2 equals repeating the row.
        router_options={"hashed": data.is_table, "init_std": init_std},
        n_shared_experts=choices["router__n_shared_experts"],
        balance=choices["balance__kind"],
        balance_weight=choices["balance__weight"],
        kind_of=kind_of,
    )


def _plan_training(choices, data, head, solver, model, is_linear):
    """Return how the model is trained."""
    n_experts, router_class = choices["n_experts"], model.router.router_class
    is_regression = head.kind == "regression"
    # Only mixtures of distributions can tell what each expert makes of a sample.
    mixes = router_class.mixes_distributions and n_experts > 1
    batch_size = solver.batch_size or min(_SMALL_BATCH, max(_LEAST_BATCH, data.n_samples // 4))
    if is_regression:  # numbers hold noise, and many small steps overfit few samples
        batch_size = _SMALL_BATCH
    # The mean of n samples is as noisy as that of n / f of equal weight, with f = mean(w^2) /
    # mean(w)^2 (Kish 1965). More than four times as many would cost more than they are worth.
    if data.is_table and solver.schedule == "cosine":
        batch_size *= min(max(1, data.n_samples / _MANY_ROWS), _MOST_GROWTH)
    batch_size = round(batch_size * min(data.unevenness, _MOST_UNEVEN))
    batch_size = choices.pick("batch_size", batch_size)
    largest_batch = sys.maxsize if batch_size is None else batch_size
    batch_size = min(largest_batch, data.n_samples)
    schedule = choices.pick("solver__schedule", solver.schedule)
    if schedule == "residual":
        require_override(head, Head, "error", "solver__schedule='residual'")
        if not solver.per_expert:
            raise ValueError(
                "solver__schedule='residual' is made for solver='normalized_sgd', got solver="
                f"{choices['solver__kind']!r}. Use solver__schedule='constant'."
            )
    own_loss = _OWN_LOSS_ON_TABLES if data.is_table else _OWN_LOSS_BEHIND_TRUNK
    is_strong = (data.is_table or model.trunk is not None) and not is_linear
    own_loss = own_loss if mixes and is_strong else 0.0
    trains_router = is_strong and _trains_router(choices)
    if trains_router:
        own_loss = min(own_loss, _OWN_LOSS_BEHIND_TRUNK)
    own_loss = choices.pick("expert_loss_weight", own_loss)
    if trains_router and own_loss == 1:
        raise ValueError(
            "expert_loss_weight=1 leaves nothing to balance or router__learning_rate: the router "
            "is learned from out-of-bag rows when the experts are trained. Use 'auto'."
        )
    # One network has no out-of-bag samples, but a bag of such networks has.
    rehearses = n_experts == 1 and data.is_table and overrides(head, Head, "mix")
    # Specialized experts give poor out-of-bag estimates: they know their own region only. Samples
    # that are held out halve the log loss of tables then, also of 150 rows.
    n_held_out = choices["validation_fraction"] * data.n_samples
    enough = n_held_out >= max(_FEWEST_HELD_OUT, head.n_targets) and overrides(head, Head, "score")
    stop = data.is_table and n_experts > 1 and enough
    stop = "out_of_bag" if rehearses or (mixes and data.is_table and own_loss) else stop
    stop = choices.pick("early_stopping", stop)
    is_bagged = stop == "out_of_bag"
    if stop is True:
        require_override(head, Head, "score", "early_stopping=True")
    if not mixes and ((is_bagged and not rehearses) or own_loss):
        which = f"expert_loss_weight={own_loss!r}"
        raise ValueError(
            f"{'early_stopping=' + repr(stop) if is_bagged else which} needs a router that mixes "
            f"the distributions of several experts, got router={choices['router__kind']!r} and "
            f"n_experts={n_experts}. Use router='soft' and n_experts > 1, or leave it at 'auto'."
        )
    auto_rates = _auto_rates(choices, data, solver, model)
    rates = [choices.pick(name, auto) for name, auto in auto_rates.items()]
    for name, rate in zip(auto_rates, rates, strict=True):
        if rate > float(np.finfo(np.float32).max):
            raise ValueError(
                f"{name}={rate:.3g} is too large for float32. Lower it, or, if it was 'auto', "
                "multiply X by a constant."
            )
    # Numbers hold noise, and the loss of the training samples goes on falling.
    epochs = 150 if is_regression else 1000
    if schedule == "cosine":  # others end when patience does
        n_batches, share = -(-data.n_samples // batch_size), 2 if data.is_table else 1
        epochs = min(max(_FEWEST_EPOCHS, _STEPS // n_batches), _MOST_EPOCHS // share)
        epochs = max(epochs, -(-_FEWEST_STEPS // share // n_batches))
    max_iter = choices.pick("max_iter", epochs)
    ends_by_itself = (schedule == "cosine" and not stop) or is_regression
    few = data.n_samples <= _FEW_ROWS
    share = _OUT_OF_BAG_OF_FEW if few else _OUT_OF_BAG
    n_out_of_bag = min(max(1, round(share * n_experts)), n_experts - 1)
    hides_by_kind = len(model.kinds) > 1 and mixes and own_loss == 1 and data.is_table
    if hides_by_kind:  # from one expert of each kind
        n_out_of_bag = 1
    weighs_kinds = router_class is SoftRouter and own_loss == 1 and model.trunk is None
    weighs_kinds = weighs_kinds and NETWORKS.resolve(model.router.network) is LinearScores
    n_per_network = batch_size
    if model.trunk is None and router_class.sparse and n_experts > 1:
        n_per_network *= model.router.top_k / n_experts
    return TrainingPlan(
        solver=solver,
        solver_options=_solver_options(choices, solver),
        schedule=schedule,
        learning_rate=rates[0],
        router_learning_rate=rates[1],
        auto_rates=auto_rates,
        expert_loss_weight=own_loss,
        holds_out=stop is True,
        # Also without stopping, the router is learned from rows that experts did not see.
        n_out_of_bag=n_out_of_bag if is_bagged or (hides_by_kind and not stop) else 0,
        n_rehearsing=_BAG if is_bagged and rehearses else 0,
        batch_size=batch_size,
        largest_batch=largest_batch,
        max_iter=max_iter,
        tol=choices.pick("tol", None if ends_by_itself and not is_bagged else 1e-4),
        # Mixed precision copies every weight in each step, which takes longer than it saves if a
        # network sees few samples at a time.
        may_use_bf16=data.is_image and data.dtype != np.float64 and n_per_network >= _WORTH_BF16,
        learns_router=_has_pool(choices, data, model) and (n_experts == 1 or weighs_kinds),
    )


def _has_pool(choices, data, model):
    """Tell whether the experts read columns of their own, see `sklearn_moe.nn.Pool`."""
    is_encoded = data.is_table and choices["standardize"] is not False
    return len(model.kinds) > 1 or (is_encoded and model.expert.columns != "bounded")


def _steps_by_expert(choices):
    """Tell a given solver that takes steps of each expert by itself, of which all are alike."""
    given = choices["solver__kind"]
    return not _is_auto(given) and SolverSpec.of(SOLVERS.resolve(given)).per_expert


def _learns_router(choices, router):
    """Tell whether nothing is set that has the router of a table trained with its experts."""
    is_own = choices["activation"] in ("linear", ACTIVATIONS["linear"])
    is_own |= choices["standardize"] is False or _trains_router(choices)
    mixes = router is None or router.router_class.mixes_distributions
    return mixes and not is_own and choices["expert_loss_weight"] in ("auto", 1)


def _trains_router(choices):
    """Tell whether something is set that acts on a router only while it is trained in steps."""
    network = choices["router__network"]
    has_own_network = not _is_auto(network) and NETWORKS.resolve(network) is not LinearScores
    is_balanced = choices["balance__kind"] is not None
    return has_own_network or is_balanced or not _is_auto(choices["router__learning_rate"])


def _auto_rates(choices, data, solver, model):
    """Return the usual learning rates of experts and router, by parameter.

    Those of the patch expert are inversely proportional to the scale of X, those of its router to
    the square of it, so that multiplying X by a constant changes nothing.
    """
    rate, router_rate = solver.learning_rate, solver.router_learning_rate
    router_class, network = model.router.router_class, choices["router__network"]
    is_vector, ends_at_0 = data.is_table or model.trunk is not None, solver.schedule == "cosine"
    if solver.scale_by_input_norm:
        rate, router_rate = rate / data.scale, router_rate / data.scale**2
        if router_class is PatchChoiceRouter:
            router_rate *= _PATCH_ROUTER_LR_FACTOR
    if data.is_table and ends_at_0:
        # By batches: in a single one, a sample of weight 2 must be the same as two samples.
        n_batches = math.ceil(data.n_samples / _SMALL_BATCH)
        rate *= _TABLE_LR_FACTOR * min(1, math.sqrt(n_batches / _BATCHES_OF_FULL_RATE))
        if data.is_wide:  # a step moves the outputs in proportion to the columns
            rate *= min(1, _COLUMNS_OF_FULL_RATE / data.sample_shape[0])
    if data.is_image and ends_at_0:
        rate, router_rate = _IMAGE_LR_FACTOR * rate, _IMAGE_LR_FACTOR * router_rate
    adds_up = _is_auto(network) or NETWORKS.resolve(network) in (LinearScores, MLPScores)
    if router_class.mixes_distributions and is_vector and not solver.scale_by_input_norm:
        router_rate = _ROUTER_LR_FACTOR * rate
    elif data.is_image and model.trunk is None and adds_up:
        router_rate /= patches_shape(data.sample_shape)[0]  # the scores of so many squares
    return {"learning_rate_init": rate, "router__learning_rate": router_rate}


def _expert_options(choices, data, expert, kinds):
    """Return the options of the expert's factory; refuse those that it does not take."""
    options, name = {}, choices["expert"]

    def is_asked(argument):  # of this kind, unless it is for others
        return expert.takes(argument) or not any(kind.takes(argument) for kind in kinds)

    if (width := choices["expert_width"]) is not None and is_asked("width"):
        _require(expert.factory, "width", "expert_width", width, f"expert={name!r}", "None")
        options["width"] = width
    activation = choices["activation"]
    if not _is_auto(activation) or "activation" not in choices.resolved:  # that of the first kind
        activation = choices.pick("activation", expert.activation)
    else:
        activation = expert.activation
    if activation is not None and is_asked("activation"):
        asked = "activation", "activation", activation, f"expert={name!r}", "'auto'"
        _require(expert.factory, *asked)
        options["activation"] = activation
    if expert.init_scale is not None:
        options["init_scale"] = expert.init_scale(data.sample_shape, data.scale)
    return options


def _solver_options(choices, solver):
    """Return the options of the optimizer; refuse those that it does not take."""
    options = {}
    for name in ("momentum", "weight_decay"):
        value = choices[f"solver__{name}"]
        if value:
            kind = f"solver={choices['solver__kind']!r}"
            _require(solver.optimizer, name, f"solver__{name}", value, kind, "0")
        if accepts_argument(solver.optimizer, name):
            options[name] = value
    return options


def _require(function, argument, parameter, value, choice, unset):
    """Refuse a parameter that would be ignored."""
    if not accepts_argument(function, argument):
        raise ValueError(
            f"{parameter}={value!r} would be ignored: {choice} takes no {argument}. "
            f"Leave {parameter} at {unset}, or pass a callable with such an argument."
        )


@np.errstate(over="ignore", invalid="ignore")
def _rms_norm(X, weight):
    """Return the root mean square of the Euclidean norms of the patches, 1 if all are zero."""
    squares = np.empty(len(X), X.dtype)
    for rows in row_slices(X):
        flat = X[rows].reshape(-1, math.prod(X.shape[1:]))
        np.einsum("nf,nf->n", flat, flat, out=squares[rows])
    squares /= X.shape[1]
    norm = float(np.sqrt(np.average(squares, weights=weight)))
    refuse_overflow("X", norm)
    if norm == 0 and X.any():
        raise ValueError(
            f"X holds numbers so small that their squares are 0 in {X.dtype}. Multiply X by a "
            "constant."
        )
    return norm or 1.0
