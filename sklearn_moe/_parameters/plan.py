"""The plan of a fit, with no "auto" left: what the data are decides the model, and its training.

What each "auto" becomes stands in `request`, by the kind of data; what has no meaning beside other
parameters, with the reason and a way out, at the end of this file.
"""

import math
import sys
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import numpy as np

from .. import nn
from .._validation import accepts_argument, require_override
from ..optim import SOLVERS, SolverSpec
from .request import REQUESTS, Budget, DataProfile, budget_of

# What cannot change while a model is trained further: the weights belong to it, or the state of the
# solver, which a warm start begins anew.
_ARCHITECTURE = (
    *("n_experts", "expert", "activation", "expert_width", "trunk", "loss", "standardize", "top_k"),
    *("router__kind", "router__network", "router__noise", "router__gate"),
    *("router__n_shared_experts", "balance__kind", "sample_shape", "categorical_features"),
    "solver__kind",
)

# Share of the epochs before images have several networks. After half of them four CNNs are right
# for 71 % of digits, after three quarters for 76 %, as one is, after nine tenths for no more.
_UPCYCLING = 0.75


@dataclass(frozen=True)
class ModelPlan:
    """What the model is, in the words of `build_mixture`."""

    # The kind of each expert with its options, or a single kind for all.
    kinds: tuple[tuple[nn.ExpertSpec, dict[str, Any]], ...]
    # Of each kind of a pool; None: no pool.
    n_members: tuple[int, ...] | None
    # What finds the members of each kind of a pool, see `ExpertSpec.fitted_by`.
    fitted_by: tuple[str, ...]
    n_experts: int
    trunk: Any
    router: nn.RouterSpec
    router_options: dict[str, Any]
    n_shared_experts: int
    balance: Any
    balance_weight: float

    @property
    def expert(self):
        """The first kind."""
        return self.kinds[0][0]

    @property
    def expert_kinds(self):
        """The name of the kind of each expert, numbered where kinds of a pool have the same."""
        names = [kind.name for kind, _ in self.kinds]
        if len(names) == 1:
            names *= self.n_experts
        if self.n_members is not None:
            names = [
                name if names.count(name) == 1 else f"{name} {names[:k].count(name) + 1}"
                for k, name in enumerate(names)
            ]
        return np.array(names, dtype=object)


@dataclass(frozen=True)
class TrainingPlan:
    """How the model is trained."""

    solver: SolverSpec
    solver_options: dict[str, Any]
    schedule: str
    learning_rate: float
    router_learning_rate: float
    # What both rates would be if they were "auto", by parameter.
    auto_rates: dict[str, float]
    expert_loss_weight: float
    # Whether samples are held out that tell when to stop.
    holds_out: bool
    # Experts that are not trained on a sample, and tested by it; of a pool, of each kind.
    n_out_of_bag: int
    # Of this fit, which may have fewer samples, and of training that goes on with more.
    batch_size: int
    largest_batch: int
    max_iter: int
    # In which the first expert alone is trained.
    n_epochs_alone: int
    tol: float | None
    may_use_bf16: bool


@dataclass(frozen=True)
class Plan:
    """All that decides a fit; `resolved` has also what each "auto" became."""

    data: DataProfile
    standardize: bool
    # Whether each expert is linear in the columns of a table, and whether a density around such
    # experts has a scale to learn, which says how far they specialize.
    is_linear: bool
    learns_scale: bool
    # The device of small steps, and of large ones.
    devices: tuple[Any, Any]
    # Whether kinds of experts are fitted one after the other, and the router after them.
    is_pool: bool
    model: ModelPlan
    training: TrainingPlan
    # What cannot change while it is trained further.
    architecture: dict[str, Any]
    resolved: dict[str, Any]
    budget: Budget


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
        Whether X is the first of many chunks.

    Raises
    ------
    ValueError
        If a name is unknown, or a parameter is set that has no meaning beside the others.
    TypeError
        If the head lacks a method that another parameter needs.
    """
    data = DataProfile.of(X, weight)
    request = REQUESTS[X.ndim](estimator.get_params(deep=True), data, head, known, is_chunk)
    defaults, chosen = request.choose_model(), request.chosen
    request.choose("trunk", defaults.trunk)
    request.choose("standardize", defaults.standardize)
    # An unknown name is an error.
    nn.TRUNKS.resolve(chosen["trunk"])
    budget = budget_of(data.n_rows)
    model = _plan_model(request, defaults, budget)
    training = _plan_training(request)
    # A small step takes as long on a GPU as on one core: the time that Python takes for it.
    devices = request.choose("device", ("cpu", accelerator or "cpu"))
    if not isinstance(devices, tuple):
        devices = devices, devices
    # Arrays are not equal or unequal.
    for name in ("sample_shape", "categorical_features"):
        chosen[name] = np.asarray(chosen[name], dtype=object).tolist()
    is_linear = request.is_linear and data.is_table and chosen["trunk"] is None
    is_linear = is_linear and model.expert.factory in (nn.MLPExpert, nn.LinearExpert)
    return Plan(
        data=data,
        standardize=chosen["standardize"],
        is_linear=is_linear,
        learns_scale=is_linear and request.mixes and not request.is_pool,
        devices=devices,
        is_pool=request.is_pool,
        model=model,
        training=training,
        architecture={name.removesuffix("__kind"): chosen[name] for name in _ARCHITECTURE},
        resolved=request.resolved,
        budget=budget,
    )


def _choose_kinds(request, defaults):
    """Choose the number of experts, their kinds, and whether these are a pool; return the kinds.

    Several kinds on a table are a pool, of which n_experts are used; so is a single one.
    """
    chosen = request.choose("expert", defaults.expert)
    if not isinstance(chosen, list | tuple):
        chosen = [chosen]
    specs = [nn.ExpertSpec.of(nn.EXPERTS.resolve(kind)) for kind in chosen]
    if not specs:
        _refuse_kinds(request, "expert")
    needs_pool = any(spec.is_fitted for spec in specs)
    # These have a common table of columns.
    is_mixed = len({spec.columns for spec in specs}) > 1
    obstacle = request.why_no_pool()
    is_pool = obstacle is None and (len(specs) > 1 or needs_pool)
    if obstacle is not None and (needs_pool or (is_mixed and request.data.is_table)):
        _refuse_kinds(request, obstacle)
    default = len(specs) if is_pool else defaults.n_experts
    n_experts = request.choose("n_experts", default)
    if is_pool:
        if n_experts > len(specs):
            _refuse_kinds(request, "n_experts")
        specs = specs[:n_experts]
    if n_experts == 1:
        specs, is_pool = specs[:1], obstacle is None
    if not is_pool:
        specs = specs[:n_experts]
        specs = specs if len(specs) == 1 else [*islice(cycle(specs), n_experts)]
    if all(spec == specs[0] for spec in specs) and not is_pool:
        specs = specs[:1]
    request.n_experts, request.is_pool = n_experts, is_pool
    return specs


def _plan_model(request, defaults, budget):
    """Return what the model is, with all parts of the router."""
    data, shape = request.data, request.data.sample_shape
    kinds = _choose_kinds(request, defaults)
    n_experts = request.n_experts
    chosen = request.choose("router__kind", defaults.router)
    router = request.router or nn.RouterSpec.of(chosen)
    request.trunk, request.router = request.chosen["trunk"], router
    request.reads_vector = data.is_table or request.trunk is not None
    request.mixes = router.router_class.mixes_distributions and n_experts > 1
    _refuse_model(request, kinds, request.chosen["standardize"])
    usual = kinds[0].solver or ("adamw" if data.is_image else "adam")
    if request.is_pool:
        usual = "adamw"
    request.solver = SolverSpec.of(SOLVERS.resolve(request.choose("solver__kind", usual)))
    request.schedule = request.choose("solver__schedule", request.solver.schedule)
    request.is_linear = request.chosen["activation"] in ("linear", nn.ACTIVATIONS["linear"])
    request.is_linear |= all(kind.factory is nn.LinearExpert for kind in kinds)

    is_whole = data.is_image and request.trunk is None and len(kinds) == 1
    starts_alone = is_whole and kinds[0].ndim == 4 and router.router_class.sparse and n_experts > 1
    has_known_end = request.schedule == "cosine" and not request.get("early_stopping", False)
    upcycling = _UPCYCLING if starts_alone and has_known_end else 0.0
    upcycling = request.choose("router__upcycling", upcycling)
    if upcycling and n_experts > 1 and not is_whole:
        raise ValueError(
            f"router__upcycling={upcycling!r} is for images, X of shape (n_samples, n_channels, "
            "height, width), whose experts are whole networks of one kind, got samples of shape "
            f"{shape}, expert={request.given['expert']!r}, trunk={request.trunk!r}. "
            "Use router__upcycling='auto'."
        )
    gate = router.gate or router.router_class.gates[0]
    if upcycling and not router.gate and "relative" in router.router_class.gates:
        # Each of the copies has the output that the one had.
        gate = "relative"

    # A router whose scores are fixed has a network of its own.
    network = request.choose("router__network", "auto" if router.network else "linear")
    request.router = replace(
        router,
        network=router.network or network,
        top_k=request.choose("top_k", router.top_k),
        gate=request.choose("router__gate", gate),
        noise=request.choose("router__noise", router.noise),
    )
    # Of weights that make scores of about 1; patches are unrelated, and their scores added up.
    init_std = 1.0
    if request.trunk is None:
        n_numbers = shape[0] if len(shape) == 2 else np.prod(shape)
        init_std = 1 / (data.scale * np.sqrt(n_numbers))
    # A solver knows plain outputs only.
    lines = "line" if request.head.has_plain_outputs else "steps"
    fitted_by = tuple(lines if s.fitted_by == "line" else s.fitted_by for s in kinds)
    n_members = None
    if request.is_pool:
        n_members = tuple(1 if how == "line" else budget.n_members for how in fitted_by)
    return ModelPlan(
        kinds=tuple((kind, _expert_options(request, kind, kinds)) for kind in kinds),
        n_members=n_members,
        fitted_by=fitted_by,
        n_experts=n_experts,
        trunk=request.trunk,
        router=request.router,
        # Noise is derived from the row for 2-D X, so that sample_weight=2 equals repeating the row.
        router_options={"hashed": data.is_table, "init_std": init_std},
        n_shared_experts=request.chosen["router__n_shared_experts"],
        balance=request.chosen["balance__kind"],
        balance_weight=request.chosen["balance__weight"],
    )


def _plan_training(request):
    """Return how the model is trained."""
    data, solver, head = request.data, request.solver, request.head
    batch_size = request.choose("batch_size", _usual_batch(request))
    batch_size = min(batch_size or data.n_samples, data.n_samples)
    own_loss = request.choose("expert_loss_weight", request.own_loss)
    stop = request.choose("early_stopping", request.early_stopping)
    rate, router_rate = request.rates()
    if request.reads_vector and request.router.router_class.mixes_distributions:
        # The router of a mixture of distributions learns twice as fast as the experts: the gradient
        # of its scores is informative from the first steps on.
        router_rate = router_rate if solver.scale_by_input_norm else 2 * rate
    auto_rates = {"learning_rate_init": rate, "router__learning_rate": router_rate}
    for name, auto in auto_rates.items():
        request.choose(name, auto)
    _refuse_training(request, auto_rates)
    max_iter = request.choose("max_iter", _usual_epochs(request, batch_size))

    is_bagged = stop == "out_of_bag"
    # Without stopping, only the router of a pool learns from rows that the experts did not see.
    hides = is_bagged or (request.is_pool and not stop and request.n_experts > 1)
    n_out_of_bag = 0
    if hides and request.is_pool:
        n_out_of_bag = 1
    elif hides:
        # Of up to 500 samples one expert says too little about the others.
        share = 0.25 if data.n_samples <= 500 else 0.1
        n_out_of_bag = min(max(1, round(share * request.n_experts)), request.n_experts - 1)
    ends_by_itself = request.schedule == "cosine" and not stop
    never_stops = (ends_by_itself or head.kind == "regression") and not is_bagged
    return TrainingPlan(
        solver=solver,
        solver_options=_solver_options(request),
        schedule=request.schedule,
        learning_rate=request.chosen["learning_rate_init"],
        router_learning_rate=request.chosen["router__learning_rate"],
        auto_rates=auto_rates,
        expert_loss_weight=own_loss,
        holds_out=stop is True,
        n_out_of_bag=n_out_of_bag,
        batch_size=batch_size,
        largest_batch=request.chosen["batch_size"] or sys.maxsize,
        max_iter=max_iter,
        n_epochs_alone=round(request.chosen["router__upcycling"] * max_iter),
        tol=request.choose("tol", None if never_stops else 1e-4),
        # Mixed precision copies every weight in each step: with few images in one this takes
        # longer than it saves. Of 128 images it saves a quarter of the time of four networks, and a
        # third of that of eight.
        may_use_bf16=data.is_image and data.dtype != np.float64 and batch_size >= 100,
    )


def _usual_batch(request):
    """Return the size of a batch: that of the solver, times its growth."""
    data, size = request.data, request.solver.batch_size
    if request.head.kind == "regression":
        # Numbers hold noise, and many small steps overfit few samples.
        size = 200
    elif size is None:
        size = min(200, max(32, data.n_samples // 4))
    # The mean of n samples is as noisy as that of n / f of equal weight, with f = mean(w^2) /
    # mean(w)^2 (Kish 1965). Beyond four times that costs more than it is worth.
    return round(size * request.growth * min(data.unevenness, 4))


def _usual_epochs(request, batch_size):
    """Return the number of epochs; with other schedules than "cosine" the loss ends the fit.

    Steps of batches that have grown count as so many.
    """
    if request.schedule == "cosine":
        n_batches = math.ceil(request.growth * request.data.n_samples / batch_size)
        epochs = min(max(10, 3000 // n_batches), request.most_epochs)
        return max(epochs, -(-request.fewest_steps // n_batches))
    # The loss of numbers goes on falling, because they hold noise.
    return 150 if request.head.kind == "regression" else 1000


def _expert_options(request, expert, kinds):
    """Return the options of the expert's factory; refuse those that it does not take."""
    activation = expert.activation
    if expert is kinds[0] or not request.is_auto("activation"):
        activation = request.choose("activation", activation)
    asked = {
        "width": ("expert_width", request.chosen["expert_width"], "None"),
        "activation": ("activation", activation, "'auto'"),
    }
    options, choice = {}, f"expert={request.given['expert']!r}"
    for argument, (parameter, value, unset) in asked.items():
        if value is None:
            continue
        # What only some kinds take is meant for them.
        takers = [kind for kind in kinds if accepts_argument(kind.factory, argument)]
        if not takers:
            _refuse_ignored(argument, parameter, value, choice, unset)
        if expert in takers:
            options[argument] = value
    if expert.init_scale is not None:
        options["init_scale"] = expert.init_scale(request.data.sample_shape, request.data.scale)
    return options


def _solver_options(request):
    """Return the options of the optimizer; refuse those that it does not take."""
    options = {}
    choice = f"solver={request.given['solver__kind']!r}"
    for name in ("momentum", "weight_decay"):
        value = request.chosen[f"solver__{name}"]
        if accepts_argument(request.solver.optimizer, name):
            options[name] = value
        elif value:
            _refuse_ignored(name, f"solver__{name}", value, choice, "0")
    return options


# -- what has no meaning beside other parameters -------------------------------------------------

_REMEDIES = {
    "X": "Kinds that are estimators, or read columns of their own, are for tables, X of shape "
    "(n_samples, n_features).",
    "n_experts": "Each kind is one expert: leave n_experts at 'auto', or use fewer.",
}


def _refuse_kinds(request, obstacle):
    """Refuse kinds of experts that would have to be a pool, by what keeps them from being one."""
    if not request.given["expert"]:
        raise ValueError("expert=[] names no kind of experts. Use 'auto', or a list of names.")
    seen = {
        "X": f"samples of shape {request.data.sample_shape}",
        "n_experts": f"n_experts={request.given['n_experts']!r}",
    }.get(obstacle, f"{obstacle} that keeps them from being weighed so")
    remedy = _REMEDIES.get(obstacle, f"Leave {obstacle} at its default, or use a single kind.")
    raise ValueError(
        f"expert={request.given['expert']!r} names kinds of experts that are fitted one after the "
        f"other, and weighed by a router that is learned after them, got {seen}. {remedy}"
    )


def _refuse_model(request, kinds, standardize):
    """Refuse experts that do not suit the other parts, columns that there are not, and networks.

    `kinds` are the specs of the experts.
    """
    given, shape = request.given, request.data.sample_shape
    needs = f"needs experts of one kind, got expert={given['expert']!r}. Use"
    if len(kinds) > 1 and (n_shared := given["router__n_shared_experts"]):
        raise ValueError(
            f"router__n_shared_experts={n_shared!r} {needs} router__n_shared_experts=0, or a "
            "single expert."
        )
    if len(kinds) > 1 and request.steps_by_expert:
        raise ValueError(
            f"solver={given['solver__kind']!r} {needs} solver='auto', or a single expert."
        )
    is_encoded = request.data.is_table and request.trunk is None and standardize
    reads = [kind.name for kind in kinds if kind.columns == "piecewise"]
    if reads and not is_encoded:
        raise ValueError(
            f"expert={reads[0]!r} reads the standardized columns of a table, got samples of shape "
            f"{shape}, standardize={given['standardize']!r}, trunk={request.trunk!r}. Use "
            "expert='mlp', or standardize='auto' and trunk=None."
        )
    if standardize and len(shape) == 2:
        raise ValueError(
            "standardize=True is for tables, X of shape (n_samples, n_features), and images, "
            f"(n_samples, n_channels, height, width), got samples of shape {shape}. "
            "Use standardize='auto': the steps are in proportion to the scale of patches."
        )
    if request.router.network is not None and not request.is_auto("router__network"):
        raise ValueError(
            f"router={request.router}: its scores are fixed, got router__network="
            f"{given['router__network']!r}. Use router__network='auto'."
        )


def _refuse_training(request, auto_rates):
    """Refuse losses and schedules that the model cannot have, and rates that weights cannot."""
    given, chosen, head = request.given, request.chosen, request.head
    own_loss = chosen["expert_loss_weight"]
    if request.schedule == "residual":
        require_override(head, nn.Head, "error", "solver__schedule='residual'")
        if not request.solver.per_expert:
            raise ValueError(
                "solver__schedule='residual' is made for solver='normalized_sgd', got solver="
                f"{given['solver__kind']!r}. Use solver__schedule='constant'."
            )
    if own_loss == 1 and request.reads_vector and not request.is_linear and request.trains_router:
        raise ValueError(
            "expert_loss_weight=1 leaves nothing to balance or router__learning_rate: the router "
            "is learned from out-of-bag rows when the experts are trained. Use 'auto'."
        )
    if chosen["early_stopping"] is True:
        require_override(head, nn.Head, "score", "early_stopping=True")
    needs_mixture = None
    if own_loss and not request.is_pool:
        needs_mixture = f"expert_loss_weight={own_loss!r}"
    if chosen["early_stopping"] == "out_of_bag" and not request.is_pool:
        needs_mixture = "early_stopping='out_of_bag'"
    if needs_mixture and not request.mixes:
        raise ValueError(
            f"{needs_mixture} needs a router that mixes the distributions of several experts, got "
            f"router={given['router__kind']!r} and n_experts={chosen['n_experts']}. Use "
            "router='soft' and n_experts > 1, or leave it at 'auto'."
        )
    for name in auto_rates:
        if chosen[name] > float(np.finfo(np.float32).max):
            raise ValueError(
                f"{name}={chosen[name]:.3g} is too large for float32. Lower it, or, if it was "
                "'auto', multiply X by a constant."
            )


def _refuse_ignored(argument, parameter, value, choice, unset):
    """Refuse an argument that a factory does not take."""
    raise ValueError(
        f"{parameter}={value!r} would be ignored: {choice} takes no {argument}. "
        f"Leave {parameter} at {unset}, or pass a callable with such an argument."
    )
