"""Functions that several parts of a mixture use, and which expert computes which samples."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .._validation import Registry

# Of a sample.
Shape = tuple[int, ...]
# The logarithm of a gate of 0; of two infinite ones the difference would be NaN.
_NO_GATE = -1e30
# Numbers that all experts read of all samples: with fewer a GPU computes all sooner than it knows
# the groups.
_MOST_NUMBERS_OF_ALL = 2**25

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


# -- layers of images --------------------------------------------------------------------


class ChannelsLast(nn.Module):
    """A convolutional network that changes the memory layout of images where that is faster.

    On a GPU, and on a CPU in float32, the channels of a pixel are stored side by side. On a CPU
    a training step takes a quarter less time, prediction up to two thirds less; depthwise
    convolutions in float64 would take twice as long, and a GPU has none in float64.
    """

    # On a GPU, GroupNorm returns the other layout: each convolution would have to convert it.
    has_group_norm = False

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_channels, height, width) to (n_samples, n_outputs)."""
        if self._suits(x):
            x = x.contiguous(memory_format=torch.channels_last)
        return super().forward(x)

    def _suits(self, x):
        if x.is_cpu:
            return x.dtype == torch.float32
        return x.dtype != torch.float64 and not self.has_group_norm

    def _apply(self, function, recurse=True):
        """Store the weights on a GPU in the same layout: cuDNN would convert them in every step."""
        super()._apply(function, recurse)
        for weight in self.parameters():
            if weight.dim() == 4 and not weight.is_cpu and self._suits(weight):
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return self


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


class Experts(Protocol):
    """A list of modules, an `nn.ModuleList`, or a module that is a sequence of them."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> nn.Module: ...
    def __iter__(self) -> Iterator[nn.Module]: ...


def is_exporting() -> bool:
    """Return whether the computation is being recorded, by `torch.export` or `torch.jit`."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


# -- experts in stacked form --------------------------------------------------------------


def is_stack(experts: Experts) -> TypeGuard[nn.Module]:
    """Return whether the sequence is one module that maps a batch to the outputs of all experts."""
    return isinstance(experts, nn.Module) and not isinstance(experts, nn.ModuleList)


def stacked_form(experts: Experts) -> Any:
    """Return the stacked form of experts that differ in nothing but their weights, otherwise None.

    Its `all(x)` returns the outputs of all experts, `groups(x, sizes)` those for groups of samples.
    A stack makes it by its method `stacked_form()`; other experts, of equal `group_key`, by
    `stacked_form(experts)` of the first.
    """
    if is_stack(experts):
        return getattr(experts, "stacked_form", lambda: None)()
    # Experts that have a `group_key` have the method.
    first: Any = experts[0]
    return first.stacked_form(experts) if are_homogeneous(experts) else None


def are_homogeneous(experts: Iterable[nn.Module]) -> bool:
    """Return whether experts differ in nothing but their weights, by their `group_key`.

    Those with hooks are to be called, one by one.
    """
    keys = {
        None if e._forward_hooks or e._forward_pre_hooks else getattr(e, "group_key", None)
        for e in experts
    }
    return len(keys) == 1 and None not in keys


class Stack(nn.Module):
    """A sequence of homogeneous experts as one module: what is done to all of them is done once.

    Entry m of the first axis of every parameter belongs to expert m. `stack[m]` is that expert. Its
    weights are views: what is written to them is written to the stack, and a gradient by them is a
    gradient of the stack. Subclasses map a batch to the outputs of all experts, (n_samples,
    n_experts, n_outputs); their parameters are in the order of those of an expert.

    Parameters
    ----------
    experts : sequence of modules
        Of the same type and settings. Their weights are copied.
    activation : callable
        That of the experts. As a part of the stack a module knows whether it is trained.
    """

    def __init__(self, experts: Sequence[nn.Module], activation: Callable):
        super().__init__()
        self.activation = activation
        # Without weights, and in a list, so that nn.Module does not register it.
        self._one = [copy.deepcopy(experts[0], {id(activation): activation}).to("meta")]

    def __len__(self) -> int:
        return len(next(self.parameters()))

    def __getitem__(self, index: int) -> nn.Module:
        m = range(len(self))[index]
        expert = copy.deepcopy(self._one[0], {id(self.activation): self.activation})
        slots = [(part._parameters, name) for part in expert.modules() for name in part._parameters]
        slots = [(weights, name) for weights, name in slots if weights[name] is not None]
        for (weights, name), stacked in zip(slots, self.parameters(), strict=True):
            weights[name] = stacked[m]  # type: ignore[assignment]  # a view of a parameter
        return expert.train(self.training)

    def __iter__(self) -> Iterator[nn.Module]:
        return (self[m] for m in range(len(self)))


def stack_weights(weights: Sequence[Tensor]) -> nn.Parameter:
    """Return one new parameter with a copy of the weights of each expert."""
    return nn.Parameter(torch.stack([weight.detach() for weight in weights]))


# -- outputs of experts: each is called once, for a group of samples -----------------------


def apply_all(experts: Experts, x: Tensor) -> Tensor:
    """Return the output of every expert for every sample, (n_samples, n_experts, n_outputs)."""
    if is_stack(experts):
        return experts(x)
    if (form := stacked_form(experts)) is not None:
        return form.all(x)
    return torch.stack([expert(x) for expert in experts], 1)


def apply_groups(experts: Experts, x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the outputs of each expert for its group of samples, one group after the other.

    Experts that differ in nothing but their weights are computed in stacked form, which costs less
    than one call for each. Others are not called for empty groups. If all groups are empty the
    first expert is called, as the shape of its outputs must be known.
    """
    called: Experts = experts
    exporting = is_exporting()
    if not (exporting or is_stack(experts)):
        busy = [m for m, size in enumerate(sizes) if size] or [0]
        called, sizes = [experts[m] for m in busy], [sizes[m] for m in busy]
    if not exporting and (form := stacked_form(called)) is not None:
        return form.groups(x, sizes)
    groups = x.split(sizes)
    if exporting and is_stack(experts):
        # A single expert of a stack is made of copies, which cannot be traced.
        return torch.cat([experts(group)[:, m] for m, group in enumerate(groups)])
    return torch.cat([expert(group) for expert, group in zip(called, groups, strict=True)])


def dispatch(experts: Experts, x: Tensor, chosen: Tensor) -> Tensor:
    """Return the outputs of the chosen experts; every expert computes its own samples only.

    Parameters
    ----------
    experts : sequence of n_experts modules
    x : (n_samples, ...)
    chosen : (n_samples, k) int
        The experts each sample is sent to.

    Returns
    -------
    (n_samples, k, n_outputs)
        Row i, slot j is the output of expert `chosen[i, j]` for sample i. Experts that no sample
        chose are not called, unless `all_are_faster`.
    """
    if all_are_faster(experts, x):
        outputs = apply_all(experts, x)
        return outputs.gather(1, chosen.unsqueeze(2).expand(-1, -1, outputs.shape[2]))
    # The slots of the batch, (n_samples * k,), one expert after the other.
    k = chosen.shape[1]
    of_slots, slots = chosen.flatten().sort(stable=True)
    edges = torch.arange(len(experts) + 1, device=chosen.device)
    # Where the groups begin must be known on the host: the one synchronization of a GPU step.
    starts = torch.searchsorted(of_slots, edges).tolist()
    sizes = [stop - start for start, stop in pairwise(starts)]
    samples = slots // k if k > 1 else slots
    outputs = apply_groups(experts, x.index_select(0, samples), sizes)
    # Sample by sample again.
    return torch.empty_like(outputs).index_copy(0, slots, outputs).view(-1, k, outputs.shape[1])


def all_are_faster(experts: Experts, x: Tensor) -> bool:
    """Return whether to compute all experts for all samples, though few outputs are asked for.

    On a GPU that is so for small homogeneous experts: it is less work than the wait for the host,
    which would have to know the groups. An exported program always does: it has no branches.
    """
    if is_exporting():
        return True
    if x.is_cpu or x.numel() * len(experts) > _MOST_NUMBERS_OF_ALL:
        return False
    return hasattr(experts, "stacked_form") if is_stack(experts) else are_homogeneous(experts)
