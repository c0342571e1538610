"""Experts: the networks among which a router chooses.

An expert is built by `factory(input_shape, n_outputs)` and maps a batch of samples to
(n_samples, n_outputs). The factories that have names, see expert_names.py, also take `width`,
`activation` and `init_scale`, which the estimator passes on; a factory of the user's own takes
the two shapes only.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .activations import ACTIVATIONS
from .registry import resolve

__all__ = [
    "CNNExpert",
    "MLPExpert",
    "PatchExpert",
    "activation_layer",
    "channels_last",
    "require_ndim",
]


def require_ndim(input_shape: tuple[int, ...], ndim: int, expert: str, axes: str) -> None:
    """Refuse samples that do not have the axes which the expert takes."""
    if len(input_shape) != ndim:
        raise ValueError(
            f"expert={expert!r} takes samples of shape ({axes}), got samples of shape "
            f"{tuple(input_shape)}. Reshape X, or choose the expert that fits its shape."
        )


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
        sigma, a name in `ACTIVATIONS` or an elementwise function.
    init_scale : float, default=1.0
        Factor on initial weights of standard deviation 1 / sqrt(3 patch_size), which is the
        deviation of torch's own default.
    init : {"normal", "uniform"}, default="normal"
        Shape of the initial distribution: Gaussian (paper) or uniform (authors' code).
    bias : bool, default=False
        Whether each filter has a bias (authors' code).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
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
        self.activation = resolve(activation, ACTIVATIONS, "activation")
        self.weight = nn.Parameter(torch.empty(n_outputs, width, patch_size))
        self.bias = nn.Parameter(torch.empty(n_outputs, width)) if bias else None
        # A subclass may compute something else: it speaks for itself.
        same = type(self) is PatchExpert
        self.group_key = (self.activation, n_outputs, width, bias) if same else None
        std = init_scale / math.sqrt(3 * patch_size)
        for parameter in self.parameters():
            if init == "uniform":
                nn.init.uniform_(parameter, -math.sqrt(3) * std, math.sqrt(3) * std)
            else:
                nn.init.normal_(parameter, 0.0, std)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_patches, patch_size) to (n_samples, n_outputs)."""
        return self.forward_groups([self], x, [len(x)])

    @staticmethod
    def forward_groups(experts: Sequence["PatchExpert"], x: Tensor, sizes: Sequence[int]) -> Tensor:
        """Map x, the samples of each expert after those of the one before, to their answers.

        Only the filters differ between experts: activation and sums are taken over all at once.
        """
        n_samples, n_patches, patch_size = x.shape
        sizes = [size * n_patches for size in sizes]
        # Filters first, (n_outputs * width, n_samples * n_patches): the sum over filters then
        # adds long contiguous rows.
        z = _GroupedFilters.apply(
            x.reshape(-1, patch_size), sizes, *(e.weight.view(-1, patch_size) for e in experts)
        )
        if experts[0].bias is not None:
            biases = (e.bias.view(-1, 1).expand(-1, n) for e, n in zip(experts, sizes, strict=True))
            z = z + torch.cat(list(biases), 1)
        return experts[0]._sum(z, n_samples)[0]

    @staticmethod
    def forward_all(experts: Sequence["PatchExpert"], x: Tensor) -> Tensor:
        """Map every sample by every expert, to (n_samples, n_experts, n_outputs)."""
        z = _all_filters(experts, x)
        return experts[0]._sum(z.flatten(0, 1), len(x)).transpose(0, 1)

    @staticmethod
    def forward_merged(experts: Sequence["PatchExpert"], x: Tensor, gate: Tensor) -> Tensor:
        """Map each sample by the mean of the experts' filters, weighted by its row of the gate.

        Filters are linear in their weights: mixing weights is mixing what the filters say.
        """
        z = _all_filters(experts, x).unflatten(2, (len(x), -1))
        return experts[0]._sum((z * gate.T[:, None, :, None]).sum(0).flatten(1), len(x))[0]

    def _sum(self, z: Tensor, n_samples: int) -> Tensor:
        """Add up the activations over filters and patches.

        z is (n_experts * n_outputs * width, n_samples * n_patches), the result
        (n_experts, n_samples, n_outputs).
        """
        n_outputs, width, _ = self.weight.shape
        per_patch = self.activation(z).view(-1, width, z.shape[1]).sum(1)
        return per_patch.view(-1, n_outputs, n_samples, z.shape[1] // n_samples).sum(3).mT


def _all_filters(experts: Sequence[PatchExpert], x: Tensor) -> Tensor:
    """Return what all filters say, (n_experts, n_filters, n_samples * n_patches)."""
    weight = torch.stack([e.weight.flatten(0, 1) for e in experts])
    patches = x.reshape(-1, x.shape[2])
    z = (weight.flatten(0, 1) @ patches.T).unflatten(0, weight.shape[:2])
    if experts[0].bias is None:
        return z
    return z + torch.stack([e.bias.flatten() for e in experts]).unsqueeze(2)


class _GroupedFilters(torch.autograd.Function):
    """W_m X_m^T for every expert m, side by side: one node of the graph in place of many.

    The X_m are the consecutive groups of rows of x; the W_m are (n_filters, patch_size).
    """

    @staticmethod
    def forward(ctx, x, sizes, *weights):
        ctx.save_for_backward(x, *weights)
        ctx.sizes = sizes
        z = x.new_empty(len(weights[0]), len(x))
        groups = zip(weights, x.split(sizes), z.split(sizes, 1), strict=True)
        for weight, rows, columns in groups:
            torch.mm(weight, rows.T, out=columns)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, *weights = ctx.saved_tensors
        grads = grad.split(ctx.sizes, 1)
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = torch.cat([g.T @ w for g, w in zip(grads, weights, strict=True)])
        return x_grad, None, *(g @ r for g, r in zip(grads, x.split(ctx.sizes), strict=True))


class MLPExpert(nn.Sequential):
    """One hidden layer and a learned readout, for samples that are feature vectors.

    Parameters
    ----------
    input_shape : (n_features,)
    n_outputs : int
    width : int, default=100
        Hidden units, as in scikit-learn's MLPClassifier.
    activation : str or callable, default="relu"
    init_scale : float, default=1.0
        Factor on the Glorot-uniform initial weights; biases start at zero.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_outputs: int,
        *,
        width: int = 100,
        activation: str | Callable = "relu",
        init_scale: float = 1.0,
    ):
        require_ndim(input_shape, 1, "mlp", "n_features,")
        super().__init__(
            nn.Linear(input_shape[0], width),
            activation_layer(activation),
            nn.Linear(width, n_outputs),
        )
        for layer in (self[0], self[2]):
            nn.init.xavier_uniform_(layer.weight, gain=init_scale)
            nn.init.zeros_(layer.bias)


class CNNExpert(nn.Sequential):
    """Two convolutions and two fully connected layers, the paper's small image network.

    Kernels are 3 x 3 with padding 1, each convolution is followed by the activation and a
    2 x 2 max pooling (section 5 and appendix A of the paper).

    Parameters
    ----------
    input_shape : (n_channels, height, width)
        Height and width are at least 4: pooling halves them twice.
    n_outputs : int
    width : int, default=64
        Channels of both convolutions; the hidden layer has twice as many units.
    activation : str or callable, default="relu"
    init_scale : float, default=1.0
        Factor on torch's initial weights and biases.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_outputs: int,
        *,
        width: int = 64,
        activation: str | Callable = "relu",
        init_scale: float = 1.0,
    ):
        require_ndim(input_shape, 3, "cnn", "n_channels, height, width")
        channels, rows, columns = input_shape
        if min(rows, columns) < 4:
            raise ValueError(
                f"expert='cnn' halves height and width twice and needs at least 4 x 4 pixels, "
                f"got {rows} x {columns}. Enlarge the pictures or pass an expert of your own."
            )
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1),
            activation_layer(activation),
            nn.MaxPool2d(2),
            nn.Conv2d(width, width, 3, padding=1),
            activation_layer(activation),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(width * (rows // 4) * (columns // 4), 2 * width),
            activation_layer(activation),
            nn.Linear(2 * width, n_outputs),
        )
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(init_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_channels, height, width) to (n_samples, n_outputs)."""
        return super().forward(channels_last(x))


def channels_last(x: Tensor) -> Tensor:
    """Return pictures laid out so that convolutions are fast, the shape unchanged.

    On a GPU, and on a CPU in float32, that is with the channels of a pixel side by side. On a CPU
    a training step takes a quarter less time, prediction up to two thirds; depthwise convolutions
    in float64 would take twice as long.
    """
    if x.is_cpu and x.dtype != torch.float32:
        return x
    # torch.channels_last would say the same, but not under the vmap of MergeRouter.
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def activation_layer(activation: str | Callable) -> nn.Module:
    """Return an activation as a layer, so that experts can be written as a sequence.

    It follows layers that do not look at their output again: ReLU works in place, which halves
    the memory of a convolution and its activation.
    """
    function = resolve(activation, ACTIVATIONS, "activation")
    return nn.ReLU(inplace=True) if function is nn.functional.relu else _Elementwise(function)


class _Elementwise(nn.Module):
    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z)
