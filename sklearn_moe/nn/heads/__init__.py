"""Heads: classes, labels or numbers, and the losses by name.

A loss of one's own is a subclass of `Head`, passed as it is or registered in `LOSSES`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..._registry import Registry
from .base import Head
from .classes import DoubleSoftmaxHead, MarginHead, SoftmaxHead
from .labels import SigmoidHead
from .numbers import (
    AbsoluteErrorHead,
    GaussianHead,
    HuberHead,
    NumberHead,
    SquaredErrorHead,
)

__all__ = ["LOSSES", "Head", "LossSpec", "NumberHead", "choose_head"]


@dataclass(frozen=True)
class LossSpec:
    """The heads of one loss: callables n_targets -> Head, None where it has no meaning.

    Parameters
    ----------
    classes, labels, numbers : callable or None, default=None
    """

    classes: Callable[[int], Head] | None = None
    labels: Callable[[int], Head] | None = None
    numbers: Callable[[int], Head] | None = None


LOSSES = Registry(
    "loss",
    "a subclass of sklearn_moe.nn.Head",
    {
        "log_loss": LossSpec(classes=SoftmaxHead, labels=SigmoidHead),
        "margin": LossSpec(classes=MarginHead),
        "probabilities": LossSpec(classes=DoubleSoftmaxHead),
        "squared_error": LossSpec(numbers=SquaredErrorHead),
        "absolute_error": LossSpec(numbers=AbsoluteErrorHead),
        "huber": LossSpec(numbers=HuberHead),
        "gaussian": LossSpec(numbers=GaussianHead),
    },
)


def choose_head(loss: str | LossSpec | Callable[[int], Head], kind: str) -> Callable[[int], Head]:
    """Return the head that a loss has for a kind of target, as a callable n_targets -> Head.

    Raises
    ------
    ValueError
        If the loss is unknown, or not made for such a target.
    """
    spec = LOSSES.resolve(loss)
    if not isinstance(spec, LossSpec):
        return spec
    head = getattr(spec, kind)
    if head is None:
        fitting = sorted(name for name, other in LOSSES.items() if getattr(other, kind))
        raise ValueError(f"loss={loss!r} is not made for {kind}. Use one of {fitting}.")
    return head
