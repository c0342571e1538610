"""Assemble a mixture from the names of its parts."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from .experts import EXPERTS
from .mixture import MixtureOfExperts
from .registry import resolve
from .routers import GATES, NOISES, make_router
from .seeding import OwnGenerator

__all__ = ["build_mixture"]


def build_mixture(
    input_shape: tuple[int, ...],
    n_outputs: int,
    n_experts: int,
    *,
    expert: str | Callable,
    expert_options: Mapping[str, Any],
    router_init_scale: float,
    top_k: int,
    gate: str | Callable,
    noise: str | Callable | None,
    dtype: torch.dtype,
    seed: int,
) -> MixtureOfExperts:
    """Return a mixture whose weights are drawn from an own generator.

    Weights are drawn in float32 and then converted, so that models of different `dtype` start
    from the same point.

    Raises
    ------
    ValueError
        If a name is unknown, or an expert does not fit `input_shape`.
    """
    factory = resolve(expert, EXPERTS, "expert")
    with OwnGenerator(torch.Generator().manual_seed(seed)):
        experts = [factory(input_shape, n_outputs, **expert_options) for _ in range(n_experts)]
        router = make_router(input_shape, n_experts, router_init_scale) if n_experts > 1 else None
    for module in experts:
        if not isinstance(module, torch.nn.Module):
            raise TypeError(
                f"expert must return a torch.nn.Module, {expert!r} returned {type(module)}."
            )
    mixture = MixtureOfExperts(
        router,
        experts,
        top_k=top_k,
        gate=resolve(gate, GATES, "gate"),
        noise=None if noise is None else resolve(noise, NOISES, "router_noise"),
    )
    return mixture.to(dtype)
