"""Experts for feature vectors, and many of them with stacked weights."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..dispatch import Stack, is_exporting, stack_weights
from ..functional import Shape, activation_layer, linear, require_ndim
from ..seeding import Linear, current_generator

# Of so few columns BLAS is slow, unless they are the rows of what it computes.
_FEW_COLUMNS = 50
# Pieces, and hidden units, for each number: with fewer their products are not worth looking up.
_FEWEST_EACH = 4


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
        linears = [Linear(n_inputs, n_units) for n_inputs, n_units in pairwise(sizes)]
        super().__init__(*[part for layer in linears for part in (layer, sigma)][:-1])
        for layer in linears:
            nn.init.xavier_uniform_(layer.weight, generator=current_generator())
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
        self._sizes: Sequence[int] = ()
        self._kept: tuple[Any, _PieceSums | None] = None, None
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
        if torch.is_grad_enabled() and self.has_own_gradient(x):
            outputs = _ReLUNetworks.apply(x, *weights)
            return outputs.permute(2, 0, 1)
        sums = None
        # Whatever the rows are: none is predicted in another way if it is alone.
        if self._sizes and torch.is_inference_mode_enabled() and x.is_cpu and not is_exporting():
            weight, bias = weights[:2]
            mark = weight.data_ptr(), weight._version, bias._version
            if mark != self._kept[0]:
                self._kept = mark, _PieceSums(weight.flatten(0, 1), bias.flatten(), self._sizes)
            sums = self._kept[1]
        return _networks(self.activation, x, *weights, sums=sums).permute(2, 0, 1)

    def set_pieces(self, sizes: Sequence[int]) -> None:
        """Tell how many pieces each number has, of which all come first among the features.

        Their products are looked up at prediction where that takes less time, see `TableEncoder`.
        """
        most = min(sum(sizes), self.get_parameter("bias").numel())
        self._sizes = sizes if most >= _FEWEST_EACH * len(sizes) else ()

    def train(self, mode: bool = True) -> "MLPStack":
        """Forget what is kept of the weights: some solvers change them by `data`, unseen."""
        self._kept = None, None
        return super().train(mode)

    def has_own_gradient(self, x: Tensor) -> bool:
        """Return whether `trace` and `set_gradients` can take the place of autograd."""
        mixed_precision = torch.is_autocast_enabled(x.device.type)
        return isinstance(self.activation, nn.ReLU) and not mixed_precision

    @torch.no_grad()
    def trace(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the outputs, (n_experts, n_outputs, n_samples), and what their gradient needs.

        That of the weights without autograd, which takes a third of a small step.
        """
        weights: list[Any] = [*self._parameters.values()]
        hidden: list[Tensor] = []
        return _networks(self.activation, x, *weights, hidden=hidden), hidden

    @torch.no_grad()
    def set_gradients(self, x: Tensor, hidden: Sequence[Tensor], gradient: Tensor) -> None:
        """Set the gradients of the weights, given that of the outputs of `trace`."""
        weights: list[Any] = [*self._parameters.values()]
        gradients, _ = _relu_gradients(x, weights, hidden, gradient)
        for parameter, its in zip(weights, gradients, strict=True):
            parameter.grad = its


def _networks(activation, x, weight, bias, *others, hidden=None, sums=None):
    """Return the outputs of networks, (n_networks, n_outputs, n_samples).

    Their hidden units are appended to a list, if one is given.
    """
    # Samples last, so that elementwise operations and sums run along contiguous rows.
    if sums is None:
        z = torch.addmm(bias.view(-1, 1), weight.flatten(0, 1), x.T)
    else:
        z = sums.product(x).T
    z = z.unflatten(0, (len(weight), -1))
    for w, b in zip(others[::2], others[1::2], strict=True):
        z = activation(z)
        if hidden is not None:
            hidden.append(z)
        z = torch.baddbmm(b.unsqueeze(2), w, z)
    return z


class _PieceSums:
    """Sums of the weights of the first pieces of each number, by which products are looked up.

    Of the pieces of a number the first are 1, one is a fraction and the others are 0: their product
    lies between two sums. For weights (n_units, n_features) of which the pieces come first.
    """

    def __init__(self, weight: Tensor, bias: Tensor, sizes: Sequence[int]):
        pieces, others = weight.T.split([sum(sizes), weight.shape[1] - sum(sizes)])
        sums = [nn.functional.pad(part.cumsum(0), (0, 0, 1, 0)) for part in pieces.split(sizes)]
        # Of each sample the shares in the sums of a number add up to 1.
        sums[0] += bias
        self.sums, self.others = torch.cat(sums), others.contiguous()
        # Of each number the first piece, those that are counted, and the first sum.
        self.first = weight.new_tensor([0, *accumulate(sizes[:-1])])
        counted = [(torch.arange(size) < size - 1).unsqueeze(1) for size in sizes]
        self.counted = torch.block_diag(*counted).to(weight.dtype)
        self.neighbours = torch.arange(len(sizes)).unsqueeze(1) + torch.tensor([0, 1])
        self.of_whole, self.of_part = weight.new_tensor([[1, 0], [-1, 1]])

    def product(self, x: Tensor) -> Tensor:
        """Return x W^T + b, (n_samples, n_units)."""
        pieces, others = x.split([len(self.counted), len(self.others)], 1)
        # The first piece that is not 1, or the last: a count is exact, whatever other rows are.
        low = torch.addmm(self.first, pieces.floor(), self.counted).long()
        shares = torch.addcmul(self.of_whole, x.gather(1, low).unsqueeze(2), self.of_part)
        places, shares = (low.unsqueeze(2) + self.neighbours).flatten(), shares.flatten()
        starts = torch.arange(0, len(places), 2 * low.shape[1])
        z = torch.embedding_bag(self.sums, places, starts, per_sample_weights=shares)[0]
        return z.addmm_(others, self.others)


def _relu_gradients(x, weights, hidden, gradient):
    """Return the gradients of all weights and that of the first layer, before its weights.

    The hidden units of all networks are most of the memory of a step. torch would write their
    gradient twice; here it is masked in place.
    """
    # Those of the last layer come first.
    gradients = []
    for w, units in zip(weights[-2:1:-2], hidden[::-1], strict=True):
        gradients += [gradient.sum(2), torch.bmm(gradient, units.transpose(1, 2))]
        # For a single output a product by entry is the same, and faster.
        product = torch.mul if gradient.shape[1] == 1 else torch.bmm
        gradient = product(w.transpose(1, 2), gradient)
        torch.ops.aten.threshold_backward.grad_input(gradient, units, 0, grad_input=gradient)
    gradients.append(gradient.sum(2))
    gradient = gradient.flatten(0, 1)
    if x.shape[1] <= _FEW_COLUMNS:
        of_weight = (x.T @ gradient.T).T.contiguous()
    else:
        of_weight = gradient @ x
    gradients.append(of_weight.view_as(weights[0]))
    return gradients[::-1], gradient


class _ReLUNetworks(torch.autograd.Function):
    """Networks of ReLU layers for the same samples, with one large array less for each layer."""

    @staticmethod
    def forward(ctx, x, *weights):
        """Return (n_networks, n_outputs, n_samples)."""
        hidden = []
        z = _networks(torch.relu_, x, *weights, hidden=hidden)
        ctx.save_for_backward(x, *weights, *hidden)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        """Return the gradients of x and of all weights."""
        x, *saved = ctx.saved_tensors
        # Two for each layer, the last of which has no hidden units.
        n_weights = (len(saved) - 1) // 3 * 2 + 2
        weights, hidden = saved[:n_weights], saved[n_weights:]
        gradients, of_first = _relu_gradients(x, weights, hidden, gradient)
        of_x = of_first.T @ weights[0].flatten(0, 1) if ctx.needs_input_grad[0] else None
        return of_x, *gradients


class LinearExpert(Linear):
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
        nn.init.xavier_uniform_(self.weight, generator=current_generator())
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
