"""The paper's patch expert."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..activations import ACTIVATIONS
from .parts import require_ndim

__all__ = ["PatchExpert"]


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
        self.activation = ACTIVATIONS.resolve(activation)
        self.weight = nn.Parameter(torch.empty(n_outputs, width, patch_size))
        self.bias = nn.Parameter(torch.empty(n_outputs, width)) if bias else None
        # A subclass may override forward, which forward_groups would bypass.
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
