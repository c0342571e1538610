"""Types of command line arguments."""

import argparse

__all__ = ["positive"]


def positive(text):
    """Return a whole number of at least 1."""
    value = int(text) if text.strip().isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value
