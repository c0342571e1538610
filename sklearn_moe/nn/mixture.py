"""The mixture of experts: a router, its experts and their combined output; and a pool of kinds."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from .dispatch import Experts, apply_all, is_exporting
from .encoders import TableEncoder
from .router_parts import Route, Scores
from .routers import Router, SoftRouter

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
    columns, router_columns : slice, default=slice(None)
        What experts and router read of an encoded table.
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
            return _part(self.encode(x, encoded), columns)
        return self.encoder.part(x, columns).to(next(self.parameters()).dtype)

    def route(self, x: Tensor, generator: Generator | None = None, encoded: bool = False) -> Route:
        """Route a batch; `generator` switches the noise on."""
        if self.router is None:
            return self._route(self.encode(x, encoded), generator)
        return self.router(self.read(x, self.router_columns, encoded), generator)

    def _route(self, x, generator=None):
        if self.router is None:
            scores = x.new_zeros(x.shape[0], len(self.experts), dtype=next(self.parameters()).dtype)
            first = scores[:, :1]
            return Route(scores, scores, first.long(), first + 1)
        return self.router(_part(x, self.router_columns), generator)

    def forward(
        self, x: Tensor, generator: Generator | None = None, encoded: bool = False
    ) -> MixtureOutput:
        """Compute the output for a batch; `generator` switches the routing noise on."""
        x = self.encode(x, encoded)
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


class EqualScores(Scores):
    """The same score for all experts: their mixture is a bag.

    Parameters
    ----------
    n_experts : int
    """

    def __init__(self, n_experts: int):
        super().__init__()
        self.n_experts = n_experts

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Map samples to (n_samples, n_experts) scores of 0."""
        return x.new_zeros(len(x), self.n_experts, dtype=dtype)


class Pool(MixtureOfExperts):
    """Kinds of experts, and a router that weighs the distributions of the kinds.

    Each kind is a bag: its members count the same. `experts[k]` are the members of kind k.

    Parameters
    ----------
    router : SoftRouter
        Of the kinds; its `mix` also combines the members of a kind.
    kinds : sequence of modules
        Each is a list of modules, or one module that maps a batch to the outputs of all members.
    n_members : sequence of int
        Of each kind.
    columns : sequence of slice
        What each kind reads of an encoded table.
    encoder, scales_output, router_columns
        As of `MixtureOfExperts`.
    """

    shares: Tensor
    kind_of: Tensor
    router: SoftRouter

    def __init__(
        self,
        router: SoftRouter,
        kinds: Sequence[nn.Module],
        n_members: Sequence[int],
        columns: Sequence[slice],
        encoder: nn.Module | None = None,
        scales_output: bool = False,
        router_columns: slice = slice(None),
    ):
        super().__init__(
            router, kinds, encoder, scales_output=scales_output, router_columns=router_columns
        )
        self.columns_of = list(columns)
        kind_of = torch.arange(len(n_members)).repeat_interleave(torch.tensor(n_members))
        self.register_buffer("kind_of", kind_of, persistent=False)
        shares = 1 / torch.tensor(n_members, dtype=torch.float64)[kind_of]
        self.register_buffer("shares", shares, persistent=False)

    def bag(self, kind: int) -> MixtureOfExperts:
        """Return the members of a kind as a mixture in which all count the same.

        Its weights are those of the pool.
        """
        n_members = int((self.kind_of == kind).sum())
        equal = SoftRouter(EqualScores(n_members), mix=self.router.mix)
        experts: Any = self.experts[kind]
        bag = MixtureOfExperts(equal, experts, self.encoder, columns=self.columns_of[kind])
        return bag.train(self.training)

    def outputs_of(self, kind: int, x: Tensor) -> Tensor:
        """Return the outputs of the members for encoded samples, (n_samples, n_members, ...)."""
        experts: Any = self.experts[kind]
        return apply_all(experts, _part(x, self.columns_of[kind]))

    def forward(
        self, x: Tensor, generator: Generator | None = None, encoded: bool = False
    ) -> MixtureOutput:
        """Compute the output for a batch."""
        x = self.encode(x, encoded)
        route = self._route(x, generator)
        gate = route.gate
        used = [True] * len(self.experts)
        # A GPU would wait for the host.
        if gate.is_cpu and len(gate) and not (gate.requires_grad or is_exporting()):
            used = (gate.amax(0) > _NO_WEIGHT).tolist()
        outputs = [self.outputs_of(k, x) for k in range(len(used)) if used[k]]
        kind_of, shares = self.kind_of, self.shares
        if not all(used):
            members = torch.tensor(used)[kind_of]
            kind_of, shares = kind_of[members], shares[members]
        gate = (gate[:, kind_of] * shares).to(outputs[0].dtype)
        log_gate = gate.clamp(min=torch.finfo(gate.dtype).tiny).log()
        assert self.router.mix is not None
        output = self.router.mix(log_gate, torch.cat(outputs, 1))
        if self.sharpness is not None:
            output = output * self.sharpness
        return MixtureOutput(output, route, None)

    def forward_each(self, x: Tensor) -> list[Tensor]:
        """Return the output of each kind, of (n_samples, n_outputs) or what `mix` returns."""
        x = self.encode(x)
        return [self.bag(kind)(x, encoded=True).output for kind in range(len(self.experts))]

    def load_weights(self, other: MixtureOfExperts) -> None:
        """Copy the weights of a pool of the same kinds."""
        self.load_state_dict(other.state_dict())
