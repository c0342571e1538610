"""Routers by name, and how a router is made of its parts, or why these do not go together."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..._registry import Registry, call_factory, did_you_mean
from ..functional import Shape, dry_run
from .base import Balance, Router, SigmoidRouter, SoftRouter
from .gates import GATES, NOISES, Noise, make_noise, standard_gate
from .scores import NETWORKS, LinearScores, NormalizedScores, make_scores
from .sparse import NoisyTopKRouter, PatchChoiceRouter, TopKRouter

# Part of the usual initial weights, where there is no noise.
_TIE_BREAK = 0.1


@dataclass(frozen=True)
class RouterSpec:
    """A router: its class, and all that it is made of.

    In `ROUTERS` the parts of a name are what "auto" means for it. Change one of them, or an option
    that few people set, by `with_options`, and pass the result as `router`, in a search as one
    candidate of several.

    Parameters
    ----------
    router_class : subclass of Router
    noise : str, callable or None, default="uniform"
        Noise in training.
    network : str, callable or None, default=None
        A score network that is part of the name, as in `NETWORKS`; None leaves it to the user, and
        is "linear".
    single_choice : bool, default=False
        Whether `top_k` must be 1.
    random_init : bool, default=False
        Start from random weights, where scores of zero would tie forever ("random").
    top_k : int, default=1
        Experts of a sample, or patches of an expert.
    gate : str, callable or None, default=None
        Weights of the outputs, as in `GATES`. None: the first gate of the class.
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
    gate: str | Callable | None = None
    noise_at_predict: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    # The name or class that it is made of.
    given: Any = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return repr(self) if self.given is None else repr(self.given)

    def with_options(self, **options: Any) -> "RouterSpec":
        """Return the same router with some options changed.

        Raises
        ------
        TypeError
            If the spec has no such option, and the class of the router takes none of that name.
        """
        own = {name: options.pop(name) for name in [*options] if name in self.__dataclass_fields__}
        below = self.router_class.__mro__[: self.router_class.__mro__.index(Router)]
        taken = {name for cls in below for name in inspect.signature(cls).parameters}
        taken -= inspect.signature(Router).parameters.keys()
        if unknown := sorted(options.keys() - taken):
            known = sorted({*self.__dataclass_fields__, *taken} - {"given", "options"})
            raise TypeError(
                f"{self.router_class.__name__} has no options {unknown}. There are {known}."
                f"{did_you_mean(unknown[0], known)}"
            )
        return replace(self, **{"options": {**self.options, **options}, **own})

    @property
    def gates(self) -> tuple[str, ...]:
        """Return the gates of the router that have a gradient, the default first."""
        without = "renormalized" if self.single_choice else None
        return tuple(gate for gate in self.router_class.gates if gate != without)

    @property
    def parts(self) -> tuple[Any, ...]:
        """Return all that the router is made of."""
        functions = NETWORKS.resolve(self.network), GATES.resolve(self.gate)
        return (self.router_class, *functions, NOISES.resolve(self.noise), *self.options.values())

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
            return ROUTERS.resolve(router).with_options(given=router)
        if isinstance(router, type) and issubclass(router, Router):
            return cls(router, noise="uniform" if router.noisy else None, given=router)
        if isinstance(router, partial) and not router.args:
            return cls.of(router.func).with_options(given=router, **router.keywords)
        raise ValueError(
            f"router must be a name, {ROUTERS.own}; got {router!r}. A module that computes the "
            "scores belongs to router=RouterParams(network=...)."
        )


_FIXED = partial(LinearScores, trained=False)
ROUTERS = Registry(
    "router",
    "a subclass of sklearn_moe.nn.Router, or a RouterSpec",
    {
        "top1": RouterSpec(TopKRouter, single_choice=True),
        "topk": RouterSpec(TopKRouter),
        "noisy_topk": RouterSpec(NoisyTopKRouter, noise="gaussian"),
        "sampled": RouterSpec(TopKRouter, noise="gumbel"),
        "soft": RouterSpec(SoftRouter, noise=None),
        "sigmoid": RouterSpec(SigmoidRouter, noise=None),
        # Three of the four patches work best on the data of the paper: no linear score prefers a
        # feature of either sign, and an expert that keeps two patches misses it in some samples.
        "patch_choice": RouterSpec(PatchChoiceRouter, top_k=3),
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
    router_class, top_k = spec.router_class, spec.top_k
    with _errors_name(spec):
        noise = make_noise(spec.noise, hashed)
        gate = standard_gate(spec.gate or spec.gates[0])
        _check_parts(spec, gate, noise)
        router_class.check(input_shape, n_experts, top_k, gate)
    # Functions of the user are called on a sample of zeros.
    x, zeros, generator = torch.zeros(1, *input_shape), torch.zeros(1, n_experts), Generator()
    if callable(gate):
        chosen = None
        if router_class.noisy:
            chosen = torch.arange(min(top_k, n_experts)).unsqueeze(0)
        shape = (zeros if chosen is None else chosen).shape
        dry_run(GATES.expected(gate), gate, zeros, zeros, chosen, shape=shape)
    if noise is not None and not isinstance(noise, Noise):
        dry_run(NOISES.expected(noise), noise, x, zeros, generator, shape=zeros.shape)
    std = 0.0
    if spec.random_init:
        std = init_std
    elif router_class.noisy and noise is None:
        # Experts of equal scores would tie forever.
        std = _TIE_BREAK * init_std
    scores = make_scores(spec.network or "linear", input_shape, n_experts, init_std=std)
    if normalize:
        scores = NormalizedScores(scores)
    if balance is not None:
        with _errors_name(spec):
            _check_balance(balance.needs, router_class, scores)
    parts: dict[str, Any] = {"top_k": top_k, "gate": gate, "noise": noise, "balance": balance}
    if router_class.learns_noise:
        parts["scale_network"] = LinearScores(input_shape, n_experts)
    expected = f"router={spec} must take the arguments of sklearn_moe.nn.Router"
    return call_factory(expected, Router, router_class, scores, mix=mix, **parts, **spec.options)


@contextmanager
def _errors_name(spec: RouterSpec) -> Iterator[None]:
    """Put the name of the router in front of the messages of errors."""
    try:
        yield
    except ValueError as error:
        reason = str(error).removesuffix(".")
        raise ValueError(f"router={spec}: {reason}.") from None


def _check_parts(spec, gate, noise):
    """Refuse parts that do not go together, whatever the data are."""
    if spec.single_choice and spec.top_k != 1:
        raise ValueError(f"one expert is used, got top_k={spec.top_k}. Use router='topk'")
    gates = spec.router_class.gates
    if isinstance(gate, str) and gate not in gates:
        raise ValueError(f"router__gate={gate!r} is none of its gates, which are {list(gates)}")
    if noise is None and spec.router_class.learns_noise:
        raise ValueError("it learns the scale of noise. Without noise, use router='topk'")
    if noise is not None and not spec.router_class.noisy:
        raise ValueError("it makes no choice that noise could change. Use router__noise='auto'")


def _check_balance(needs, router_class, scores):
    """Refuse a balance that the router does not support."""
    if needs != "choice" and not any(p.requires_grad for p in scores.parameters()):
        raise ValueError(
            "its scores are not trained and no loss can balance them. Use balance='bias' or None"
        )
    if needs != "gradient" and not router_class.sparse:
        raise ValueError("balance='bias' is for routers that choose experts")
