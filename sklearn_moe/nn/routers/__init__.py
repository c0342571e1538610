"""Routers: how samples find their experts, and how the experts' answers become one.

A routing rule is made of parts that know nothing of each other: the scores (a small network), the
noise added to them in training, the gate that turns scores into the weights of answers, and the
rule itself, which says who answers and how the answers are combined. `ROUTERS` names the usual
combinations.
"""

from .base import Route, Router, choose
from .dense import SigmoidRouter, SoftRouter
from .gates import GATES
from .make import make_router
from .merge import MergeRouter
from .noise import NOISES, Noise
from .patch_choice import PatchChoiceRouter
from .presets import ROUTERS, Preset, preset_of
from .relu import ReLURouter
from .scores import (
    NETWORKS,
    CentroidScores,
    CNNScores,
    LinearScores,
    MLPScores,
    NormalizedScores,
    Scores,
    as_patches,
    pool,
)
from .sparse import NoisyTopKRouter, TopKRouter

__all__ = [
    "GATES",
    "NETWORKS",
    "NOISES",
    "ROUTERS",
    "CNNScores",
    "CentroidScores",
    "LinearScores",
    "MLPScores",
    "MergeRouter",
    "Noise",
    "NoisyTopKRouter",
    "NormalizedScores",
    "PatchChoiceRouter",
    "Preset",
    "ReLURouter",
    "Route",
    "Router",
    "Scores",
    "SigmoidRouter",
    "SoftRouter",
    "TopKRouter",
    "as_patches",
    "choose",
    "make_router",
    "pool",
    "preset_of",
]
