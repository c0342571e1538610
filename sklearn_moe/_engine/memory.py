"""Memory of training steps: it is kept from one to the next, and may run out."""

from contextlib import contextmanager

import torch

from .._devices import OutOfMemoryError, is_out_of_memory

__all__ = ["keep_freed_memory", "saying_what_to_lower"]

_LARGEST_BLOCK = 31 * 2**20  # just below what glibc maps afresh every time


def keep_freed_memory():
    """Have the memory of a step kept for the next one, in place of given back to the system.

    glibc maps a block afresh until it has seen one of that size come back, and gives back what is
    free beyond twice that size. A third of the time of steps with arrays of some megabytes would
    go into that.
    """
    torch.empty(_LARGEST_BLOCK, dtype=torch.uint8)


@contextmanager
def saying_what_to_lower(batch_size, device):
    """Say it where training runs out of memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        kind = type(error) if isinstance(error, OutOfMemoryError) else MemoryError
        raise kind(
            f"A training step of {batch_size} samples ran out of memory on {device}. Lower "
            "batch_size, expert_width or n_experts, or choose a router that asks few of the "
            f"experts, such as 'top1'. What torch says: {error}"
        ) from error
