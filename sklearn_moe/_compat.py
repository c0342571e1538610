"""What versions of Python's libraries, terminals and signals have in different ways."""

import contextlib
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import joblib
import sklearn
from tqdm import TqdmWarning

__version__ = "0.1.0"


def progress_bar(iterable=None, *, disable=False, **options):
    """Return a bar of tqdm; files and pipes, which would keep every step of it, get none.

    A notebook without ipywidgets gets one of characters, and no warning about it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)
        # It is imported here, so that an import of ours does not warn either.
        from tqdm.auto import tqdm
    if not disable and "ipykernel" not in sys.modules:
        # None is tqdm's word for "unless it is a terminal".
        disable = None
    return tqdm(iterable, disable=disable, **options)


_LIBRARIES = (
    *(str(Path(path).parent) for path in (__file__, sklearn.__file__, joblib.__file__)),
    contextlib.__file__,  # of decorators
)


def warn(message, category):
    """Warn as from the innermost frame outside of this package, scikit-learn and joblib."""
    frame, level = sys._getframe(1), 2
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


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
