"""Routers that choose: k experts for each sample, or k patches of a sample for each expert."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from ..dispatch import Experts, apply_groups, dispatch
from ..functional import Shape, softmax
from .base import Route, Router, choose
from .scores import as_patches, patches_shape


class TopKRouter(Router):
    """Send each sample to the `top_k` experts of highest noisy score and add their outputs.

    F(x) = sum of gate_m(x) f_m(x) over the chosen experts m; with `top_k=1`, softmax gate and
    uniform noise that is Algorithm 1 of the paper, with Gumbel noise a draw from the softmax.
    """

    sparse = noisy = True

    @classmethod
    def check(cls, input_shape: Shape, n_experts: int, top_k: int, gate: str | Callable) -> None:
        """Refuse more experts than there are, and a gate that is always 1."""
        if top_k > n_experts:
            raise ValueError(f"top_k={top_k} experts cannot be chosen out of n_experts={n_experts}")
        if top_k == 1 and gate == "renormalized":
            raise ValueError(
                "a gate renormalized over one chosen expert is always 1, and the router would get "
                "no gradient. Use router__gate='softmax', or router='topk' with top_k >= 2"
            )

    def add_noise(self, x: Tensor, scores: Tensor, generator: Generator | None) -> Tensor:
        """Return the scores with noise."""
        if self.noise is None or generator is None:
            return scores
        return scores + self.noise(x, scores, generator)

    def compute_gates(self, scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
        """Return the gate values."""
        return self.gate(scores, noisy, chosen)

    def forward(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Choose the experts of each sample; `generator` switches the noise on."""
        scores = self.score(x)
        noisy = self.add_noise(x, scores, generator)
        ranked = noisy.detach()
        # A balance may add to the scores that choose, not to those of the gate.
        if self.balance is not None and self.balance.bias is not None:
            ranked = ranked + self.balance.bias
        chosen = choose(ranked, self.top_k)
        return Route(scores, noisy, chosen, self.compute_gates(scores, noisy, chosen))

    def combine(self, experts: Experts, x: Tensor, route: Route) -> Tensor:
        """Add the gated outputs of the chosen experts."""
        # By `forward`.
        assert route.chosen is not None
        outputs = dispatch(experts, x, route.chosen)
        gate = route.gate.to(outputs.dtype)
        if outputs.shape[1] == 1:
            return outputs.squeeze(1) * gate
        return (outputs * gate.unsqueeze(2)).sum(1)


class NoisyTopKRouter(TopKRouter):
    """Top-k with noise whose scale is learned per sample and expert (Shazeer et al., 2017).

    noisy_m = h_m + softplus(s_m) r_m with a second score network s. Gates are computed from the
    noisy scores, so that the scale has a gradient.
    """

    gates = ("softmax", "renormalized", "relative", "sigmoid")
    learns_noise = True

    def __init__(self, network, *, scale_network, **parts):
        super().__init__(network, **parts)
        self.scale_network = scale_network

    def add_noise(self, x, scores, generator):
        """Return the scores with noise of learned scale."""
        if generator is None:
            return scores
        with torch.autocast(x.device.type, enabled=False):
            scale = nn.functional.softplus(self.scale_network(x, scores.dtype))
        return scores + scale * self.noise(x, scores, generator)

    def compute_gates(self, scores, noisy, chosen):
        """Return the gate values of the noisy scores."""
        return self.gate(noisy, noisy, chosen)


class PatchChoiceRouter(Router):
    """F(x) = sum_m sum_p gate_mp f_m(x_p) over the `top_k` patches p that expert m scores highest.

    Patch-level routing by expert choice within one sample (pMoE, arXiv 2306.04073): no sample
    depends on another. The gate "softmax" is over all patches of the sample, "renormalized" over
    the chosen ones as published. The scores of a sample in the route, which reports use, are those
    of each expert's best patch.

    Notes
    -----
    Experts specialize by their gates: a patch that tells of another cluster takes all the weight,
    one of the expert's own cluster has the lowest score. A linear score cannot prefer a feature of
    either sign, so that an expert should drop no more than the latter patch.
    """

    gates = ("softmax", "renormalized", "sigmoid")
    noisy = True

    @classmethod
    def check(cls, input_shape, n_experts, top_k, gate):
        """Refuse images, more patches than there are, and a gate that is always 1."""
        n_patches, _ = patches_shape(input_shape)
        if len(input_shape) == 3:
            raise ValueError("it takes bags of patches, (n_samples, n_patches, patch_size)")
        if top_k > n_patches:
            raise ValueError(
                f"top_k={top_k} patches per expert, but samples have {n_patches}. Use a smaller "
                "top_k, or samples of more patches (sample_shape)"
            )
        among = {"softmax": n_patches, "renormalized": top_k}.get(gate)
        if among == 1:
            raise ValueError(
                f"router__gate={gate!r} over one patch is always 1, and the router would get no "
                "gradient. Use router__gate='sigmoid', or samples of several patches (sample_shape)"
            )

    def forward(self, x, generator=None):
        """Choose the patches of each expert in each sample; `generator` switches the noise on."""
        patches = as_patches(x)
        n_samples, n_patches, _ = patches.shape
        # Each patch is a sample of one patch.
        scores = self.score(patches.flatten(0, 1).unsqueeze(1))
        n_experts = scores.shape[1]
        by_patch = scores.view(n_samples, n_patches, n_experts)
        by_expert = by_patch.mT.flatten(0, 1)  # (n * M, n_patches)
        noisy = by_expert
        if self.noise is not None and generator is not None:
            per_sample = by_expert.view(n_samples, n_experts * n_patches)
            noisy = (per_sample + self.noise(x, per_sample, generator)).view_as(by_expert)
        chosen = choose(noisy.detach(), self.top_k)
        gate = self.gate(by_expert, noisy, chosen)
        best = by_expert.amax(1).view(n_samples, n_experts)
        shape = (n_samples, n_experts, self.top_k)
        return Route(best, best, None, softmax(best), (chosen.view(shape), gate.view(shape)))

    def combine(self, experts, x, route):
        """Add the gated outputs for the chosen patches."""
        return self.combine_each(experts, x, route).sum(1)

    def combine_each(self, experts, x, route):
        """Return what each expert adds to the output."""
        chosen, gate = route.detail  # (n_samples, n_experts, k)
        n_samples, n_experts, k = chosen.shape
        patches = as_patches(x)
        first = torch.arange(n_samples, device=x.device) * patches.shape[1]
        # The chosen patches as samples, those of the first expert first.
        index = (first[:, None, None] + chosen).transpose(0, 1).flatten()
        picked = patches.flatten(0, 1).index_select(0, index)
        if x.ndim > 2:
            picked = picked.unsqueeze(1)
        outputs = apply_groups(experts, picked, [n_samples * k] * n_experts)
        outputs = outputs.view(n_experts, n_samples, k, outputs.shape[1])
        # Not einsum: that of onnxruntime ends the process if there are no samples.
        return (gate.to(outputs.dtype).unsqueeze(2) @ outputs.transpose(0, 1)).squeeze(2)
