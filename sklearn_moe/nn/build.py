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
from .table import Columns, TableEncoder

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
    columns: Columns | None = None,
    separate: bool = False,
    dtype: str = "float32",
    seed: int,
) -> MixtureOfExperts:
    """Return a mixture whose weights are drawn from an own generator.

    `columns` are those of a table, which is encoded by them; None: samples stay as they are.
    `separate` keeps each expert's weights in tensors of their own, which a solver may ask for.
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
    mixes = preset_of(router).rule.mixes
    if mixes:
        require(head, Head, "mix", f"router={router!r}")
    encoder = None if columns is None else TableEncoder(columns)
    if encoder is not None:
        input_shape = (encoder.n_outputs,)
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
    if mixes and n_experts > 1 and not separate:
        # Of the factory itself: what another one returns may be compiled, hooked or changed.
        stack = getattr(expert.factory, "stack", None)
        experts = (stack and stack(experts)) or experts
    mixture = MixtureOfExperts(made if n_experts > 1 else None, experts, encoder)
    return mixture.to(getattr(torch, dtype))
