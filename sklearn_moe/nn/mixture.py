"""The mixture of experts: a router, its experts, and their combined output."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from .dispatch import Experts, apply_all, is_stack
from .routers.base import Route, Router


class MixtureOutput(NamedTuple):
    """The output of a mixture for a batch, with the route and the outputs of the experts."""

    output: Tensor | None  # (n_samples, n_outputs); None if the experts were not combined
    route: Route
    expert_outputs: Tensor | None  # (n_samples, k, n_outputs), before the gate


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
    """

    def __init__(
        self,
        router: Router | None,
        experts: Experts,
        encoder: nn.Module | None = None,
        trunk: nn.Module | None = None,
        shared: Sequence[nn.Module] = (),
    ):
        super().__init__()
        self.encoder = encoder
        self.trunk = trunk
        self.router = router
        self.experts = experts if isinstance(experts, nn.Module) else nn.ModuleList(experts)
        self.shared = nn.ModuleList(shared)
        self.dense_phase = False  # before upcycling: only the first expert is used

    def encode(self, x: Tensor) -> Tensor:
        """Return samples as router and experts take them."""
        if self.encoder is not None:
            x = self.encoder(x).to(next(self.parameters()).dtype)
        # Routes are never decided in mixed precision.
        return x if self.trunk is None else self.trunk(x).to(x.dtype)

    def route(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Route a batch; `generator` switches the noise on."""
        return self._route(self.encode(x), generator)

    def _route(self, x, generator=None):
        if self.router is None or self.dense_phase:
            scores = x.new_zeros(x.shape[0], len(self.experts), dtype=next(self.parameters()).dtype)
            first = scores[:, :1]
            return Route(scores, scores, first.long(), first + 1)
        return self.router(x, generator)

    def forward(self, x: Tensor, generator: Generator | None = None) -> MixtureOutput:
        """Compute the output for a batch; `generator` switches the routing noise on."""
        x = self.encode(x)
        route = self._route(x, generator)
        if self.router is None or self.dense_phase:
            output, expert_outputs = self.experts[0](x), None
        else:
            output, expert_outputs = self.router.combine(self.experts, x, route)
        for expert in self.shared:
            output = output + expert(x)
        return MixtureOutput(output, route, expert_outputs)

    def forward_experts(self, x: Tensor, generator: Generator | None = None) -> MixtureOutput:
        """Route a batch and return the outputs of all experts, (n_samples, n_experts, n_outputs).

        For training with each expert's own loss.
        """
        x = self.encode(x)
        return MixtureOutput(None, self._route(x, generator), apply_all(self.experts, x))

    def forward_each(self, x: Tensor) -> Tensor:
        """Return the output if each expert replaced those that the router uses.

        Returns
        -------
        (n_samples, n_experts, n_outputs)
        """
        x = self.encode(x)
        if self.router is None or self.dense_phase:
            outputs = apply_all(self.experts, x)
        else:
            outputs = self.router.combine_each(self.experts, x, self._route(x))
        for expert in self.shared:
            outputs = outputs + expert(x).unsqueeze(1)
        return outputs

    def load_weights(self, other: "MixtureOfExperts") -> None:
        """Copy the state of a mixture of the same parts, whose experts may be stacked or not."""
        rest = {k: v for k, v in other.state_dict().items() if not k.startswith("experts.")}
        self.load_state_dict(rest, strict=False)
        for expert, source in zip(self.experts, other.experts, strict=True):
            expert.load_state_dict(source.state_dict())

    def balance_loss(self, mixed: MixtureOutput, weight: Tensor) -> Tensor | None:
        """Update running statistics by a training batch; call it once per step.

        Returns what the router adds to the loss of a batch with sample weights, or None.
        """
        if self.router is None or self.dense_phase:
            return None
        return self.router.balance_loss(mixed.route, mixed.expert_outputs, weight)


@torch.no_grad()
def upcycle(mixture: MixtureOfExperts, optimizer: Optimizer | None = None) -> None:
    """Sparse upcycling (arXiv 2212.05055): make all experts copies of the first one.

    The state of the optimizer is copied as well. The output of the mixture does not change if its
    gates add up to 1 and it has no shared experts.
    """
    if is_stack(mixture.experts):
        for parameter in mixture.experts.parameters():
            state = {} if optimizer is None else optimizer.state.get(parameter, {})
            for value in (parameter, *state.values()):
                if getattr(value, "shape", None) == parameter.shape:
                    value.copy_(value[:1].clone())
        return
    first, *others = mixture.experts
    for expert in others:
        expert.load_state_dict(first.state_dict())
        if optimizer is None:
            continue
        for parameter, source in zip(expert.parameters(), first.parameters(), strict=True):
            state = optimizer.state.get(source, {})
            optimizer.state[parameter] = {
                name: value.clone() if hasattr(value, "clone") else value
                for name, value in state.items()
            }
