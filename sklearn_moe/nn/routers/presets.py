"""The routers by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from .base import Router
from .dense import SigmoidRouter, SoftRouter
from .merge import MergeRouter
from .patch_choice import PatchChoiceRouter
from .relu import ReLURouter
from .scores import CentroidScores, LinearScores
from .sparse import NoisyTopKRouter, TopKRouter

__all__ = ["ROUTERS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """A router by name: its rule and what "auto" means for it.

    Parameters
    ----------
    rule : subclass of Router
    noise : str or None, default="uniform"
        Noise in training.
    network : callable or None
        A score network that is part of the name; None leaves it to the user.
    one_expert : bool, default=False
        Whether `top_k` must be 1.
    nonzero : bool, default=False
        Whether the initial scores must not be zero.
    """

    rule: type[Router]
    noise: str | None = "uniform"
    network: Callable[..., nn.Module] | None = None
    one_expert: bool = False
    nonzero: bool = False

    @property
    def gates(self) -> tuple[str, ...]:
        """Return the gates of the rule that teach the router something, the default first."""
        gates = self.rule.gates
        return tuple(g for g in gates if g != "renormalized") if self.one_expert else gates


ROUTERS: dict[str, Preset] = {
    "top1": Preset(TopKRouter, one_expert=True),
    "topk": Preset(TopKRouter),
    "noisy_topk": Preset(NoisyTopKRouter, noise="gaussian"),
    "sampled": Preset(TopKRouter, noise="gumbel"),
    "soft": Preset(SoftRouter, noise=None),
    "sigmoid": Preset(SigmoidRouter, noise=None),
    "relu": Preset(ReLURouter, noise=None, nonzero=True),
    "merge": Preset(MergeRouter, noise=None),
    "patch_choice": Preset(PatchChoiceRouter),
    "random": Preset(
        TopKRouter, noise=None, network=partial(LinearScores, trained=False), nonzero=True
    ),
    "kmeans": Preset(TopKRouter, noise=None, network=CentroidScores),
}
