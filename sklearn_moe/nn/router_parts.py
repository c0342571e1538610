"""What routers are made of: score networks, routes, gates, noise, and balance.

For a score network every sample is a set of patches: a vector is one patch, an image is cut into
squares. A gate takes the scores without noise, the scores as they were compared (with noise) and
the chosen experts, (n_samples, k), and returns their weights, (n_samples, k). If `chosen` is None,
the weights of all experts. Noise is added to the scores that choose the experts, in training.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from .._validation import Registry, accepts_argument
from .functional import (
    Shape,
    batch_size,
    batch_weight,
    draw_for_samples,
    is_exporting,
    softmax,
    sum_over_shards,
    weighted_mean,
)
from .seeding import hash_rows

# -- scores -------------------------------------------------------------------------------


def patches_shape(input_shape: Shape) -> tuple[int, int]:
    """Return (n_patches, patch_size) of a sample of this shape."""
    n_patches, patch_size = as_patches(torch.empty(1, *input_shape, device="meta")).shape[1:]
    return n_patches, patch_size


def as_patches(x: Tensor) -> Tensor:
    """Return samples as bags of patches, (n_samples, n_patches, patch_size).

    Images are cut into squares of 4 x 4 pixels (smaller ones are one patch); rows and columns at
    the end that do not fill a square are left out.
    """
    if x.ndim == 2:
        return x.unsqueeze(1)
    if x.ndim == 3:
        return x
    # As in the paper, appendix A.
    side = min(4, *x.shape[2:])
    squares = x.unfold(2, side, side).unfold(3, side, side)  # (n, c, rows, columns, side, side)
    return squares.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def sum_patches(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the sum of the patches of each sample, (n_samples, patch_size), in `dtype`."""
    if x.ndim == 2:
        return x.to(dtype)
    patches = as_patches(x)
    if patches.shape[1] > 8 or not x.is_cpu:
        return patches.sum(1, dtype=dtype)
    # Of few patches this takes half the time of a sum.
    total = patches[:, 0].to(dtype, copy=True)
    for p in range(1, patches.shape[1]):
        total += patches[:, p]
    return total


class Scores(nn.Module):
    """A score network that is called as `network(x, dtype)`, and computes in that type."""


class LinearScores(Scores):
    """Scores h(x) = sum_p Theta^T x_p, without bias (paper, section 3.2).

    For a vector, h(x) = Theta^T x + b: borders between experts need not pass through its mean.
    For images that is a strided convolution summed over space, the paper's router for CIFAR-10.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of a sample.
    n_experts : int
    init_std : float, default=0.0
        Standard deviation of the initial weights. The paper starts at zero and lets the noise
        break the ties.
    trained : bool, default=True
        False keeps the initial weights: a random projection, a baseline of learned routing.
    """

    def __init__(
        self, input_shape: Shape, n_experts: int, *, init_std: float = 0.0, trained: bool = True
    ):
        super().__init__()
        weight = torch.zeros(n_experts, patches_shape(input_shape)[1])
        if init_std:
            nn.init.normal_(weight, 0.0, init_std)
        if trained:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        has_bias = trained and len(input_shape) == 1
        self.bias = nn.Parameter(torch.zeros(n_experts, 1)) if has_bias else None

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Map samples to (n_samples, n_experts) scores."""
        scores = self.weight.to(dtype) @ sum_patches(x, dtype).T
        if self.bias is not None:
            scores = scores + self.bias.to(dtype)
        return scores.T


class NormalizedScores(Scores):
    """Scores of samples scaled to mean 0 and norm 1, as learned features have no fixed scale.

    Parameters
    ----------
    network : Scores
    """

    def __init__(self, network: Scores):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Map samples to (n_samples, n_experts) scores."""
        shape = x.shape[1:]
        z = nn.functional.layer_norm(x.to(dtype), shape)
        return self.network(z / math.sqrt(shape.numel()), dtype)


class _ModuleScores(Scores):
    """Any other network, `module(x) -> (n_samples, n_experts)`, computed in any type."""

    def __init__(self, module: nn.Module, n_experts: int):
        super().__init__()
        self.module = module
        self.n_experts = n_experts

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Map samples to (n_samples, n_experts) scores."""
        module = self.module
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        others = {
            name: value.to(dtype)
            for name, value in state.items()
            if value.is_floating_point() and value.dtype != dtype
        }
        scores = torch.func.functional_call(module, others, (x.to(dtype),))
        shape = (x.shape[0], self.n_experts)
        if not isinstance(scores, Tensor) or scores.shape != shape:
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores)
            raise ValueError(
                f"router__network must map {len(x)} samples to scores of shape {shape}, "
                f"(n_samples, n_experts); its module returned {got}."
            )
        return scores


NETWORKS = Registry(
    "router__network",
    "a callable (input_shape, n_experts) -> torch.nn.Module",
    {"linear": LinearScores},
)


def make_scores(
    network: str | Callable, input_shape: Shape, n_experts: int, *, init_std: float = 0.0
) -> Scores:
    """Return a score network, by name or by its factory.

    The factory is given `init_std`, the standard deviation of the initial weights, if it takes an
    argument of that name.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If the factory takes other arguments or returns anything but a module.
    """
    factory = NETWORKS.resolve(network)
    options = {"init_std": init_std} if accepts_argument(factory, "init_std") else {}
    module = NETWORKS.make(network, nn.Module, input_shape, n_experts, **options)
    return module if isinstance(module, Scores) else _ModuleScores(module, n_experts)


# -- routes --------------------------------------------------------------------------------


def choose(scores: Tensor, k: int) -> Tensor:
    """Return the (n_samples, k) experts of highest score, best first, ties to the lower index."""
    # Up to four are found faster one after the other; ONNX has no stable sort.
    if k > 4 and not is_exporting():
        return scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    # argmax is slower on columns.
    best = scores.max(1, keepdim=True).indices
    if k == 1:
        return best
    others = scores.scatter(1, best, -torch.inf)
    return torch.cat([best, choose(others, k - 1)], 1)


class Route(NamedTuple):
    """Which experts process the samples of a batch, and with what weights.

    `chosen` is None where every expert processes every sample; `gate` then has a column per expert.
    """

    scores: Tensor  # (n_samples, n_experts), without noise
    noisy: Tensor  # (n_samples, n_experts), as they were compared
    chosen: Tensor | None  # (n_samples, k)
    gate: Tensor  # (n_samples, k) or (n_samples, n_experts)

    def ranking(self) -> Tensor:
        """Return the chosen experts, best first; without a choice, the one of largest gate."""
        return choose(self.gate, 1) if self.chosen is None else self.chosen

    def shares(self) -> Tensor:
        """Return each expert's share in the output for each sample, (n_samples, n_experts).

        It is 1 / k for each of k chosen experts, and otherwise the gate divided by its sum.
        """
        if self.chosen is None:
            return self.gate / self.gate.sum(1, keepdim=True).clamp(min=1e-12)
        # Samples last: what is summed over them is contiguous.
        shares = torch.zeros_like(self.scores.T, memory_format=torch.contiguous_format)
        return shares.scatter_(0, self.chosen.T, 1 / self.chosen.shape[1]).T

    def per_expert(self, values: Tensor) -> Tensor:
        """Return the sum of (n_samples,) values over each expert's share, (n_experts,)."""
        shares = self.shares()
        return values.to(shares.dtype) @ shares

    def expert_means(self, values: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of (n_samples,) values over each expert's share, (n_experts,).

        It is 0 for experts without a share.
        """
        shares = self.shares()
        weight = weight.to(shares.dtype)
        total, load = sum_over_shards(torch.stack([weight * values, weight]) @ shares)
        return total / load.clamp(min=torch.finfo(load.dtype).tiny)

    def load(self, weight: Tensor) -> Tensor:
        """Return the share of a batch that each expert processes, (n_experts,).

        By weight: the shares of a heavy batch are larger, so that the mean over several batches is
        the share of all samples. Samples without an expert are divided among all in proportion.
        """
        load = sum_over_shards(self.per_expert(weight))
        if self.chosen is None:
            load = load / load.sum().clamp(min=1e-12) * batch_weight(weight).to(load.dtype)
        return load / batch_size(weight)


# -- gates --------------------------------------------------------------------------------


def _take(values: Tensor, chosen: Tensor | None) -> Tensor:
    return values if chosen is None else values.gather(1, chosen)


def softmax_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return softmax(h)_m over all experts, chosen or not (paper, section 3.2)."""
    weights = softmax(scores)
    return weights if chosen is None else weights.gather(1, chosen)


def renormalized_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return the softmax over the chosen experts only, so that the weights add up to 1.

    For a single chosen expert it is 1 whatever its score: the router would learn nothing.
    """
    return softmax(_take(scores, chosen))


def relative_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return M softmax(h)_m, which is 1 where all M experts have the same score.

    A router that is not trained yet does not change the output of a single chosen expert.
    """
    return softmax_gate(scores, noisy, chosen) * scores.shape[1]


def sigmoid_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return sigmoid(h_m), without competition between experts (arXiv 2405.13997)."""
    return _take(scores.sigmoid(), chosen)


def logit_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return the raw score with its noise, h_m + r_m: the gate of the authors' notebooks.

    It can be negative, which inverts the expert's output.
    """
    return _take(noisy, chosen)


GATES = {
    "softmax": softmax_gate,
    "renormalized": renormalized_gate,
    "relative": relative_gate,
    "sigmoid": sigmoid_gate,
    "logit": logit_gate,
}


# -- noise --------------------------------------------------------------------------------


class Noise:
    """Independent noise for every sample and expert: uniform draws mapped to a distribution.

    Parameters
    ----------
    quantile : callable
        Maps U[0, 1] to the distribution.
    hashed : bool, default=False
        Draw, in every step, a random function from samples to noise instead of noise for each
        sample: equal samples get equal noise, so that weight 2 has the effect of two copies.
    """

    def __init__(self, quantile: Callable[[Tensor], Tensor], hashed: bool = False):
        self.quantile = quantile
        self.hashed = hashed

    def __call__(self, x: Tensor, scores: Tensor, generator: Generator) -> Tensor:
        """Return noise of the shape of `scores`, which are those of the samples x."""
        if self.hashed:
            u = hash_rows(x, scores.shape[1], generator).to(scores.dtype)
        else:
            options = {"generator": generator, "dtype": scores.dtype, "device": scores.device}
            u = draw_for_samples(partial(torch.rand, **options), scores.shape)
        return self.quantile(u)


def _inside(u: Tensor) -> Tensor:
    """Keep u away from 0 and 1, where quantiles are infinite."""
    tiny = torch.finfo(u.dtype).eps / 2
    return u.clamp(tiny, 1 - tiny)


def _uniform(u: Tensor) -> Tensor:
    """U[0, 1] (paper, section 3.2)."""
    return u


def _gaussian(u: Tensor) -> Tensor:
    """N(0, 1), sqrt(2) erfinv(2u - 1)."""
    return math.sqrt(2) * (2 * _inside(u) - 1).erfinv()


def _gumbel(u: Tensor) -> Tensor:
    """Gumbel(0, 1), -log(-log u): the highest noisy score is a draw from the softmax of the scores.

    The k highest are draws without replacement.
    """
    return -(-_inside(u).log()).log()


# From U[0, 1] to a distribution.
NOISES = {"uniform": _uniform, "gaussian": _gaussian, "gumbel": _gumbel}


# -- balance: what keeps the load of the experts even --------------------------------------


class Balance(nn.Module):
    """Base class of what keeps the load of the experts even: its weight, and the running load.

    It is called in every training step, after the samples were routed. It counts sample weights
    and returns a loss, or None if it works otherwise.

    Parameters
    ----------
    n_experts : int
    weight : float
        Factor of the loss, or size of a step.
    """

    bias: Tensor | None  # (n_experts,), added to the scores that choose
    load: Tensor  # (n_experts,)
    n_batches: Tensor  # ()

    # What it requires of the router: "gradient" (trained scores) or "choice" (of k experts).
    needs = "gradient"

    def __init__(self, n_experts: int, weight: float):
        super().__init__()
        self.n_experts = n_experts
        self.weight = weight
        self.register_buffer("bias", None)
        self.register_buffer("load", torch.full((n_experts,), 1 / n_experts))
        self.register_buffer("n_batches", torch.zeros(()))

    def forward(self, router: nn.Module, route: Route, weight: Tensor) -> Tensor | None:
        """Return what is added to the loss of a training batch with sample weights, or None."""
        return self.weight * self.loss(router, route, weight)

    @torch.no_grad()
    def update_load(self, route: Route, weight: Tensor) -> Tensor:
        """Return the load with that of a batch, which alone would be a poor estimate.

        It is the mean of the first ten batches, then an exponential moving average.
        """
        self.n_batches += 1
        load = route.load(weight).to(self.load.dtype)
        return self.load.lerp_(load, 1 / self.n_batches.clamp(1, 10))

    def loss(self, router: nn.Module, route: Route, weight: Tensor) -> Tensor:
        """Return the loss before it is multiplied by `weight` of the constructor."""
        raise NotImplementedError


class SwitchBalance(Balance):
    """M sum_m f_m P_m (Switch transformer; the paper, appendix A).

    f_m is the running load of expert m, P_m its mean softmax over the batch. The value is 1 for
    a uniform router and M for a collapsed one.
    """

    def loss(self, router, route, weight):
        """Return M f . P."""
        load = self.update_load(route, weight)
        weight = weight.to(route.scores.dtype)
        importance = weighted_mean(softmax(route.scores), weight)
        return self.n_experts * (load.to(route.scores.dtype) @ importance)


class BiasBalance(Balance):
    """A bias on the scores that choose, not on the gate (loss-free, arXiv 2408.15664).

    After a step b_m += weight * sign(mean load - load_m), with the running load. It does not change
    at prediction.
    """

    needs = "choice"

    def __init__(self, n_experts: int, weight: float):
        super().__init__(n_experts, weight)
        self.bias = torch.zeros(n_experts)

    def forward(self, router, route, weight):
        """Move the bias; there is no loss."""
        load = self.update_load(route, weight)
        with torch.no_grad():
            self.bias += self.weight * torch.sign(load.mean() - load)


BALANCES = Registry(
    "balance",
    "a callable (n_experts, weight) -> sklearn_moe.nn.Balance",
    {"switch": SwitchBalance, "bias": BiasBalance},
)
