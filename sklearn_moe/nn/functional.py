"""Functions that several parts of a mixture use: softmax, activations, checks, sums and losses."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .._validation import Registry

# Of a sample.
Shape = tuple[int, ...]
# The logarithm of a gate of 0; of two infinite ones the difference would be NaN.
_NO_GATE = -1e30

# -- softmax over a short last axis, such as experts or classes ---------------------------

# On a CPU torch vectorizes along the axis itself when it is the last one, which is slow for eight
# entries. With the axes swapped it vectorizes along the samples: ten times faster.


def softmax(scores: Tensor) -> Tensor:
    """Return the softmax of each row of (n_samples, n)."""
    return scores.T.contiguous().softmax(0).T


def log_softmax(scores: Tensor) -> Tensor:
    """Return the logarithm of the softmax of each row of (n_samples, n)."""
    return scores.T.contiguous().log_softmax(0).T


# -- activations of an expert, by name ----------------------------------------------------


class _Cube(torch.autograd.Function):
    """z ** 3 with its derivative written out: torch's own pow costs three times as much."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.square().mul_(z)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (z,) = ctx.saved_tensors
        return z.square().mul_(grad).mul_(3)


def cubic(z: Tensor) -> Tensor:
    """Return z ** 3, the paper's nonlinearity (section 3.2)."""
    return _Cube.apply(z)


def linear(z: Tensor) -> Tensor:
    """Return z itself: the expert is a linear function of every patch."""
    return z


ACTIVATIONS = Registry(
    "activation",
    "an elementwise callable",
    {
        "cubic": cubic,
        "linear": linear,
        "relu": nn.functional.relu,
        "celu": nn.functional.celu,
        "gelu": nn.functional.gelu,
        "tanh": torch.tanh,
    },
)


def activation_function(activation: str | Callable) -> Callable:
    """Return an activation by its name, or as it is; a module with weights is copied.

    The weights of the copy are in float32, like those of new layers.
    """
    function = ACTIVATIONS.resolve(activation)
    if isinstance(function, nn.Module) and function.state_dict():
        return copy.deepcopy(function).float()
    return function


def activation_layer(activation: str | Callable) -> nn.Module:
    """Return an activation as a layer, so that experts can be written as a sequence.

    ReLU works in place, which halves the memory of a convolution and its activation: the layer
    before must not need its output again.
    """
    function = activation_function(activation)
    if not isinstance(activation, str):
        dry_run(ACTIVATIONS.expected(activation), function, torch.zeros(2, 3), shape=(2, 3))
    return nn.ReLU(inplace=True) if function is nn.functional.relu else _Elementwise(function)


class _Elementwise(nn.Module):
    def __init__(self, function: Callable):
        super().__init__()
        self.activation = function

    def forward(self, z: Tensor) -> Tensor:
        return self.activation(z)


# -- checks of what the user passes, before anything is trained ----------------------------


def require_ndim(input_shape: Shape, ndim: int, name: str, axes: str, kind: str = "expert") -> None:
    """Refuse samples with other axes than the expert, or the trunk, takes."""
    if len(input_shape) != ndim:
        raise ValueError(
            f"{kind}={name!r} takes samples of shape ({axes}), got samples of shape "
            f"{tuple(input_shape)}. Reshape X, or choose the {kind} that fits its shape."
        )


@torch.no_grad()
def dry_run(expected: str, function: Callable, *args: Any, shape: tuple[int, ...]) -> None:
    """Call a function of the user once, before training, and check the shape it returns.

    `expected` begins the message: "gate=... must be a callable ...".

    Raises
    ------
    TypeError
        If the function does not take these arguments or returns another shape. What the function
        raised, if anything, is the cause of the error.
    """
    try:
        made = function(*args)
    except Exception as error:
        raise TypeError(f"{expected}; it raised {type(error).__name__}: {error}") from error
    if not isinstance(made, Tensor) or made.shape != shape:
        got = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else repr(made)
        raise TypeError(f"{expected}; it returned {got} where {tuple(shape)} was expected.")


@torch.no_grad()
def evaluate(module: nn.Module, x: Tensor) -> Any:
    """Return the output of a module in evaluation mode, without any effect on the module."""
    was_training = module.training
    output = module.eval()(x)
    module.train(was_training)
    return output


# -- sums over a batch of which this process may hold only a shard -------------------------

# A loss computed from such sums is the loss of the whole batch, or this process's part of it. In
# both cases its gradients must be summed over the processes once. A single process needs none of
# this.


class BatchShard(NamedTuple):
    """The shard of a batch that this process holds."""

    rows: slice  # of the batch
    n_samples: int  # in the whole batch
    weight: Tensor  # of the whole batch, ()
    all_reduce: Callable[[Tensor], Tensor]  # the sum over the processes


_SHARD: ContextVar[BatchShard | None] = ContextVar("shard", default=None)


@contextmanager
def using_shard(shard: BatchShard) -> Iterator[None]:
    """Within this context the samples at hand are a shard of a batch."""
    token = _SHARD.set(shard)
    try:
        yield
    finally:
        _SHARD.reset(token)


def sum_over_shards(value: Tensor) -> Tensor:
    """Return the sum over a whole batch, given the sum over the samples at hand.

    Its gradient is that of the samples at hand; the other processes compute theirs.
    """
    shard = _SHARD.get()
    if shard is None:
        return value
    return _AllReduce.apply(value, shard.all_reduce)


def batch_weight(weight: Tensor) -> Tensor:
    """Return the total weight of a whole batch, given the weights of the samples at hand."""
    shard = _SHARD.get()
    if shard is None:
        return weight.sum()
    return shard.weight.to(weight.dtype)


def batch_size(weight: Tensor) -> int:
    """Return the number of samples of a whole batch, given the weights of those at hand."""
    shard = _SHARD.get()
    return len(weight) if shard is None else shard.n_samples


def draw_for_samples(draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> Tensor:
    """Draw `draw(shape)` for the whole batch and return the rows of the samples at hand."""
    shard = _SHARD.get()
    if shard is None:
        return draw(shape)
    return draw((shard.n_samples, *shape[1:]))[shard.rows]


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, all_reduce):
        return all_reduce(value)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


# -- losses of a batch --------------------------------------------------------------------


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return sum(w v) / n over the n samples of a batch.

    The weights of all training samples have mean 1, so that the expectation over batches is the
    weighted mean over all samples. Division by sum(w) of the batch would not have that property:
    it would take away most of what a heavy sample weighs more than the others of its batch.

    Where several processes share a batch, each gets the contribution of its own samples: the sum
    over the processes is the weighted mean of the batch.
    """
    return weight @ values / batch_size(weight)


def mixture_loss(
    gate: Tensor, losses: Tensor, in_bag: Tensor, own: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the loss of a mixture of distributions, given the losses of its experts.

    It is (1 - own) times -log sum_m gate_m exp(-loss_m), a negative log likelihood where the
    losses are, plus own times the mean loss_m, over the experts that train on the sample.

    Parameters
    ----------
    gate : (n_samples, n_experts)
    losses : (n_samples, n_experts)
        Of each expert's own output.
    in_bag : (n_samples, n_experts)
        1 for the experts that train on a sample, 0 for those that do not (out-of-bag), in the type
        of the losses. Gates are divided by their sum over the experts in either group.
    own : float, default=0.0

    Returns
    -------
    loss : (n_samples,)
    oob_loss : (n_samples,)
        Of the mixture of the out-of-bag experts, without a gradient. It means nothing for samples
        on which all experts train.
    """
    # Samples last: torch is slow along a short last axis.
    losses, trains = losses.T, in_bag.T != 0
    log_gate = gate.T.to(losses.dtype).clamp(min=torch.finfo(losses.dtype).tiny).log()
    with torch.no_grad():
        oob_loss = _mixed_loss(log_gate, losses, ~trains)
    mean = losses.masked_fill(~trains, 0).sum(0) / trains.sum(0)
    # In an ensemble the gate has no gradient.
    if own == 1:
        return mean, oob_loss
    return torch.lerp(_mixed_loss(log_gate, losses, trains), mean, own), oob_loss


def _mixed_loss(log_gate, losses, counts):
    """Return the loss of the mixture of the experts that count, (n_samples,); samples are last."""
    log_gate = log_gate.masked_fill(~counts, _NO_GATE)
    return log_gate.logsumexp(0) - (log_gate - losses).logsumexp(0)
