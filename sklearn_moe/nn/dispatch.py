"""Dispatch: which expert computes which samples, grouped so that each is called once."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

__all__ = [
    "answer_all",
    "answer_at_once",
    "answer_groups",
    "dispatch",
    "dispatch_mask",
    "group_key",
]

_SMALL = 2**25  # numbers that experts read, all samples times all experts


def dispatch(experts: Sequence[nn.Module], x: Tensor, chosen: Tensor) -> Tensor:
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
    n_samples, k = chosen.shape
    if answer_at_once(experts, x):
        answers = answer_all(experts, x)
        return answers.gather(1, chosen.unsqueeze(2).expand(-1, -1, answers.shape[2]))
    by_expert = chosen.flatten().argsort(stable=True)
    # Where the groups begin must be known on the host: the one synchronization of a GPU step.
    # Not by bincount, which waits twice more.
    is_chosen = chosen.flatten() == torch.arange(len(experts), device=x.device).unsqueeze(1)
    loads = is_chosen.sum(1).tolist()
    rows = by_expert // k if k > 1 else by_expert
    answers = answer_groups(experts, x.index_select(0, rows), loads)
    answers = torch.empty_like(answers).index_copy(0, by_expert, answers)
    return answers.view(n_samples, k, -1)


def dispatch_mask(experts: Sequence[nn.Module], x: Tensor, gate: Tensor) -> Tensor:
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
    expert, rows = active.T.nonzero(as_tuple=True)  # sorted by expert
    loads = active.sum(0).tolist()
    if not sum(loads):
        return gate[:, :1] * _trial(experts[0], x)
    answers = answer_groups(experts, x.index_select(0, rows), loads)
    answers = answers * gate[rows, expert].unsqueeze(1)
    return answers.new_zeros(len(x), answers.shape[1]).index_add(0, rows, answers)


@torch.no_grad()
def _trial(expert: nn.Module, x: Tensor) -> Tensor:
    """Return an answer for its shape, (1, n_outputs), and leave no trace in the expert."""
    was_training = expert.training
    answer = expert.eval()(x[:1])
    expert.train(was_training)
    return answer


def answer_at_once(experts: Sequence[nn.Module], x: Tensor) -> bool:
    """Return whether every expert is to answer every sample, though few answers are asked for.

    On a GPU small experts that answer together do, as the work is less than a wait for the host,
    which would have to know who answers what. In an exported program all do: it has no branches.
    """
    if torch.compiler.is_exporting():
        return True
    is_small = x.numel() * len(experts) <= _SMALL
    return is_small and not x.is_cpu and group_key(experts) is not None


def answer_groups(experts: Sequence[nn.Module], x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the answers of each expert to its group of samples, one group after the other.

    Experts that differ in nothing but their weights answer together by
    `forward_groups(experts, x, sizes)`: what small experts share costs less once than each time.
    Experts without samples are not called.
    """
    busy = [m for m, size in enumerate(sizes) if size]
    experts, sizes = [experts[m] for m in busy], [sizes[m] for m in busy]
    if group_key(experts) is not None:
        return experts[0].forward_groups(experts, x, sizes)
    groups = x.split(sizes)
    return torch.cat([expert(group) for expert, group in zip(experts, groups, strict=True)])


def answer_all(experts: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Return the answers of every expert to every sample, (n_samples, n_experts, n_outputs)."""
    if isinstance(experts, nn.Module) and not isinstance(experts, nn.ModuleList):
        return experts(x)  # a stack
    if group_key(experts) is not None:
        return experts[0].forward_all(experts, x)
    return torch.stack([expert(x) for expert in experts], 1)


def group_key(experts: Sequence[nn.Module]) -> Hashable | None:
    """Return what the experts have in common if only their weights differ, otherwise None.

    Each says so by its own `group_key`.
    """
    keys = {getattr(expert, "group_key", None) for expert in experts}
    return keys.pop() if len(keys) == 1 else None
