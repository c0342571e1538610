"""What "auto" means: the one place where the shape and scale of X choose settings."""

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._data.rows import chunks
from ._registry import has, is_auto, require, takes
from ._validation import refuse_overflow
from .nn import (
    ACTIVATIONS,
    EXPERTS,
    NETWORKS,
    TRUNKS,
    CentroidScores,
    ExpertSpec,
    Head,
    LinearScores,
    MLPScores,
    PatchChoiceRouter,
    preset_of,
)
from .nn.routers.scores import patches_shape
from .optim import SOLVERS, SolverSpec

__all__ = ["Settings", "resolve_settings"]

# A mixture of strong experts on a table: each learns most of it by its own loss, as few rows make
# no regions, and the mixture decides about the rest. Linear ones can do a part of it only.
_EXPERT_LOSS_WEIGHT = 0.7
# The gradient of the likelihood by the router is informative early: its rate is twice the experts'.
_ROUTER_LR_FACTOR = 2
# Of the rates for tables: convolutions want smaller steps.
_IMAGE_LR_FACTOR = 0.4
# Samples in a step that make it worth while to copy a network for pictures into bf16: an estimate.
_WORTH_BF16 = 100
_MOST_UNEVEN = 4  # times the usual batch size, for samples of uneven weight
# Of a schedule that ends at 0: about 3,000 steps for many rows, no fewer than 1,000 for few.
_STEPS, _FEWEST_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 3000, 1000, 10, 150


@dataclass(frozen=True)
class Settings:
    """The settings of one fit, every "auto" resolved.

    `resolved` is what each "auto" became, by parameter.
    """

    expert: ExpertSpec
    expert_options: dict[str, Any]
    trunk: Any
    expert_loss_weight: float
    n_hidden: int  # experts that a sample is not shown to
    router: Any
    router_options: dict[str, Any]
    solver: SolverSpec
    solver_options: dict[str, Any]
    pace: str
    learning_rate: float
    router_learning_rate: float
    auto_rates: dict[str, float]  # what both would be if they were "auto", by parameter
    batch_size: int  # of this fit, which may have fewer samples
    largest_batch: int  # of training that goes on with more
    max_iter: int
    n_united: int  # epochs before one expert is split into many
    tol: float | None
    standardize: bool
    precision: str  # "auto" where mixed precision may pay
    resolved: dict[str, Any]

    @property
    def depends_on_max_iter(self):
        """Whether the first epochs, or the patience, follow from how many there are to be."""
        return self.pace == "cosine" or self.n_united > 0 or self.n_hidden > 0


def resolve_settings(estimator, X, weight, head):
    """Return the settings of `estimator` for samples X, (n_samples, *input_shape), and a head.

    The default steps of the patch expert are inversely proportional to the scale of X (those
    of the router to its square), so that multiplying X by a constant changes nothing.

    Raises
    ------
    ValueError
        If a name is unknown, or a parameter is set that has no meaning beside the others.
    TypeError
        If the head lacks a method that another parameter needs.
    """
    resolved = {}

    def pick(name, default):
        value = getattr(estimator, name)
        if not is_auto(value):
            return value
        resolved[name] = default
        return default

    is_table, is_picture = X.ndim == 2, X.ndim == 4
    trunk = pick("trunk", "cnn" if is_picture and _shares(estimator) else None)
    if trunk is not None:
        TRUNKS.resolve(trunk)
    # What a mixture sees, a table of its own or features that are one.
    is_vector = is_table or trunk is not None
    expert = ExpertSpec.of(EXPERTS.resolve(pick("expert", _expert_for(2 if is_vector else X.ndim))))
    solver = SolverSpec.of(SOLVERS.resolve(pick("solver", expert.solver)))
    scale = _rms_norm(X, weight) if X.ndim == 3 else 1.0
    rate, router_rate = solver.learning_rate, solver.router_learning_rate
    if solver.per_norm:
        rate, router_rate = rate / scale, router_rate / scale**2
    if is_picture and solver.pace == "cosine":
        rate, router_rate = _IMAGE_LR_FACTOR * rate, _IMAGE_LR_FACTOR * router_rate
    adds = estimator.n_shared_experts or estimator.upcycle
    mixes = is_vector and not adds and has(head, Head, "mix")
    choice = pick("router", "soft" if mixes else "top1")
    router = preset_of(choice)
    if router.rule.mixes and is_vector and not solver.per_norm:
        router_rate = _ROUTER_LR_FACTOR * rate
    elif is_picture and trunk is None and _adds_up(estimator.router_network):
        router_rate /= patches_shape(X.shape[1:])[0]  # the scores of so many squares
    # Only mixtures of distributions can tell what each expert makes of a sample.
    apart = router.rule.mixes and estimator.n_experts > 1
    batch_size = _batch_size(solver.batch_size(X.shape[0], head.kind), weight)
    batch_size = pick("batch_size", batch_size)
    largest_batch = sys.maxsize if batch_size is None else batch_size
    batch_size = min(largest_batch, X.shape[0])
    pace = pick("learning_rate", solver.pace)
    if pace == "residual" and not solver.per_expert:
        raise ValueError(
            "learning_rate='residual' is made for solver='normalized_sgd', got solver="
            f"{estimator.solver!r}. Use learning_rate='constant'."
        )
    if pace == "residual":
        require(head, Head, "error", "learning_rate='residual'")
    strong = not _is_linear(estimator.activation)
    own_loss = pick(
        "expert_loss_weight", _EXPERT_LOSS_WEIGHT if apart and is_vector and strong else 0.0
    )
    # Specialized experts give poor out-of-bag estimates: they know their own region only.
    stop = pick("early_stopping", "out_of_bag" if apart and is_table and own_loss else False)
    if stop is True:
        require(head, Head, "score", "early_stopping=True")
    if not apart and (stop == "out_of_bag" or own_loss):
        _refuse_apart(estimator, stop)
    standardize = pick("standardize", is_table or is_picture)
    if standardize and not (is_table or is_picture):
        raise ValueError(
            "standardize=True is for tables, X of shape (n_samples, n_features), and pictures, "
            f"(n_samples, n_channels, height, width), got samples of shape {X.shape[1:]}. Use "
            "standardize='auto': the steps are in proportion to the scale of patches."
        )
    router_options = {
        "network": pick("router_network", "linear" if router.network is None else "auto"),
        "top_k": pick("top_k", router.top_k),
        "gate": pick("gate", _gate(estimator, router)),
        "noise": pick("router_noise", router.noise),
        # Derived from the row for 2-D X, so that sample_weight=2 equals repeating the row.
        "per_row": X.ndim == 2,
        "init_std": 1.0 if trunk is not None else _router_init_std(X, scale),
    }
    n_per_network = batch_size
    if trunk is None and router.rule.sparse and estimator.n_experts > 1:
        n_per_network *= router_options["top_k"] / estimator.n_experts
    auto_rates = {"learning_rate_init": rate, "router_learning_rate_init": router_rate}
    rate, router_rate = (_pick_rate(pick, name, auto) for name, auto in auto_rates.items())
    max_iter = pick("max_iter", _epochs(pace, head.kind, X.shape[0], batch_size))
    if estimator.upcycle:
        _check_upcycling(estimator, router, router_options)
    return Settings(
        expert=expert,
        expert_loss_weight=own_loss,
        n_hidden=_n_hidden(estimator) if stop == "out_of_bag" else 0,
        router=choice,
        trunk=trunk,
        expert_options=_expert_options(estimator, expert, X.shape[1:], scale, pick),
        router_options=router_options,
        solver=solver,
        solver_options=_solver_options(estimator, solver),
        pace=pace,
        learning_rate=rate,
        router_learning_rate=router_rate,
        auto_rates=auto_rates,
        batch_size=batch_size,
        largest_batch=largest_batch,
        max_iter=max_iter,
        n_united=min(round(estimator.upcycle * max_iter), max_iter - 1),
        tol=pick("tol", _tolerance(stop, pace, head.kind)),
        standardize=standardize,
        precision=_precision(estimator, X, n_per_network),
        resolved=resolved,
    )


def _pick_rate(pick, name, default):
    rate = pick(name, default)
    if rate > float(np.finfo(np.float32).max):
        raise ValueError(
            f"{name}={rate:.3g} is too large for float32. Lower it, or, if it was 'auto', multiply "
            "X by a constant."
        )
    return rate


def _is_linear(activation):
    return activation != "auto" and ACTIVATIONS.resolve(activation) is ACTIVATIONS["linear"]


def _refuse_apart(estimator, stop):
    """Say why the experts of a mixture cannot be judged one by one."""
    which = "early_stopping='out_of_bag'"
    if stop != "out_of_bag":
        which = f"expert_loss_weight={estimator.expert_loss_weight!r}"
    raise ValueError(
        f"{which} needs a router that mixes the distributions of several experts, got "
        f"router={estimator.router!r} and n_experts={estimator.n_experts}. Use router='soft' and "
        "n_experts > 1, or leave it at 'auto'."
    )


def _n_hidden(estimator):
    """Return how many of the experts each sample is hidden from."""
    share = round(estimator.validation_fraction * estimator.n_experts)
    return min(max(1, share), estimator.n_experts - 1)


def _batch_size(usual, weight):
    """Return a batch size that makes up for uneven weights.

    The mean of n samples is as noisy as that of n / f of equal weight, with f = mean(w^2) /
    mean(w)^2 (Kish 1965). More than four times as many samples would cost more than they are worth.
    """
    weight = weight.astype(np.float64)
    return round(usual * min(np.mean(np.square(weight)) / np.mean(weight) ** 2, _MOST_UNEVEN))


def _epochs(pace, kind, n_samples, batch_size):
    """Return the epochs of a schedule, or those after which patience ends."""
    if pace == "cosine":
        n_batches = -(-n_samples // batch_size)
        epochs = min(max(_FEWEST_EPOCHS, _STEPS // n_batches), _MOST_EPOCHS)
        return max(epochs, -(-_FEWEST_STEPS // n_batches))
    # Numbers hold noise, and the loss of the training samples goes on falling.
    return 150 if kind == "numbers" else 1000


def _tolerance(stop, pace, kind):
    """Return by how much a loss must improve, None where it is not asked."""
    if stop == "out_of_bag":
        return 0.0
    return None if (pace == "cosine" and not stop) or kind == "numbers" else 1e-4


def _shares(estimator):
    """Tell whether a trunk may be inserted: not before whole networks or k-means centers."""
    router = preset_of("top1" if is_auto(estimator.router) else estimator.router)
    of_samples = router.network is CentroidScores or router.rule is PatchChoiceRouter
    return is_auto(estimator.expert) and not of_samples


def _adds_up(network):
    """Tell whether a score network adds up the scores of the patches."""
    return is_auto(network) or NETWORKS.resolve(network) in (LinearScores, MLPScores)


def _expert_for(ndim):
    """Return the first expert that is registered for X of this many axes."""
    return next(name for name, spec in EXPERTS.items() if spec.ndim == ndim)


def _gate(estimator, router):
    """Return the gate of a router, one that leaves the answer as it is where experts are split."""
    if not estimator.upcycle:
        return router.gates[0]
    top_k = router.top_k if is_auto(estimator.top_k) else estimator.top_k
    return "relative" if top_k == 1 else "renormalized"


def _check_upcycling(estimator, router, options):
    """Refuse to split an expert where that would change its answer, or its copies stay alike."""
    starts_even = not router.random_start and router.network is None
    keeps = options["gate"] in ("relative", "renormalized") or callable(options["gate"])
    chooses = router.rule.sparse and options["noise"] is not None
    if not (starts_even and keeps and chooses and estimator.n_experts > 1):
        raise ValueError(
            f"upcycle={estimator.upcycle!r} splits one expert into copies that answer as it did "
            "and then part: that takes n_experts > 1, a router that chooses and starts without a "
            "preference ('top1', 'topk', 'noisy_topk', 'sampled'), noise, and the gate 'relative' "
            f"or 'renormalized'. Got n_experts={estimator.n_experts}, router={estimator.router!r}, "
            f"router_noise={options['noise']!r}, gate={options['gate']!r}."
        )


def _expert_options(estimator, expert, input_shape, scale, pick):
    """Return the options of the expert's factory; refuse those that it does not take."""
    options = {}
    if estimator.expert_width is not None:
        _require(expert.factory, "width", "expert_width", estimator.expert_width, estimator.expert)
        options["width"] = estimator.expert_width
    activation = pick("activation", expert.activation)
    if activation is not None:
        _require(expert.factory, "activation", "activation", activation, estimator.expert)
        options["activation"] = activation
    if expert.init_scale is not None:
        options["init_scale"] = expert.init_scale(input_shape, scale)
    return options


def _solver_options(estimator, solver):
    """Return the options of the optimizer; refuse those that it does not take."""
    options = {}
    for name in ("momentum", "weight_decay"):
        value = getattr(estimator, name)
        if value:
            _require(solver.optimizer, name, name, value, estimator.solver)
        if takes(solver.optimizer, name):
            options[name] = value
    return options


def _require(function, argument, parameter, value, choice):
    """Refuse a parameter that would be ignored."""
    if not takes(function, argument):
        kind = "solver" if parameter in ("momentum", "weight_decay") else "expert"
        unset = {"activation": "'auto'", "expert_width": "None"}.get(parameter, "0")
        raise ValueError(
            f"{parameter}={value!r} would be ignored: {kind}={choice!r} takes no {argument}. "
            f"Leave {parameter} at {unset}, or pass a callable with such an argument."
        )


@np.errstate(over="ignore", invalid="ignore")
def _rms_norm(X, weight):
    """Return the root mean square of the Euclidean norms of the patches, 1 if all are zero."""
    squares = np.empty(len(X), X.dtype)
    for rows in chunks(X):
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


def _router_init_std(X, scale):
    """Return the deviation of router weights that makes initial scores of about 1."""
    if X.ndim == 3:  # the sum of unrelated patches
        return 1 / (scale * np.sqrt(X.shape[1]))
    return 1 / np.sqrt(np.prod(X.shape[1:]))


def _precision(estimator, X, n_per_network):
    """Return the precision of training, "auto" where it is left to the device.

    Mixed precision copies every weight in each step, which takes longer than it saves if a network
    sees few samples at a time.
    """
    if X.ndim == 4 and X.dtype != np.float64:
        few = is_auto(estimator.precision) and n_per_network < _WORTH_BF16
        return "float32" if few else estimator.precision
    if estimator.precision == "bf16":
        raise ValueError(
            f"precision='bf16' is for images of float32 or uint8, got X of {X.ndim} axes and type "
            f"{X.dtype}. Use precision='auto'."
        )
    return "float32"
