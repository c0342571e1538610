"""The mixture of experts in plain torch: experts, routers, sparse dispatch, heads and losses."""

from .activations import ACTIVATIONS
from .build import build_mixture
from .dispatch import dispatch
from .experts import EXPERTS, CNNExpert, MLPExpert, PatchExpert
from .heads import HEADS
from .losses import BALANCES, expert_means, switch_loss, weighted_mean
from .mixture import Mixed, MixtureOfExperts, Route
from .routers import GATES, NOISES, ROUTERS, ConvRouter, LinearRouter, make_router
from .seeding import OwnGenerator
from .softmax import softmax

__all__ = [
    "ACTIVATIONS",
    "BALANCES",
    "EXPERTS",
    "GATES",
    "HEADS",
    "NOISES",
    "ROUTERS",
    "CNNExpert",
    "ConvRouter",
    "LinearRouter",
    "MLPExpert",
    "Mixed",
    "MixtureOfExperts",
    "OwnGenerator",
    "PatchExpert",
    "Route",
    "build_mixture",
    "dispatch",
    "expert_means",
    "make_router",
    "softmax",
    "switch_loss",
    "weighted_mean",
]
