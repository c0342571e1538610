"""Dense routers: every expert answers every sample."""

import torch

from ..dispatch import answer_all
from .base import Router

__all__ = ["SigmoidRouter", "SoftRouter"]


class SoftRouter(Router):
    """The classical mixture: p(y | x) = sum_m gate_m(x) p_m(y | x), trained by its likelihood.

    What p_m is, classes, labels or a density of numbers, the head knows: `Head.mix`.
    """

    gates = ("softmax",)
    mixes = True

    def combine(self, experts, x, route):
        """Mix the experts' distributions."""
        answers = answer_all(experts, x)
        log_gate = route.gate.to(answers.dtype).clamp(min=torch.finfo(answers.dtype).tiny).log()
        return self.mix(log_gate, answers), None

    def combine_each(self, experts, x, route):
        """Return each expert's own answer."""
        return answer_all(experts, x)


class SigmoidRouter(Router):
    """F(x) = sum_m sigmoid(h_m(x)) f_m(x): experts do not compete (arXiv 2405.13997)."""

    gates = ("sigmoid",)
