"""Sparse routers: the k experts of highest score answer."""

from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..dispatch import Experts, dispatch
from ..ranks import sum_over_ranks
from .base import Route, Router, choose
from .scores import LinearScores

__all__ = ["NoisyTopKRouter", "TopKRouter"]


class TopKRouter(Router):
    """Send each sample to the `top_k` experts of highest noisy score and add up their answers.

    F(x) = sum of gate_m(x) f_m(x) over the chosen experts m; with `top_k=1`, softmax gate and
    uniform noise that is Algorithm 1 of the paper, with Gumbel noise a draw from the softmax.

    Notes
    -----
    With `defaults`, gates of experts that were not chosen learn as if these had given their
    default answer, the running mean of their answers (Default MoE, arXiv 2504.12463). Only the
    gradient is dense: the answer itself is that of the chosen experts.
    """

    sparse = noisy = True

    @classmethod
    def check(cls, input_shape, n_experts, top_k, gate):
        """Refuse more experts than there are, and a gate that is always 1."""
        if top_k > n_experts:
            raise ValueError(f"top_k={top_k} experts cannot be chosen out of n_experts={n_experts}")
        if top_k == 1 and gate == "renormalized":
            raise ValueError(
                "a gate renormalized over one chosen expert is always 1, and the router would get "
                "no gradient. Use gate='softmax', or router='topk' with top_k >= 2"
            )

    def perturb(
        self, x: Tensor, scores: Tensor, generator: Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the scores with noise, and the standard deviation of learned noise."""
        if self.noise is None or generator is None:
            return scores, None
        return scores + self.noise(x, scores, generator), None

    def weigh(self, scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
        """Return the gate values."""
        return self.gate(scores, noisy, chosen)

    def forward(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Choose the experts of each sample; `generator` switches the noise on."""
        scores = self.score(x)
        return self.settle(scores, *self.perturb(x, scores, generator), self.bias)

    def settle(
        self, scores: Tensor, noisy: Tensor, scale: Tensor | None, bias: Tensor | None
    ) -> Route:
        """Choose the experts of each sample, by scores with noise and with a bias."""
        ranked = noisy.detach()
        chosen = choose(ranked if bias is None else ranked + bias, self.top_k)
        return Route(scores, noisy, chosen, self.weigh(scores, noisy, chosen), scale)

    @property
    def bias(self) -> Tensor | None:
        """What decides who answers, not how much the answer counts: (n_experts,), or None."""
        return None if self.balance is None else self.balance.bias

    @property
    def watches(self) -> bool:
        """Whether `balance_loss` has something to do."""
        return self.balance is not None or self.defaults is not None

    def combine(self, experts: Experts, x: Tensor, route: Route) -> tuple[Tensor, Tensor]:
        """Add up the gated answers of the chosen experts."""
        assert route.chosen is not None  # by `settle`
        answers = dispatch(experts, x, route.chosen)
        output = self.add_up(answers, route.gate)
        if self.defaults is not None and self.training:
            everyone = self.weigh(route.scores, route.noisy, None)
            others = everyone.scatter(1, route.chosen, 0).to(output) @ self.defaults.mean.clone()
            output = output + (others - others.detach())
        return output, answers

    @staticmethod
    def add_up(answers: Tensor, gate: Tensor) -> Tensor:
        """Return the sum of gate times answer, (n_samples, n_outputs)."""
        gate = gate.to(answers.dtype)
        if answers.shape[1] == 1:
            return answers.squeeze(1) * gate
        return (answers * gate.unsqueeze(2)).sum(1)

    def balance_loss(self, route, answers, weight):
        """Take note of a training batch, its answers included."""
        if self.defaults is not None:
            self.defaults.update(*_mean_answers(route, answers.detach(), weight))
        return super().balance_loss(route, answers, weight)

    def chance(self, route: Route) -> Tensor:
        """Return how likely each expert is to be among the k, were its own noise drawn anew.

        The noise of the others stays: the smooth load of Shazeer et al. (2017), appendix A. It
        needs noise with a known distribution and fewer chosen experts than there are.
        """
        k = self.top_k
        best = route.noisy.topk(k + 1, dim=1).values
        is_in = route.noisy > best[:, k:]
        to_beat = torch.where(is_in, best[:, k:], best[:, k - 1 : k])
        missing = to_beat - route.scores
        if route.detail is not None:
            missing = missing / route.detail
        noise: Any = self.noise
        return noise.survival(missing)


@torch.no_grad()
def _mean_answers(route: Route, answers: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return each expert's mean answer, (n_experts, n_outputs), and 1 where it gave any, else 0."""
    assert route.chosen is not None
    # Products with ones and zeros, not bincount and index_add: the order of their sums varies.
    experts = torch.arange(route.scores.shape[1], device=answers.device)
    slots = (route.chosen.unsqueeze(2) == experts).to(weight.dtype) * weight[:, None, None]
    load = sum_over_ranks(slots.sum((0, 1)))
    total = sum_over_ranks(slots.flatten(0, 1).T @ answers.to(weight.dtype).flatten(0, 1))
    return total / load.clamp(min=1e-12).unsqueeze(1), (load > 0).to(load.dtype)


class NoisyTopKRouter(TopKRouter):
    """Top-k with noise whose scale is learned per sample and expert (Shazeer et al., 2017).

    noisy_m = h_m + softplus(s_m) r_m with a second score network s. Gates are taken from the noisy
    scores, so that the scale has a gradient.
    """

    gates = ("softmax", "renormalized", "relative", "sigmoid")
    learns_noise = True

    def __init__(self, network, *, scale_network, **parts):
        super().__init__(network, **parts)
        self.scale_network = scale_network

    @classmethod
    def build(cls, network, input_shape, n_experts, **parts):
        """Return the router, with a linear network for the scale."""
        return cls(network, scale_network=LinearScores(input_shape, n_experts), **parts)

    def perturb(self, x, scores, generator):
        """Return the scores with noise of learned scale, and that scale."""
        if generator is None:
            return scores, None
        with torch.autocast(x.device.type, enabled=False):
            scale = nn.functional.softplus(self.scale_network(x, scores.dtype))
        return scores + scale * self.noise(x, scores, generator), scale

    def weigh(self, scores, noisy, chosen):
        """Return the gate values of the noisy scores."""
        return self.gate(noisy, noisy, chosen)
