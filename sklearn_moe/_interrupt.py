"""Ctrl-C that reaches the caller, whoever it meets on its way."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """Watch for Ctrl-C within a block, and raise KeyboardInterrupt at its end at the latest.

    A callback, a destructor or somebody's `except` may swallow a KeyboardInterrupt, or raise one
    to mean something else: `seen` tells a real one. Where signals do not arrive, outside the main
    thread, nothing is watched.

    Parameters
    ----------
    hold : bool, default=False
        Whether to wait for the end of the block, for one that must not be torn apart. A second
        Ctrl-C does not wait.

    Attributes
    ----------
    seen : bool
        Whether Ctrl-C was pressed within the block.
    """

    def __init__(self, *, hold: bool = False):
        self.hold = hold
        self.seen = False
        self._usual: Callable[[int, FrameType | None], Any] | None = None

    def __enter__(self) -> "Interrupts":
        usual = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(usual):
            self._usual = usual
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if self._usual is not None:
            signal.signal(signal.SIGINT, self._usual)
        if self.seen and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        first, self.seen = not self.seen, True
        if self._usual is not None and not (self.hold and first):
            self._usual(number, frame)
