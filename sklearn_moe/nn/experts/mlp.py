"""The expert for feature vectors, and many of them with stacked weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..dispatch import Stack, stack_weights
from ..functional import Shape, activation_layer, linear, require_ndim

_FEW_COLUMNS = 50


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
        input_shape: Shape,
        n_outputs: int,
        *,
        width: int = 100,
        activation: str | Callable = "relu",
        init_scale: float = 1.0,
    ):
        require_ndim(input_shape, 1, "mlp", "n_features,")
        super().__init__(
            first := nn.Linear(input_shape[0], width),
            activation_layer(activation),
            second := nn.Linear(width, n_outputs),
        )
        for layer in (first, second):
            nn.init.xavier_uniform_(layer.weight, gain=init_scale)
            nn.init.zeros_(layer.bias)

    @property
    def is_linear(self) -> bool:
        """Whether the outputs are linear functions of the features."""
        return type(self) is MLPExpert and getattr(self[1], "activation", None) is linear

    @torch.no_grad()
    def become_linear(self, coef: Tensor, intercept: Tensor) -> None:
        """Become the linear function x -> coef x + intercept, of the features.

        Two hidden ReLU units hold one output: relu(z) - relu(-z) = z. The readouts of the others
        are 0.

        Parameters
        ----------
        coef : (n_outputs, n_features)
        intercept : (n_outputs,)
        """
        weight, bias, readout, readout_bias = self.parameters()
        n_outputs, coef = len(coef), coef.to(weight)
        weight[: 2 * n_outputs] = torch.cat([coef, -coef])
        bias[: 2 * n_outputs] = 0
        identity = torch.eye(n_outputs).to(readout)
        readout.zero_()[:, : 2 * n_outputs] = torch.cat([identity, -identity], 1)
        readout_bias.copy_(intercept)

    @torch.no_grad()
    def scale_outputs(self, factor: float) -> None:
        """Multiply the outputs by a number."""
        *_, readout, readout_bias = self.parameters()
        readout.mul_(factor)
        readout_bias.mul_(factor)

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

    scale_outputs = MLPExpert.scale_outputs

    def __init__(self, experts: Sequence[MLPExpert]):
        super().__init__(experts, experts[0][1])
        # (M, width, n_features), (M, width), (M, n_outputs, width) and (M, n_outputs).
        each = zip(*(expert.parameters() for expert in experts), strict=True)
        self.weight, self.bias, self.readout, self.readout_bias = map(stack_weights, each)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_features) to (n_samples, n_experts, n_outputs)."""
        weight, bias = self.weight.flatten(0, 1), self.bias.flatten()
        mixed_precision = torch.is_autocast_enabled(x.device.type)
        if isinstance(self.activation, nn.ReLU) and torch.is_grad_enabled() and not mixed_precision:
            outputs = _ReLUNetworks.apply(x, weight, bias, self.readout, self.readout_bias)
        else:
            # Samples last, so that elementwise operations and sums run along contiguous rows. The
            # bias belongs to a feature of 1: addmm would write it to the hidden units first.
            weight = torch.cat([weight, bias.unsqueeze(1)], 1)
            hidden = self.activation(weight @ nn.functional.pad(x, (0, 1), value=1.0).T)
            hidden = hidden.unflatten(0, (len(self.readout), -1))
            outputs = torch.baddbmm(self.readout_bias.unsqueeze(2), self.readout, hidden)
        return outputs.permute(2, 0, 1)


class _ReLUNetworks(torch.autograd.Function):
    """Networks of one hidden layer for the same samples, with one large array less.

    The hidden units of all networks are most of the memory of a step. torch would write their
    gradient twice; here it is masked in place.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, readout, readout_bias):
        """Return (n_networks, n_outputs, n_samples)."""
        hidden = torch.addmm(bias.unsqueeze(1), weight, x.T).relu_()
        hidden = hidden.unflatten(0, (len(readout), -1))
        ctx.save_for_backward(x, weight, hidden, readout)
        return torch.baddbmm(readout_bias.unsqueeze(2), readout, hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        """Return the gradients of x and the four weights."""
        x, weight, hidden, readout = ctx.saved_tensors
        of_readout = torch.bmm(gradient, hidden.transpose(1, 2))
        product = torch.mul if gradient.shape[1] == 1 else torch.bmm  # the same, but faster
        of_hidden = product(readout.transpose(1, 2), gradient)
        torch.ops.aten.threshold_backward.grad_input(of_hidden, hidden, 0, grad_input=of_hidden)
        of_hidden = of_hidden.flatten(0, 1)
        of_x = of_hidden.T @ weight if ctx.needs_input_grad[0] else None
        # Of few columns BLAS is slow, unless they are the rows of what it computes.
        few = x.shape[1] <= _FEW_COLUMNS
        of_weight = (x.T @ of_hidden.T).T if few else of_hidden @ x
        return of_x, of_weight, of_hidden.sum(1), of_readout, gradient.sum(2)
