"""How many threads compute: one where work is small, which is decided here.

The threads of small products wait for each other, spinning: on an idle machine that takes twice the
time of one thread, on a busy one tens of times as long.
"""

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

from threadpoolctl import ThreadpoolController

# Multiply-adds of a step, or of a batch, below which a second thread gains nothing on an idle
# machine (up to 6e7 it was slower), and costs twenty times as much on a busy one.
_WORTH_THREADS = 1.5e8


@contextmanager
def threads_for(work: float, *apis: str) -> Iterator[None]:
    """Compute small work with one thread, and large work with as many as the caller has.

    The innermost of several such blocks decides: within a fit, which has one thread, large steps
    have all. In the end the settings are what they were.

    Parameters
    ----------
    work : float
        Multiply-adds of what is computed at a time.
    *apis : {"openmp", "blas"}
        Torch has its threads from OpenMP, where each thread of Python has a number of its own;
        those of BLAS, which NumPy and SciPy use, belong to the process.
    """
    is_small = work <= _WORTH_THREADS
    with ExitStack() as stack:
        for limit in (_LIMITS[api] for api in apis):
            if limit.is_on != is_small:
                stack.callback(limit.switch, limit.is_on)
                limit.switch(is_small)
        yield


# Scikit-learn's Newton solver sets filters as well: two of its fits never run at once.
_FILTERS = threading.RLock()


@contextmanager
def ignored_warnings(*messages: str) -> Iterator[None]:
    """Ignore warnings that begin with one of some messages, "" for all, in one thread at a time.

    All threads share the filters: two that set and restore them at once leave those of one behind.
    """
    with _FILTERS, warnings.catch_warnings():
        for message in messages:
            warnings.filterwarnings("ignore", message)
        yield


def work_of_table(X: Any) -> float:
    """Return about how many multiply-adds a linear model of a table takes, in one pass."""
    n_rows, n_columns = X.shape[0], X.shape[-1]
    return n_rows * n_columns * min(n_rows, n_columns)


class _Limit(threading.local):
    """A limit of one thread, which is on or not for each thread of Python.

    Parameters
    ----------
    api : str
    process : SimpleNamespace or None, default=None
        What all threads of the process share, of libraries whose numbers do not belong to a thread:
        they are back when nobody is limited any more.
    """

    def __init__(self, api: str, process: SimpleNamespace | None = None) -> None:
        self.api = api
        self.is_on = False
        self.state = process or _new_state()

    def switch(self, is_on: bool) -> None:
        """Limit the libraries, or give them back the numbers that they had."""
        state, torch = self.state, sys.modules.get("torch")
        if torch is not None:
            # It sets its own number at the first use in a thread.
            torch.get_num_threads()
        with state.lock:
            self.is_on = is_on
            if is_on and not state.n_limited:
                state.limiter = _controller(self.api, torch is not None).limit(limits=1)
            state.n_limited += 1 if is_on else -1
            if not state.n_limited:
                state.limiter.restore_original_limits()


def _new_state():
    return SimpleNamespace(lock=threading.Lock(), n_limited=0, limiter=None)


_LIMITS = {"openmp": _Limit("openmp"), "blas": _Limit("blas", _new_state())}


@cache
def _controller(api, with_torch):
    """Return what sets the threads of libraries: to search all that are loaded takes 30 ms."""
    return ThreadpoolController().select(user_api=api)
