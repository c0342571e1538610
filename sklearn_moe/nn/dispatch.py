"""Sparse dispatch: every expert computes the samples that chose it, and no others."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["dispatch"]


def dispatch(experts: Sequence[nn.Module], x: Tensor, chosen: Tensor) -> Tensor:
    """Return the answers of the chosen experts.

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
    busy = [m for m, load in enumerate(loads) if load]
    answers = _answer([experts[m] for m in busy], x.index_select(0, rows), [loads[m] for m in busy])
    answers = torch.empty_like(answers).index_copy(0, by_expert, answers)
    return answers.view(n_samples, k, -1)


def _answer(experts: Sequence[nn.Module], x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the answers of each expert to its group of samples, one group after the other.

    Experts of the same `group_key`, not None, differ in their weights only and answer together by
    `forward_groups(experts, x, sizes)`: what small experts share costs less once than each time.
    """
    keys = {getattr(expert, "group_key", None) for expert in experts}
    if len(keys) == 1 and None not in keys:
        return experts[0].forward_groups(experts, x, sizes)
    groups = x.split(sizes)
    return torch.cat([expert(group) for expert, group in zip(experts, groups, strict=True)])
