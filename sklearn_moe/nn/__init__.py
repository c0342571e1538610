"""The mixture of experts in plain torch: experts, routers, balancing, dispatch and heads."""

from .activations import ACTIVATIONS
from .balance import BALANCES, Balance
from .build import build_mixture
from .dispatch import answer_all, dispatch
from .expert_names import EXPERTS
from .experts import CNNExpert, MLPExpert, PatchExpert
from .heads import HEADS
from .losses import expert_means, weighted_mean
from .mixture import Mixed, MixtureOfExperts
from .routers import (
    GATES,
    NETWORKS,
    NOISES,
    ROUTERS,
    CentroidScores,
    LinearScores,
    MergeRouter,
    MLPScores,
    Noise,
    NoisyTopKRouter,
    PatchChoiceRouter,
    Preset,
    ReLURouter,
    Route,
    Router,
    SigmoidRouter,
    SoftRouter,
    TopKRouter,
    as_patches,
    make_router,
)
from .seeding import OwnGenerator, may_draw
from .softmax import softmax

__all__ = [
    "ACTIVATIONS",
    "BALANCES",
    "EXPERTS",
    "GATES",
    "HEADS",
    "NETWORKS",
    "NOISES",
    "ROUTERS",
    "Balance",
    "CNNExpert",
    "CentroidScores",
    "LinearScores",
    "MLPExpert",
    "MLPScores",
    "MergeRouter",
    "Mixed",
    "MixtureOfExperts",
    "Noise",
    "NoisyTopKRouter",
    "OwnGenerator",
    "PatchChoiceRouter",
    "PatchExpert",
    "Preset",
    "ReLURouter",
    "Route",
    "Router",
    "SigmoidRouter",
    "SoftRouter",
    "TopKRouter",
    "answer_all",
    "as_patches",
    "build_mixture",
    "dispatch",
    "expert_means",
    "make_router",
    "may_draw",
    "softmax",
    "weighted_mean",
]
