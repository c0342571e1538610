"""Heads: classes, labels or numbers, and the losses by name.

A loss of one's own is a subclass of `Head`, passed as it is or registered in `LOSSES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..._registry import Registry, make, require
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
    spec = LOSSES.resolve(loss, _fitting(kind))
    factory = getattr(spec, kind) if isinstance(spec, LossSpec) else spec
    if factory is None:
        raise ValueError(f"loss={loss!r} is not made for {kind}. Use one of {_fitting(kind)}.")
    if isinstance(factory, type):
        if not issubclass(factory, Head):
            raise TypeError(f"{LOSSES.must(factory)}.")
        _check_kind(factory, factory, kind)
    return partial(_make_head, factory, kind)


def _make_head(factory: Callable[[int], Head], kind: str, n_targets: int) -> Head:
    head = make(LOSSES.must(factory), Head, factory, n_targets)
    _check_kind(factory, head, kind)
    for method in ("loss", "predict"):
        require(head, Head, method, f"loss={factory!r}")
    return head


def _check_kind(loss: Callable[[int], Head], head: Head | type, kind: str) -> None:
    if getattr(head, "kind", None) != kind:
        raise ValueError(
            f"loss={loss!r} is not made for {kind}: its kind is {getattr(head, 'kind', None)!r}. "
            f"Use one of {_fitting(kind)}, or a Head of kind={kind!r}."
        )


def _fitting(kind: str) -> list[str]:
    """Return the names of the losses that are made for such a target."""
    return sorted(name for name, spec in LOSSES.items() if _is_for(spec, kind))


def _is_for(spec: LossSpec | Callable[[int], Head], kind: str) -> bool:
    if isinstance(spec, LossSpec):
        return getattr(spec, kind) is not None
    return getattr(spec, "kind", None) == kind
