"""The mixture of experts in plain torch: experts, routers, balancing, dispatch and heads."""

from .._registry import Registry
from .activations import ACTIVATIONS
from .balance import BALANCES, Balance
from .build import build_mixture
from .dispatch import answer_all, dispatch
from .experts import EXPERTS, CNNExpert, CNNTrunk, ExpertSpec, MLPExpert, PatchExpert
from .heads import LOSSES, Head, LossSpec, NumberHead, choose_head
from .hiding import hide, hide_at_random
from .losses import expert_means, mixture_loss, weighted_mean
from .mixture import MixtureOfExperts, MixtureOutput
from .pictures import Channels, PictureEncoder
from .predictor import Predictor
from .ranks import batch_weight, sum_over_ranks
from .routers import (
    GATES,
    NETWORKS,
    NOISES,
    ROUTERS,
    CentroidScores,
    CNNScores,
    LinearScores,
    MergeRouter,
    MLPScores,
    Noise,
    NoisyTopKRouter,
    NormalizedScores,
    PatchChoiceRouter,
    Preset,
    ReLURouter,
    Route,
    Router,
    Scores,
    SigmoidRouter,
    SoftRouter,
    TopKRouter,
    as_patches,
    make_router,
    preset_of,
)
from .seeding import OwnGenerator, may_draw
from .softmax import softmax
from .table import CategoryCodes, Columns, TableEncoder
from .trunks import TRUNKS, make_trunk
from .upcycling import upcycle

__all__ = [
    "ACTIVATIONS",
    "BALANCES",
    "EXPERTS",
    "GATES",
    "LOSSES",
    "NETWORKS",
    "NOISES",
    "ROUTERS",
    "TRUNKS",
    "Balance",
    "CNNExpert",
    "CNNScores",
    "CNNTrunk",
    "CategoryCodes",
    "CentroidScores",
    "Channels",
    "Columns",
    "ExpertSpec",
    "Head",
    "LinearScores",
    "LossSpec",
    "MLPExpert",
    "MLPScores",
    "MergeRouter",
    "MixtureOfExperts",
    "MixtureOutput",
    "Noise",
    "NoisyTopKRouter",
    "NormalizedScores",
    "NumberHead",
    "OwnGenerator",
    "PatchChoiceRouter",
    "PatchExpert",
    "PictureEncoder",
    "Predictor",
    "Preset",
    "ReLURouter",
    "Registry",
    "Route",
    "Router",
    "Scores",
    "SigmoidRouter",
    "SoftRouter",
    "TableEncoder",
    "TopKRouter",
    "answer_all",
    "as_patches",
    "batch_weight",
    "build_mixture",
    "choose_head",
    "dispatch",
    "expert_means",
    "hide",
    "hide_at_random",
    "make_router",
    "make_trunk",
    "may_draw",
    "mixture_loss",
    "preset_of",
    "softmax",
    "sum_over_ranks",
    "upcycle",
    "weighted_mean",
]
