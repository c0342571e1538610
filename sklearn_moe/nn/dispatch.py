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
    answers = [
        expert(x.index_select(0, group))
        for expert, group in zip(experts, rows.split(loads), strict=True)
        if len(group)
    ]
    answers = torch.cat(answers)
    answers = torch.empty_like(answers).index_copy(0, by_expert, answers)
    return answers.view(n_samples, k, -1)
