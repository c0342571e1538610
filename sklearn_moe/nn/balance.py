"""Balancing: what keeps the load of the experts even, by name."""

import torch
from torch import Tensor, nn

from .._validation import Registry
from .functional import softmax, weighted_mean
from .router_parts import Route


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
