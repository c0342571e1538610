"""A mixture, or a pool, made from the names and options of its parts."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, cast

import torch
from torch import nn

from .._devices import default_torch_modes
from .._registry import require_override
from .balance import BALANCES, Balance
from .dispatch import Experts, stacked_form
from .encoders import ChannelStatistics, FeatureStatistics, ImageEncoder, TableEncoder
from .experts import ExpertSpec, FittedMembers
from .functional import Shape, dry_run, evaluate
from .heads import Head
from .mixture import MixtureOfExperts, Pool
from .router_parts import GATES, NETWORKS, NOISES
from .routers import RouterSpec, SoftRouter, make_router
from .seeding import drawing_from, is_own, use_generator
from .trunks import TRUNKS, make_trunk, shape_after


@default_torch_modes()
def build_mixture(
    input_shape: Shape,
    n_experts: int,
    *,
    head: Head,
    kinds: Sequence[tuple[ExpertSpec, Mapping[str, Any]]],
    n_members: Sequence[int] | None = None,
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

    `head` says how many outputs an expert has. `statistics` are those of the columns of a table or
    of the channels of images, which are standardized by them; None: samples are not changed.
    `trunk` is made for them by `make_trunk`. With `unstacked` each expert has tensors of its own,
    which a solver may need; otherwise the weights of homogeneous experts are one `Stack` where that
    makes a step faster. `kinds` has the kind of each expert with the options of its factory, or a
    single kind for all. With `n_members`, the number of members of each kind, the mixture is a
    `Pool` of bags. `router_options` are those of `make_router`.

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
    router = RouterSpec.of(router)
    mixes = router.router_class.mixes_distributions
    if mixes:
        require_override(head, Head, "mix", f"router={router}")
    if mixes and n_shared_experts:
        raise ValueError(
            f"router={router} mixes the distributions of the experts and cannot add outputs of "
            f"router__n_shared_experts={n_shared_experts}. Use a router that adds, such as 'topk'."
        )
    target, generator = getattr(torch, dtype), torch.Generator().manual_seed(seed)
    encoder: nn.Module | None = None
    # What each kind, and the router, read of a sample. Before a trunk there is no choice.
    columns, router_columns = [slice(None)] * len(kinds), slice(None)
    if isinstance(statistics, FeatureStatistics):
        encoder = TableEncoder(statistics)
        input_shape = (encoder.n_outputs,)
        if trunk is None:
            columns = [encoder.columns[spec.columns] for spec, _ in kinds]
            router_columns = encoder.columns["bounded"]
    elif statistics is not None:
        encoder = ImageEncoder(statistics)
    counts = n_members or ([n_experts] if len(kinds) == 1 else [1] * n_experts)
    of_experts = [
        part
        for spec, options in kinds
        for part in (spec.factory, *spec.options.values(), *options.values())
    ]
    of_router = (
        router.router_class,
        NETWORKS.resolve(router.network),
        GATES.resolve(router.gate),
        NOISES.resolve(router.noise),
        *router.options.values(),
    )
    others = TRUNKS.resolve(trunk), BALANCES.resolve(balance)
    with drawing_from(generator, *of_experts, *of_router, *others):
        # Modules of the user may have any dtype: they are converted before they are checked.
        if trunk is not None:
            trunk = make_trunk(trunk, input_shape, kinds[0][1].get("activation")).to(target)
            input_shape = shape_after(trunk, input_shape, target)
        shapes = [_shape_of(input_shape, part) for part in columns]

        def make(kind: int, count: int) -> list[nn.Module]:
            (spec, options), shape = kinds[kind], shapes[kind]
            if spec.estimator is not None:
                return [FittedMembers()]
            made = (spec.build(shape, head.n_outputs, **options) for _ in range(count))
            return [expert.to(target) for expert in made]

        members = [make(kind, count) for kind, count in enumerate(counts)]
        shared = make(0, n_shared_experts)
        if not all(map(is_own, of_experts)):
            for (spec, _), shape, experts in zip(kinds, shapes, members, strict=True):
                if spec.estimator is None:
                    expected = (
                        f"expert={spec.factory!r} must make modules that map samples, (n_samples, "
                        f"{', '.join(map(str, shape))}), to (n_samples, {head.n_outputs})"
                    )
                    x = torch.zeros(1, *shape, dtype=target)
                    dry_run(expected, evaluate, experts[0], x, shape=(1, head.n_outputs))
        if balance is not None:
            balance = BALANCES.make(balance, Balance, n_experts, balance_weight)
        made = make_router(
            router,
            _shape_of(input_shape, router_columns),
            n_experts,
            balance=balance,
            mix=head.mix,
            normalize=trunk is not None,
            **router_options,
        )
    groups: list[Experts] = [*members]
    for kind, (spec, _) in enumerate(kinds):
        # Only of the factory itself: a wrapped one may return compiled or changed modules.
        stack = getattr(spec.factory, "stack", None)
        if stack is not None and not unstacked and len(members[kind]) > 1:
            stacked = stack(members[kind])
            if stacked is not None and (mixes or stacked_form(stacked) is not None):
                groups[kind] = stacked
    scales = n_experts > 1 and mixes and head.has_logits
    if n_members is not None:
        for parameter in made.parameters():
            nn.init.zeros_(parameter)
        kinds_of_pool = [_as_module(experts) for experts in groups]
        soft = cast(SoftRouter, made)
        pool = Pool(soft, kinds_of_pool, n_members, columns, encoder, scales, router_columns)
        return pool.to(target)
    experts = groups[0] if len(kinds) == 1 else [*chain.from_iterable(members)]
    parts = experts, encoder, trunk, shared, scales, columns[0], router_columns
    mixture = MixtureOfExperts(made if n_experts > 1 else None, *parts).to(target)
    if n_experts > 1 and not is_own(router.router_class):
        expected = (
            f"router={router} must have forward(x, generator=None), which returns a Route, and "
            "combine(experts, x, route), which returns the outputs"
        )
        inner = MixtureOfExperts(made, mixture.experts, shared=[*mixture.shared])
        x = torch.zeros(1, *input_shape, dtype=target)
        with use_generator(torch.Generator().manual_seed(seed)):
            dry_run(expected, lambda x: evaluate(inner, x).output, x, shape=(1, head.n_outputs))
    return mixture


def _as_module(experts: Experts) -> nn.Module:
    if isinstance(experts, nn.Module):
        return experts
    is_fitted = isinstance(experts[0], FittedMembers)
    return experts[0] if is_fitted else nn.ModuleList(experts)


def _shape_of(shape: Shape, columns: slice) -> Shape:
    """Return the shape of a part of a sample."""
    return shape if columns == slice(None) else (columns.stop - columns.start,)
