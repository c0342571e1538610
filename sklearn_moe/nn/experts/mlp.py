"""Experts for feature vectors, and many of them with stacked weights."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..dispatch import Stack, stack_weights
from ..functional import Shape, activation_layer, linear, require_ndim


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
