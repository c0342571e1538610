"""Heads: classes, labels or numbers, and the losses by name.

A loss of one's own is a subclass of `Head`, passed as it is or registered in `LOSSES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..._registry import Registry, require
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

    What the callable makes is checked: a TypeError says that it is no head, or lacks a method that
    every head has, a ValueError that it is one for another kind of target.

    Raises
    ------
    ValueError
        If the loss is unknown, or not made for such a target.
    """
    spec = LOSSES.resolve(loss)
    make = getattr(spec, kind) if isinstance(spec, LossSpec) else spec
    if make is None:
        raise ValueError(f"loss={loss!r} is not made for {kind}. Use one of {_fitting(kind)}.")
    if isinstance(make, type):
        _check_kind(make, make, kind)
    return partial(_make_head, make, kind)


def _make_head(make: Callable[[int], Head], kind: str, n_targets: int) -> Head:
    head = make(n_targets)
    _check_kind(make, head, kind)
    for method in ("loss", "predict"):
        require(head, Head, method, f"loss={make!r}")
    return head


def _check_kind(loss: Callable[[int], Head], head: Head | type, kind: str) -> None:
    if not (isinstance(head, Head) or (isinstance(head, type) and issubclass(head, Head))):
        got = "is not" if head is loss else f"returned {type(head).__name__}, not"
        raise TypeError(f"loss={loss!r} {got} a sklearn_moe.nn.Head.")
    if getattr(head, "kind", None) != kind:
        raise ValueError(
            f"loss={loss!r} is not made for {kind}: its kind is {getattr(head, 'kind', None)!r}. "
            f"Use one of {_fitting(kind)}, or a Head of kind={kind!r}."
        )


def _fitting(kind: str) -> list[str]:
    return sorted(
        name
        for name, spec in LOSSES.items()
        if isinstance(spec, LossSpec) and getattr(spec, kind) is not None
    )
