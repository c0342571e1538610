"""Noise: what is added to the scores that choose the experts, in training."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from ..._registry import Registry, require
from ..ranks import draw_rows

__all__ = ["NOISES", "Noise", "hash_rows", "make_noise"]


class Noise:
    """Independent noise for every sample and expert: a distribution over a uniform source.

    Parameters
    ----------
    per_row : bool, default=False
        Draw, in every step, a random function from samples to noise instead of noise for each
        sample: equal samples get equal noise, so that a sample of weight 2 is the sample twice.
    """

    def __init__(self, per_row: bool = False):
        self.per_row = per_row

    def __call__(self, x: Tensor, scores: Tensor, generator: Generator) -> Tensor:
        """Return noise of the shape of `scores`, whose rows belong to the samples x."""
        if self.per_row:
            u = hash_rows(x, scores.shape[1], generator).to(scores.dtype)
        else:
            options = {"generator": generator, "dtype": scores.dtype, "device": scores.device}
            u = draw_rows(partial(torch.rand, **options), scores.shape)
        return self.quantile(u)

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        """Map U[0, 1] to the distribution."""
        raise NotImplementedError

    @staticmethod
    def survival(z: Tensor) -> Tensor:
        """Return the probability that the noise exceeds z."""
        raise NotImplementedError


def hash_rows(x: Tensor, n_columns: int, generator: Generator) -> Tensor:
    """Draw `n_columns` functions from samples to [0, 1], uniform over samples and draws.

    The fractional part of a steep random linear function does it: samples 0.001 apart are far
    apart in phase.
    """
    x = x.flatten(1)
    options: dict[str, Any] = {"generator": generator, "dtype": x.dtype, "device": x.device}
    slope = torch.randn(x.shape[1], n_columns, **options)
    phase = torch.rand(n_columns, **options)
    return (1e3 * (x @ slope) + phase).remainder(1)


def _inside(u: Tensor) -> Tensor:
    """Keep u away from 0 and 1, where quantiles are infinite."""
    tiny = torch.finfo(u.dtype).eps / 2
    return u.clamp(tiny, 1 - tiny)


class UniformNoise(Noise):
    """U[0, 1] (paper, section 3.2)."""

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        """Return u itself."""
        return u

    @staticmethod
    def survival(z: Tensor) -> Tensor:
        """Return 1 - z between 0 and 1."""
        return (1 - z).clamp(0, 1)


class GaussianNoise(Noise):
    """N(0, 1)."""

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        """Return sqrt(2) erfinv(2u - 1)."""
        return math.sqrt(2) * (2 * _inside(u) - 1).erfinv()

    @staticmethod
    def survival(z: Tensor) -> Tensor:
        """Return Phi(-z)."""
        return torch.special.ndtr(-z)


class GumbelNoise(Noise):
    """Gumbel(0, 1): the highest noisy score is a draw from the softmax of the scores.

    The k highest are draws without replacement.
    """

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        """Return -log(-log u)."""
        return -(-_inside(u).log()).log()

    @staticmethod
    def survival(z: Tensor) -> Tensor:
        """Return 1 - exp(-exp(-z))."""
        return -torch.expm1(-(-z).exp())


NOISES = Registry(
    "router_noise",
    "a callable (x, scores, generator) -> noise, or a subclass of sklearn_moe.nn.Noise",
    {"uniform": UniformNoise, "gaussian": GaussianNoise, "gumbel": GumbelNoise},
)


def make_noise(noise: str | Callable | None, per_row: bool) -> Callable | None:
    """Return the noise function of a name, a subclass of `Noise` or a function; None for None.

    `per_row` is for the subclasses: a function is taken as it is.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is some other class, or a distribution without `quantile`.
    """
    made = NOISES.resolve(noise)
    if isinstance(made, type):
        if not issubclass(made, Noise):
            raise TypeError(f"router_noise={noise!r} must be {NOISES.own}.")
        made = made(per_row)
    if isinstance(made, Noise) and type(made).__call__ is Noise.__call__:
        require(made, Noise, "quantile", f"router_noise={noise!r}")
    return made
