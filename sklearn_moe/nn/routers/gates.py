"""Gates, from scores to the weights of the expert outputs, and noise for the scores.

A gate takes the scores without noise, the scores as they were compared (with noise) and the
chosen experts, (n_samples, k), and returns their weights, (n_samples, k). If `chosen` is None, the
weights of all experts. Noise is added to the scores that choose the experts, in training.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from ..._registry import Registry, require_override
from ..functional import draw_for_samples, softmax
from ..seeding import hash_rows

# -- gates --------------------------------------------------------------------------------


def _take(values: Tensor, chosen: Tensor | None) -> Tensor:
    return values if chosen is None else values.gather(1, chosen)


def softmax_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return softmax(h)_m over all experts, chosen or not (paper, section 3.2)."""
    weights = softmax(scores)
    return weights if chosen is None else weights.gather(1, chosen)


def renormalized_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return the softmax over the chosen experts only, so that the weights add up to 1.

    For a single chosen expert it is 1 whatever its score: the router would learn nothing.
    """
    return softmax(_take(scores, chosen))


def relative_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return M softmax(h)_m, which is 1 where all M experts have the same score.

    A router that is not trained yet does not change the output of a single chosen expert.
    """
    return softmax_gate(scores, noisy, chosen) * scores.shape[1]


def sigmoid_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return sigmoid(h_m), without competition between experts (arXiv 2405.13997)."""
    return _take(scores.sigmoid(), chosen)


def logit_gate(scores: Tensor, noisy: Tensor, chosen: Tensor | None) -> Tensor:
    """Return the raw score with its noise, h_m + r_m: the gate of the authors' notebooks.

    It can be negative, which inverts the expert's output.
    """
    return _take(noisy, chosen)


GATES = Registry(
    "router__gate",
    "a callable (scores, noisy, chosen) -> weights",
    {
        "softmax": softmax_gate,
        "renormalized": renormalized_gate,
        "relative": relative_gate,
        "sigmoid": sigmoid_gate,
        "logit": logit_gate,
    },
)

_STANDARD = tuple(GATES)


def standard_gate(gate: str | Callable) -> str | Callable:
    """Return the name of a gate of the library, or the function of a user's own gate.

    Routers accept some gates of the library, by name; other functions are always accepted.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    function = GATES.resolve(gate)
    return next((name for name in _STANDARD if GATES[name] is function), function)


# -- noise --------------------------------------------------------------------------------


class Noise:
    """Independent noise for every sample and expert: uniform draws mapped to a distribution.

    Parameters
    ----------
    hashed : bool, default=False
        Draw, in every step, a random function from samples to noise instead of noise for each
        sample: equal samples get equal noise, so that weight 2 has the effect of two copies.
    """

    def __init__(self, hashed: bool = False):
        self.hashed = hashed

    def __call__(self, x: Tensor, scores: Tensor, generator: Generator) -> Tensor:
        """Return noise of the shape of `scores`, which are those of the samples x."""
        if self.hashed:
            u = hash_rows(x, scores.shape[1], generator).to(scores.dtype)
        else:
            options = {"generator": generator, "dtype": scores.dtype, "device": scores.device}
            u = draw_for_samples(partial(torch.rand, **options), scores.shape)
        return self.quantile(u)

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        """Map U[0, 1] to the distribution."""
        raise NotImplementedError


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


class GaussianNoise(Noise):
    """N(0, 1)."""

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        """Return sqrt(2) erfinv(2u - 1)."""
        return math.sqrt(2) * (2 * _inside(u) - 1).erfinv()


class GumbelNoise(Noise):
    """Gumbel(0, 1): the highest noisy score is a draw from the softmax of the scores.

    The k highest are draws without replacement.
    """

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        """Return -log(-log u)."""
        return -(-_inside(u).log()).log()


NOISES = Registry(
    "router__noise",
    "a callable (x, scores, generator) -> noise, or a subclass of sklearn_moe.nn.Noise",
    {"uniform": UniformNoise, "gaussian": GaussianNoise, "gumbel": GumbelNoise},
)


def make_noise(noise: str | Callable | None, hashed: bool) -> Callable | None:
    """Return the noise function of a name, a subclass of `Noise` or a function; None for None.

    `hashed` is passed to subclasses; a function is returned as it is.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is another class, or a distribution without `quantile`.
    """
    made = NOISES.resolve(noise)
    if isinstance(made, type):
        if not issubclass(made, Noise):
            raise TypeError(f"router__noise={noise!r} must be {NOISES.own}.")
        made = made(hashed)
    if isinstance(made, Noise) and type(made).__call__ is Noise.__call__:
        require_override(made, Noise, "quantile", f"router__noise={noise!r}")
    return made
