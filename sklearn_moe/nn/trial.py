"""Try a function of the user's once, before it is one of many in a step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["try_out"]


@torch.no_grad()
def try_out(must: str, function: Callable, *args: Any, shape: tuple[int, ...]) -> None:
    """Refuse a function that does not take these arguments, or returns another shape.

    `must` says what it must be, for the message: "gate=... must be a callable ...".

    Raises
    ------
    TypeError
        The cause of it is what the function raised, if it did.
    """
    try:
        made = function(*args)
    except Exception as error:
        raise TypeError(f"{must}; it raised {type(error).__name__}: {error}") from error
    if not isinstance(made, Tensor) or made.shape != shape:
        got = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else repr(made)
        raise TypeError(f"{must}; it returned {got} where {tuple(shape)} was expected.")
