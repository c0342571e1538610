"""Modes of torch that a caller has set, and that must not change what is computed here."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["usual_modes"]


@contextmanager
def usual_modes() -> Iterator[None]:
    """Compute as where no mode of torch is set: with gradients, and without autocast.

    A caller may be in `torch.inference_mode`, `torch.no_grad` or `torch.autocast`.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in _device_types():
            if torch.is_autocast_enabled(device):
                # Without a cache: it would keep weights of before a step until the caller's ends.
                off = torch.autocast(device, enabled=False, cache_enabled=False)
                stack.enter_context(off)
        yield


def _device_types() -> list[str]:
    accelerator = torch.accelerator.current_accelerator()
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]
