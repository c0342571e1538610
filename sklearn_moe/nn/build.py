"""Assemble a mixture from the names of its parts."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from .._devices import usual_modes
from .._registry import require
from .balance import make_balance
from .dispatch import together
from .experts import ExpertSpec
from .heads import Head
from .mixture import MixtureOfExperts
from .pictures import Channels, PictureEncoder
from .routers import make_router, preset_of
from .seeding import OwnGenerator
from .table import Columns, TableEncoder
from .trial import try_out
from .trunks import make_trunk, shape_after

__all__ = ["build_mixture"]


@usual_modes()
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
    scales: Columns | Channels | None = None,
    trunk: str | nn.Module | Callable | None = None,
    n_shared_experts: int = 0,
    separate: bool = False,
    dtype: str = "float32",
    seed: int,
) -> MixtureOfExperts:
    """Return a mixture whose weights are drawn from an own generator.

    `scales` are those of the columns of a table or of the channels of pictures, which are
    standardized by them; None: samples stay as they are. `trunk` is made for them by `make_trunk`.
    `separate` keeps each expert's weights in tensors of their own, which a solver may ask for; else
    those of alike experts are one `Stack` where that makes a step faster.
    `expert_options` are those of the expert's factory, `router_options` those of `make_router`.
    Weights are drawn in float32, whatever the default dtype of torch is, and then converted, so
    that models of different `dtype` start from the same point. A single expert needs no router, but
    what is asked of one is checked.

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
        if n_shared_experts:
            raise ValueError(
                f"router={router!r} mixes the distributions of the experts, and adds no answers of "
                f"n_shared_experts={n_shared_experts}. Use a router that adds, such as 'topk'."
            )
    encoder: nn.Module | None = None
    if isinstance(scales, Columns):
        encoder = TableEncoder(scales)
        input_shape = (encoder.n_outputs,)
    elif scales is not None:
        encoder = PictureEncoder(scales)
    target = getattr(torch, dtype)
    with OwnGenerator(torch.Generator().manual_seed(seed)):
        # What users made may be of any type: it is tried in that of the mixture.
        if trunk is not None:
            trunk = make_trunk(trunk, input_shape, expert_options.get("activation")).to(target)
            input_shape = shape_after(trunk, input_shape, target)
        experts = [
            expert.build(input_shape, head.n_outputs, **expert_options).to(target)
            for _ in range(n_experts + n_shared_experts)
        ]
        x = torch.zeros(1, *input_shape, dtype=target)
        _check_answer(experts[0], expert, x, head.n_outputs)
        experts, shared = experts[:n_experts], experts[n_experts:]
        made = make_router(
            router,
            input_shape,
            n_experts,
            head.n_outputs,
            balance=make_balance(balance, n_experts, balance_weight),
            mix=head.mix,
            normalize=trunk is not None,
            **router_options,
        )
    if n_experts > 1 and not separate:
        # Of the factory itself: what another one returns may be compiled, hooked or changed.
        stack = getattr(expert.factory, "stack", None)
        stack = stack and stack(experts)
        if stack is not None and (mixes or together(stack) is not None):
            experts = stack
    router = made if n_experts > 1 else None
    mixture = MixtureOfExperts(router, experts, encoder, trunk, shared)
    return mixture.to(target)


def _check_answer(module: nn.Module, expert: ExpertSpec, x: torch.Tensor, n_outputs: int) -> None:
    """Let an expert answer a sample, and leave no trace in it."""
    must = (
        f"expert={expert.factory!r} must make modules that map samples, (n_samples, "
        f"{', '.join(map(str, x.shape[1:]))}), to (n_samples, {n_outputs})"
    )
    try_out(must, module.eval(), x, shape=(1, n_outputs))
    module.train()
