"""Sparse upcycling: one trained expert becomes many (arXiv 2212.05055)."""

from torch.optim import Optimizer

from .mixture import MixtureOfExperts

__all__ = ["upcycle"]


def upcycle(mixture: MixtureOfExperts, optimizer: Optimizer | None = None) -> None:
    """Make the other experts copies of the first one, with the state of its optimizer.

    The answer stays what it is, if the router adds up gates to 1 and its experts alone.
    """
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
