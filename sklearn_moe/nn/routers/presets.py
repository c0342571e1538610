"""The routers by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from ..._registry import Registry
from .base import Router
from .dense import SigmoidRouter, SoftRouter
from .merge import MergeRouter
from .patch_choice import PatchChoiceRouter
from .relu import ReLURouter
from .scores import CentroidScores, LinearScores
from .sparse import NoisyTopKRouter, TopKRouter

__all__ = ["ROUTERS", "Preset", "preset_of"]


@dataclass(frozen=True)
class Preset:
    """A router: its rule, what "auto" means for it, and the options that few people set.

    Change one of those of a registered router by `dataclasses.replace`, and pass the result as
    `router`, in a search as one candidate of several.

    Parameters
    ----------
    rule : subclass of Router
    noise : str, callable or None, default="uniform"
        Noise in training.
    network : str, callable or None
        A score network that is part of the name, as in `NETWORKS`; None leaves it to the user.
    one_expert : bool, default=False
        Whether `top_k` must be 1.
    random_start : bool, default=False
        Start from random weights, where scores of zero would leave no expert a positive gate
        ("relu") or tie for good ("random").
    top_k : int, default=1
        What `top_k="auto"` becomes.
    dense_gradient : bool, default=False
        Give a gradient to the gates of experts that were not chosen, too, with each expert's
        running mean answer standing in for its answer (Default MoE, arXiv 2504.12463). For rules
        that choose; the answers stay sparse.
    noise_at_predict : bool, default=False
        Draw the noise at prediction, too, from a fixed seed, as the authors' notebooks do. The
        answer to a sample then depends on its place in X.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.nn import ROUTERS
    >>> clf = MoEClassifier(router=replace(ROUTERS["top1"], dense_gradient=True))
    """

    rule: type[Router]
    noise: str | Callable | None = "uniform"
    network: str | Callable[..., nn.Module] | None = None
    one_expert: bool = False
    random_start: bool = False
    top_k: int = 1
    dense_gradient: bool = False
    noise_at_predict: bool = False

    @property
    def gates(self) -> tuple[str, ...]:
        """Return the gates of the rule that give the router a gradient, the default first."""
        gates = self.rule.gates
        return tuple(g for g in gates if g != "renormalized") if self.one_expert else gates


ROUTERS = Registry(
    "router",
    "a subclass of sklearn_moe.nn.Router, or a Preset",
    {
        "top1": Preset(TopKRouter, one_expert=True),
        "topk": Preset(TopKRouter),
        "noisy_topk": Preset(NoisyTopKRouter, noise="gaussian"),
        "sampled": Preset(TopKRouter, noise="gumbel"),
        "soft": Preset(SoftRouter, noise=None),
        "sigmoid": Preset(SigmoidRouter, noise=None),
        "relu": Preset(ReLURouter, noise=None, random_start=True),
        "merge": Preset(MergeRouter, noise=None),
        # One patch may be noise, two of four hold the feature or its cluster.
        "patch_choice": Preset(PatchChoiceRouter, top_k=2),
        "random": Preset(
            TopKRouter,
            noise=None,
            network=partial(LinearScores, trained=False),
            random_start=True,
        ),
        "kmeans": Preset(TopKRouter, noise=None, network=CentroidScores),
    },
)


def preset_of(router: str | type[Router] | Preset) -> Preset:
    """Return the preset of a name, a preset as it is, and one of usual defaults for a rule.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    router = ROUTERS.resolve(router)
    if isinstance(router, Preset):
        return router
    if isinstance(router, type) and issubclass(router, Router):
        return Preset(router, noise="uniform" if router.noisy else None)
    raise ValueError(f"router must be a name, {ROUTERS.own}; got {router!r}.")
