"""Dispatch: which expert computes which samples, grouped so that each is called once."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn

# Numbers that all experts read of all samples: with fewer a GPU computes all sooner than it knows
# the groups.
_MOST_NUMBERS_OF_ALL = 2**25


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


# -- outputs of experts -------------------------------------------------------------------


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
