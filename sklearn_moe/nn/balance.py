"""Balancing: what keeps the load of the experts even.

A balance is called in every training step, after the samples were routed. It counts sample weights
and returns its loss, or None if it works otherwise.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .._registry import Registry
from .losses import weighted_mean
from .ranks import sum_over_ranks
from .routers.base import Route, Router
from .running import RunningMean
from .softmax import softmax

__all__ = ["BALANCES", "Balance", "make_balance"]

_HORIZON = 10  # batches over which the load is averaged


class Balance(nn.Module):
    """What balances have in common: the weight and the running load.

    Parameters
    ----------
    n_experts : int
    weight : float
        Factor of the loss, or size of a step.
    """

    bias: Tensor | None  # (n_experts,), added to the scores that choose

    # What it requires of the router: "gradient" (trained scores), "choice" (of k experts) or
    # "noise" (both, and noise of a known distribution).
    needs = "gradient"

    def __init__(self, n_experts: int, weight: float):
        super().__init__()
        self.n_experts = n_experts
        self.weight = weight
        self.register_buffer("bias", None)
        # One batch says little about the load when it is small.
        self.load = RunningMean(torch.full((n_experts,), 1 / n_experts), _HORIZON)

    def forward(self, router: Router, route: Route, weight: Tensor) -> Tensor | None:
        """Look at a training batch with sample weights; return what is added to its loss."""
        return self.weight * self.loss(router, route, weight)

    def loss(self, router: Router, route: Route, weight: Tensor) -> Tensor:
        """Return the loss before it is weighted."""
        raise NotImplementedError


def _importance(route: Route, weight: Tensor) -> Tensor:
    """Return the mean softmax of the scores of each expert, (n_experts,)."""
    return weighted_mean(softmax(route.scores), weight.to(route.scores.dtype))


def _squared_cv(shares: Tensor) -> Tensor:
    """Return the squared coefficient of variation, (std / mean)^2: 0 if all are equal."""
    return shares.var(correction=0) / shares.mean().square()


class SwitchBalance(Balance):
    """M sum_m f_m P_m (Switch transformer; the paper, appendix A).

    f_m is the running load of expert m, P_m its mean softmax over the batch. The value is 1 for
    a uniform router and M for a collapsed one.
    """

    def loss(self, router, route, weight):
        """Return M f . P."""
        load = self.load.update(route.load(weight))
        return self.n_experts * (load.to(route.scores.dtype) @ _importance(route, weight))


class ImportanceBalance(Balance):
    """Squared coefficient of variation of the mean softmax P_m (Shazeer et al., 2017)."""

    def loss(self, router, route, weight):
        """Return cv(P)^2."""
        return _squared_cv(sum_over_ranks(_importance(route, weight)))


class LoadBalance(Balance):
    """Squared coefficient of variation of the smooth load (Shazeer et al., 2017, appendix A).

    The smooth load of an expert is its chance to be chosen, were its noise drawn anew: unlike the
    load itself it has a gradient.
    """

    needs = "noise"

    def loss(self, router, route, weight):
        """Return cv(sum of the chances)^2."""
        chances = weight.to(route.scores.dtype) @ router.chance(route)
        return _squared_cv(sum_over_ranks(chances))


class BiasBalance(Balance):
    """A bias on the scores that choose, not on the gate (loss-free, arXiv 2408.15664).

    After a step b_m += weight * sign(mean load - load_m), with the running load. It stays as it is
    at prediction.
    """

    needs = "choice"

    def __init__(self, n_experts: int, weight: float):
        super().__init__(n_experts, weight)
        self.bias = torch.zeros(n_experts)

    def forward(self, router, route, weight):
        """Move the bias; there is no loss."""
        load = self.load.update(route.load(weight))
        with torch.no_grad():
            self.bias += self.weight * torch.sign(load.mean() - load)


class ZLoss(Balance):
    """Mean of logsumexp(h)^2 (ST-MoE, arXiv 2202.08906): keeps the scores small, no more."""

    def loss(self, router, route, weight):
        """Return the mean squared log-normalizer."""
        return weighted_mean(route.scores.logsumexp(1).square(), weight.to(route.scores.dtype))


BALANCES = Registry(
    "balance",
    "a callable (n_experts, weight) -> sklearn_moe.nn.Balance",
    {
        "switch": SwitchBalance,
        "importance": ImportanceBalance,
        "load": LoadBalance,
        "bias": BiasBalance,
        "z_loss": ZLoss,
    },
)


def make_balance(
    balance: str | Callable[[int, float], Balance] | None, n_experts: int, weight: float
) -> Balance | None:
    """Return a balance for that many experts, None for None.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If a callable takes other arguments or returns anything but a `Balance`.
    """
    if balance is None:
        return None
    return BALANCES.make(balance, Balance, n_experts, weight)
