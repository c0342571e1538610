"""Heads for numbers: regression."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from ..._registry import require
from .base import Head

__all__ = ["AbsoluteErrorHead", "GaussianHead", "HuberHead", "SquaredErrorHead"]

_LOG_2_PI = math.log(2 * math.pi)


class NumberHead(Head):
    """What heads for numbers share; a subclass writes `density_loss`, and `point` if it must.

    The mixture of all experts is a density, a different one for each expert and sample, which no
    single output can tell. `mix` puts the log gate beside the answers, (n_samples, n_experts,
    1 + n_outputs), and the methods take either form.
    """

    kind = "numbers"
    score_name = "r2"

    def point(self, answers: Tensor) -> Tensor:
        """Return the numbers that the outputs of experts stand for, (..., n_targets)."""
        return answers

    def density_loss(self, answers: Tensor, y: Tensor) -> Tensor:
        """Return the negative log density of y, up to a constant, summed over the targets."""
        require(self, NumberHead, "density_loss", "its loss")
        raise NotImplementedError

    def predict(self, output):
        """Return the numbers; of a mixture their mean."""
        if output.ndim == 2:
            return self.point(output)
        return (output[..., :1].exp() * self.point(output[..., 1:])).sum(1)

    def error(self, output, y):
        """Return the mean absolute error in standard deviations of y, 1 at most."""
        return (y - self.predict(output)).abs().clamp(max=1).mean(1)

    def score(self, output, y):
        """Return 1 minus the squared error in variances of y: their mean is about R2."""
        return 1 - (y - self.predict(output)).square().mean(1)

    def loss(self, output, y):
        """Return the negative log density, of an expert or of the mixture, per target."""
        if output.ndim == 2:
            return self.density_loss(output, y) / self.n_targets
        log_gate, answers = output[..., 0], output[..., 1:]
        log_density = log_gate - self.density_loss(answers, y.unsqueeze(1))
        return -log_density.logsumexp(1) / self.n_targets

    def losses(self, answers, y):
        """Return the negative log densities, per target."""
        return self.density_loss(answers, y.unsqueeze(1)) / self.n_targets

    @staticmethod
    def mix(log_gate, answers):
        """Return log gate and answers side by side."""
        return torch.cat([log_gate.unsqueeze(2), answers], 2)


class _ErrorHead(NumberHead):
    """A penalty on y - f(x), in standard deviations of y.

    Of a mixture, the density of expert m is exp(-penalty(y - f_m)): as wide as y itself, so that
    experts which are about as good learn from the same samples, and few samples make no regions.
    """

    @staticmethod
    def penalty(z: Tensor) -> Tensor:
        """Return the penalty of errors z, elementwise."""
        raise NotImplementedError

    def density_loss(self, answers, y):
        """Return the sum of the penalties."""
        return self.penalty(y - answers).sum(-1)


class SquaredErrorHead(_ErrorHead):
    """Half the squared error, the log density of a Gaussian."""

    @staticmethod
    def penalty(z):
        """Return z^2 / 2."""
        return z.square() / 2


class AbsoluteErrorHead(_ErrorHead):
    """The absolute error, whose best prediction is the median."""

    @staticmethod
    def penalty(z):
        """Return |z|."""
        return z.abs()


class HuberHead(_ErrorHead):
    """Half the squared error up to one standard deviation of y, linear beyond."""

    @staticmethod
    def penalty(z):
        """Return Huber's penalty with delta 1."""
        return huber_loss(z, torch.zeros_like(z), reduction="none")


class GaussianHead(NumberHead):
    """A mean and a standard deviation per target, and the negative log density of a Gaussian.

    An expert has two outputs per target: the means, then what `softplus` turns into deviations.
    """

    _FLOOR = 1e-3  # standard deviations of y: below that a density runs away

    def __init__(self, n_targets: int):
        super().__init__(n_targets)
        self.n_outputs = 2 * n_targets

    def point(self, answers):
        """Return the means."""
        return answers[..., : self.n_targets]

    def _deviation(self, answers: Tensor) -> Tensor:
        return nn.functional.softplus(answers[..., self.n_targets :]) + self._FLOOR

    def density_loss(self, answers, y):
        """Return the negative log density of a Gaussian."""
        deviation = self._deviation(answers)
        z = (y - self.point(answers)) / deviation
        return (z.square() / 2 + deviation.log() + _LOG_2_PI / 2).sum(-1)

    def deviation(self, output: Tensor) -> Tensor:
        """Return the standard deviation of the prediction, (n_samples, n_targets).

        Of a mixture it holds what the experts differ by as well.
        """
        if output.ndim == 2:
            return self._deviation(output)
        gate, answers = output[..., :1].exp(), output[..., 1:]
        mean = self.point(answers)
        spread = mean - (gate * mean).sum(1, keepdim=True)
        return (gate * (self._deviation(answers).square() + spread.square())).sum(1).sqrt()
