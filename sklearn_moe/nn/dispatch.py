"""Dispatch: which expert computes which samples, grouped so that each is called once."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, TypeGuard

import torch
from torch import Tensor, nn

__all__ = [
    "Experts",
    "Order",
    "answer_all",
    "answer_at_once",
    "answer_groups",
    "dispatch",
    "dispatch_mask",
    "is_recorded",
    "is_stack",
    "together",
]

_SMALL = 2**25  # numbers that experts read, all samples times all experts


class Experts(Protocol):
    """A list of modules, an `nn.ModuleList`, or a module that is a sequence of them."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> nn.Module: ...
    def __iter__(self) -> Iterator[nn.Module]: ...


def dispatch(experts: Experts, x: Tensor, chosen: Tensor) -> Tensor:
    """Return the answers of the chosen experts; every expert computes its own samples only.

    Parameters
    ----------
    experts : sequence of n_experts modules
    x : (n_samples, ...)
    chosen : (n_samples, k) int
        The experts each sample is sent to.

    Returns
    -------
    (n_samples, k, n_outputs)
        Row i, slot j is the answer of expert `chosen[i, j]` to sample i. Experts that no
        sample chose are not called, unless all `answer_at_once`.
    """
    if answer_at_once(experts, x):
        answers = answer_all(experts, x)
        return answers.gather(1, chosen.unsqueeze(2).expand(-1, -1, answers.shape[2]))
    order = Order.of(chosen, len(experts))
    answers = answer_groups(experts, x.index_select(0, order.samples), order.sizes)
    return order.restore(answers)


class Order(NamedTuple):
    """The slots of a batch, (n_samples, k) of them, one expert after the other."""

    slots: Tensor  # (n_samples * k,)
    samples: Tensor  # (n_samples * k,), whose they are
    sizes: list[int]  # of each expert
    k: int

    @classmethod
    def of(cls, chosen: Tensor, n_experts: int) -> "Order":
        """Sort the slots by the expert that each is for, (n_samples, k) int."""
        k = chosen.shape[1]
        experts, slots = chosen.flatten().sort(stable=True)
        edges = torch.arange(n_experts + 1, device=chosen.device)
        # Where the groups begin must be known on the host: the one synchronization of a GPU step.
        starts = torch.searchsorted(experts, edges).tolist()
        sizes = [stop - start for start, stop in pairwise(starts)]
        return cls(slots, slots // k if k > 1 else slots, sizes, k)

    def restore(self, answers: Tensor) -> Tensor:
        """Return answers in this order sample by sample, (n_samples, k, n_outputs)."""
        answers = torch.empty_like(answers).index_copy(0, self.slots, answers)
        return answers.view(-1, self.k, answers.shape[1])


def dispatch_mask(experts: Experts, x: Tensor, gate: Tensor) -> Tensor:
    """Return the sum of gate times answer over the experts with a gate that is not 0.

    Parameters
    ----------
    experts : sequence of n_experts modules
    x : (n_samples, ...)
    gate : (n_samples, n_experts)

    Returns
    -------
    (n_samples, n_outputs)
        Zero for a sample without any expert.
    """
    if answer_at_once(experts, x):
        answers = answer_all(experts, x)
        return torch.einsum("nm,nmo->no", gate.to(answers.dtype), answers)
    active = gate != 0
    sizes = active.sum(0).tolist()
    if not sum(sizes):
        return gate[:, :1] * _trial(experts[0], x)
    by_expert = active.T.flatten()
    if x.is_cpu:
        places = by_expert.nonzero().squeeze(1)
    else:  # nonzero would wait once more for how many there are
        places = by_expert.byte().sort(descending=True, stable=True).indices[: sum(sizes)]
    expert, rows = places // len(x), places % len(x)
    answers = answer_groups(experts, x.index_select(0, rows), sizes)
    answers = answers * gate[rows, expert].unsqueeze(1)
    return answers.new_zeros(len(x), answers.shape[1]).index_add(0, rows, answers)


@torch.no_grad()
def _trial(expert: nn.Module, x: Tensor) -> Tensor:
    """Return an answer for its shape, (1, n_outputs), and leave no trace in the expert."""
    was_training = expert.training
    answer = expert.eval()(x[:1])
    expert.train(was_training)
    return answer


def answer_at_once(experts: Experts, x: Tensor) -> bool:
    """Return whether every expert is to answer every sample, though few answers are asked for.

    On a GPU small experts that answer together do, as the work is less than a wait for the host,
    which would have to know who answers what. In an exported program all do: it has no branches.
    """
    if is_recorded():
        return True
    if x.is_cpu or x.numel() * len(experts) > _SMALL:
        return False
    return hasattr(experts, "together") if is_stack(experts) else _are_alike(experts)


def is_recorded() -> bool:
    """Return whether a program is made of what is computed, by `torch.export` or `torch.jit`."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def answer_groups(experts: Experts, x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the answers of each expert to its group of samples, one group after the other.

    Experts that differ in nothing but their weights answer together: what small experts share
    costs less once than each time. Others that have no samples are not called; of no samples at
    all the first one says what shape their answers have.
    """
    called: Experts = experts
    recorded = is_recorded()
    if not (recorded or is_stack(experts)):
        busy = [m for m, size in enumerate(sizes) if size] or [0]
        called, sizes = [experts[m] for m in busy], [sizes[m] for m in busy]
    if not recorded and (one := together(called)) is not None:
        return one.groups(x, sizes)
    groups = x.split(sizes)
    return torch.cat([expert(group) for expert, group in zip(called, groups, strict=True)])


def answer_all(experts: Experts, x: Tensor) -> Tensor:
    """Return the answers of every expert to every sample, (n_samples, n_experts, n_outputs)."""
    if is_stack(experts):
        return experts(x)
    if (one := together(experts)) is not None:
        return one.all(x)
    return torch.stack([expert(x) for expert in experts], 1)


def is_stack(experts: Experts) -> TypeGuard[nn.Module]:
    """Return whether the sequence is one module, which maps a batch to the answers of all."""
    return isinstance(experts, nn.Module) and not isinstance(experts, nn.ModuleList)


def together(experts: Experts) -> Any:
    """Return what answers for experts that differ in nothing but their weights, otherwise None.

    `all(x)` are the answers of all, `groups(x, sizes)` those to groups of samples, `merged(x,
    gate)` those of experts of mean weights. A stack makes it by `together()`; other experts of the
    same `group_key` by `together(experts)` of the first.
    """
    if is_stack(experts):
        make = getattr(experts, "together", None)
        return make and make()
    if not _are_alike(experts):
        return None
    first: Any = experts[0]  # has it beside its `group_key`
    return first.together(experts)


def _are_alike(experts: Experts) -> bool:
    keys = {getattr(expert, "group_key", None) for expert in experts}
    return len(keys) == 1 and None not in keys
