"""Experts: the networks among which a router chooses.

A new one is an entry of `EXPERTS`; nothing else in the package knows experts by name.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .._validation import Registry
from .functional import (
    ACTIVATIONS,
    ChannelsLast,
    Shape,
    Stack,
    activation_function,
    activation_layer,
    are_homogeneous,
    linear,
    require_ndim,
    stack_weights,
)
from .trees import BoostedTrees, FittedMembers

_MONOTONE = ("celu", "cubic", "linear", "relu", "tanh")

# -- for feature vectors ------------------------------------------------------------------


class MLPExpert(nn.Sequential):
    """Hidden layers and a learned readout, for samples that are feature vectors.

    Initial weights are Glorot-uniform, biases start at zero.

    Parameters
    ----------
    input_shape : (n_features,)
    n_outputs : int
    width : int, default=None
        Hidden units of a layer. None: 100, as in scikit-learn's MLPClassifier; 80 in each of
        several layers, which predict nearly as well in less time.
    n_layers : int, default=1
        Hidden layers, at least one.
    activation : str or callable, default="relu"
    """

    def __init__(
        self,
        input_shape: Shape,
        n_outputs: int,
        *,
        width: int | None = None,
        n_layers: int = 1,
        activation: str | Callable = "relu",
    ):
        require_ndim(input_shape, 1, "mlp", "n_features,")
        if n_layers < 1:
            raise ValueError(f"n_layers must be 1 or more, got {n_layers}. Use expert='linear'.")
        width, sigma = width or (100 if n_layers == 1 else 80), activation_layer(activation)
        sizes = [input_shape[0], *[width] * n_layers, n_outputs]
        linears = [nn.Linear(n_inputs, n_units) for n_inputs, n_units in pairwise(sizes)]
        super().__init__(*[part for layer in linears for part in (layer, sigma)][:-1])
        for layer in linears:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def is_linear(self) -> bool:
        """Whether the outputs are linear functions of the features."""
        activations = {getattr(layer, "activation", None) for layer in [*self][1::2]}
        return type(self) is MLPExpert and activations == {linear}

    @torch.no_grad()
    def linear_function(self) -> tuple[Tensor, Tensor]:
        """Return coefficients, (n_outputs, n_features), and intercepts, if `is_linear`."""
        weight, bias, *others = (p.double() for p in self.parameters())
        for w, b in zip(others[::2], others[1::2], strict=True):
            weight, bias = w @ weight, w @ bias + b
        return weight, bias

    @staticmethod
    def stack(experts: Sequence["MLPExpert"]) -> nn.Module | None:
        """Return the experts as one module with stacked weights.

        None if they are not homogeneous or their activation has weights of its own.
        """
        # A subclass may override forward, which the stack would bypass.
        homogeneous = {type(expert) for expert in experts} == {MLPExpert}
        return MLPStack(experts) if homogeneous and not experts[0][1].state_dict() else None


class MLPStack(Stack):
    """Experts of which all process every sample, as one batched computation.

    Parameters
    ----------
    experts : sequence of MLPExpert
        Their weights are copied.
    """

    def __init__(self, experts: Sequence[MLPExpert]):
        super().__init__(experts, experts[0][1])
        # (M, width, n_features), (M, width), ... (M, n_outputs, width) and (M, n_outputs).
        each = [*zip(*(expert.parameters() for expert in experts), strict=True)]
        inner = [f"{name}_{i}" for i in range(1, len(each) // 2 - 1) for name in ("weight", "bias")]
        names = ["weight", "bias", *inner, "readout", "readout_bias"]
        for name, weights in zip(names, each, strict=True):
            self.register_parameter(name, stack_weights(weights))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_features) to (n_samples, n_experts, n_outputs)."""
        # `parameters()` would look for more in all parts, in every step.
        weights: list[Any] = [*self._parameters.values()]
        weight, bias, *others = weights
        # Samples last, so that elementwise operations and sums run along contiguous rows.
        z = torch.addmm(bias.view(-1, 1), weight.flatten(0, 1), x.T)
        for w, b in zip(others[::2], others[1::2], strict=True):
            # An activation that works in place costs more on a view.
            z = self.activation(z).view(*w.shape[::2], x.shape[0])
            z = torch.baddbmm(b.unsqueeze(2), w, z)
        return z.permute(2, 0, 1)


class LinearExpert(nn.Linear):
    """A linear function of a feature vector.

    Parameters
    ----------
    input_shape : (n_features,)
    n_outputs : int
    """

    is_linear = True

    def __init__(self, input_shape: Shape, n_outputs: int):
        require_ndim(input_shape, 1, "linear", "n_features,")
        super().__init__(input_shape[0], n_outputs)
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def linear_function(self) -> tuple[Tensor, Tensor]:
        """Return coefficients, (n_outputs, n_features), and intercepts."""
        return self.weight.double(), self.bias.double()

    @torch.no_grad()
    def become_linear(self, coef: Tensor, intercept: Tensor) -> None:
        """Become the linear function x -> coef x + intercept."""
        self.weight.copy_(coef)
        self.bias.copy_(intercept)


# -- for patches --------------------------------------------------------------------------


class PatchExpert(nn.Module):
    """The paper's two-layer patch CNN: sum of sigma(<w_j, x_p>) over filters and patches.

    One set of filters per output; the second layer is fixed to ones (section 3.2).

    Parameters
    ----------
    input_shape : (n_patches, patch_size)
    n_outputs : int
        Number of outputs; each has filters of its own.
    width : int, default=8
        Filters per output, the paper's J.
    activation : str or callable, default="cubic"
        The sigma: a name in `ACTIVATIONS` or an elementwise function.
    init_scale : float, default=1.0
        Factor on initial weights of standard deviation 1 / sqrt(3 patch_size), which is
        that of torch's own default.
    init : {"normal", "uniform"}, default="normal"
        Shape of the initial distribution: Gaussian (paper) or uniform (authors' code).
    bias : bool, default=False
        Whether each filter has a bias (authors' code).
    """

    def __init__(
        self,
        input_shape: Shape,
        n_outputs: int,
        *,
        width: int = 8,
        activation: str | Callable = "cubic",
        init_scale: float = 1.0,
        init: str = "normal",
        bias: bool = False,
    ):
        super().__init__()
        require_ndim(input_shape, 2, "patch", "n_patches, patch_size")
        patch_size = input_shape[1]
        self.activation = activation_function(activation)
        self.weight = nn.Parameter(torch.empty(n_outputs, width, patch_size))
        self.bias = nn.Parameter(torch.empty(n_outputs, width)) if bias else None
        # A subclass may override forward, which the stacked form would bypass.
        key = self.activation, n_outputs, width, bias
        self.group_key = key if type(self) is PatchExpert else None
        std = init_scale / math.sqrt(3 * patch_size)
        bound = math.sqrt(3) * std
        for parameter in self.parameters():
            if init == "uniform":
                nn.init.uniform_(parameter, -bound, bound)
            else:
                nn.init.normal_(parameter, 0.0, std)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_patches, patch_size) to (n_samples, n_outputs)."""
        bias = None if self.bias is None else self.bias.unsqueeze(0)
        return PatchFilters(self.weight.unsqueeze(0), bias, self.activation).all(x).squeeze(1)

    @staticmethod
    def stacked_form(experts: Sequence["PatchExpert"]) -> "PatchFilters":
        """Return the filters of experts that have the same `group_key`."""
        weight = torch.stack([e.weight for e in experts])
        bias: list[Tensor] = [e.bias for e in experts if e.bias is not None]
        return PatchFilters(weight, torch.stack(bias) if bias else None, experts[0].activation)

    @staticmethod
    def stack(experts: Sequence["PatchExpert"]) -> nn.Module | None:
        """Return the experts as one module with stacked weights, None if they differ."""
        return PatchStack(experts) if are_homogeneous(experts) else None


class PatchStack(Stack):
    """Patch experts with their weights in one tensor.

    Parameters
    ----------
    experts : sequence of PatchExpert
        Their weights are copied.
    """

    def __init__(self, experts: Sequence[PatchExpert]):
        super().__init__(experts, experts[0].activation)
        # (M, n_outputs, width, patch_size) and, if there is any, (M, n_outputs, width).
        self.weight = stack_weights([e.weight for e in experts])
        bias: list[Tensor] = [e.bias for e in experts if e.bias is not None]
        self.bias = stack_weights(bias) if bias else None

    def stacked_form(self) -> "PatchFilters":
        """Return the filters of all experts."""
        return PatchFilters(self.weight, self.bias, self.activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_patches, patch_size) to (n_samples, n_experts, n_outputs)."""
        return self.stacked_form().all(x)


class PatchFilters(NamedTuple):
    """The stacked filters of patch experts that differ in nothing else."""

    weight: Tensor  # (n_experts, n_outputs, width, patch_size)
    bias: Tensor | None  # (n_experts, n_outputs, width)
    activation: Callable[[Tensor], Tensor]

    def all(self, x: Tensor) -> Tensor:
        """Apply every expert to every sample, (n_samples, n_experts, n_outputs)."""
        return self._sum(self._filter(x), *x.shape[:2]).transpose(0, 1)

    def groups(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """Apply each expert to its group of samples; x holds one group after the other.

        Only the filters differ between experts: activation and sums are computed for all at once.
        """
        n_samples, n_patches, patch_size = x.shape
        # On a GPU one kernel in place of one for each expert.
        if len(set(sizes)) == 1 and not x.is_cpu:
            z = self.weight.flatten(1, 2) @ x.reshape(len(sizes), -1, patch_size).mT
            if self.bias is not None:
                z = z + self.bias.flatten(1).unsqueeze(2)
            return self._sum(z.flatten(0, 1), sizes[0], n_patches).flatten(0, 1)
        weights = self.weight.flatten(1, 2)
        groups = x.reshape(-1, patch_size).split([size * n_patches for size in sizes])
        # Filters first, (n_outputs * width, n_samples * n_patches): the sum over filters then
        # adds long contiguous rows.
        if self.bias is None:
            each = [w @ group.T for w, group in zip(weights, groups, strict=True)]
        else:
            biases = self.bias.flatten(1).unsqueeze(2)
            triples = zip(biases, weights, groups, strict=True)
            each = [torch.addmm(bias, weight, group.T) for bias, weight, group in triples]
        z = torch.cat(each, 1)
        return self._sum(z, n_samples, n_patches)[0]

    def _filter(self, x: Tensor) -> Tensor:
        """Return the outputs of all filters, (n_experts * n_filters, n_samples * n_patches)."""
        weight, patches = self.weight.flatten(0, 2), x.reshape(-1, x.shape[2])
        if self.bias is None:
            return weight @ patches.T
        return torch.addmm(self.bias.view(-1, 1), weight, patches.T)

    def _sum(self, z: Tensor, n_samples: int, n_patches: int) -> Tensor:
        """Add up the activations over filters and patches.

        z is (n_experts * n_outputs * width, n_samples * n_patches), the result
        (n_experts, n_samples, n_outputs).
        """
        _, n_outputs, width, _ = self.weight.shape
        n_experts = z.shape[0] // (n_outputs * width)
        z = self.activation(z)
        # On a GPU one kernel in place of two, of which the first is faster on a CPU.
        if not z.is_cpu:
            return z.view(n_experts, n_outputs, width, n_samples, n_patches).sum((2, 4)).mT
        per_patch = z.view(n_experts * n_outputs, width, z.shape[1]).sum(1)
        return per_patch.view(n_experts, n_outputs, n_samples, n_patches).sum(3).mT


# -- for images ---------------------------------------------------------------------------


class CNNTrunk(ChannelsLast, nn.Sequential):
    """The two convolutions of `CNNExpert`, as layers that all experts share.

    Parameters
    ----------
    input_shape : (n_channels, height, width)
        Height and width are at least 4: pooling halves them twice.
    width : int, default=64
        Channels of both convolutions.
    activation : str or callable, default="relu"
    """

    def __init__(self, input_shape: Shape, *, width: int = 64, activation: str | Callable = "relu"):
        super().__init__(*_convolutions(input_shape, width, activation, "trunk"))


class CNNExpert(ChannelsLast, nn.Sequential):
    """Two convolutions and two fully connected layers, the paper's small image network.

    Kernels are 3 x 3 with padding 1, each convolution is followed by the activation and a
    2 x 2 max pooling (section 5 and appendix A of the paper).

    Parameters
    ----------
    input_shape : (n_channels, height, width)
        Height and width are at least 4: pooling halves them twice.
    n_outputs : int
    width : int, default=64
        Channels of both convolutions; the hidden layer has four times as many units (the paper
        does not say how many).
    activation : str or callable, default="relu"
    """

    def __init__(
        self,
        input_shape: Shape,
        n_outputs: int,
        *,
        width: int = 64,
        activation: str | Callable = "relu",
    ):
        convolutions = _convolutions(input_shape, width, activation, "expert")
        _, rows, columns = input_shape
        super().__init__(
            *convolutions,
            nn.Linear(width * (rows // 4) * (columns // 4), 4 * width),
            activation_layer(activation),
            nn.Linear(4 * width, n_outputs),
        )


def _convolutions(input_shape, width, activation, kind):
    """Return two convolutions with activation and pooling, and a layer that flattens."""
    require_ndim(input_shape, 3, "cnn", "n_channels, height, width", kind=kind)
    channels, rows, columns = input_shape
    if min(rows, columns) < 4:
        raise ValueError(
            f"{kind}='cnn' halves height and width twice and needs at least 4 x 4 pixels, "
            f"got {rows} x {columns}. Enlarge the images, pass X.transpose(0, 3, 1, 2) if channels "
            f"come last, or pass {kind}s of your own."
        )
    return [
        nn.Conv2d(channels, width, 3, padding=1),
        *_pooled(activation),
        nn.Conv2d(width, width, 3, padding=1),
        *_pooled(activation),
        nn.Flatten(),
    ]


def _pooled(activation):
    """Return activation and pooling, in the cheaper order where the result is the same."""
    layers = [activation_layer(activation), nn.MaxPool2d(2)]
    function = ACTIVATIONS.resolve(activation)
    # The maximum of an increasing function is its value at the largest argument.
    is_monotone = any(function is ACTIVATIONS[name] for name in _MONOTONE)
    return layers[::-1] if is_monotone else layers


# -- by name ------------------------------------------------------------------------------


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
    columns : {"bounded", "piecewise", "linear", "ordered"}, default="bounded"
        What it reads of a standardized table: numbers with a soft bound of three standard
        deviations; these and their piecewise-linear encoding; numbers without a bound; or, of
        trees, numbers as they are.
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
    columns: Literal["bounded", "piecewise", "linear", "ordered"] = "bounded"
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
    def fitted_by(self) -> str:
        """How its members are found in a pool: by "steps", a "line", "trees", an "estimator"."""
        networks_apart = (
            (LinearExpert, "line"),
            (BoostedTrees, "trees"),
            (FittedMembers, "estimator"),
        )
        return next((how for of, how in networks_apart if self.factory is of), "steps")

    @property
    def is_fitted(self) -> bool:
        """Whether its members are no networks: they are never trained in steps."""
        return self.fitted_by in ("trees", "estimator")

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
        "trees": ExpertSpec(BoostedTrees, ndim=2, columns="ordered"),
        "cnn": ExpertSpec(CNNExpert, ndim=4, activation="relu", solver="adamw"),
        "resnet18": _RESNET18,
        "resnet18_gn": _RESNET18.with_options(norm="group"),
        "mobilenet_v2": _MOBILENET_V2,
        "mobilenet_v2_gn": _MOBILENET_V2.with_options(norm="group"),
    },
)
