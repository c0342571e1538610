"""What all routers have in common, the base class of balances, and routers that use all experts."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn

from ..dispatch import Experts, Pool, apply_all, is_exporting
from ..functional import Shape, batch_size, batch_weight, sum_over_shards
from .gates import GATES

# Up to so many experts are found faster one after the other than by sorting.
_FEWEST_TO_SORT = 5
# The load is averaged over so many batches.
_HORIZON = 10


def choose(scores: Tensor, k: int) -> Tensor:
    """Return the (n_samples, k) experts of highest score, best first, ties to the lower index."""
    # ONNX has no stable sort.
    if k >= _FEWEST_TO_SORT and not is_exporting():
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
    # What else the router needs to combine the outputs of the experts.
    detail: Any = None

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


class RunningMean(nn.Module):
    """The mean of the first values, then an exponential moving average.

    Value t enters with weight 1 / min(t, horizon), so that there is no bias to the start value.

    Parameters
    ----------
    start : tensor
        The mean before any value; gives shape, type and device.
    horizon : int
        Number of values of which it is about the mean.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, start: Tensor, horizon: int):
        super().__init__()
        self.horizon = horizon
        self.register_buffer("mean", start.clone())
        self.register_buffer("count", start.new_zeros(()))

    @torch.no_grad()
    def update(self, value: Tensor) -> Tensor:
        """Add a value, and return the mean."""
        self.count += 1
        return self.mean.lerp_(value.to(self.mean.dtype), 1 / self.count.clamp(1, self.horizon))


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

    # What it requires of the router: "gradient" (trained scores) or "choice" (of k experts).
    needs = "gradient"

    def __init__(self, n_experts: int, weight: float):
        super().__init__()
        self.n_experts = n_experts
        self.weight = weight
        self.register_buffer("bias", None)
        # The load of one small batch is a poor estimate.
        self.load = RunningMean(torch.full((n_experts,), 1 / n_experts), _HORIZON)

    def forward(self, router: "Router", route: Route, weight: Tensor) -> Tensor | None:
        """Return what is added to the loss of a training batch with sample weights, or None."""
        return self.weight * self.loss(router, route, weight)

    def loss(self, router: "Router", route: Route, weight: Tensor) -> Tensor:
        """Return the loss before it is multiplied by `weight` of the constructor."""
        raise NotImplementedError


class Router(nn.Module):
    """Base class of routers; subclasses define which experts are used and how they are combined.

    Parameters
    ----------
    network : module
        `network(x, dtype)` maps a batch to (n_samples, n_experts) scores.
    top_k : int, default=1
    gate : str or callable, default="softmax"
        A name in `GATES` or a function like those.
    noise : callable or None
        `noise(x, scores, generator)` is added to the scores that are compared, in training.
    balance : Balance or None
        What keeps the load even.
    mix : callable or None
        `mix(log_gate, expert_outputs)` is the output of a mixture of distributions, see `Head`.

    Notes
    -----
    Outside training the scores are computed in float64: how a sample is grouped with others
    changes the last bits of a matrix product, and in float32 those can decide between two experts
    of nearly equal scores.
    """

    gates: ClassVar[tuple[str, ...]] = ("softmax", "renormalized", "relative", "sigmoid", "logit")
    # Whether k experts are chosen for each sample, and whether noise can change a choice.
    sparse: ClassVar[bool] = False
    noisy: ClassVar[bool] = False
    # Whether the scale of the noise is learned by a second network, an argument `scale_network`.
    learns_noise: ClassVar[bool] = False
    # Whether the distributions of the experts are mixed, not their outputs.
    mixes_distributions: ClassVar[bool] = False

    def __init__(
        self,
        network: nn.Module,
        *,
        top_k: int = 1,
        gate: str | Callable = "softmax",
        noise: Callable[[Tensor, Tensor, Generator], Tensor] | None = None,
        balance: Balance | None = None,
        mix: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.network = network
        self.top_k = top_k
        self.gate = GATES.resolve(gate)
        self.noise = noise
        self.balance = balance
        self.mix = mix
        # A frozen router makes no gradient step, and its balance no update.
        self.frozen = False

    @classmethod
    def check(cls, input_shape: Shape, n_experts: int, top_k: int, gate: str | Callable) -> None:
        """Refuse settings that the router does not support, with the reason."""
        if top_k != 1:
            raise ValueError(f"all experts are used at once, got top_k={top_k}. Use top_k=1")

    def score(self, x: Tensor) -> Tensor:
        """Return the scores of samples, (n_samples, n_experts)."""
        # Never in mixed precision: small differences decide about a route.
        with torch.autocast(x.device.type, enabled=False):
            return self.network(x, x.dtype if self.training else torch.float64)

    def forward(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Route a batch; `generator` switches the noise on."""
        scores = self.score(x)
        return Route(scores, scores, None, self.gate(scores, scores, None))

    def combine(self, experts: Experts, x: Tensor, route: Route) -> Tensor:
        """Return the output of the mixture, (n_samples, n_outputs)."""
        outputs = apply_all(experts, x)
        return torch.einsum("nm,nmo->no", route.gate.to(outputs.dtype), outputs)

    def combine_each(self, experts: Experts, x: Tensor, route: Route) -> Tensor:
        """Return the output if each expert replaced all others, (n_samples, n_experts, n_outputs).

        The samples keep the total gate of their own route, so that the output of a single chosen
        expert is the output of the mixture.
        """
        outputs = apply_all(experts, x)
        return outputs * route.gate.sum(1).to(outputs.dtype)[:, None, None]

    def freeze(self, frozen: bool = True) -> None:
        """Stop the training of the router, or resume it; its experts are still trained."""
        self.frozen = frozen
        self.requires_grad_(not frozen)

    def balance_loss(self, route: Route, weight: Tensor) -> Tensor | None:
        """Update the balance by a training batch, once per step; return its part of the loss."""
        if self.balance is None or self.frozen:
            return None
        return self.balance(self, route, weight)


# -- without a choice: every expert with a gate above 0 processes every sample -------------


class SoftRouter(Router):
    """The classical mixture: p(y | x) = sum_m gate_m(x) p_m(y | x), trained by its likelihood.

    What p_m is, for classes, labels or a density of numbers, is defined by the head: `Head.mix`.
    """

    gates = ("softmax",)
    mixes_distributions = True

    def combine(self, experts: Experts, x: Tensor, route: Route) -> Tensor:
        """Mix the experts' distributions."""
        if isinstance(experts, Pool):
            outputs = experts(x, route.gate)
        else:
            outputs = apply_all(experts, x)
        log_gate = route.gate.to(outputs.dtype).clamp(min=torch.finfo(outputs.dtype).tiny).log()
        assert self.mix is not None
        return self.mix(log_gate, outputs)

    def combine_each(self, experts: Experts, x: Tensor, route: Route) -> Tensor:
        """Return each expert's own output."""
        return apply_all(experts, x)


class SigmoidRouter(Router):
    """F(x) = sum_m sigmoid(h_m(x)) f_m(x): experts do not compete (arXiv 2405.13997)."""

    gates = ("sigmoid",)
