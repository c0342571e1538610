"""The mixture of experts: route, dispatch, gate, add up."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from .dispatch import dispatch
from .routers import choose

__all__ = ["Mixed", "MixtureOfExperts", "Route"]


class Route(NamedTuple):
    """Where the samples of a batch go."""

    scores: Tensor  # (n_samples, n_experts), without noise
    chosen: Tensor  # (n_samples, k)
    gate: Tensor  # (n_samples, k)


class Mixed(NamedTuple):
    """What a mixture says of a batch, and how it came to it."""

    output: Tensor  # (n_samples, n_outputs)
    route: Route


class MixtureOfExperts(nn.Module):
    """F(x) = sum of gate_m(x) f_m(x) over the k experts m that the router chooses for x.

    Parameters
    ----------
    router : module or None
        Maps a batch to (n_samples, n_experts) scores. None with a single expert: its gate is
        exactly 1.
    experts : sequence of modules
        Each maps a batch to (n_samples, n_outputs).
    top_k : int, default=1
        Experts that answer each sample.
    gate : callable
        (scores, noisy scores, chosen) -> (n_samples, k) weights of the answers.
    noise : callable or None
        (x, scores, generator) -> noise added to the scores before the choice, in training.

    Notes
    -----
    Outside training the scores are computed in float64: how a sample is grouped with others
    changes the last bits of a matrix product, and in float32 those can decide a close race
    between two experts.
    """

    def __init__(
        self,
        router: nn.Module | None,
        experts: Sequence[nn.Module],
        *,
        top_k: int = 1,
        gate: Callable[[Tensor, Tensor, Tensor], Tensor],
        noise: Callable[[Tensor, Tensor, Generator], Tensor] | None = None,
    ):
        super().__init__()
        self.router = router
        self.experts = nn.ModuleList(experts)
        self.top_k = top_k
        self.gate = gate
        self.noise = noise

    def route(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Choose the experts of each sample; `generator` switches the noise on."""
        if self.router is None:
            scores = x.new_zeros(len(x), 1)
            return Route(scores, scores.long(), scores + 1)
        scores = self.router(x, x.dtype if self.training else torch.float64)
        noisy = scores
        if self.noise is not None and generator is not None:
            noisy = scores + self.noise(x, scores, generator)
        chosen = choose(noisy.detach(), self.top_k)
        return Route(scores, chosen, self.gate(scores, noisy, chosen))

    def forward(self, x: Tensor, generator: Generator | None = None) -> Mixed:
        """Answer a batch; `generator` switches the routing noise on."""
        route = self.route(x, generator)
        answers = dispatch(self.experts, x, route.chosen)
        gate = route.gate.to(answers.dtype)
        if answers.shape[1] == 1:
            return Mixed(answers[:, 0] * gate, route)
        return Mixed((answers * gate.unsqueeze(2)).sum(1), route)

    def forward_each(self, x: Tensor) -> Tensor:
        """Return what each expert would answer in the place of those chosen.

        The samples keep the total gate value of their own route, so that the answer of the one
        chosen expert is the answer of the mixture.

        Returns
        -------
        (n_samples, n_experts, n_outputs)
        """
        gate = self.route(x).gate.sum(1).to(x.dtype)
        answers = torch.stack([expert(x) for expert in self.experts], 1)
        return answers * gate[:, None, None]
