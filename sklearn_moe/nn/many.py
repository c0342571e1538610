"""Many mixtures of one architecture, each with samples of its own, computed as one."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from .dispatch import Order, together
from .grouped import GroupedProducts
from .mixture import MixtureOfExperts, MixtureOutput
from .routers import Route
from .routers.gates import GATES
from .routers.noise import Noise
from .routers.scores import LinearScores, pool
from .routers.sparse import NoisyTopKRouter, TopKRouter

__all__ = ["Mixtures", "sum_patches"]


class Mixtures:
    """Mixtures that differ in nothing but their weights, in training.

    Where a router chooses among experts that answer together, R models of M experts are one
    mixture of R M experts, in which a sample of model r is sent to some of its own M. Other
    mixtures speak one after the other.

    Parameters
    ----------
    mixtures : sequence of MixtureOfExperts
    xs : sequence of tensors, (n_samples, ...) each
        The training samples of each, or what gives them by `index_select`.
    """

    def __init__(self, mixtures: Sequence[MixtureOfExperts], xs: Sequence[Tensor]):
        self.mixtures = mixtures
        self.xs = xs
        self.choose_at_once = _choose_alike(mixtures[0])

    def forward(
        self,
        seen: Sequence[Tensor],
        index: Sequence[Tensor],
        generators: Sequence[Generator],
        *,
        apart: bool,
    ) -> MixtureOutput:
        """Answer a batch of each mixture, one after the other.

        Parameters
        ----------
        seen : sequence of tensors
            The batches, or what `sum_patches` makes of them.
        index : sequence of int tensors
            The rows of `xs` that they are.
        generators : sequence of Generator
            Sources of the noise.
        apart : bool
            Whether to return the answers of all experts in place of a mixture of them.
        """
        if self.choose_at_once and not apart:
            return self._choose(seen, index, generators)
        calls = [mixture.forward_apart if apart else mixture for mixture in self.mixtures]
        each = zip(calls, seen, generators, strict=True)
        return _join([call(x, generator) for call, x, generator in each])

    def balance_losses(self, mixed: MixtureOutput, weights: Sequence[Tensor]) -> list[Tensor]:
        """Return what each router adds to the loss of its samples, with their weights."""
        routers = [mixture.router for mixture in self.mixtures if mixture.router is not None]
        if not routers or not routers[0].watches:
            return []
        sizes = [len(weight) for weight in weights]
        answers = _split(mixed.answers, sizes)
        routes = zip(*(_split(part, sizes) for part in mixed.route), strict=True)
        losses = [
            router.balance_loss(Route(*route), *rest)
            for router, route, *rest in zip(routers, routes, answers, weights, strict=True)
        ]
        return [loss for loss in losses if loss is not None]

    def _choose(self, seen, index, generators):
        routers = [mixture.router for mixture in self.mixtures]
        sizes = [len(rows) for rows in index]
        if _sees_sums(routers[0]):
            weight = torch.stack([router.network.weight for router in routers])
            scores = GroupedProducts.apply(torch.cat(seen), weight, None, sizes).T
        else:
            scores = _concatenate([r.score(x) for r, x in zip(routers, seen, strict=True)])
        each = zip(routers, seen, scores.split(sizes), generators, strict=True)
        noisy = zip(*(router.perturb(*args) for router, *args in each), strict=True)
        bias = None
        if routers[0].bias is not None:
            bias = torch.cat([r.bias.expand(n, -1) for r, n in zip(routers, sizes, strict=True)])
        route = routers[0].settle(scores, *map(_concatenate, noisy), bias)
        answers = self._dispatch(route.chosen, index)
        return MixtureOutput(routers[0].add_up(answers, route.gate), route, answers)

    def _dispatch(self, chosen, index):
        """Return the answers of the chosen experts, (n_samples, k, n_outputs)."""
        k = chosen.shape[1]
        n_experts = len(self.mixtures) * len(self.mixtures[0].experts)
        sizes = [len(rows) for rows in index]
        first = torch.arange(0, n_experts, len(self.mixtures[0].experts), device=chosen.device)
        first = first.repeat_interleave(torch.tensor(sizes, device=chosen.device))
        order = Order.of(chosen + first.unsqueeze(1), n_experts)
        rows = torch.cat(index).index_select(0, order.samples)
        places = rows.split([size * k for size in sizes])
        experts = [together(mixture.experts) for mixture in self.mixtures]
        experts = type(experts[0]).joined(experts)
        answers = experts.gathered(self.xs, places, order.sizes)
        return order.restore(answers)


def sum_patches(mixture: MixtureOfExperts, x: Tensor) -> Tensor | None:
    """Return what a router that looks at the sum of the patches sees of samples, if it does."""
    if _choose_alike(mixture) and _sees_sums(mixture.router):
        return pool(x[:], x.dtype)
    return None


def _sees_sums(router):
    """Tell whether a router looks at the sum of the patches only, noise included."""
    noise = router.noise
    draws = isinstance(noise, Noise) and type(noise).__call__ is Noise.__call__
    blind = noise is None or (draws and not noise.per_row)
    return blind and type(router.network) is LinearScores and router.network.bias is None


def _choose_alike(mixture):
    """Tell whether samples are routed by a rule that many mixtures share, to experts alike."""
    router = mixture.router
    plain = mixture.encoder is None and mixture.trunk is None and not mixture.shared
    return (
        plain
        and type(router) in (TopKRouter, NoisyTopKRouter)
        and router.gate in GATES.values()  # somebody's own may look beyond a sample
        and router.defaults is None
        and together(mixture.experts) is not None
    )


def _join(said):
    """Return outputs of mixtures as one, the samples one after the other."""
    outputs, routes, answers = zip(*said, strict=True)
    route = Route(*(_concatenate(part) for part in zip(*routes, strict=True)))
    return MixtureOutput(_concatenate(outputs), route, _concatenate(answers))


def _concatenate(parts):
    """Concatenate along the samples, which stay the last axis in memory where they are."""
    if not isinstance(parts[0], Tensor):
        return None
    if parts[0].ndim == 2:
        return torch.cat([part.T for part in parts], 1).T
    return torch.cat(parts)


def _split(values, sizes):
    return [None] * len(sizes) if values is None else values.split(sizes)
