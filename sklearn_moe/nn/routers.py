"""Routers: the scores by which samples choose their experts, and what is made of them.

A routing rule has four parts that know nothing of each other: the scores (a small network),
the noise added to them in training, the choice of the k best, and the gate value that weights
the chosen experts' answers.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from .softmax import softmax

__all__ = ["GATES", "NOISES", "ROUTERS", "ConvRouter", "LinearRouter", "choose", "make_router"]


class LinearRouter(nn.Module):
    """Scores h(x) = sum_p Theta^T x_p, without bias (paper, section 3.2).

    Parameters
    ----------
    input_shape : (n_features,) or (n_patches, patch_size)
    n_experts : int
    init_scale : float, default=0.0
        Standard deviation of the initial scores of a sample whose features have norm
        sqrt(n_features). The paper starts at zero and lets the noise break the ties.
    """

    def __init__(self, input_shape: tuple[int, ...], n_experts: int, *, init_scale: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_experts, input_shape[-1]))
        if init_scale:
            nn.init.normal_(self.weight, 0.0, init_scale / input_shape[-1] ** 0.5)

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Map samples to (n_samples, n_experts) scores, computed in `dtype`."""
        pooled = x.sum(1) if x.ndim == 3 else x
        return (self.weight.to(dtype) @ pooled.to(dtype).T).T


class ConvRouter(nn.Module):
    """Scores of an image: a strided convolution summed over space, without bias, from zero.

    Parameters
    ----------
    input_shape : (n_channels, height, width)
    n_experts : int
    kernel_size : int, default=4
        Side and stride of the square patches; smaller pictures are one patch.
    """

    def __init__(self, input_shape: tuple[int, ...], n_experts: int, *, kernel_size: int = 4):
        super().__init__()
        self.stride = min(kernel_size, *input_shape[1:])
        self.weight = nn.Parameter(torch.zeros(n_experts, input_shape[0], self.stride, self.stride))

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Map samples to (n_samples, n_experts) scores, computed in `dtype`."""
        scores = nn.functional.conv2d(x.to(dtype), self.weight.to(dtype), stride=self.stride)
        return scores.sum((2, 3))


def make_router(input_shape: tuple[int, ...], n_experts: int, init_scale: float) -> nn.Module:
    """Return the router for samples of this shape."""
    if len(input_shape) == 3:
        return ConvRouter(input_shape, n_experts)
    return LinearRouter(input_shape, n_experts, init_scale=init_scale)


def uniform_noise(x: Tensor, scores: Tensor, generator: Generator) -> Tensor:
    """Draw U[0, 1] for every sample and expert (paper, section 3.2)."""
    return torch.rand(scores.shape, generator=generator, dtype=scores.dtype, device=x.device)


def hashed_noise(x: Tensor, scores: Tensor, generator: Generator) -> Tensor:
    """Draw a function from samples to noise, uniform on [0, 1] over samples and draws.

    Equal samples get equal noise, so that a sample of weight 2 is exactly the sample twice.
    The fractional part of a steep random linear function does it: samples 0.001 apart are far
    apart in phase.
    """
    x = x.flatten(1)
    options = {"generator": generator, "dtype": x.dtype, "device": x.device}
    slope = torch.randn(x.shape[1], scores.shape[1], **options)
    phase = torch.rand(scores.shape[1], **options)
    return (1e3 * (x @ slope) + phase).remainder(1).to(scores.dtype)


def choose(scores: Tensor, k: int) -> Tensor:
    """Return the (n_samples, k) experts of highest score, best first, ties to the lower index."""
    if k == 1:
        return scores.max(1, keepdim=True).indices  # argmax is slower on columns
    return scores.argsort(dim=1, descending=True, stable=True)[:, :k]


def softmax_gate(scores: Tensor, noisy: Tensor, chosen: Tensor) -> Tensor:
    """Return softmax(h)_m of the noise-free scores, over all experts (paper, section 3.2)."""
    return softmax(scores).gather(1, chosen)


def logit_gate(scores: Tensor, noisy: Tensor, chosen: Tensor) -> Tensor:
    """Return the raw score with its noise, h_m + r_m: the gate of the authors' notebooks.

    It can be negative, and then turns the expert's vote around.
    """
    return noisy.gather(1, chosen)


NOISES: dict[str, Callable[[Tensor, Tensor, Generator], Tensor]] = {
    "uniform": uniform_noise,
    "hashed": hashed_noise,
}
GATES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "softmax": softmax_gate,
    "logit": logit_gate,
}
ROUTERS = ("top1", "topk")
