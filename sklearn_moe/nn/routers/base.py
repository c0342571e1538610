"""What every router is: from samples to a route, and from the experts' answers to one answer."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn

from ..dispatch import Experts, answer_all, is_recorded
from ..ranks import batch_size, batch_weight, sum_over_ranks
from ..running import RunningMean
from .gates import GATES

if TYPE_CHECKING:
    from ..balance import Balance

__all__ = ["Route", "Router", "choose"]

_FEW = 4  # experts that are found faster one after the other than by sorting


def choose(scores: Tensor, k: int) -> Tensor:
    """Return the (n_samples, k) experts of highest score, best first, ties to the lower index."""
    if k > _FEW and not is_recorded():  # ONNX knows no stable sort
        return scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    best = scores.max(1, keepdim=True).indices  # argmax is slower on columns
    if k == 1:
        return best
    others = scores.scatter(1, best, -torch.inf)
    return torch.cat([best, choose(others, k - 1)], 1)


class Route(NamedTuple):
    """Where the samples of a batch go.

    `chosen` is None where every expert has a say; `gate` then has a column per expert.
    """

    scores: Tensor  # (n_samples, n_experts), without noise
    noisy: Tensor  # (n_samples, n_experts), as they were compared
    chosen: Tensor | None  # (n_samples, k)
    gate: Tensor  # (n_samples, k) or (n_samples, n_experts)
    detail: Any = None  # what else its rule needs to combine the answers

    def ranking(self) -> Tensor:
        """Return the experts that answer, best first; where all do, the one of largest gate."""
        return choose(self.gate, 1) if self.chosen is None else self.chosen

    def shares(self) -> Tensor:
        """Return each expert's part in the answer to each sample, (n_samples, n_experts).

        It is 1 / k for each of k chosen experts, and otherwise the gate in units of its sum.
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

    def load(self, weight: Tensor) -> Tensor:
        """Return the share of a batch that each expert answers, (n_experts,).

        By weight: the shares of a heavy batch are larger, so that the mean over several batches is
        the share of all samples. Those that no expert answers are divided among all in proportion.
        """
        load = sum_over_ranks(self.per_expert(weight))
        if self.chosen is None:
            load = load / load.sum().clamp(min=1e-12) * batch_weight(weight).to(load.dtype)
        return load / batch_size(weight)


class Router(nn.Module):
    """A rule of routing; subclasses say who answers and how the answers are combined.

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
    defaults : RunningMean or None
        Of sparse rules: the mean answer of each expert, (n_experts, n_outputs), for a gradient of
        the gates of experts that were not chosen.
    mix : callable or None
        `mix(log_gate, answers)` is the output of a mixture of distributions, see `Head`.

    Notes
    -----
    Outside training the scores are computed in float64: how a sample is grouped with others
    changes the last bits of a matrix product, and in float32 those can decide a close race
    between two experts.
    """

    gates: ClassVar[tuple[str, ...]] = ("softmax", "renormalized", "relative", "sigmoid", "logit")
    sparse: ClassVar[bool] = False  # k experts are chosen for each sample
    noisy: ClassVar[bool] = False  # something is chosen that noise can change
    learns_noise: ClassVar[bool] = False
    mixes: ClassVar[bool] = False  # the distributions of the experts, not their outputs

    def __init__(
        self,
        network: nn.Module,
        *,
        top_k: int = 1,
        gate: str | Callable = "softmax",
        noise: Callable[[Tensor, Tensor, Generator], Tensor] | None = None,
        balance: "Balance | None" = None,
        defaults: RunningMean | None = None,
        mix: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.network = network
        self.top_k = top_k
        self.gate = GATES.resolve(gate)
        self.noise = noise
        self.balance = balance
        self.defaults = defaults
        self.mix = mix
        self.frozen = False  # once frozen: no gradient step, no balance update

    @classmethod
    def check(
        cls, input_shape: tuple[int, ...], n_experts: int, top_k: int, gate: str | Callable
    ) -> None:
        """Refuse what the rule cannot do, with the reason."""
        if top_k != 1:
            raise ValueError(f"every expert answers every sample, got top_k={top_k}. Use top_k=1")

    @classmethod
    def build(
        cls, network: nn.Module, input_shape: tuple[int, ...], n_experts: int, **parts: Any
    ) -> "Router":
        """Return the router, with whatever else it needs for samples of this shape."""
        return cls(network, **parts)

    def score(self, x: Tensor) -> Tensor:
        """Return the scores of samples, (n_samples, n_experts)."""
        # Never in mixed precision: a route is decided by small differences.
        with torch.autocast(x.device.type, enabled=False):
            return self.network(x, x.dtype if self.training else torch.float64)

    def forward(self, x: Tensor, generator: Generator | None = None) -> Route:
        """Route a batch; `generator` switches the noise on."""
        scores = self.score(x)
        return Route(scores, scores, None, self.gate(scores, scores, None))

    def combine(self, experts: Experts, x: Tensor, route: Route) -> tuple[Tensor, Tensor | None]:
        """Return the answer of the mixture, (n_samples, n_outputs), and those of chosen experts."""
        answers = answer_all(experts, x)
        return torch.einsum("nm,nmo->no", route.gate.to(answers.dtype), answers), None

    def combine_each(self, experts: Experts, x: Tensor, route: Route) -> Tensor:
        """Return what each expert would say in the place of all, (n_samples, n_experts, n_outputs).

        The samples keep the total gate of their own route, so that the answer of a sole chosen
        expert is the answer of the mixture.
        """
        answers = answer_all(experts, x)
        return answers * route.gate.sum(1).to(answers.dtype)[:, None, None]

    def freeze(self, frozen: bool = True) -> None:
        """Train the router no more, or again; its experts are trained on."""
        self.frozen = frozen
        self.requires_grad_(not frozen)

    @property
    def watches(self) -> bool:
        """Whether `balance_loss` has something to do."""
        return self.balance is not None or type(self).balance_loss is not Router.balance_loss

    def balance_loss(self, route: Route, answers: Tensor | None, weight: Tensor) -> Tensor | None:
        """Update what is remembered of training batches; return what is added to the loss.

        Called once per step.
        """
        if self.balance is None or self.frozen:
            return None
        return self.balance(self, route, weight)
