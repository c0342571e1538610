"""The head for several labels, each of which a sample has or has not."""

from torch.nn.functional import softplus

from .base import Head
from .classes import mix_binary

__all__ = ["SigmoidHead"]


class SigmoidHead(Head):
    """One score per label, the logistic function of each, and the mean of their logistic losses."""

    kind = "labels"
    blind_error = 0.5
    score_name = "acc"

    def loss(self, output, y):
        """Return the mean logistic loss of the labels."""
        return softplus(output * (1 - 2 * y)).mean(1)

    def predict(self, output):
        """Return the probability of each label."""
        return output.sigmoid()

    def decision(self, output):
        """Return the scores."""
        return output

    def error(self, output, y):
        """Return the mean probability that is given to the wrong values."""
        return (y - output.sigmoid()).abs().mean(1)

    def score(self, output, y):
        """Return the share of right labels."""
        return ((output > 0) == (y > 0.5)).to(output.dtype).mean(1)

    @staticmethod
    def mix(log_gate, answers):
        """Return the scores whose sigmoids are the mixed probabilities, label by label."""
        return mix_binary(log_gate, answers)
