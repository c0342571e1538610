"""ReLU routing: every expert with a positive score answers."""

import torch

from ..dispatch import dispatch_mask
from ..ranks import batch_size, batch_weight, sum_over_ranks
from .base import Router

__all__ = ["ReLURouter"]

_FIRST_PENALTY, _GROWTH = 1e-8, 1.2  # as published


class ReLURouter(Router):
    """F(x) = sum of max(h_m(x), 0) f_m(x) (ReMoE, arXiv 2412.14711).

    Who answers is a continuous function of the scores, sample by sample. A penalty on the sum of
    the gates, whose factor grows by 1.2 in every step with more than `top_k` experts per sample
    on average and shrinks otherwise, leaves `top_k` of them.
    """

    gates = ("relu",)

    def __init__(self, network, **options):
        super().__init__(network, **options)
        self.register_buffer("penalty", torch.tensor(_FIRST_PENALTY))

    @classmethod
    def check(cls, input_shape, n_experts, top_k, gate):
        """Refuse to keep more experts than there are."""
        if top_k > n_experts:
            raise ValueError(f"top_k={top_k} experts per sample, but n_experts={n_experts}")

    def combine(self, experts, x, route):
        """Add up the gated answers of the experts with a positive gate."""
        output = dispatch_mask(experts, x, route.gate.to(x.dtype))
        return output, None

    def balance_loss(self, route, answers, weight):
        """Return the penalty on the gates and, with `balance`, what that adds."""
        if self.frozen:
            return None
        with torch.no_grad():
            active = sum_over_ranks(weight @ (route.gate > 0).to(weight.dtype).sum(1))
            active /= batch_weight(weight)
            self.penalty.mul_(_GROWTH ** torch.sign(active - self.top_k))
        loss = self.penalty * (weight @ route.gate.sum(1)) / batch_size(weight)
        balance = super().balance_loss(route, answers, weight)
        return loss if balance is None else loss + balance
