"""Experts: the networks among which a router chooses.

A new one is an entry of `EXPERTS`; nothing else in the package knows experts by name.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import nn

from ..._validation import Registry
from ..functional import Shape
from .cnn import CNNExpert, CNNTrunk
from .fitted import FittedMembers
from .mlp import LinearExpert, MLPExpert
from .patch import PatchExpert
from .trees import BoostedTrees

__all__ = [
    "EXPERTS",
    "BoostedTrees",
    "CNNExpert",
    "CNNTrunk",
    "ExpertSpec",
    "FittedMembers",
    "LinearExpert",
    "MLPExpert",
    "PatchExpert",
]


@dataclass(frozen=True)
class ExpertSpec:
    """An expert, by its factory and its defaults.

    Parameters
    ----------
    factory : callable
        `factory(input_shape, n_outputs, **options)` returns a module that maps a batch of samples
        to (n_samples, n_outputs). It may name `width` and `activation` among its arguments, to be
        given `expert_width` and `activation` of the estimator.
    ndim : int or None, default=None
        Axes of the X it is made for. None: any.
    activation : str or None, default=None
        What `activation="auto"` becomes. None: the default of the factory.
    solver : str or None, default=None
        What `solver="auto"` becomes, a name in `sklearn_moe.optim.SOLVERS`. None: "adamw" for
        images, as for the experts of the library, otherwise "adam".
    init_scale : callable or None, default=None
        `init_scale(input_shape, r)` returns the factor on the initial weights, an argument
        `init_scale` of the factory; r is the root mean square norm of the training patches.
    columns : {"bounded", "piecewise", "linear"}, default="bounded"
        What it reads of a standardized table: numbers with a soft bound of three standard
        deviations; these and their piecewise-linear encoding; or numbers without a bound.
    options : dict, default={}
        Further arguments of the factory.
    estimator : estimator of scikit-learn or None, default=None
        Copies of it are the members of this kind in a pool, in place of networks.
    """

    factory: Callable[..., nn.Module]
    ndim: int | None = None
    activation: str | None = None
    solver: str | None = None
    init_scale: Callable[[Shape, float], float] | None = None
    columns: Literal["bounded", "piecewise", "linear"] = "bounded"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    estimator: Any = None

    @classmethod
    def of(cls, expert: Any) -> "ExpertSpec":
        """Return a spec as it is, and one without defaults for a factory or an estimator."""
        if isinstance(expert, ExpertSpec):
            return expert
        if hasattr(expert, "fit") and not isinstance(expert, type):
            return cls(FittedMembers, ndim=2, columns="linear", estimator=expert)
        return cls(expert)

    @property
    def is_fitted(self) -> bool:
        """Whether its members are fitted elsewhere, all at once, and not trained in steps."""
        return self.factory in (FittedMembers, BoostedTrees)

    @property
    def name(self) -> str:
        """Name in `EXPERTS` with the options that differ, or that of factory or estimator."""
        if self.estimator is not None:
            return type(self.estimator).__name__
        options = {}
        for name, entry in EXPERTS.items():
            spec = ExpertSpec.of(entry)
            is_same = (spec.factory, spec.columns) == (self.factory, self.columns)
            if is_same and spec.options.items() <= self.options.items():
                options[name] = spec.options
        if not options:
            return getattr(self.factory, "__name__", repr(self.factory))
        # Of several entries the one that has most of the options.
        name, known = max(options.items(), key=lambda named: len(named[1]))
        others = [f"{key}={value!r}" for key, value in self.options.items() if key not in known]
        return f"{name}({', '.join(others)})" if others else name

    def with_options(self, **options: Any) -> "ExpertSpec":
        """Return the same expert with some arguments of its factory fixed.

        Examples
        --------
        >>> from sklearn_moe import MoEClassifier
        >>> from sklearn_moe.nn import EXPERTS
        >>> clf = MoEClassifier(expert=EXPERTS["patch"].with_options(init_scale=0.01))
        """
        return replace(self, options={**self.options, **options})

    def build(self, input_shape: Shape, n_outputs: int, **options: Any) -> nn.Module:
        """Return a new expert; `options` of the spec have precedence over those given here.

        Raises
        ------
        TypeError
            If the factory takes other arguments or returns anything but a module.
        """
        options = {**options, **self.options}
        return EXPERTS.make(self.factory, nn.Module, input_shape, n_outputs, **options)


def _patch_init_scale(input_shape: Shape, r: float) -> float:
    # The standard deviation of <w, x_p> is 0.001 before training, for a patch of norm r.
    return 1e-3 * math.sqrt(3 * input_shape[-1]) / r


def _resnet18(input_shape: Shape, n_outputs: int, **options: Any) -> nn.Module:
    # Only here, because it imports torchvision.
    from .backbones import ResNet18Expert

    return ResNet18Expert(input_shape, n_outputs, **options)


def _mobilenet_v2(input_shape: Shape, n_outputs: int, **options: Any) -> nn.Module:
    from .backbones import MobileNetV2Expert

    return MobileNetV2Expert(input_shape, n_outputs, **options)


_PATCH = ExpertSpec(
    PatchExpert, ndim=3, activation="cubic", solver="normalized_sgd", init_scale=_patch_init_scale
)
_MLP = ExpertSpec(MLPExpert, ndim=2, activation="relu", solver="adamw")
_RESNET18 = ExpertSpec(_resnet18, ndim=4, activation="relu", solver="adamw")
_MOBILENET_V2 = ExpertSpec(_mobilenet_v2, ndim=4, activation="relu", solver="adamw")

EXPERTS = Registry(
    "expert",
    "a callable (input_shape, n_outputs) -> torch.nn.Module",
    {
        "patch": _PATCH,
        # As the authors' Conv1d.
        "patch_conv": _PATCH.with_options(init="uniform", bias=True),
        "mlp": _MLP,
        "deep": _MLP.with_options(n_layers=2),
        "piecewise": replace(_MLP.with_options(n_layers=2), columns="piecewise"),
        "linear": ExpertSpec(LinearExpert, ndim=2, solver="adamw", columns="linear"),
        "trees": ExpertSpec(BoostedTrees, ndim=2),
        "cnn": ExpertSpec(CNNExpert, ndim=4, activation="relu", solver="adamw"),
        "resnet18": _RESNET18,
        "resnet18_gn": _RESNET18.with_options(norm="group"),
        "mobilenet_v2": _MOBILENET_V2,
        "mobilenet_v2_gn": _MOBILENET_V2.with_options(norm="group"),
    },
)
