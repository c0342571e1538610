"""The plan of a fit, with no "auto" left: what the data are decides the model, and its training.

What each "auto" becomes stands on one page for each kind of data: `table`, `patches` and `images`;
what has no meaning beside other parameters, with the reason and a way out, at the end of this one.
"""

import math
import sys
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import numpy as np

from .. import nn
from .._data.indexing import row_slices
from .._registry import accepts_argument, overrides, require_override
from .._validation import refuse_overflow
from ..nn.router_parts import LinearScores, patches_shape
from ..nn.routers import PatchChoiceRouter
from ..optim import SOLVERS, SolverSpec
from . import images, patches, table

# The page of X by its axes.
_PAGES = {2: table, 3: patches, 4: images}
# What cannot change while a model is trained further: the weights belong to it, or the state of the
# solver, which a warm start begins anew.
_ARCHITECTURE = (
    *("n_experts", "expert", "activation", "expert_width", "trunk", "loss", "standardize", "top_k"),
    *("router__kind", "router__network", "router__noise", "router__gate"),
    *("router__n_shared_experts", "balance__kind", "sample_shape", "categorical_features"),
    "solver__kind",
)
# A batch is a quarter of few samples, within these bounds.
_LEAST_BATCH, _USUAL_BATCH = 32, 200
# Batches of samples of uneven weight are larger, but no more than so many times: it would cost more
# than it is worth.
_MOST_UNEVEN = 4
# The router of a mixture of distributions learns twice as fast as the experts: the gradient of its
# scores is informative from the first steps on.
_ROUTER_LR_FACTOR = 2
# Epochs with the schedule "cosine": as many as make so many steps, and no fewer than ten.
_STEPS, _FEWEST_EPOCHS = 3000, 10
# Epochs at most where the loss decides when to stop. The loss of numbers goes on falling, because
# they hold noise.
_MOST_EPOCHS, _MOST_EPOCHS_OF_NUMBERS = 1000, 150
# Share of the experts that are out-of-bag for a sample. With up to 500 samples one expert says too
# little about the others.
_OUT_OF_BAG, _OUT_OF_BAG_OF_FEW, _FEW_SAMPLES = 0.1, 0.25, 500
# Networks of a bag that finds out for how many epochs a single one learns.
_N_REHEARSAL_NETWORKS = 8


@dataclass(frozen=True)
class DataProfile:
    """What the data are, as far as it decides anything."""

    n_samples: int
    sample_shape: tuple[int, ...]
    dtype: np.dtype
    # Kish's factor of the weights, 1 if they are equal.
    unevenness: float
    # Root mean square norm of patches, 1 for other samples.
    scale: float
    is_table: bool
    is_image: bool

    @classmethod
    def of(cls, X, weight):
        """Describe samples X, (n_samples, *sample_shape), and their weights."""
        scale = _rms_norm(X, weight) if X.ndim == 3 else 1.0
        weight = weight.astype(np.float64)
        unevenness = np.mean(np.square(weight)) / np.mean(weight) ** 2
        is_table, is_image = X.ndim == 2, X.ndim == 4
        return cls(X.shape[0], X.shape[1:], X.dtype, unevenness, scale, is_table, is_image)


@dataclass(frozen=True)
class ModelPlan:
    """What the model is, in the words of `build_mixture`."""

    # The kinds of experts with their options, and the kind of each expert.
    kinds: tuple[tuple[nn.ExpertSpec, dict[str, Any]], ...]
    kind_of: tuple[int, ...]
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
    # Experts that are not trained on a sample, and tested by it.
    n_out_of_bag: int
    n_rehearsing: int
    # Of this fit, which may have fewer samples, and of training that goes on with more.
    batch_size: int
    largest_batch: int
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
    """All that decides a fit; `resolved` has also what each "auto" became."""

    data: DataProfile
    standardize: bool
    # Whether each expert is linear in the columns of a table, and whether a density around such
    # experts has a scale to learn, which says how far they specialize.
    is_linear: bool
    learns_scale: bool
    # The device of small steps, and of large ones.
    devices: tuple[Any, Any]
    model: ModelPlan
    training: TrainingPlan
    # What cannot change while it is trained further.
    architecture: dict[str, Any]
    resolved: dict[str, Any]
    budget: table.Budget


class Choices(dict):
    """A plan in the making: the parameters, each as it was given until it is picked.

    Parameters of parts have names such as "router__gate".

    Attributes
    ----------
    can_mix : bool
        Whether the experts' distributions can be mixed, and nothing has to be added.
    trains_router : bool
        Whether something is set that acts on a router only while it is trained in steps.
    steps_by_expert : bool
        Whether a solver is set that takes steps of each expert by itself, of which all are alike.
    budget : Budget
        What a fit of a table takes time for.
    reads_vector, is_encoded : bool
        Whether the experts read a row of a table, or the features of a trunk; and whether they read
        standardized columns. These and what follows are known when the model is chosen.
    mixes : bool
        Whether the distributions of several experts are mixed: each has a loss of its own.
    rehearses : bool
        Whether a bag may find out for how many epochs a single network learns.
    is_linear : bool
        Whether all experts are linear.
    """

    def __init__(self, params, known, data, head, is_chunk):
        super().__init__(params)
        self.given, self.known, self.resolved = params, dict(known), {}
        self.data, self.head, self.is_chunk = data, head, is_chunk
        self.budget = table.budget_of(data.n_samples)
        self.can_mix = not self["router__n_shared_experts"] and overrides(head, nn.Head, "mix")
        self.trains_router = self["balance__kind"] is not None
        self.trains_router |= not self.is_auto("router__learning_rate")
        self.router = None
        if not self.is_auto("router__kind"):
            self.router = nn.RouterSpec.of(self["router__kind"])
        if not self.is_auto("router__network"):
            network = nn.NETWORKS.resolve(self["router__network"])
            self.trains_router |= network is not LinearScores
        self.steps_by_expert = False
        if not self.is_auto("solver__kind"):
            solver = SolverSpec.of(SOLVERS.resolve(self["solver__kind"]))
            self.steps_by_expert = solver.per_expert

    def is_auto(self, name):
        """Tell whether a parameter is to be chosen."""
        # Arrays are compared by entry.
        return isinstance(self.given[name], str) and self.given[name] == "auto"

    def pick(self, name, default):
        """Return and record a parameter; if it is "auto", what is known or the default."""
        short = name.removesuffix("__kind")
        if self.is_auto(name):
            self[name] = self.known.get(short, default)
        self.resolved[short] = self[name]
        return self[name]

    def rates_of_solver(self):
        """Return the learning rates of experts and router, for samples of this scale.

        If they are in proportion to it, multiplying X by a constant changes nothing.
        """
        rate, router_rate = self.solver.learning_rate, self.solver.router_learning_rate
        if self.solver.scale_by_input_norm:
            return rate / self.data.scale, router_rate / self.data.scale**2
        return rate, router_rate

    def pick_batch_size(self, growth=1):
        """Pick the size of a batch: that of the solver, times `growth`."""
        size = self.solver.batch_size
        if self.head.kind == "regression":
            # Numbers hold noise, and many small steps overfit few samples.
            size = _USUAL_BATCH
        elif size is None:
            size = min(_USUAL_BATCH, max(_LEAST_BATCH, self.data.n_samples // 4))
        # The mean of n samples is as noisy as that of n / f of equal weight, with f = mean(w^2) /
        # mean(w)^2 (Kish 1965).
        size = round(size * growth * min(self.data.unevenness, _MOST_UNEVEN))
        size = self.pick("batch_size", size)
        self.batch_size = min(size or self.data.n_samples, self.data.n_samples)

    def pick_own_loss(self, share):
        """Pick the share of the losses of single experts, 0 where the mixture has none of them.

        Linear experts learn a part of the samples only: the mixture decides which.
        """
        if not self.reads_vector or not self.mixes or self.is_linear:
            share = 0.0
        return self.pick("expert_loss_weight", share)

    def pick_rates(self, rate, router_rate):
        """Pick the learning rates; the router of a mixture follows the experts."""
        follows = self.reads_vector and self.router.router_class.mixes_distributions
        if follows and not self.solver.scale_by_input_norm:
            router_rate = _ROUTER_LR_FACTOR * rate
        self.auto_rates = {"learning_rate_init": rate, "router__learning_rate": router_rate}
        for name, auto in self.auto_rates.items():
            self.pick(name, auto)

    def pick_max_iter(self, fewest_steps, most_epochs, growth=1):
        """Pick the number of epochs; with other schedules than "cosine" the loss ends the fit.

        Steps of batches that have grown count as so many.
        """
        epochs = _MOST_EPOCHS
        if self.head.kind == "regression":
            epochs = _MOST_EPOCHS_OF_NUMBERS
        if self["solver__schedule"] == "cosine":
            n_batches = math.ceil(growth * self.data.n_samples / self.batch_size)
            epochs = min(max(_FEWEST_EPOCHS, _STEPS // n_batches), most_epochs)
            epochs = max(epochs, -(-fewest_steps // n_batches))
        self.pick("max_iter", epochs)


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
    data, page = DataProfile.of(X, weight), _PAGES[X.ndim]
    choices = Choices(estimator.get_params(deep=True), known, data, head, is_chunk)
    page.choose_model(choices)
    # An unknown name is an error.
    nn.TRUNKS.resolve(choices["trunk"])
    model = _plan_model(choices)
    training = _plan_training(choices, model, page)
    # A small step takes as long on a GPU as on one core: the time that Python takes for it.
    devices = choices.pick("device", ("cpu", accelerator or "cpu"))
    if not isinstance(devices, tuple):
        devices = devices, devices
    # Arrays are not equal or unequal.
    for name in ("sample_shape", "categorical_features"):
        choices[name] = np.asarray(choices[name], dtype=object).tolist()
    is_linear = choices.is_linear and data.is_table and choices["trunk"] is None
    is_linear = is_linear and model.expert.factory in (nn.MLPExpert, nn.LinearExpert)
    return Plan(
        data=data,
        standardize=choices["standardize"],
        is_linear=is_linear,
        learns_scale=is_linear and choices.mixes,
        devices=devices,
        model=model,
        training=training,
        architecture={name.removesuffix("__kind"): choices[name] for name in _ARCHITECTURE},
        resolved=choices.resolved,
        budget=choices.budget,
    )


def _plan_model(choices):
    """Return what the model is, with all parts of the router."""
    data, shape, n_experts = choices.data, choices.data.sample_shape, choices["n_experts"]
    chosen = choices["expert"]
    if not isinstance(chosen, list | tuple):
        chosen = [chosen]
    specs = [nn.ExpertSpec.of(nn.EXPERTS.resolve(kind)) for kind in chosen][:n_experts]
    kinds = [spec for i, spec in enumerate(specs) if spec not in specs[:i]]
    router = choices.router = choices.router or nn.RouterSpec.of(choices["router__kind"])
    choices.reads_vector = data.is_table or choices["trunk"] is not None
    choices.is_encoded = data.is_table and choices["trunk"] is None and choices["standardize"]
    choices.mixes = router.router_class.mixes_distributions and n_experts > 1
    choices.rehearses = n_experts == 1 and data.is_table and overrides(choices.head, nn.Head, "mix")
    _refuse_model(choices, kinds)
    usual = kinds[0].solver or ("adamw" if data.is_image else "adam")
    choices.solver = SolverSpec.of(SOLVERS.resolve(choices.pick("solver__kind", usual)))
    choices.is_linear = choices["activation"] in ("linear", nn.ACTIVATIONS["linear"])
    choices.is_linear |= all(kind.factory is nn.LinearExpert for kind in kinds)

    # A router whose scores are fixed has a network of its own.
    network = choices.pick("router__network", "auto" if router.network else "linear")
    top_k = router.top_k
    if router.router_class is PatchChoiceRouter:
        top_k = min(top_k, patches_shape(shape)[0])
    choices.router = replace(
        router,
        network=router.network or network,
        top_k=choices.pick("top_k", top_k),
        gate=choices.pick("router__gate", router.gate or router.router_class.gates[0]),
        noise=choices.pick("router__noise", router.noise),
    )
    # Of weights that make scores of about 1; patches are unrelated, and their scores added up.
    init_std = 1.0
    if choices["trunk"] is None:
        n_numbers = shape[0] if len(shape) == 2 else np.prod(shape)
        init_std = 1 / (data.scale * np.sqrt(n_numbers))
    return ModelPlan(
        kinds=tuple((kind, _expert_options(choices, kind, kinds)) for kind in kinds),
        kind_of=tuple(kinds.index(spec) for spec in islice(cycle(specs), n_experts)),
        trunk=choices["trunk"],
        router=choices.router,
        # Noise is derived from the row for 2-D X, so that sample_weight=2 equals repeating the row.
        router_options={"hashed": data.is_table, "init_std": init_std},
        n_shared_experts=choices["router__n_shared_experts"],
        balance=choices["balance__kind"],
        balance_weight=choices["balance__weight"],
    )


def _plan_training(choices, model, page):
    """Return how the model is trained."""
    data, solver, n_experts = choices.data, choices.solver, choices["n_experts"]
    choices.pick("solver__schedule", solver.schedule)
    page.choose_training(choices)
    _refuse_training(choices)
    own_loss, stop = choices["expert_loss_weight"], choices["early_stopping"]
    is_bagged = stop == "out_of_bag"
    tol = 1e-4
    ends_by_itself = choices["solver__schedule"] == "cosine" and not stop
    if (ends_by_itself or choices.head.kind == "regression") and not is_bagged:
        tol = None

    is_ensemble = choices.mixes and own_loss == 1
    is_pool = len(model.kinds) > 1 or (choices.is_encoded and model.expert.columns != "bounded")
    weighs_kinds = (
        is_ensemble and choices.router.router_class is nn.SoftRouter and not choices["trunk"]
    )
    weighs_kinds &= nn.NETWORKS.resolve(choices.router.network) is LinearScores
    share = _OUT_OF_BAG
    if data.n_samples <= _FEW_SAMPLES:
        share = _OUT_OF_BAG_OF_FEW
    n_out_of_bag = min(max(1, round(share * n_experts)), n_experts - 1)
    hides_by_kind = is_ensemble and len(model.kinds) > 1 and data.is_table
    if hides_by_kind:
        # Of each kind.
        n_out_of_bag = 1
    if not is_bagged and (stop or not hides_by_kind):
        # Without stopping, only a router is learned from rows that the experts did not see.
        n_out_of_bag = 0
    return TrainingPlan(
        solver=solver,
        solver_options=_solver_options(choices),
        schedule=choices["solver__schedule"],
        learning_rate=choices["learning_rate_init"],
        router_learning_rate=choices["router__learning_rate"],
        auto_rates=choices.auto_rates,
        expert_loss_weight=own_loss,
        holds_out=stop is True,
        n_out_of_bag=n_out_of_bag,
        n_rehearsing=_N_REHEARSAL_NETWORKS if is_bagged and choices.rehearses else 0,
        batch_size=choices.batch_size,
        largest_batch=choices["batch_size"] or sys.maxsize,
        max_iter=choices["max_iter"],
        tol=choices.pick("tol", tol),
        may_use_bf16=data.is_image and images.may_use_bf16(choices),
        learns_router=is_pool and (n_experts == 1 or weighs_kinds),
    )


def _expert_options(choices, expert, kinds):
    """Return the options of the expert's factory; refuse those that it does not take."""
    activation = expert.activation
    if expert is kinds[0] or not choices.is_auto("activation"):
        activation = choices.pick("activation", activation)
    asked = {
        "width": ("expert_width", choices["expert_width"], "None"),
        "activation": ("activation", activation, "'auto'"),
    }
    options, choice = {}, f"expert={choices.given['expert']!r}"
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
        options["init_scale"] = expert.init_scale(choices.data.sample_shape, choices.data.scale)
    return options


def _solver_options(choices):
    """Return the options of the optimizer; refuse those that it does not take."""
    options = {}
    choice = f"solver={choices.given['solver__kind']!r}"
    for name in ("momentum", "weight_decay"):
        value = choices[f"solver__{name}"]
        if accepts_argument(choices.solver.optimizer, name):
            options[name] = value
        elif value:
            _refuse_ignored(name, f"solver__{name}", value, choice, "0")
    return options


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


# -- what has no meaning beside other parameters -------------------------------------------------


def _refuse_model(choices, kinds):
    """Refuse experts that do not suit the other parts, columns that there are not, and networks.

    `kinds` are the specs of the experts.
    """
    given, shape = choices.given, choices.data.sample_shape
    if not kinds:
        raise ValueError("expert=[] names no kind of experts. Use 'auto', or a list of names.")
    needs = f"needs experts of one kind, got expert={given['expert']!r}. Use"
    if len(kinds) > 1 and (n_shared := given["router__n_shared_experts"]):
        raise ValueError(
            f"router__n_shared_experts={n_shared!r} {needs} router__n_shared_experts=0, or a "
            "single expert."
        )
    if len(kinds) > 1 and choices.steps_by_expert:
        raise ValueError(
            f"solver={given['solver__kind']!r} {needs} solver='auto', or a single expert."
        )
    reads = [kind.name for kind in kinds if kind.columns == "piecewise"]
    if reads and not choices.is_encoded:
        raise ValueError(
            f"expert={reads[0]!r} reads the standardized columns of a table, got samples of shape "
            f"{shape}, standardize={given['standardize']!r}, trunk={choices['trunk']!r}. Use "
            "expert='mlp', or standardize='auto' and trunk=None."
        )
    if choices["standardize"] and len(shape) == 2:
        raise ValueError(
            "standardize=True is for tables, X of shape (n_samples, n_features), and images, "
            f"(n_samples, n_channels, height, width), got samples of shape {shape}. "
            "Use standardize='auto': the steps are in proportion to the scale of patches."
        )
    if choices.router.network is not None and not choices.is_auto("router__network"):
        raise ValueError(
            f"router={choices.router}: its scores are fixed, got router__network="
            f"{given['router__network']!r}. Use router__network='auto'."
        )


def _refuse_training(choices):
    """Refuse losses and schedules that the model cannot have, and rates that weights cannot."""
    given, head, own_loss = choices.given, choices.head, choices["expert_loss_weight"]
    if choices["solver__schedule"] == "residual":
        require_override(head, nn.Head, "error", "solver__schedule='residual'")
        if not choices.solver.per_expert:
            raise ValueError(
                "solver__schedule='residual' is made for solver='normalized_sgd', got solver="
                f"{given['solver__kind']!r}. Use solver__schedule='constant'."
            )
    if own_loss == 1 and choices.reads_vector and not choices.is_linear and choices.trains_router:
        raise ValueError(
            "expert_loss_weight=1 leaves nothing to balance or router__learning_rate: the router "
            "is learned from out-of-bag rows when the experts are trained. Use 'auto'."
        )
    if choices["early_stopping"] is True:
        require_override(head, nn.Head, "score", "early_stopping=True")
    needs_mixture = None
    if own_loss:
        needs_mixture = f"expert_loss_weight={own_loss!r}"
    if choices["early_stopping"] == "out_of_bag" and not choices.rehearses:
        needs_mixture = "early_stopping='out_of_bag'"
    if needs_mixture and not choices.mixes:
        raise ValueError(
            f"{needs_mixture} needs a router that mixes the distributions of several experts, got "
            f"router={given['router__kind']!r} and n_experts={choices['n_experts']}. Use "
            "router='soft' and n_experts > 1, or leave it at 'auto'."
        )
    for name in choices.auto_rates:
        if choices[name] > float(np.finfo(np.float32).max):
            raise ValueError(
                f"{name}={choices[name]:.3g} is too large for float32. Lower it, or, if it was "
                "'auto', multiply X by a constant."
            )


def _refuse_ignored(argument, parameter, value, choice, unset):
    raise ValueError(
        f"{parameter}={value!r} would be ignored: {choice} takes no {argument}. "
        f"Leave {parameter} at {unset}, or pass a callable with such an argument."
    )
