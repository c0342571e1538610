"""Experts: the networks among which a router chooses.

A new one is an entry of `EXPERTS`; nothing else in the package knows experts by name.
"""

import math
from typing import Any

from torch import nn

from ..._registry import Registry
from .cnn import CNNExpert, CNNTrunk
from .mlp import MLPExpert
from .patch import PatchExpert
from .spec import OWN, ExpertSpec

__all__ = ["EXPERTS", "CNNExpert", "CNNTrunk", "ExpertSpec", "MLPExpert", "PatchExpert"]

_PATCH_START = 1e-3  # deviation of <w, x_p> at the start, for a patch of norm r


def _small_start(input_shape: tuple[int, ...], r: float) -> float:
    return _PATCH_START * math.sqrt(3 * input_shape[-1]) / r


def _resnet18(input_shape: tuple[int, ...], n_outputs: int, **options: Any) -> nn.Module:
    from .backbones import ResNet18Expert  # imports torchvision

    return ResNet18Expert(input_shape, n_outputs, **options)


def _mobilenet_v2(input_shape: tuple[int, ...], n_outputs: int, **options: Any) -> nn.Module:
    from .backbones import MobileNetV2Expert  # imports torchvision

    return MobileNetV2Expert(input_shape, n_outputs, **options)


_PATCH = ExpertSpec(
    PatchExpert, ndim=3, activation="cubic", solver="normalized_sgd", init_scale=_small_start
)
_RESNET18 = ExpertSpec(_resnet18, ndim=4, activation="relu", solver="adamw")
_MOBILENET_V2 = ExpertSpec(_mobilenet_v2, ndim=4, activation="relu", solver="adamw")

EXPERTS = Registry(
    "expert",
    OWN,
    {
        "patch": _PATCH,
        "patch_conv": _PATCH.with_options(init="uniform", bias=True),  # the authors' Conv1d
        "mlp": ExpertSpec(MLPExpert, ndim=2, activation="relu", solver="adamw"),
        "cnn": ExpertSpec(CNNExpert, ndim=4, activation="relu", solver="adamw"),
        "resnet18": _RESNET18,
        "resnet18_gn": _RESNET18.with_options(norm="group"),
        "mobilenet_v2": _MOBILENET_V2,
        "mobilenet_v2_gn": _MOBILENET_V2.with_options(norm="group"),
    },
)
