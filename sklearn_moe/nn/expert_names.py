"""The experts that can be asked for by name."""

from collections.abc import Callable
from functools import partial

from torch import nn

from .experts import CNNExpert, MLPExpert, PatchExpert

__all__ = ["EXPERTS"]


def _resnet18(input_shape: tuple[int, ...], n_outputs: int, **options) -> nn.Module:
    from .backbones import ResNet18Expert  # imports torchvision

    return ResNet18Expert(input_shape, n_outputs, **options)


def _mobilenet_v2(input_shape: tuple[int, ...], n_outputs: int, **options) -> nn.Module:
    from .backbones import MobileNetV2Expert  # imports torchvision

    return MobileNetV2Expert(input_shape, n_outputs, **options)


EXPERTS: dict[str, Callable[..., nn.Module]] = {
    "patch": PatchExpert,
    "patch_conv": partial(PatchExpert, init="uniform", bias=True),  # the authors' Conv1d
    "mlp": MLPExpert,
    "cnn": CNNExpert,
    "resnet18": _resnet18,
    "resnet18_gn": partial(_resnet18, norm="group"),
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v2_gn": partial(_mobilenet_v2, norm="group"),
}
