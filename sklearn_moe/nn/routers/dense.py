"""Dense routers: every expert answers every sample."""

import torch
from torch.nn.functional import logsigmoid

from ..dispatch import answer_all
from .base import Router

__all__ = ["SigmoidRouter", "SoftRouter"]


class SoftRouter(Router):
    """The classical mixture: p(y | x) = sum_m gate_m(x) p_m(y | x), trained by its likelihood.

    The output is what softmax (or, of one output, the logistic function) turns into these
    probabilities: log sum_m exp(log gate_m + log p_m).
    """

    gates = ("softmax",)

    def combine(self, experts, x, route):
        """Mix the experts' distributions."""
        answers = answer_all(experts, x)  # (n_samples, n_experts, n_outputs)
        log_gate = route.gate.to(answers.dtype).clamp(min=torch.finfo(answers.dtype).tiny).log()
        if answers.shape[2] == 1:
            score = answers[:, :, 0]
            positive, negative = (
                (log_gate + logsigmoid(sign * score)).logsumexp(1, keepdim=True) for sign in (1, -1)
            )
            return positive - negative, None
        # Samples last: torch is slow along a short last axis.
        by_output = answers.permute(2, 1, 0)
        log_proba = by_output - by_output.logsumexp(0)
        return (log_gate.T + log_proba).logsumexp(1).T, None

    def combine_each(self, experts, x, route):
        """Return each expert's own answer."""
        return answer_all(experts, x)


class SigmoidRouter(Router):
    """F(x) = sum_m sigmoid(h_m(x)) f_m(x): experts do not compete (arXiv 2405.13997)."""

    gates = ("sigmoid",)
