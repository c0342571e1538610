"""Losses of a batch: of the mixture by those of its experts, means by weight."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .ranks import batch_size, sum_over_ranks
from .routers import Route

__all__ = ["expert_means", "mixture_loss", "weighted_mean"]


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return sum(w v) / n over the n samples of a batch.

    The weights of all training samples have mean 1, so that the expectation over batches is the
    weighted mean over all samples. Division by sum(w) of the batch would not have that property:
    it would take away most of what a heavy sample weighs more than the others of its batch.

    Of a part of a batch, which one of several processes holds, it is the part's contribution.
    """
    return weight @ values / batch_size(weight)


def expert_means(values: Tensor, weight: Tensor, route: Route) -> Tensor:
    """Return the weighted mean of `values` over each expert's share, 0 where it has none.

    Parameters
    ----------
    values, weight : (n_samples,)
    route : Route

    Returns
    -------
    (n_experts,)
    """
    shares = route.shares()
    weight = weight.to(shares.dtype)
    total, load = sum_over_ranks(torch.stack([weight * values, weight]) @ shares)
    return total / load.clamp(min=torch.finfo(load.dtype).tiny)


def mixture_loss(
    gate: Tensor, losses: Tensor, shown: Tensor, own: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the loss of a mixture of distributions by the losses of its experts.

    It is (1 - own) times -log sum_m gate_m exp(-loss_m), a negative log likelihood where the
    losses are, plus own times the mean loss_m, over the experts that a sample is shown to.

    Parameters
    ----------
    gate : (n_samples, n_experts)
    losses : (n_samples, n_experts)
        Of each expert's own answer.
    shown : (n_samples, n_experts)
        1 for the experts that a sample is shown to, 0 for those it is hidden from, in the type of
        the losses. Gates are in units of their sum over either.
    own : float, default=0.0

    Returns
    -------
    loss : (n_samples,)
    hidden_loss : (n_samples,)
        Of the mixture of the experts that a sample is hidden from, without a gradient; of no
        meaning where there are none.
    """
    return _MixtureLoss.apply(gate.to(losses.dtype), losses, shown, own)


class _MixtureLoss(torch.autograd.Function):
    """One node of the graph: its many small steps would cost more than the experts."""

    @staticmethod
    def forward(ctx, gate, losses, shown, own):
        # Samples last: torch is slow along a short last axis.
        gate, losses, shown = gate.T, losses.T, shown.T
        tiny, largest = torch.finfo(losses.dtype).tiny, torch.finfo(losses.dtype).max
        # About the least loss of those that have a say: not all likelihoods are small.
        hidden = shown == 0
        least = losses.masked_fill(hidden, torch.inf).amin(0)
        likelihood = (least - losses).clamp_(max=0).exp_()
        gate_shown = gate * shown
        terms = gate_shown * likelihood
        total, gates = terms.sum(0).clamp_(min=tiny), gate_shown.sum(0).clamp_(min=tiny)
        count = shown.sum(0)
        mean = (losses * shown).sum(0) / count
        loss = least - (total / gates).log()
        ctx.save_for_backward(likelihood, terms, shown, total, gates, count)
        ctx.own = own
        gate_hidden = gate - gate_shown
        least_hidden = losses.masked_fill(~hidden, largest).amin(0)
        hidden_total = (gate_hidden * (least_hidden - losses).clamp_(max=0).exp_()).sum(0)
        hidden_total /= gate_hidden.sum(0).clamp_(min=tiny)
        hidden_loss = least_hidden - hidden_total.clamp_(min=tiny).log()
        ctx.mark_non_differentiable(hidden_loss)
        return torch.lerp(loss, mean, own), hidden_loss

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, _):
        likelihood, terms, shown, total, gates, count = ctx.saved_tensors
        joint = (1 - ctx.own) * gradient
        of_gate = (likelihood * (-joint / total) + joint / gates) * shown
        of_losses = terms * (joint / total) + shown * (ctx.own * gradient / count)
        return of_gate.T, of_losses.T, None, None
