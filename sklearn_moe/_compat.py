"""What versions of Python's libraries, terminals and signals have in different ways."""

import sys
import warnings

from tqdm import TqdmWarning

__version__ = "0.1.0"


def progress_bar(*, disable=False, **options):
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
    return tqdm(disable=disable, **options)
