"""Routers: which experts process a sample, and how their outputs become one.

A router is made of independent parts: the scores (a small network), the noise added to them in
training, the gate that turns scores into the weights of expert outputs, and the router class, which
chooses experts and combines their outputs. `ROUTERS` names the usual combinations; `make_router`
makes one of its parts, or says why these do not go together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from .._validation import Registry, call_factory
from .functional import Experts, Shape, apply_all, dispatch, dry_run
from .router_parts import (
    GATES,
    NOISES,
    Balance,
    LinearScores,
    Noise,
    NormalizedScores,
    Route,
    choose,
    make_scores,
)


class Router(nn.Module):
    """Base class of routers; subclasses define which experts are used and how they are combined.

    Parameters
    ----------
    network : module
        `network(x, dtype)` maps a batch to (n_samples, n_experts) scores.
    top_k : int, default=1
    gate : {"softmax", "renormalized", "relative", "sigmoid", "logit"}, default="softmax"
    noise : callable or None
        `noise(x, scores, generator)` is added to the scores that are compared, in training.
    balance : Balance or None
        What keeps the load even.
    mix : callable or None
        `mix(log_gate, expert_outputs)` is the output of a mixture of distributions, see `Head`.

    Notes
    -----
    Outside training the scores are computed in float64: how a sample is grouped with others
    changes the last bits of a matrix product, and in float32 those can decide between two experts
    of nearly equal scores.
    """

    # Those of the library that it takes, the usual one first.
    gates: ClassVar[tuple[str, ...]] = ("softmax", "renormalized", "relative", "sigmoid", "logit")
    # Whether k experts are chosen for each sample, a choice that noise can change.
    sparse: ClassVar[bool] = False
    # Whether the distributions of the experts are mixed, not their outputs.
    mixes_distributions: ClassVar[bool] = False

    def __init__(
        self,
        network: nn.Module,
        *,
        top_k: int = 1,
        gate: str = "softmax",
        noise: Callable[[Tensor, Tensor, Generator], Tensor] | None = None,
        balance: Balance | None = None,
        mix: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.network = network
        self.top_k = top_k
        self.gate = GATES[gate]
        self.noise = noise
        self.balance = balance
        self.mix = mix
        # A frozen router makes no gradient step, and its balance no update.
        self.frozen = False

    @classmethod
    def check(cls, n_experts: int, top_k: int, gate: str) -> None:
        """Refuse settings that the router does not support, with the reason."""
        if top_k != 1:
            raise ValueError(
                f"all experts are used at once, got top_k={top_k}. Use top_k=1, "
                "or router='topk', by which the best experts are used"
            )

    def score(self, x: Tensor) -> Tensor:
        """Return the scores of samples, (n_samples, n_experts)."""
        # Never in mixed precision: small differences decide about a route.
        with torch.autocast(x.device.type, enabled=False):
            return self.network(x, x.dtype if self.training else torch.float64)

    def forward(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Route a batch; `generator` switches the noise on."""
        scores = self.score(x)
        return Route(scores, scores, None, self.gate(scores, scores, None))

    def combine(self, experts: Experts, x: Tensor, route: Route) -> Tensor:
        """Return the output of the mixture, (n_samples, n_outputs)."""
        outputs = apply_all(experts, x)
        return torch.einsum("nm,nmo->no", route.gate.to(outputs.dtype), outputs)

    def combine_each(self, experts: Experts, x: Tensor, route: Route) -> Tensor:
        """Return the output if each expert replaced all others, (n_samples, n_experts, n_outputs).

        The samples keep the total gate of their own route, so that the output of a single chosen
        expert is the output of the mixture.
        """
        outputs = apply_all(experts, x)
        return outputs * route.gate.sum(1).to(outputs.dtype)[:, None, None]

    def freeze(self, frozen: bool = True) -> None:
        """Stop the training of the router, or resume it; its experts are still trained."""
        self.frozen = frozen
        self.requires_grad_(not frozen)

    def balance_loss(self, route: Route, weight: Tensor) -> Tensor | None:
        """Update the balance by a training batch, once per step; return its part of the loss."""
        if self.balance is None or self.frozen:
            return None
        return self.balance(self, route, weight)


# -- without a choice: every expert with a gate above 0 processes every sample -------------


class SoftRouter(Router):
    """The classical mixture: p(y | x) = sum_m gate_m(x) p_m(y | x), trained by its likelihood.

    What p_m is, for classes, labels or a density of numbers, is defined by the head: `Head.mix`.
    """

    gates = ("softmax",)
    mixes_distributions = True

    def combine(self, experts: Experts, x: Tensor, route: Route) -> Tensor:
        """Mix the experts' distributions."""
        outputs = apply_all(experts, x)
        log_gate = route.gate.to(outputs.dtype).clamp(min=torch.finfo(outputs.dtype).tiny).log()
        assert self.mix is not None
        return self.mix(log_gate, outputs)

    def combine_each(self, experts: Experts, x: Tensor, route: Route) -> Tensor:
        """Return each expert's own output."""
        return apply_all(experts, x)


class SigmoidRouter(Router):
    """F(x) = sum_m sigmoid(h_m(x)) f_m(x): experts do not compete (arXiv 2405.13997)."""

    gates = ("sigmoid",)


# -- with a choice: k experts for each sample ----------------------------------------------


class TopKRouter(Router):
    """Send each sample to the `top_k` experts of highest noisy score and add their outputs.

    F(x) = sum of gate_m(x) f_m(x) over the chosen experts m; with `top_k=1`, softmax gate and
    uniform noise that is Algorithm 1 of the paper, with Gumbel noise a draw from the softmax.
    """

    sparse = True

    @classmethod
    def check(cls, n_experts: int, top_k: int, gate: str) -> None:
        """Refuse more experts than there are, and a gate that is always 1."""
        if top_k > n_experts:
            raise ValueError(f"top_k={top_k} experts cannot be chosen out of n_experts={n_experts}")
        if top_k == 1 and gate == "renormalized":
            raise ValueError(
                "a gate renormalized over one chosen expert is always 1, and the router would get "
                "no gradient. Use router__gate='softmax', or router='topk' with top_k >= 2"
            )

    def forward(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Choose the experts of each sample; `generator` switches the noise on."""
        scores = noisy = self.score(x)
        if self.noise is not None and generator is not None:
            noisy = scores + self.noise(x, scores, generator)
        ranked = noisy.detach()
        # A balance may add to the scores that choose, not to those of the gate.
        if self.balance is not None and self.balance.bias is not None:
            ranked = ranked + self.balance.bias
        chosen = choose(ranked, self.top_k)
        return Route(scores, noisy, chosen, self.gate(scores, noisy, chosen))

    def combine(self, experts: Experts, x: Tensor, route: Route) -> Tensor:
        """Add the gated outputs of the chosen experts."""
        # By `forward`.
        assert route.chosen is not None
        outputs = dispatch(experts, x, route.chosen)
        gate = route.gate.to(outputs.dtype)
        if outputs.shape[1] == 1:
            return outputs.squeeze(1) * gate
        return (outputs * gate.unsqueeze(2)).sum(1)


# -- by name, and made of parts ------------------------------------------------------------


@dataclass(frozen=True)
class RouterSpec:
    """A router: its class, and all that it is made of.

    In `ROUTERS` the parts of a name are what "auto" means for it. Change one of them, or an option
    that few people set, by `with_options`, and pass the result as `router`, in a search as one
    candidate of several.

    Parameters
    ----------
    router_class : subclass of Router
    noise : {"uniform", "gaussian", "gumbel"}, callable or None, default="uniform"
        Noise in training.
    network : str, callable or None, default=None
        A score network that is part of the name, as in `NETWORKS`; None leaves it to the user, and
        is "linear".
    single_choice : bool, default=False
        Whether `top_k` must be 1.
    random_init : bool, default=False
        Start from random weights, where scores of zero would tie forever ("random").
    top_k : int, default=1
        Experts of a sample.
    gate : str or None, default=None
        Weights of the outputs. None: the first of `router_class.gates`.
    noise_at_predict : bool, default=False
        Draw the noise at prediction, too, from a fixed seed, as the authors' notebooks do. The
        prediction for a sample then depends on its place in X.
    options : dict, default={}
        Further arguments of a class of your own.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.nn import ROUTERS
    >>> clf = MoEClassifier(router=ROUTERS["top1"].with_options(noise_at_predict=True))
    """

    router_class: type[Router]
    noise: str | Callable | None = "uniform"
    network: str | Callable[..., nn.Module] | None = None
    single_choice: bool = False
    random_init: bool = False
    top_k: int = 1
    gate: str | None = None
    noise_at_predict: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    # The name or class that it is made of.
    given: Any = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return repr(self) if self.given is None else repr(self.given)

    def with_options(self, **options: Any) -> "RouterSpec":
        """Return the same router with some fields, or options of its class, changed."""
        known = self.__dataclass_fields__.keys()
        fields = {name: options.pop(name) for name in known & options.keys()}
        return replace(self, **{"options": {**self.options, **options}, **fields})

    @classmethod
    def of(cls, router: "str | type[Router] | RouterSpec | Callable") -> "RouterSpec":
        """Return the spec of a name, a spec as it is, and one with usual defaults for a class.

        `partial(Own, eps=0.3)` is the class with an option.

        Raises
        ------
        ValueError
            If it is none of these.
        """
        if isinstance(router, RouterSpec):
            return router
        if isinstance(router, str):
            return replace(ROUTERS.resolve(router), given=router)
        if isinstance(router, type) and issubclass(router, Router):
            return cls(router, noise="uniform" if router.sparse else None, given=router)
        if isinstance(router, partial) and not router.args:
            return cls.of(router.func).with_options(given=router, **router.keywords)
        raise ValueError(
            f"router must be a name, {ROUTERS.alternative}; got {router!r}. A module that computes "
            "the scores belongs to router=RouterParams(network=...)."
        )


_FIXED = partial(LinearScores, trained=False)
ROUTERS = Registry(
    "router",
    "a subclass of sklearn_moe.nn.Router, or a RouterSpec",
    {
        "top1": RouterSpec(TopKRouter, single_choice=True),
        "topk": RouterSpec(TopKRouter),
        "sampled": RouterSpec(TopKRouter, noise="gumbel"),
        "soft": RouterSpec(SoftRouter, noise=None),
        "sigmoid": RouterSpec(SigmoidRouter, noise=None),
        "random": RouterSpec(TopKRouter, noise=None, network=_FIXED, random_init=True),
    },
)


def make_router(
    spec: RouterSpec,
    input_shape: Shape,
    n_experts: int,
    *,
    hashed: bool = False,
    balance: Balance | None = None,
    init_std: float = 1.0,
    mix: Callable[[Tensor, Tensor], Tensor] | None = None,
    normalize: bool = False,
) -> Router:
    """Return the router of a spec, for samples of shape `input_shape`.

    Parameters
    ----------
    spec : RouterSpec
    balance : Balance or None
    hashed : bool, default=False
        Whether noise is a function of the sample, see `Noise`.
    init_std : float, default=1.0
        Standard deviation of initial weights that makes scores of about 1, for routers that cannot
        start at zero. Where noise is only switched off, a tenth of it makes the experts differ.
    mix : callable or None
        `Head.mix`, for routers that mix distributions.
    normalize : bool, default=False
        Whether scores are those of normalized samples, see `NormalizedScores`.

    Raises
    ------
    ValueError
        If a name is unknown or the parts do not go together; the message has the reason.
    TypeError
        If a callable is not of the required kind, or returns something else than asked for.
    """
    router_class = spec.router_class
    gate = spec.gate or router_class.gates[0]
    std = init_std if spec.random_init else 0.0
    if not spec.random_init and router_class.sparse and spec.noise is None:
        # Experts of equal scores would tie forever.
        std = 0.1 * init_std
    scores = make_scores(spec.network or "linear", input_shape, n_experts, init_std=std)
    if normalize:
        scores = NormalizedScores(scores)
    try:
        _check_parts(spec, gate, scores, balance)
        router_class.check(n_experts, spec.top_k, gate)
    except ValueError as error:
        reason = str(error).removesuffix(".")
        raise ValueError(f"router={spec}: {reason}.") from None
    noise = Noise(NOISES[spec.noise], hashed) if isinstance(spec.noise, str) else spec.noise
    if callable(spec.noise):
        expected = f"router__noise={noise!r} must be a callable (x, scores, generator) -> noise"
        x, zeros = torch.zeros(1, *input_shape), torch.zeros(1, n_experts)
        dry_run(expected, spec.noise, x, zeros, Generator(), shape=zeros.shape)
    parts: dict[str, Any] = {"top_k": spec.top_k, "gate": gate, "noise": noise, "balance": balance}
    expected = f"router={spec} must take the arguments of sklearn_moe.nn.Router"
    return call_factory(expected, Router, router_class, scores, mix=mix, **parts, **spec.options)


def _check_parts(spec, gate, scores, balance):
    """Refuse parts that do not go together, whatever the data are."""
    if spec.single_choice and spec.top_k != 1:
        raise ValueError(f"one expert is used, got top_k={spec.top_k}. Use router='topk'")
    gates = spec.router_class.gates
    if gate not in gates:
        raise ValueError(f"router__gate={gate!r} is none of its gates, which are {list(gates)}")
    if not callable(spec.noise) and spec.noise not in {None, *NOISES}:
        raise ValueError(f"router__noise={spec.noise!r} is none of {[*NOISES]}, or None")
    if spec.noise is not None and not spec.router_class.sparse:
        raise ValueError("it makes no choice that noise could change. Use router__noise='auto'")
    needs = balance and balance.needs
    if needs == "gradient" and not any(p.requires_grad for p in scores.parameters()):
        raise ValueError(
            "its scores are not trained and no loss can balance them. Use balance='bias' or None"
        )
    if needs == "choice" and not spec.router_class.sparse:
        raise ValueError("balance='bias' is for routers that choose experts")
