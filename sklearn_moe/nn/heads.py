"""Heads: from the mixture's output to class probabilities and the loss per sample."""

import torch
from torch import Tensor, nn

from .softmax import log_softmax, softmax

__all__ = ["HEADS", "LogitsHead", "MarginHead", "ProbabilitiesHead"]


class LogitsHead:
    """One logit per class, softmax, cross-entropy."""

    @staticmethod
    def n_outputs(n_classes: int) -> int:
        """Return how many outputs an expert has."""
        return n_classes

    @staticmethod
    def proba(output: Tensor) -> Tensor:
        """Map (n_samples, n_outputs) to probabilities (n_samples, n_classes)."""
        return softmax(output)

    @staticmethod
    def loss(output: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each sample, (n_samples,)."""
        return -log_softmax(output).gather(1, y.unsqueeze(1)).squeeze(1)


class MarginHead(LogitsHead):
    """One score F(x) for two classes and the logistic loss log(1 + exp(-y F)) (section 3.2)."""

    @staticmethod
    def n_outputs(n_classes: int) -> int:
        """Return 1; refuse anything but two classes."""
        if n_classes != 2:
            raise ValueError(
                f"head='margin' separates two classes by one score, y has {n_classes}. "
                "Use head='logits'."
            )
        return 1

    @staticmethod
    def proba(output: Tensor) -> Tensor:
        """Return sigmoid(-F), sigmoid(F)."""
        return torch.cat([-output, output], 1).sigmoid()

    @staticmethod
    def loss(output: Tensor, y: Tensor) -> Tensor:
        """Return log(1 + exp(-F)) for the second class, log(1 + exp(F)) for the first."""
        return nn.functional.softplus(output[:, 0] * (1 - 2 * y))


class ProbabilitiesHead(LogitsHead):
    """Cross-entropy of the softmax taken twice, as in the authors' code.

    The loss cannot fall below log(1 + (n_classes - 1) / e): .313 for two classes.
    """

    @staticmethod
    def loss(output: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy that takes the probabilities for logits."""
        return LogitsHead.loss(softmax(output), y)


HEADS: dict[str, type[LogitsHead]] = {
    "logits": LogitsHead,
    "margin": MarginHead,
    "probabilities": ProbabilitiesHead,
}
