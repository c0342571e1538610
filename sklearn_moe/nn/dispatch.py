"""Dispatch: which expert computes which samples, grouped so that each is called once."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["answer_all", "answer_groups", "dispatch", "dispatch_mask", "group_key"]


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
        sample chose are not called.
    """
    n_samples, k = chosen.shape
    by_expert = chosen.flatten().argsort(stable=True)
    # Where the groups begin must be known on the host: the one synchronization of a GPU step.
    loads = torch.bincount(chosen.flatten(), minlength=len(experts)).tolist()
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
