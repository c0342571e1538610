"""Merging: one expert per sample, whose parameters are the gated mean of all experts'."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..dispatch import is_recorded, together
from .base import Router

__all__ = ["MergeRouter"]

_CHUNK = 2**24  # parameters that are merged at a time


class MergeRouter(Router):
    """F(x) = f(x; sum_m gate_m(x) W_m) (SMEAR, arXiv 2306.03745).

    Costs little more than one expert where merging is cheap, and is differentiable throughout.
    """

    gates = ("softmax",)

    def combine(self, experts, x, route):
        """Answer by the merged expert of each sample."""
        gate = route.gate.to(x.dtype)
        if (one := together(experts)) is not None:
            return one.merged(x, gate), None
        return _merge(list(experts), x, gate), None


def _merge(experts: list[nn.Module], x: Tensor, gate: Tensor) -> Tensor:
    """Answer each sample by an expert of its own, of any kind."""
    shapes = [{name: p.shape for name, p in e.named_parameters()} for e in experts]
    if any(other != shapes[0] for other in shapes) or any(True for _ in experts[0].buffers()):
        raise ValueError(
            "router='merge' averages the parameters of the experts: all need the same ones, and no "
            "buffers such as the statistics of BatchNorm. Use another router or other experts."
        )
    stacked = {
        name: torch.stack([e.get_parameter(name) for e in experts]).flatten(1) for name in shapes[0]
    }

    def answer(weights, sample):
        merged = {n: (weights @ p).view(shapes[0][n]) for n, p in stacked.items()}
        return functional_call(experts[0], merged, (sample.unsqueeze(0),)).squeeze(0)

    if not x.shape[0]:  # vmap takes no empty batch
        return experts[0](x)
    n_parameters = sum(p.shape[1] for p in stacked.values())
    if is_recorded() and x.ndim == 4:
        return _one_by_one(answer, gate, x)
    chunk = None if is_recorded() else max(1, _CHUNK // n_parameters)
    with torch.autocast(x.device.type, enabled=False):  # vmap and mixed precision do not mix
        return vmap(answer, chunk_size=chunk)(gate, x)


def _one_by_one(answer, gate, x):
    """Answer the samples in a loop that is a part of the exported program.

    `vmap` makes one convolution of as many groups as there are samples, and fixes their number.
    """
    from torch._higher_order_ops.scan import scan

    def step(state, row):
        return state.clone(), answer(*row)

    # One sample of zeros is added: onnxruntime refuses a loop over no samples.
    gate, x = (torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])]) for rows in (gate, x))
    return scan(step, gate.new_zeros(1), (gate, x))[1][:-1]
