"""Modes of torch that a caller has set, and that must not change what is computed here."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["usual_modes"]

# What makes tensors of the default dtype, whatever the arguments are.
_FLOATS = frozenset(
    [
        *(torch.empty, torch.empty_permuted, torch.empty_strided, torch.zeros, torch.ones),
        *(torch.eye, torch.linspace, torch.logspace, torch.scalar_tensor),
        *(torch.normal, torch.rand, torch.randn, torch.fft.fftfreq, torch.fft.rfftfreq),
        *(getattr(torch, name) for name in dir(torch) if name.endswith("_window")),
    ]
)
# The same where the values are floats of Python.
_BY_VALUE = frozenset([torch.arange, torch.as_tensor, torch.asarray, torch.full, torch.tensor])


@contextmanager
def usual_modes() -> Iterator[None]:
    """Compute as where no mode of torch is set: with gradients, without autocast, in float32.

    A caller may be in `torch.inference_mode`, `torch.no_grad` or `torch.autocast`, or may have
    called `torch.set_default_dtype`. The default dtype is that of all threads and stays what it
    is; all else belongs to the calling thread.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in _device_types():
            if torch.is_autocast_enabled(device):
                # Without a cache: it would keep weights of before a step until the caller's ends.
                off = torch.autocast(device, enabled=False, cache_enabled=False)
                stack.enter_context(off)
        if torch.get_default_dtype() != torch.float32:
            stack.enter_context(_Float32())
        yield


def _device_types() -> list[str]:
    accelerator = torch.accelerator.current_accelerator()
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]


class _Float32(TorchFunctionMode):
    """Within this context new tensors are of float32 where torch would take the default dtype."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run `func`, and give it a dtype where it makes a tensor and is given none."""
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") is None and kwargs.get("out") is None:
            values = [*args, *kwargs.values()]
            if func in _FLOATS and not any(isinstance(v, torch.Tensor | complex) for v in values):
                kwargs["dtype"] = torch.float32
            elif func in _BY_VALUE and any(map(_has_float, values)) and all(map(_is_plain, values)):
                kwargs["dtype"] = torch.float32
        return func(*args, **kwargs)


def _has_float(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_float, value))
    return type(value) is float


def _is_plain(value: Any) -> bool:
    """Tell whether nested values are of Python itself: others have a type of their own."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return type(value) in (bool, int, float, str, type(None), torch.device, torch.layout)
