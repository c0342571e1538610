"""Patch-level routing: within a sample, every expert picks the patches it answers to."""

import torch
from torch import Tensor

from ..dispatch import answer_groups
from ..softmax import softmax
from .base import Route, Router, choose
from .scores import as_patches, patches_shape

__all__ = ["PatchChoiceRouter"]


class PatchChoiceRouter(Router):
    """F(x) = sum_m sum_p gate_mp f_m(x_p) over the `top_k` patches p that expert m scores highest.

    Patch-level routing by expert choice within one sample (pMoE, arXiv 2306.04073): no sample
    sees another. The gate "softmax" is over all patches of the sample, "renormalized" over the
    chosen ones as published. As scores of a sample, by which experts are compared in reports, it
    gives those of each expert's best patch.
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
                f"gate={gate!r} over one patch is always 1, and the router would get no gradient. "
                "Use gate='sigmoid', or samples of several patches (sample_shape)"
            )

    def forward(self, x, generator=None):
        """Choose the patches of each expert in each sample; `generator` switches the noise on."""
        patches = as_patches(x)
        n_samples, n_patches, _ = patches.shape
        scores = self.score(patches.flatten(0, 1).unsqueeze(1))  # each patch a bag of its own
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
        """Add up the gated answers to the chosen patches."""
        return self.combine_each(experts, x, route).sum(1), None

    def combine_each(self, experts, x, route):
        """Return what each expert adds to the answer."""
        chosen, gate = route.detail  # (n_samples, n_experts, k)
        n_samples, n_experts, k = chosen.shape
        answers = answer_groups(experts, self._picked(x, chosen), [n_samples * k] * n_experts)
        answers = answers.view(n_experts, n_samples, k, answers.shape[1])
        # In place of an einsum: that of onnxruntime ends the process if there are no samples.
        return (gate.to(answers.dtype).unsqueeze(2) @ answers.transpose(0, 1)).squeeze(2)

    @staticmethod
    def _picked(x: Tensor, chosen: Tensor) -> Tensor:
        """Return the chosen patches as samples, those of the first expert first."""
        patches = as_patches(x)
        first = torch.arange(x.shape[0], device=x.device) * patches.shape[1]
        index = (first[:, None, None] + chosen).transpose(0, 1).flatten()
        picked = patches.flatten(0, 1).index_select(0, index)
        return picked if x.ndim == 2 else picked.unsqueeze(1)
