"""Out of memory in a training step: what can be lowered."""

from contextlib import contextmanager

from .._devices import OutOfMemoryError, is_out_of_memory

__all__ = ["saying_what_to_lower"]


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
