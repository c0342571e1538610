"""What versions of Python's libraries, terminals and signals have in different ways."""

import contextlib
import contextvars
import sys
import warnings
from pathlib import Path

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


_SAID: contextvars.ContextVar[set[str]] = contextvars.ContextVar("said")


@contextlib.contextmanager
def warning_once():
    """Say each warning once, however many steps of what is done here warn alike."""
    token = _SAID.set(_SAID.get(set()))
    try:
        yield
    finally:
        _SAID.reset(token)


def warn(message, category):
    """Warn as from the innermost frame outside of this package, scikit-learn and joblib."""
    said = _SAID.get(set())
    if message in said:
        return
    said.add(message)
    frame, level = sys._getframe(1), 2
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
