"""Sparse upcycling: one trained expert becomes many (arXiv 2212.05055)."""

import torch
from torch.optim import Optimizer

from .dispatch import is_stack
from .mixture import MixtureOfExperts

__all__ = ["upcycle"]


@torch.no_grad()
def upcycle(mixture: MixtureOfExperts, optimizer: Optimizer | None = None) -> None:
    """Make the other experts copies of the first one, with the state of its optimizer.

    The answer stays what it is, if the router adds up gates to 1 and its experts alone.
    """
    if is_stack(mixture.experts):
        for parameter in mixture.experts.parameters():
            state = {} if optimizer is None else optimizer.state.get(parameter, {})
            for value in (parameter, *state.values()):
                if getattr(value, "shape", None) == parameter.shape:
                    value.copy_(value[:1].clone())
        return
    first, *others = mixture.experts
    for expert in others:
        expert.load_state_dict(first.state_dict())
        if optimizer is None:
            continue
        for parameter, source in zip(expert.parameters(), first.parameters(), strict=True):
            state = optimizer.state.get(source, {})
            optimizer.state[parameter] = {
                name: value.clone() if hasattr(value, "clone") else value
                for name, value in state.items()
            }
