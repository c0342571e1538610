"""The paper's patch expert, and many of them with stacked weights."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..dispatch import Stack, are_homogeneous, stack_weights
from ..functional import Shape, activation_function, require_ndim


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
