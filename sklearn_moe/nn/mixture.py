"""The mixture of experts: a router, its experts and their combined output; made from names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from .._devices import default_torch_modes
from .._registry import require_override
from .balance import BALANCES, Balance
from .dispatch import Experts, Pool, apply_all, stacked_form
from .encoders import ChannelStatistics, FeatureStatistics, ImageEncoder, TableEncoder
from .experts import ExpertSpec
from .functional import Shape, dry_run, evaluate
from .heads import Head
from .router_parts import GATES, NETWORKS, NOISES, LinearScores, PoolScores
from .routers import Route, Router, RouterSpec, SoftRouter, make_router
from .seeding import drawing_from, is_own, use_generator
from .trunks import TRUNKS, make_trunk, shape_after


class MixtureOutput(NamedTuple):
    """The output of a mixture for a batch, with the route and the outputs of the experts."""

    # (n_samples, n_outputs), None if the experts were not combined.
    output: Tensor | None
    # None if it was not asked for.
    route: Route | None
    # (n_samples, n_experts, n_outputs), None if they were combined.
    expert_outputs: Tensor | None


class MixtureOfExperts(nn.Module):
    """Experts among which a router chooses, or whose outputs it combines.

    Parameters
    ----------
    router : Router or None
        None with a single expert: its gate is exactly 1.
    experts : sequence of modules
        Each maps a batch to (n_samples, n_outputs). Or a module that is such a sequence and maps
        a batch to the outputs of all experts, (n_samples, n_experts, n_outputs).
    encoder : module or None, default=None
        A fixed transform of samples of X, before anything else. None: nothing.
    trunk : module or None, default=None
        Layers that router and experts share: their inputs are its outputs.
    shared : sequence of modules, default=()
        Experts for every sample, in addition to those that the router chooses: their outputs are
        added (arXiv 2401.06066). For routers that add outputs as well.
    scales_output : bool, default=False
        Whether the output, logits, is multiplied by the buffer `sharpness`, 1 until it is set.
    """

    sharpness: Tensor | None

    def __init__(
        self,
        router: Router | None,
        experts: Experts,
        encoder: nn.Module | None = None,
        trunk: nn.Module | None = None,
        shared: Sequence[nn.Module] = (),
        scales_output: bool = False,
    ):
        super().__init__()
        self.encoder = encoder
        self.trunk = trunk
        self.router = router
        self.experts = experts if isinstance(experts, nn.Module) else nn.ModuleList(experts)
        self.shared = nn.ModuleList(shared)
        self.register_buffer("sharpness", torch.ones(()) if scales_output else None)

    def encode(self, x: Tensor, encoded: bool = False) -> Tensor:
        """Return samples as router and experts take them; `encoded` are outputs of the encoder."""
        if self.encoder is not None and not encoded:
            x = self.encoder(x).to(next(self.parameters()).dtype)
        if self.trunk is not None:
            # Routes are never decided in mixed precision.
            x = self.trunk(x).to(x.dtype)
        return x

    def read(self, x: Tensor, columns: slice, encoded: bool = False) -> Tensor:
        """Return some columns of encoded samples, without the time that others take."""
        if encoded or self.trunk is not None or not isinstance(self.encoder, TableEncoder):
            return self.encode(x, encoded)[:, columns]
        return self.encoder.part(x, columns).to(next(self.parameters()).dtype)

    def route(self, x: Tensor, generator: Generator | None = None, encoded: bool = False) -> Route:
        """Route a batch; `generator` switches the noise on."""
        if self.router is not None and isinstance(self.experts, Pool):
            return self.router(self.read(x, self.experts.router_columns, encoded), generator)
        return self._route(self.encode(x, encoded), generator)

    def _route(self, x, generator=None):
        if self.router is None:
            scores = x.new_zeros(x.shape[0], len(self.experts), dtype=next(self.parameters()).dtype)
            first = scores[:, :1]
            return Route(scores, scores, first.long(), first + 1)
        if isinstance(self.experts, Pool):
            x = x[:, self.experts.router_columns]
        return self.router(x, generator)

    def forward(
        self, x: Tensor, generator: Generator | None = None, encoded: bool = False
    ) -> MixtureOutput:
        """Compute the output for a batch; `generator` switches the routing noise on."""
        x = self.encode(x, encoded)
        route = self._route(x, generator)
        if self.router is None:
            output = self.experts[0](x)
        else:
            output = self.router.combine(self.experts, x, route)
        for expert in self.shared:
            output = output + expert(x)
        if self.sharpness is not None:
            output = output * self.sharpness
        return MixtureOutput(output, route, None)

    def forward_experts(
        self,
        x: Tensor,
        generator: Generator | None = None,
        encoded: bool = False,
    ) -> MixtureOutput:
        """Route a batch and return the outputs of all experts, (n_samples, n_experts, n_outputs).

        For training with each expert's own loss.
        """
        x = self.encode(x, encoded)
        return MixtureOutput(None, self._route(x, generator), apply_all(self.experts, x))

    def forward_each(self, x: Tensor) -> Tensor:
        """Return the output if each expert replaced those that the router uses.

        Returns
        -------
        (n_samples, n_experts, n_outputs)
        """
        x = self.encode(x)
        if self.router is None:
            outputs = apply_all(self.experts, x)
        else:
            outputs = self.router.combine_each(self.experts, x, self._route(x))
        for expert in self.shared:
            outputs = outputs + expert(x).unsqueeze(1)
        return outputs

    def load_weights(self, other: "MixtureOfExperts", kept: Sequence[int] | None = None) -> None:
        """Copy the weights of a mixture of the same parts, whose experts may be stacked or not.

        `kept` are the experts of the other one that this one has, None: all. Of what has an entry
        per expert, such as the weights of a router, those of the experts are copied.
        """
        own = ("experts.", "encoder.")
        rest = {k: v for k, v in other.state_dict().items() if not k.startswith(own)}
        sources: Iterable[nn.Module] = other.experts
        if kept is not None:
            mine = self.state_dict()
            rest = {k: _entries(v, mine[k].shape, kept) for k, v in rest.items() if k in mine}
            sources = (other.experts[m] for m in kept)
        self.load_state_dict(rest, strict=False)
        for expert, source in zip(self.experts, sources, strict=True):
            expert.load_state_dict(source.state_dict())


def _entries(value: Tensor, shape: torch.Size, kept: Sequence[int]) -> Tensor:
    """Return a tensor of this shape: of each axis that is too long the entries that are kept."""
    for axis, (size, wanted) in enumerate(zip(value.shape, shape, strict=True)):
        if size != wanted:
            value = value.index_select(axis, torch.as_tensor(kept, device=value.device))
    return value


@default_torch_modes()
def build_mixture(
    input_shape: Shape,
    n_experts: int,
    *,
    head: Head,
    kinds: Sequence[tuple[ExpertSpec, Mapping[str, Any]]],
    kind_of: Sequence[int] | None = None,
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
    makes a step faster. `kinds` are experts with the options of their factories, `kind_of` which of
    them each expert is, None: the first one; `router_options` are those of `make_router`.
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
    kind_of = list(kind_of or [0] * n_experts)
    members: list[list[nn.Module]] = [[] for _ in kinds]
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
        shapes = [_part_of(input_shape, part) for part in columns]
        for kind in [*kind_of, *[0] * n_shared_experts]:
            (spec, options), shape = kinds[kind], shapes[kind]
            members[kind].append(spec.build(shape, head.n_outputs, **options).to(target))
        if not all(map(is_own, of_experts)):
            for (spec, _), shape, (expert, *_) in zip(kinds, shapes, members, strict=False):
                expected = (
                    f"expert={spec.factory!r} must make modules that map samples, (n_samples, "
                    f"{', '.join(map(str, shape))}), to (n_samples, {head.n_outputs})"
                )
                x = torch.zeros(1, *shape, dtype=target)
                dry_run(expected, evaluate, expert, x, shape=(1, head.n_outputs))
        is_linear = router.network in (None, "linear", LinearScores)
        if len(kinds) > 1 and is_linear and router.router_class is SoftRouter:
            router = replace(router, network=partial(PoolScores, kind_of=kind_of))
        if balance is not None:
            balance = BALANCES.make(balance, Balance, n_experts, balance_weight)
        made = make_router(
            router,
            _part_of(input_shape, router_columns),
            n_experts,
            balance=balance,
            mix=head.mix,
            normalize=trunk is not None,
            **router_options,
        )
    n_of_first = kind_of.count(0)
    shared = members[0][n_of_first:]
    groups: list[Experts] = [members[0][:n_of_first], *members[1:]]
    for kind, (spec, _) in enumerate(kinds):
        # Only of the factory itself: a wrapped one may return compiled or changed modules.
        stack = getattr(spec.factory, "stack", None)
        if unstacked or stack is None or len(groups[kind]) < 2:
            continue
        stacked = stack(groups[kind])
        if stacked is not None and (mixes or stacked_form(stacked) is not None):
            groups[kind] = stacked
    experts = groups[0]
    if len(kinds) > 1 or columns[0] != router_columns:
        experts = Pool(groups, columns, kind_of, router_columns)
    own_router = made if n_experts > 1 else None
    scales = own_router is not None and mixes and head.has_logits
    mixture = MixtureOfExperts(own_router, experts, encoder, trunk, shared, scales).to(target)
    if own_router is not None and not is_own(router.router_class):
        expected = (
            f"router={router} must have forward(x, generator=None), which returns a Route, and "
            "combine(experts, x, route), which returns the outputs"
        )
        inner = MixtureOfExperts(made, mixture.experts, shared=[*mixture.shared])
        x = torch.zeros(1, *input_shape, dtype=target)
        with use_generator(torch.Generator().manual_seed(seed)):
            dry_run(expected, lambda x: evaluate(inner, x).output, x, shape=(1, head.n_outputs))
    return mixture


def _part_of(shape: Shape, columns: slice) -> Shape:
    """Return the shape of a part of a sample."""
    return shape if columns == slice(None) else (columns.stop - columns.start,)
