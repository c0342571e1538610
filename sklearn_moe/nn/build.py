"""Assemble a mixture from the names of its parts."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from .balance import BALANCES
from .expert_names import EXPERTS
from .mixture import MixtureOfExperts
from .registry import resolve
from .routers import make_router
from .seeding import OwnGenerator

__all__ = ["build_mixture"]


def build_mixture(
    input_shape: tuple[int, ...],
    n_outputs: int,
    n_experts: int,
    *,
    expert: str | Callable,
    expert_options: Mapping[str, Any],
    router: Any = "top1",
    router_options: Mapping[str, Any],
    balance: str | Callable | None = None,
    dtype: torch.dtype,
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
    """
    factory = resolve(expert, EXPERTS, "expert")
    options = dict(router_options)
    if balance is not None:
        options["balance"] = resolve(balance, BALANCES, "balance")
    with OwnGenerator(torch.Generator().manual_seed(seed)):
        experts = [factory(input_shape, n_outputs, **expert_options) for _ in range(n_experts)]
        made = make_router(router, input_shape, n_experts, n_outputs, **options)
    for module in experts:
        if not isinstance(module, torch.nn.Module):
            raise TypeError(
                f"expert must return a torch.nn.Module, {expert!r} returned {type(module)}."
            )
    return MixtureOfExperts(made if n_experts > 1 else None, experts).to(dtype)
