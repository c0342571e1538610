"""Devices of torch, their memory, and the modes that must not change what is computed."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# It is that of every device.
OutOfMemoryError = torch.OutOfMemoryError

_WITHOUT_FLOAT64 = ("mps",)


def accelerator() -> str | None:
    """Return the accelerator of this machine that computes in float64, None without one."""
    found = torch.accelerator.current_accelerator()
    if found is None or found.type in _WITHOUT_FLOAT64 or not torch.accelerator.is_available():
        return None
    return found.type


def as_device(device: str | torch.device, *, float64: bool = False) -> torch.device:
    """Return the device of a name.

    Raises
    ------
    ValueError
        If torch knows no such device, this machine does not have it, or it does not compute in
        `float64` where that is needed.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={str(device)!r} is no device that torch knows. {_there()}"
        ) from error
    if float64 and found.type in _WITHOUT_FLOAT64:
        raise ValueError(
            f"device={str(device)!r} does not compute in float64, in which routes are decided. "
            "Use 'cpu'."
        )
    if (found.index or 0) >= _count(found.type):
        raise ValueError(f"device={str(device)!r} is not there. {_there()}")
    return found


def free_memory(device: torch.device) -> float:
    """Return the free bytes of a device, those that torch keeps for it included.

    Infinity where the device does not say.
    """
    module = _module(device.type)
    if not hasattr(module, "mem_get_info"):
        return math.inf
    free = module.mem_get_info(device.index)[0]
    # This memory is that of tensors that are gone.
    if hasattr(module, "memory_reserved"):
        free += module.memory_reserved(device.index) - module.memory_allocated(device.index)
    return free


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on any device; that of the CPU has no type."""
    return isinstance(error, OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def is_fast_in_bf16(device: torch.device) -> bool:
    """Whether a device has tensor cores for bf16; older ones only say that they support it."""
    ask = getattr(_module(device.type), "get_device_capability", None)
    capability = ask and ask(device)
    return isinstance(capability, tuple) and capability >= (8, 0)


def _module(kind):
    """Return what `torch.cuda` is for a kind of device, None without such a module."""
    return getattr(torch, kind, None)


def _count(kind):
    if kind == "cpu":
        return 1
    module = _module(kind)
    is_there = hasattr(module, "device_count") and module.is_available()
    return module.device_count() if is_there else 0


def _there():
    """Say which devices a fit can use."""
    kind = accelerator()
    names = ["cpu"] + [f"{kind}:{index}" for index in range(_count(kind) if kind else 0)]
    return f"This machine has {', '.join(map(repr, names))}; 'auto' chooses."


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
# Types of Python itself; other values have a type of their own.
_PLAIN = {bool, int, float, str, type(None), torch.device, torch.layout}


@contextmanager
def default_torch_modes() -> Iterator[None]:
    """Compute as where no mode of torch is set: with gradients, without autocast, in float32.

    A caller may be in `torch.inference_mode`, `torch.no_grad` or `torch.autocast`, or may have
    called `torch.set_default_dtype`. The default dtype is that of all threads and stays what it
    is; all else belongs to the calling thread.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        found = torch.accelerator.current_accelerator()
        for device in ["cpu"] if found is None else ["cpu", found.type]:
            if torch.is_autocast_enabled(device):
                # Without a cache: it would keep weights of before a step until the caller's ends.
                off = torch.autocast(device, enabled=False, cache_enabled=False)
                stack.enter_context(off)
        if torch.get_default_dtype() != torch.float32:
            stack.enter_context(_Float32())
        yield


class _Float32(TorchFunctionMode):
    """Within this context new tensors are of float32 where torch would take the default dtype."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run `func`, and give it a dtype where it makes a tensor and is given none."""
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") is None and kwargs.get("out") is None:
            values = [*args, *kwargs.values()]
            if func in _FLOATS and not any(isinstance(v, torch.Tensor | complex) for v in values):
                kwargs["dtype"] = torch.float32
            elif func in _BY_VALUE and {float} <= set(_types_in(values)) <= _PLAIN:
                kwargs["dtype"] = torch.float32
        return func(*args, **kwargs)


def _types_in(values: Any) -> Iterator[type]:
    """Yield the types of nested values."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _types_in(value)
        else:
            yield type(value)
