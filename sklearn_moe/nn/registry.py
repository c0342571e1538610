"""One rule for every choice: the name of a registered part, or a callable of the user's own."""

from collections.abc import Callable, Mapping

__all__ = ["resolve"]


def resolve(choice: str | Callable, registry: Mapping[str, Callable], parameter: str) -> Callable:
    """Return what `choice` names in `registry`, or `choice` itself when it is callable.

    Raises
    ------
    ValueError
        If `choice` is neither; the message lists the known names.
    """
    if callable(choice):
        return choice
    if choice not in registry:
        raise ValueError(
            f"Unknown {parameter}={choice!r}: pass one of {sorted(registry)} or a callable."
        )
    return registry[choice]
