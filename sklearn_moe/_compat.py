"""What versions of Python's libraries, terminals and signals have in different ways."""

import sys
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec

__version__ = "0.1.0"
# The bar of what is fitted now, and what it says beside the number of steps.
_SHOWN: ContextVar[tuple | None] = ContextVar("shown", default=None)


def progress_bar(*, disable=False, **options):
    """Return a bar of tqdm; files and pipes, which would keep every step of it, get none.

    A notebook without ipywidgets gets one of characters, and no warning about it.
    """
    is_notebook = "ipykernel" in sys.modules
    if is_notebook and find_spec("ipywidgets"):
        from tqdm.auto import tqdm
    else:
        from tqdm import tqdm
    if not (disable or is_notebook):
        # None is tqdm's word for "unless it is a terminal".
        disable = None
    return tqdm(disable=disable, **options)


@contextmanager
def show_progress(name, verbose):
    """Show a bar, with `verbose`, that :func:`move_on` moves within this block."""
    if not verbose:
        yield
        return
    with progress_bar(desc=name, unit="step") as bar:
        token = _SHOWN.set((bar, {}))
        try:
            yield
        finally:
            _SHOWN.reset(token)


def move_on(n_steps=1, **where):
    """Count steps of what is shown, if anything is, and say where it stands."""
    if _SHOWN.get() is not None:
        bar, stands = _SHOWN.get()
        stands.update(where)
        bar.set_postfix(stands, refresh=not n_steps)
        bar.update(n_steps)


def numbered(name, items):
    """Yield items, and say which one of how many it is."""
    for number, item in enumerate(items, 1):
        move_on(0, **{name: f"{number}/{len(items)}"})
        yield item
