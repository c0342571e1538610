"""Assemble a mixture from the names of its parts."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from .._registry import require
from .balance import make_balance
from .experts import ExpertSpec
from .heads import Head
from .mixture import MixtureOfExperts
from .routers import make_router, preset_of
from .seeding import OwnGenerator

__all__ = ["build_mixture"]


def build_mixture(
    input_shape: tuple[int, ...],
    n_experts: int,
    *,
    head: Callable[[], Head],
    expert: ExpertSpec,
    expert_options: Mapping[str, Any],
    router: Any = "top1",
    router_options: Mapping[str, Any],
    balance: str | Callable | None = None,
    balance_weight: float = 0.01,
    dtype: str = "float32",
    seed: int,
) -> MixtureOfExperts:
    """Return a mixture whose weights are drawn from an own generator.

    `expert_options` are those of the expert's factory, `router_options` those of `make_router`.
    Weights are drawn in float32 and then converted, so that models of different `dtype` start
    from the same point. A single expert needs no router, but what is asked of one is checked.

    Raises
    ------
    ValueError
        If a name is unknown, an expert does not fit `input_shape`, or the parts of the router do
        not go together.
    TypeError
        If a factory returns something else than asked for, or the head cannot mix distributions
        and the router does.
    """
    head = head()
    if preset_of(router).rule.mixes:
        require(head, Head, "mix", f"router={router!r}")
    with OwnGenerator(torch.Generator().manual_seed(seed)):
        experts = [
            expert.build(input_shape, head.n_outputs, **expert_options) for _ in range(n_experts)
        ]
        made = make_router(
            router,
            input_shape,
            n_experts,
            head.n_outputs,
            balance=make_balance(balance, n_experts, balance_weight),
            mix=head.mix,
            **router_options,
        )
    mixture = MixtureOfExperts(made if n_experts > 1 else None, experts)
    return mixture.to(getattr(torch, dtype))
