"""Many mixtures of one architecture, each with samples of its own, computed as one."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from .dispatch import GroupedProducts, Order, stacked_form
from .mixture import MixtureOfExperts, MixtureOutput
from .routers.base import Route
from .routers.gates import GATES, Noise
from .routers.scores import LinearScores, pool
from .routers.sparse import NoisyTopKRouter, TopKRouter


class StackedMixtures:
    """Mixtures that differ in nothing but their weights, in training.

    Where a router chooses among experts that have a stacked form, R models of M experts are one
    mixture of R M experts, in which a sample of model r is sent to some of its own M. Other
    mixtures are called one after the other.

    Parameters
    ----------
    mixtures : sequence of MixtureOfExperts
    xs : sequence of tensors, (n_samples, ...) each
        The training samples of each, or what gives them by `index_select`.
    """

    def __init__(self, mixtures: Sequence[MixtureOfExperts], xs: Sequence[Tensor]):
        self.mixtures = mixtures
        self.xs = xs
        self.is_joint = _routes_jointly(mixtures[0])

    def forward(
        self,
        inputs: Sequence[Tensor],
        index: Sequence[Tensor],
        generators: Sequence[Generator],
        *,
        experts_only: bool,
    ) -> MixtureOutput:
        """Return the outputs for a batch of each mixture, concatenated along the samples.

        Parameters
        ----------
        inputs : sequence of tensors
            The batches, or `router_inputs` of them.
        index : sequence of int tensors
            Their rows in `xs`.
        generators : sequence of Generator
            Sources of the noise.
        experts_only : bool
            Whether to return the outputs of all experts in place of a mixture of them.
        """
        if self.is_joint and not experts_only:
            return self._joint_forward(inputs, index, generators)
        calls = [mixture.forward_experts if experts_only else mixture for mixture in self.mixtures]
        each = zip(calls, inputs, generators, strict=True)
        return _join([call(x, generator) for call, x, generator in each])

    def balance_losses(self, mixed: MixtureOutput, weights: Sequence[Tensor]) -> list[Tensor]:
        """Return what each router adds to the loss of its samples, with their weights."""
        routers = [mixture.router for mixture in self.mixtures if mixture.router is not None]
        if not routers or not routers[0].has_balance_loss:
            return []
        sizes = [len(weight) for weight in weights]
        outputs = _split(mixed.expert_outputs, sizes)
        routes = zip(*(_split(part, sizes) for part in mixed.route), strict=True)
        losses = [
            router.balance_loss(Route(*route), *rest)
            for router, route, *rest in zip(routers, routes, outputs, weights, strict=True)
        ]
        return [loss for loss in losses if loss is not None]

    def _joint_forward(self, inputs, index, generators):
        routers = [mixture.router for mixture in self.mixtures]
        sizes = [len(rows) for rows in index]
        if _uses_patch_sums(routers[0]):
            weight = torch.stack([router.network.weight for router in routers])
            scores = GroupedProducts.apply(torch.cat(inputs), weight, None, sizes).T
        else:
            scores = _concatenate([r.score(x) for r, x in zip(routers, inputs, strict=True)])
        each = zip(routers, inputs, scores.split(sizes), generators, strict=True)
        noisy = zip(*(router.add_noise(*args) for router, *args in each), strict=True)
        bias = None
        if routers[0].bias is not None:
            bias = torch.cat([r.bias.expand(n, -1) for r, n in zip(routers, sizes, strict=True)])
        route = routers[0].select(scores, *map(_concatenate, noisy), bias)
        # Expert m of model r is number r M + m.
        n_each, device = scores.shape[1], scores.device
        first = torch.arange(0, len(routers) * n_each, n_each, device=device)
        first = first.repeat_interleave(torch.tensor(sizes, device=device))
        order = Order.of(route.chosen + first.unsqueeze(1), len(routers) * n_each)
        rows = torch.cat(index).index_select(0, order.samples)
        places = rows.split([size * order.k for size in sizes])
        experts = [stacked_form(mixture.experts) for mixture in self.mixtures]
        experts = type(experts[0]).joined(experts)
        outputs = order.restore(experts.gathered(self.xs, places, order.sizes))
        return MixtureOutput(routers[0].weighted_sum(outputs, route.gate), route, outputs)


def router_inputs(mixture: MixtureOfExperts, x: Tensor) -> Tensor | None:
    """Return the sums of the patches of samples if the router uses nothing else, or None."""
    if _routes_jointly(mixture) and _uses_patch_sums(mixture.router):
        return pool(x[:], x.dtype)
    return None


def _uses_patch_sums(router):
    """Return whether a router uses only the sum of the patches, also for its noise."""
    noise = router.noise
    draws = isinstance(noise, Noise) and type(noise).__call__ is Noise.__call__
    noise_ignores_x = noise is None or (draws and not noise.per_row)
    return noise_ignores_x and type(router.network) is LinearScores and router.network.bias is None


def _routes_jointly(mixture):
    """Return whether many such mixtures can be computed as one."""
    router = mixture.router
    plain = mixture.encoder is None and mixture.trunk is None and not mixture.shared
    return (
        plain
        and type(router) in (TopKRouter, NoisyTopKRouter)
        and router.gate in GATES.values()  # a user's own may combine samples
        and router.defaults is None
        and stacked_form(mixture.experts) is not None
    )


def _join(results):
    """Return outputs of mixtures as one, the samples one after the other."""
    outputs, routes, expert_outputs = zip(*results, strict=True)
    route = Route(*(_concatenate(part) for part in zip(*routes, strict=True)))
    return MixtureOutput(_concatenate(outputs), route, _concatenate(expert_outputs))


def _concatenate(parts):
    """Concatenate along the samples; matrices are stored with the samples as the last axis."""
    if not isinstance(parts[0], Tensor):
        return None
    if parts[0].ndim == 2:
        return torch.cat([part.T for part in parts], 1).T
    return torch.cat(parts)


def _split(values, sizes):
    return [None] * len(sizes) if values is None else values.split(sizes)
