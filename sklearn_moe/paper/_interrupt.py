"""Ctrl-C that nothing may take for its own."""

import signal
import threading
from contextlib import contextmanager

__all__ = ["stop_on_interrupt"]


@contextmanager
def stop_on_interrupt():
    """Raise KeyboardInterrupt at the end, too: a fit may take Ctrl-C for its early stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = []
    usual = signal.getsignal(signal.SIGINT)

    def interrupt(number, frame):
        interrupted.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if interrupted:
        raise KeyboardInterrupt
