"""Heads for one of several classes."""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..softmax import log_softmax, softmax
from .base import Head

__all__ = ["DoubleSoftmaxHead", "MarginHead", "SoftmaxHead", "mix_binary"]


class _ClassHead(Head):
    """What heads for classes share: error and score are those of their probabilities."""

    kind = "classes"
    score_name = "acc"

    def __init__(self, n_targets: int):
        super().__init__(n_targets)
        self.blind_error = 1 - 1 / n_targets

    def error(self, output, y):
        """Return the probability that is given to the other classes."""
        return 1 - self.predict(output).gather(1, y.unsqueeze(1)).squeeze(1)

    def score(self, output, y):
        """Return 1 for the right class, 0 for another: their mean is the accuracy."""
        return (self.predict(output).argmax(1) == y).to(output.dtype)


class SoftmaxHead(_ClassHead):
    """One logit per class, softmax, cross-entropy."""

    def loss(self, output, y):
        """Return the cross-entropy."""
        return -log_softmax(output).gather(1, y.unsqueeze(1)).squeeze(1)

    def losses(self, answers, y):
        """Return the cross-entropies."""
        # Samples last, as in mix.
        log_proba = answers.permute(1, 2, 0).log_softmax(1)  # (n_experts, n_outputs, n_samples)
        return -log_proba.gather(1, y.expand(len(log_proba), 1, -1)).squeeze(1).T

    def predict(self, output):
        """Return the softmax."""
        return softmax(output)

    def decision(self, output):
        """Return the logits."""
        return output

    @staticmethod
    def mix(log_gate, answers):
        """Return log sum_m exp(log gate_m + log p_m), whose softmax is the mixture."""
        # Samples last: torch is slow along a short last axis.
        by_output = answers.permute(2, 1, 0)
        log_proba = by_output - by_output.logsumexp(0)
        return (log_gate.T + log_proba).logsumexp(1).T


class DoubleSoftmaxHead(SoftmaxHead):
    """Cross-entropy of the softmax taken twice, as in the authors' code.

    The loss cannot fall below log(1 + (n_classes - 1) / e): .313 for two classes.
    """

    losses = Head.losses

    def loss(self, output, y):
        """Return the cross-entropy that takes the probabilities for logits."""
        return super().loss(softmax(output), y)


class MarginHead(_ClassHead):
    """One score F(x) for two classes and the logistic loss log(1 + exp(-y F)) (section 3.2)."""

    def __init__(self, n_targets: int):
        if n_targets != 2:
            raise ValueError(
                f"loss='margin' separates two classes by one score, y has {n_targets}. "
                "Use loss='log_loss'."
            )
        super().__init__(n_targets)
        self.n_outputs = 1

    def loss(self, output, y):
        """Return log(1 + exp(-F)) for the second class, log(1 + exp(F)) for the first."""
        return nn.functional.softplus(output[:, 0] * (1 - 2 * y))

    def predict(self, output):
        """Return sigmoid(-F), sigmoid(F)."""
        return torch.cat([-output, output], 1).sigmoid()

    def decision(self, output):
        """Return -F / 2 and F / 2."""
        return torch.cat([-output, output], 1) / 2

    @staticmethod
    def mix(log_gate, answers):
        """Return the score whose sigmoid is the mixture."""
        return mix_binary(log_gate, answers)


def mix_binary(log_gate: Tensor, answers: Tensor) -> Tensor:
    """Return the scores, (n_samples, n_outputs), whose sigmoids are the mixed sigmoids."""
    log_gate = log_gate.unsqueeze(2)
    positive, negative = ((log_gate + logsigmoid(sign * answers)).logsumexp(1) for sign in (1, -1))
    return positive - negative
