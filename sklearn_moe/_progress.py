"""Progress bars: in terminals and notebooks, and nowhere else."""

import sys
import warnings

from tqdm import TqdmWarning

__all__ = ["progress_bar"]


def progress_bar(iterable=None, *, disable=False, **options):
    """Return a bar of tqdm; files and pipes, which would keep every step of it, get none.

    A notebook without ipywidgets gets one of characters, and no warning about it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm  # here, so that an import of ours does not warn either
    if not disable and "ipykernel" not in sys.modules:
        disable = None  # tqdm's word for "unless it is a terminal"
    return tqdm(iterable, disable=disable, **options)
