"""The mixture of experts: a router, its experts, and what they say together."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Generator, Tensor, nn

from .dispatch import answer_all
from .routers import Route, Router

__all__ = ["MixtureOfExperts", "MixtureOutput"]


class MixtureOutput(NamedTuple):
    """What a mixture says of a batch, and how it came to it."""

    output: Tensor  # (n_samples, n_outputs)
    route: Route
    answers: Tensor | None  # (n_samples, k, n_outputs) of the chosen experts, before the gate


class MixtureOfExperts(nn.Module):
    """Experts among which a router chooses, or whose answers it mixes.

    Parameters
    ----------
    router : Router or None
        None with a single expert: its gate is exactly 1.
    experts : sequence of modules
        Each maps a batch to (n_samples, n_outputs).
    """

    def __init__(self, router: Router | None, experts: Sequence[nn.Module]):
        super().__init__()
        self.router = router
        self.experts = nn.ModuleList(experts)

    def route(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Route a batch; `generator` switches the noise on."""
        if self.router is None:
            scores = x.new_zeros(len(x), 1, dtype=next(self.parameters()).dtype)
            return Route(scores, scores, scores.long(), scores + 1)
        return self.router(x, generator)

    def forward(self, x: Tensor, generator: Generator | None = None) -> MixtureOutput:
        """Answer a batch; `generator` switches the routing noise on."""
        route = self.route(x, generator)
        if self.router is None:
            return MixtureOutput(self.experts[0](x), route, None)
        output, answers = self.router.combine(self.experts, x, route)
        return MixtureOutput(output, route, answers)

    def forward_each(self, x: Tensor) -> Tensor:
        """Return what each expert would answer in the place of those that do.

        Returns
        -------
        (n_samples, n_experts, n_outputs)
        """
        if self.router is None:
            return answer_all(self.experts, x)
        return self.router.combine_each(self.experts, x, self.route(x))

    def balance_loss(self, mixed: MixtureOutput, weight: Tensor) -> Tensor | None:
        """Update running statistics by a training batch; call it once per step.

        Returns what the router adds to the loss of a batch with sample weights, None if nothing.
        """
        if self.router is None:
            return None
        return self.router.balance_loss(mixed.route, mixed.answers, weight)
