"""Assemble a mixture from the names of its parts."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from .._devices import usual_modes
from .._registry import require
from .balance import BALANCES
from .dispatch import stacked_form
from .encoders import ChannelStatistics, FeatureStatistics, ImageEncoder, TableEncoder
from .experts import ExpertSpec
from .functional import Shape, dry_run, evaluate
from .heads import Head
from .mixture import MixtureOfExperts
from .routers.base import Balance
from .routers.make import RouterSpec, make_router
from .seeding import OwnGenerator
from .trunks import make_trunk, shape_after


@usual_modes()
def build_mixture(
    input_shape: Shape,
    n_experts: int,
    *,
    head: Callable[[], Head],
    expert: ExpertSpec,
    expert_options: Mapping[str, Any],
    router: Any = "top1",
    router_options: Mapping[str, Any],
    balance: str | Callable | None = None,
    balance_weight: float = 0.01,
    statistics: FeatureStatistics | ChannelStatistics | None = None,
    trunk: str | nn.Module | Callable | None = None,
    n_shared_experts: int = 0,
    unstacked: bool = False,
    dtype: str = "float32",
    seed: int,
) -> MixtureOfExperts:
    """Return a mixture whose weights are drawn from a generator of its own.

    `statistics` are those of the columns of a table or of the channels of images, which are
    standardized by them; None: samples are not changed. `trunk` is made for them by `make_trunk`.
    With `unstacked` each expert has tensors of its own, which a solver may need; otherwise the
    weights of homogeneous experts are one `Stack` where that makes a step faster.
    `expert_options` are those of the expert's factory, `router_options` those of `make_router`.
    Weights are drawn in float32, whatever the default dtype of torch is, and then converted, so
    that models of different `dtype` start from the same point. A single expert needs no router, but
    the settings of a router are checked.

    Raises
    ------
    ValueError
        If a name is unknown, an expert does not fit `input_shape`, or the parts of the router do
        not go together.
    TypeError
        If a factory returns something else than asked for, or the router mixes distributions and
        the head cannot.
    """
    head = head()
    mixes = RouterSpec.of(router).router_class.mixes
    if mixes:
        require(head, Head, "mix", f"router={router!r}")
        if n_shared_experts:
            raise ValueError(
                f"router={router!r} mixes the distributions of the experts and cannot add outputs "
                f"of router__n_shared_experts={n_shared_experts}. Use a router that adds, such as "
                "'topk'."
            )
    encoder: nn.Module | None = None
    if isinstance(statistics, FeatureStatistics):
        encoder = TableEncoder(statistics)
        input_shape = (encoder.n_outputs,)
    elif statistics is not None:
        encoder = ImageEncoder(statistics)
    target = getattr(torch, dtype)
    with OwnGenerator(torch.Generator().manual_seed(seed)):
        # Modules of the user may have any dtype: they are converted before they are checked.
        if trunk is not None:
            trunk = make_trunk(trunk, input_shape, expert_options.get("activation")).to(target)
            input_shape = shape_after(trunk, input_shape, target)
        experts = [
            expert.build(input_shape, head.n_outputs, **expert_options).to(target)
            for _ in range(n_experts + n_shared_experts)
        ]
        expected = (
            f"expert={expert.factory!r} must make modules that map samples, (n_samples, "
            f"{', '.join(map(str, input_shape))}), to (n_samples, {head.n_outputs})"
        )
        x = torch.zeros(1, *input_shape, dtype=target)
        dry_run(expected, evaluate, experts[0], x, shape=(1, head.n_outputs))
        experts, shared = experts[:n_experts], experts[n_experts:]
        sizes = n_experts, balance_weight
        made = make_router(
            router,
            input_shape,
            n_experts,
            head.n_outputs,
            balance=None if balance is None else BALANCES.make(balance, Balance, *sizes),
            mix=head.mix,
            normalize=trunk is not None,
            **router_options,
        )
    if n_experts > 1 and not unstacked:
        # Only of the factory itself: a wrapped one may return compiled or changed modules.
        stack = getattr(expert.factory, "stack", lambda experts: None)(experts)
        if stack is not None and (mixes or stacked_form(stack) is not None):
            experts = stack
    router = made if n_experts > 1 else None
    return MixtureOfExperts(router, experts, encoder, trunk, shared).to(target)
