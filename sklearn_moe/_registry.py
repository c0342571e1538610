"""One rule for every choice: a registered name, or an object of the user's own."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ._validation import did_you_mean


class Registry(Mapping):
    """The parts of one kind, by name.

    Register at the top level of a module: a worker process knows only the names of modules that it
    imports.

    Parameters
    ----------
    parameter : str
        Parameter of the estimators that takes such a name.
    alternative : str
        What may be passed instead of a name, for messages.
    entries : dict
        The names that come with the library.

    Examples
    --------
    >>> from sklearn_moe.nn import ACTIVATIONS
    >>> ACTIVATIONS.register("cubic", lambda z: z**3)
    Traceback (most recent call last):
    ...
    ValueError: activation='cubic' is registered already. Choose another name.
    """

    def __init__(self, parameter: str, alternative: str, entries: Mapping[str, Any]):
        self.parameter = parameter
        self.alternative = alternative
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parameter!r}, {list(self._entries)})"

    def register(self, name: str, entry: Any) -> None:
        """Add a part under a new name.

        Raises
        ------
        ValueError
            If the name is taken: a part of that name may be in use.
        """
        if name in self._entries:
            raise ValueError(
                f"{self.parameter}={name!r} is registered already. Choose another name."
            )
        self._entries[name] = entry

    def resolve(self, choice: Any, offered: Callable[[], Iterable[str]] | None = None) -> Any:
        """Return what `choice` names, or `choice` itself if it is no name.

        Raises
        ------
        ValueError
            If the name is unknown; the message lists those that `offered` returns, by default all.
        """
        if not isinstance(choice, str):
            return choice
        if choice not in self._entries:
            known = sorted(self if offered is None else offered())
            raise ValueError(
                f"Unknown {self.parameter}={choice!r}: pass one of "
                f"{known} or {self.alternative}.{did_you_mean(choice, known)}"
            )
        return self._entries[choice]

    def expected(self, choice: Any) -> str:
        """Return what a choice of the user's own must be, for messages."""
        return f"{self.parameter}={choice!r} must be {self.alternative}"

    def make(self, choice: Any, kind: type, /, *args: Any, **options: Any) -> Any:
        """Return what the factory of a choice, a `kind`, makes of the arguments."""
        return call_factory(self.expected(choice), kind, self.resolve(choice), *args, **options)


def call_factory(expected: str, kind: type, factory: Any, /, *args: Any, **options: Any) -> Any:
    """Return what a factory makes; `expected` begins the messages: what it must be.

    Raises
    ------
    TypeError
        If the factory does not take these arguments, or makes anything but a `kind`. What goes
        wrong inside of it is its own matter.
    """
    if isinstance(factory, kind):
        raise TypeError(f"{expected}; it is what that should return.")
    try:
        made = factory(*args, **options)
    except (TypeError, ValueError) as error:
        is_torchs = getattr(factory, "__module__", "").startswith("torch.")
        if not is_torchs and (trace := error.__traceback__) and trace.tb_next:  # raised inside
            raise
        raise TypeError(f"{expected}; it does not take what it is given: {error}.") from None
    if not isinstance(made, kind):
        raise TypeError(f"{expected}; it returned {type(made).__name__}.")
    return made


def accepts_argument(function: Any, name: str) -> bool:
    """Return whether a function has an argument of that name, or takes any.

    One of C that does not tell its arguments takes none.
    """
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        return False
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return True
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
    return name in parameters and parameters[name].kind not in by_position


def overrides(part: Any, base: type, method: str) -> bool:
    """Return whether the class of a part overrides a method of its base class."""
    return getattr(type(part), method) is not getattr(base, method)


def require_override(part: Any, base: type, method: str, purpose: str) -> None:
    """Refuse a part whose class does not override a method of its base, and say what needs it.

    Raises
    ------
    TypeError
        If the method is still that of the base.
    """
    if not overrides(part, base, method):
        raise TypeError(
            f"{type(part).__name__} has no method {method!r}, which {purpose} needs. Write it as "
            f"{base.__name__}.{method} describes."
        )
