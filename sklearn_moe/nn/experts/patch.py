"""The paper's patch expert, and many of them with stacked weights."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..dispatch import Stack, stack_weights
from ..functional import Shape, activation_function, require_ndim
from ..seeding import current_generator


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
        std = init_scale / math.sqrt(3 * patch_size)
        generator, bound = current_generator(), math.sqrt(3) * std
        for parameter in self.parameters():
            if init == "uniform":
                nn.init.uniform_(parameter, -bound, bound, generator)
            else:
                nn.init.normal_(parameter, 0.0, std, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_patches, patch_size) to (n_samples, n_outputs)."""
        bias = None if self.bias is None else self.bias.unsqueeze(0)
        return _apply_all(self.weight.unsqueeze(0), bias, self.activation, x).squeeze(1)

    @staticmethod
    def stack(experts: Sequence["PatchExpert"]) -> nn.Module | None:
        """Return the experts as one module with stacked weights, None if they differ."""
        # A subclass may override forward, which a stack would bypass.
        kinds = {(type(e), e.activation, e.weight.shape, e.bias is None) for e in experts}
        is_same = len(kinds) == 1 and type(experts[0]) is PatchExpert
        return PatchStack(experts) if is_same else None


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

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_patches, patch_size) to (n_samples, n_experts, n_outputs)."""
        return _apply_all(self.weight, self.bias, self.activation, x)

    def groups(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """Apply each expert to its group of samples; x holds one group after the other.

        Only the filters differ between experts: activation and sums are computed for all at once.
        """
        n_samples, n_patches, patch_size = x.shape
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
        z = self.activation(torch.cat(each, 1))
        return _sum(z, (1, *self.weight.shape[1:3]), n_samples, n_patches)[0]


def _apply_all(weight: Tensor, bias: Tensor | None, activation: Callable, x: Tensor) -> Tensor:
    """Apply every expert to every sample, (n_samples, n_experts, n_outputs)."""
    filters, patches = weight.flatten(0, 2), x.reshape(-1, x.shape[2])
    if bias is None:
        z = filters @ patches.T
    else:
        z = torch.addmm(bias.view(-1, 1), filters, patches.T)
    return _sum(activation(z), weight.shape[:3], *x.shape[:2]).transpose(0, 1)


def _sum(z: Tensor, filters: Shape, n_samples: int, n_patches: int) -> Tensor:
    """Add up the activations over filters and patches, to (n_experts, n_samples, n_outputs).

    z is (n_experts * n_outputs * width, n_samples * n_patches), `filters` the first three of these.
    """
    n_experts, n_outputs, width = filters
    # On a GPU one kernel in place of two, of which the first is faster on a CPU.
    if not z.is_cpu:
        return z.view(*filters, n_samples, n_patches).sum((2, 4)).mT
    per_patch = z.view(n_experts * n_outputs, width, z.shape[1]).sum(1)
    return per_patch.view(n_experts, n_outputs, n_samples, n_patches).sum(3).mT
