"""The mixture: a router, its experts and their combined output; a pool of kinds; trunks."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from .._devices import default_torch_modes
from .._validation import Registry, accepts_argument, require_override
from .encoders import ChannelStatistics, FeatureStatistics, ImageEncoder, TableEncoder
from .experts import EXPERTS, CNNTrunk, ExpertSpec
from .functional import (
    Experts,
    Shape,
    apply_all,
    dry_run,
    evaluate,
    is_exporting,
    stacked_form,
)
from .heads import Head
from .router_parts import BALANCES, Balance, Route
from .routers import Router, RouterSpec, SoftRouter, make_router
from .seeding import is_own
from .trees import BoostedTrees, FittedMembers

# A kind of a smaller weight is not computed.
_NO_WEIGHT = 1e-12


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
    columns, router_columns : slice
        What experts and router read of an encoded table, by default all.
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
        columns: slice = slice(None),
        router_columns: slice = slice(None),
    ):
        super().__init__()
        self.columns = columns
        self.router_columns = router_columns
        self.encoder = encoder
        self.trunk = trunk
        self.router = router
        self.experts = experts if isinstance(experts, nn.Module) else nn.ModuleList(experts)
        self.shared = nn.ModuleList(shared)
        self.register_buffer("sharpness", torch.ones(()) if scales_output else None)

    def encode(self, x: Tensor) -> Tensor:
        """Return samples as router and experts take them."""
        if self.encoder is not None:
            x = self.encoder(x).to(next(self.parameters()).dtype)
        if self.trunk is not None:
            # Routes are never decided in mixed precision.
            x = self.trunk(x).to(x.dtype)
        return x

    def read(self, x: Tensor, columns: slice | None) -> Tensor:
        """Return some columns of encoded samples, without the time that others take."""
        if columns is None and isinstance(self.encoder, TableEncoder):
            return self.encoder.ordered(x)
        columns = columns or slice(None)
        if self.trunk is not None or not isinstance(self.encoder, TableEncoder):
            return _part(self.encode(x), columns)
        return self.encoder.part(x, columns).to(next(self.parameters()).dtype)

    def route(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Route a batch; `generator` switches the noise on."""
        if self.router is None:
            return self._route(self.encode(x), generator)
        return self.router(self.read(x, self.router_columns), generator)

    def _route(self, x, generator=None):
        if self.router is None:
            scores = x.new_zeros(x.shape[0], len(self.experts), dtype=next(self.parameters()).dtype)
            first = scores[:, :1]
            return Route(scores, scores, first.long(), first + 1)
        return self.router(_part(x, self.router_columns), generator)

    def forward(self, x: Tensor, generator: Generator | None = None) -> MixtureOutput:
        """Compute the output for a batch; `generator` switches the routing noise on."""
        x = self.encode(x)
        route, x = self._route(x, generator), _part(x, self.columns)
        if self.router is None:
            output = self.experts[0](x)
        else:
            output = self.router.combine(self.experts, x, route)
        for expert in self.shared:
            output = output + expert(x)
        if self.sharpness is not None:
            output = output * self.sharpness
        return MixtureOutput(output, route, None)

    def forward_experts(self, x: Tensor, generator: Generator | None = None) -> MixtureOutput:
        """Route a batch and return the outputs of all experts, (n_samples, n_experts, n_outputs).

        For training with each expert's own loss.
        """
        x = self.encode(x)
        outputs = apply_all(self.experts, _part(x, self.columns))
        return MixtureOutput(None, self._route(x, generator), outputs)

    def forward_each(self, x: Tensor) -> list[Tensor]:
        """Return for each expert the output if it replaced those that the router uses.

        Returns
        -------
        list of (n_samples, n_outputs)
        """
        x = self.encode(x)
        features = _part(x, self.columns)
        if self.router is None:
            outputs = apply_all(self.experts, features)
        else:
            outputs = self.router.combine_each(self.experts, features, self._route(x))
        for expert in self.shared:
            outputs = outputs + expert(features).unsqueeze(1)
        return [*outputs.unbind(1)]

    def load_weights(self, other: "MixtureOfExperts") -> None:
        """Copy the weights of a mixture of the same parts, whose experts may be stacked or not."""
        parts = ("experts.", "encoder.")
        rest = {k: v for k, v in other.state_dict().items() if not k.startswith(parts)}
        self.load_state_dict(rest, strict=False)
        for expert, source in zip(self.experts, other.experts, strict=True):
            expert.load_state_dict(source.state_dict())


def _part(x: Tensor, columns: slice) -> Tensor:
    return x if columns == slice(None) else x[:, columns]


# -- a pool: kinds of experts, each of which is a bag of members ----------------------------------


class Bag(MixtureOfExperts):
    """Members that all count the same.

    Parameters
    ----------
    members : sequence of modules
    mix : callable
        `Head.mix`.
    encoder, columns
        As of `MixtureOfExperts`.
    """

    def __init__(self, members: Experts, mix: Callable, encoder: nn.Module | None, columns: slice):
        super().__init__(None, members, encoder, columns=columns)
        self.mix = mix

    def forward(self, x: Tensor, generator: Generator | None = None) -> MixtureOutput:
        """Compute the output for a batch."""
        outputs = apply_all(self.experts, self.read(x, self.columns))
        return MixtureOutput(_mix_equally(self.mix, outputs), None, None)


def _mix_equally(mix: Callable, outputs: Tensor) -> Tensor:
    log_gate = outputs.new_full(outputs.shape[:2], -math.log(outputs.shape[1]))
    return mix(log_gate, outputs)


class KindRouter(SoftRouter):
    """A score of each kind of a pool, whose softmax are their weights, the same for all samples.

    Parameters
    ----------
    n_kinds : int
    mix : callable
        `Head.mix`.
    """

    def __init__(self, n_kinds: int, mix: Callable[[Tensor, Tensor], Tensor]):
        # It has no network, noise or balance, which other routers make of their parts.
        nn.Module.__init__(self)
        self.bias = nn.Parameter(torch.zeros(n_kinds))
        self.mix: Any = mix
        self.frozen = False

    def forward(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Route a batch, in float64."""
        scores = self.bias.double().expand(x.shape[0], -1)
        return Route(scores, scores, None, scores.softmax(1))


class Pool(MixtureOfExperts):
    """Kinds of experts, and a router that weighs the distributions of the kinds.

    Each kind is a bag: its members count the same. `experts[k]` are the members of kind k.

    Parameters
    ----------
    router : KindRouter
        Its `mix` also combines the members of a kind.
    kinds : sequence of modules
        Each is a list of modules, or one module that maps a batch to the outputs of all members.
    n_members : sequence of int
        Of each kind.
    columns : sequence of slice or None
        What each kind reads of an encoded table; None: what `TableEncoder.ordered` returns.
    encoder : module or None, default=None
        As of `MixtureOfExperts`, and so are the next two.
    scales_output : bool, default=False
    router_columns : slice
    """

    sizes: Tensor
    router: KindRouter

    def __init__(
        self,
        router: KindRouter,
        kinds: Sequence[nn.Module],
        n_members: Sequence[int],
        columns: Sequence[slice | None],
        encoder: nn.Module | None = None,
        scales_output: bool = False,
        router_columns: slice = slice(None),
    ):
        super().__init__(
            router, kinds, encoder, scales_output=scales_output, router_columns=router_columns
        )
        self.columns_of = list(columns)
        self.n_members = list(n_members)
        sizes = torch.tensor(n_members, dtype=torch.float64)
        self.register_buffer("sizes", sizes, persistent=False)

    def bag(self, kind: int) -> Bag:
        """Return the members of a kind as a mixture of their own, with the weights of the pool."""
        members: Any = self.experts[kind]
        columns = self.columns_of[kind] or slice(None)
        bag = Bag(members, self.router.mix, self.encoder, columns)
        return bag.train(self.training)

    def encode_for(self, x: Tensor, kinds: Sequence[int]) -> tuple[Tensor, int]:
        """Return samples as some kinds take them, and the first of all columns that is there."""
        if not isinstance(self.encoder, TableEncoder):
            return self.encode(x), 0
        all_columns = [self.columns_of[kind] for kind in kinds]
        known = [columns.indices(self.encoder.n_outputs) for columns in all_columns if columns]
        # Trees alone read none of them.
        first = min((start for start, _, _ in known), default=self.encoder.n_outputs)
        return self.read(x, slice(first, None)) if known else x, first

    def outputs_of(self, kind: int, x: Tensor, encoded: Tensor, first: int = 0) -> Tensor:
        """Return the outputs of the members for samples, (n_samples, n_members, n_outputs).

        Of encoded samples columns before the `first` are left out.
        """
        members: Any = self.experts[kind]
        columns = self.columns_of[kind]
        if columns is None:
            # Ordered numbers, which trees read, are no part of what is encoded.
            x = self.read(x, None)
        else:
            start, stop, _ = columns.indices(first + encoded.shape[1])
            x = encoded[:, start - first : stop - first]
        if isinstance(members, nn.ModuleList) and len(members) == 1:
            return members[0](x).unsqueeze(1)
        return apply_all(members, x)

    def forward(self, x: Tensor, generator: Generator | None = None) -> MixtureOutput:
        """Compute the output for a batch."""
        route = self.router(x)
        gate, kinds = route.gate, [*range(len(self.experts))]
        # A GPU would wait for the host; an export is for any number of rows.
        if not is_exporting() and gate.is_cpu and len(gate) and not gate.requires_grad:
            kinds = [kind for kind, share in enumerate(gate[0].tolist()) if share > _NO_WEIGHT]
        encoded, first = self.encode_for(x, kinds)
        outputs = [self.outputs_of(kind, x, encoded, first) for kind in kinds]
        members = [kind for kind in kinds for _ in range(self.n_members[kind])]
        log_gate = (gate / self.sizes).log()[:, members].to(outputs[0].dtype)
        output = self.router.mix(log_gate, torch.cat(outputs, 1))
        if self.sharpness is not None:
            output = output * self.sharpness
        return MixtureOutput(output, route, None)

    def forward_each(self, x: Tensor) -> list[Tensor]:
        """Return the output of each kind, (n_samples, n_outputs) or what `mix` returns."""
        encoded = self.encode(x)
        each = (self.outputs_of(kind, x, encoded) for kind in range(len(self.experts)))
        return [_mix_equally(self.router.mix, outputs) for outputs in each]

    def load_weights(self, other: MixtureOfExperts) -> None:
        """Copy the weights of a pool of the same kinds."""
        self.load_state_dict(other.state_dict())


# -- a trunk: the layers in front of a mixture, trained with it -----------------------------------


def _without(readout: str, expert: str, input_shape: Shape, **options: Any) -> nn.Module:
    """Return an expert up to its last layer."""
    network = EXPERTS[expert].build(input_shape, 1, **options)
    setattr(network, readout, nn.Identity())
    return network


TRUNKS = Registry(
    "trunk",
    "a torch.nn.Module, or a callable input_shape -> torch.nn.Module",
    {
        "cnn": CNNTrunk,
        "resnet18": partial(_without, "fc", "resnet18"),
        "mobilenet_v2": partial(_without, "classifier", "mobilenet_v2"),
    },
)


def make_trunk(
    trunk: str | nn.Module | Callable, input_shape: Shape, activation: str | Callable | None = None
) -> nn.Module:
    """Return a trunk for samples of shape `input_shape`; a module is copied.

    A callable is given `activation` if it takes an argument of that name.

    Raises
    ------
    ValueError
        If the name is unknown or the trunk does not fit the samples.
    TypeError
        If a callable takes other arguments or returns anything but a module.
    """
    factory = TRUNKS.resolve(trunk)
    if isinstance(factory, nn.Module):
        return copy.deepcopy(factory)
    options = {}
    if activation is not None and accepts_argument(factory, "activation"):
        options["activation"] = activation
    return TRUNKS.make(trunk, nn.Module, input_shape, **options)


def shape_after(trunk: nn.Module, input_shape: Shape, dtype: torch.dtype) -> Shape:
    """Return the shape of the features that a trunk computes from a sample of that type.

    Raises
    ------
    ValueError
        If it does not map samples to samples.
    """
    made = evaluate(trunk, torch.zeros(1, *input_shape, dtype=dtype))
    if not isinstance(made, Tensor) or made.ndim not in (2, 3, 4) or len(made) != 1:
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ValueError(
            f"trunk must map (n_samples, {', '.join(map(str, input_shape))}) to features of each "
            f"sample, (n_samples, n_features) for instance; of one sample it made {got}."
        )
    return tuple(made.shape[1:])


# -- made from the names and options of its parts -------------------------------------------------


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
) -> MixtureOfExperts:
    """Return a mixture with new weights, which torch draws.

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
    target = getattr(torch, dtype)
    encoder: nn.Module | None = None
    # What each kind, and the router, read of a sample. Before a trunk there is no choice.
    columns: list[slice | None] = [slice(None)] * len(kinds)
    router_columns = slice(None)
    if isinstance(statistics, FeatureStatistics):
        encoder = TableEncoder(statistics)
        input_shape = (encoder.n_outputs,)
        if trunk is None:
            columns = [encoder.columns[spec.columns] for spec, _ in kinds]
            router_columns = encoder.columns["bounded"] or router_columns
    elif statistics is not None:
        encoder = ImageEncoder(statistics)
    counts = n_members or ([n_experts] if len(kinds) == 1 else [1] * n_experts)
    of_experts = [
        part
        for spec, options in kinds
        for part in (spec.factory, *spec.options.values(), *options.values())
    ]
    # Modules of the user may have any dtype: they are converted before they are checked.
    if trunk is not None:
        trunk = make_trunk(trunk, input_shape, kinds[0][1].get("activation")).to(target)
        input_shape = shape_after(trunk, input_shape, target)
    shapes = [_shape_of(input_shape, part) for part in columns]

    def make(kind: int, count: int) -> list[nn.Module]:
        (spec, options), shape = kinds[kind], shapes[kind]
        if spec.estimator is not None:
            return [FittedMembers()]
        # Trees of all members are one module.
        count = 1 if spec.is_fitted else count
        made = (spec.build(shape, head.n_outputs, **options) for _ in range(count))
        return [expert.to(target) for expert in made]

    members = [make(kind, count) for kind, count in enumerate(counts)]
    shared = make(0, n_shared_experts)
    if not all(map(is_own, of_experts)):
        for (spec, _), shape, experts in zip(kinds, shapes, members, strict=True):
            if not spec.is_fitted:
                expected = (
                    f"expert={spec.factory!r} must make modules that map samples, (n_samples, "
                    f"{', '.join(map(str, shape))}), to (n_samples, {head.n_outputs})"
                )
                x = torch.zeros(1, *shape, dtype=target)
                dry_run(expected, evaluate, experts[0], x, shape=(1, head.n_outputs))
    groups: list[Experts] = [*members]
    for kind, (spec, _) in enumerate(kinds):
        # Only of the factory itself: a wrapped one may return compiled or changed modules.
        stack = getattr(spec.factory, "stack", None)
        if stack is not None and not unstacked and len(members[kind]) > 1:
            stacked = stack(members[kind])
            if stacked is not None and (mixes or stacked_form(stacked) is not None):
                groups[kind] = stacked
    if n_members is not None:
        of_kinds = KindRouter(n_experts, head.mix)
        scales, modules = head.has_logits and n_experts > 1, [*map(_as_module, groups)]
        pool = Pool(of_kinds, modules, n_members, columns, encoder, scales, router_columns)
        return pool.to(target)
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
    scales = n_experts > 1 and mixes and head.has_logits
    experts = groups[0] if len(kinds) == 1 else [*chain.from_iterable(members)]
    parts = experts, encoder, trunk, shared, scales, columns[0] or slice(None), router_columns
    mixture = MixtureOfExperts(made if n_experts > 1 else None, *parts).to(target)
    if n_experts > 1 and not is_own(router.router_class):
        expected = (
            f"router={router} must have forward(x, generator=None), which returns a Route, and "
            "combine(experts, x, route), which returns the outputs"
        )
        inner = MixtureOfExperts(made, mixture.experts, shared=[*mixture.shared])
        x = torch.zeros(1, *input_shape, dtype=target)
        dry_run(expected, lambda x: evaluate(inner, x).output, x, shape=(1, head.n_outputs))
    return mixture


def _as_module(experts: Experts) -> nn.Module:
    if isinstance(experts, nn.Module):
        return experts
    is_fitted = isinstance(experts[0], FittedMembers | BoostedTrees)
    return experts[0] if is_fitted else nn.ModuleList(experts)


def _shape_of(shape: Shape, columns: slice | None) -> Shape:
    """Return the shape of a part of a sample."""
    if columns is None or columns == slice(None):
        return shape
    return (columns.stop - columns.start,)
