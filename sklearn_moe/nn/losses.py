"""What a training step adds up: weighted means, the load of the experts, balance losses."""

import torch
from torch import Tensor

from .softmax import softmax

__all__ = ["BALANCES", "expert_means", "switch_loss", "weighted_mean"]


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return sum(w v) / sum(w), over the samples."""
    return weight @ values / weight.sum()


def expert_means(values: Tensor, weight: Tensor, chosen: Tensor, n_experts: int) -> Tensor:
    """Return the weighted mean of `values` over each expert's own samples, 0 where it has none.

    Parameters
    ----------
    values, weight : (n_samples,)
    chosen : (n_samples, k)

    Returns
    -------
    (n_experts,)
    """
    slots = chosen.flatten()
    load = torch.bincount(slots, _per_slot(weight, chosen), minlength=n_experts)
    total = torch.bincount(slots, _per_slot(weight * values, chosen), minlength=n_experts)
    return total / load.clamp(min=torch.finfo(load.dtype).tiny)


def _per_slot(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the value of its sample for each entry of `chosen`, flat."""
    return values.unsqueeze(1).expand_as(chosen).flatten()


def switch_loss(scores: Tensor, chosen: Tensor, weight: Tensor) -> Tensor:
    """Return M * sum_m f_m P_m: the load-balancing loss of the Switch transformer and the paper.

    f_m is the share of the samples sent to expert m, P_m the mean of its softmax gate over all
    samples; both count `weight`. The value is 1 for a uniform router and M for a collapsed one.

    Parameters
    ----------
    scores : (n_samples, n_experts)
        Noise-free scores.
    chosen : (n_samples, k)
    weight : (n_samples,)
    """
    n_experts = scores.shape[1]
    slot_weight = _per_slot(weight, chosen)
    load = torch.bincount(chosen.flatten(), slot_weight, minlength=n_experts) / slot_weight.sum()
    importance = weight @ softmax(scores) / weight.sum()
    return n_experts * (load @ importance)


BALANCES = {"switch": switch_loss}
