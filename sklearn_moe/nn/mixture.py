"""The mixture of experts: a router, its experts, and what they say together."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Generator, Tensor, nn

from .dispatch import Experts, answer_all
from .routers import Route, Router

__all__ = ["MixtureOfExperts", "MixtureOutput"]


class MixtureOutput(NamedTuple):
    """What a mixture says of a batch, and how it came to it."""

    output: Tensor | None  # (n_samples, n_outputs); None if the answers were kept apart
    route: Route
    answers: Tensor | None  # (n_samples, k, n_outputs) of the chosen experts, before the gate


class MixtureOfExperts(nn.Module):
    """Experts among which a router chooses, or whose answers it mixes.

    Parameters
    ----------
    router : Router or None
        None with a single expert: its gate is exactly 1.
    experts : sequence of modules
        Each maps a batch to (n_samples, n_outputs). Or a module that is such a sequence and maps
        a batch to the answers of all, (n_samples, n_experts, n_outputs).
    encoder : module or None, default=None
        What is done to a sample of X before all else, without learning. None: nothing.
    trunk : module or None, default=None
        Layers that router and experts share: these see what it makes of a sample.
    shared : sequence of modules, default=()
        Experts that answer every sample, beside those that the router chooses: their answers are
        added (arXiv 2401.06066). For routers that add answers up, too.
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
        self.united = False  # dense phase, before upcycling: only the first expert is used

    def encode(self, x: Tensor) -> Tensor:
        """Return samples as router and experts see them."""
        if self.encoder is not None:
            x = self.encoder(x).to(next(self.parameters()).dtype)
        # Routes are never decided in mixed precision.
        return x if self.trunk is None else self.trunk(x).to(x.dtype)

    def route(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Route a batch; `generator` switches the noise on."""
        return self._route(self.encode(x), generator)

    def _route(self, x, generator=None):
        if self.router is None or self.united:
            scores = x.new_zeros(x.shape[0], len(self.experts), dtype=next(self.parameters()).dtype)
            first = scores[:, :1]
            return Route(scores, scores, first.long(), first + 1)
        return self.router(x, generator)

    def forward(self, x: Tensor, generator: Generator | None = None) -> MixtureOutput:
        """Answer a batch; `generator` switches the routing noise on."""
        x = self.encode(x)
        route = self._route(x, generator)
        if self.router is None or self.united:
            output, answers = self.experts[0](x), None
        else:
            output, answers = self.router.combine(self.experts, x, route)
        for expert in self.shared:
            output = output + expert(x)
        return MixtureOutput(output, route, answers)

    def forward_apart(self, x: Tensor, generator: Generator | None = None) -> MixtureOutput:
        """Route a batch and return the answers of all experts, (n_samples, n_experts, n_outputs).

        For the training of mixtures that look at each expert's own loss.
        """
        x = self.encode(x)
        return MixtureOutput(None, self._route(x, generator), answer_all(self.experts, x))

    def forward_each(self, x: Tensor) -> Tensor:
        """Return what each expert would answer in the place of those that do.

        Returns
        -------
        (n_samples, n_experts, n_outputs)
        """
        x = self.encode(x)
        if self.router is None or self.united:
            answers = answer_all(self.experts, x)
        else:
            answers = self.router.combine_each(self.experts, x, self._route(x))
        for expert in self.shared:
            answers = answers + expert(x).unsqueeze(1)
        return answers

    def load_weights(self, other: "MixtureOfExperts") -> None:
        """Take over the state of a mixture of the same parts, its experts stacked or not."""
        rest = {k: v for k, v in other.state_dict().items() if not k.startswith("experts.")}
        self.load_state_dict(rest, strict=False)
        for own, its in zip(self.experts, other.experts, strict=True):
            own.load_state_dict(its.state_dict())

    def balance_loss(self, mixed: MixtureOutput, weight: Tensor) -> Tensor | None:
        """Update running statistics by a training batch; call it once per step.

        Returns what the router adds to the loss of a batch with sample weights, None if nothing.
        """
        if self.router is None or self.united:
            return None
        return self.router.balance_loss(mixed.route, mixed.answers, weight)
