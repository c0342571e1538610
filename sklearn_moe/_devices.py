"""Devices of torch, their memory, and the modes that must not change what is computed."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

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
        `float64` where routes are decided in it.
    """
    try:
        found = torch.device(device)
        # What is not there, or cannot compute, fails here.
        torch.zeros(1, dtype=torch.float64 if float64 else None, device=found).item()
    except Exception as error:
        names = " or ".join(map(repr, filter(None, ("auto", "cpu", accelerator()))))
        reason = str(error).partition(". ")[0]
        raise ValueError(
            f"device={str(device)!r} cannot be used here, choose {names}. Torch says: {reason}"
        ) from error
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
    """Whether a device multiplies in bf16; older ones only say that they support it."""
    if device.type == "cpu":
        # A torch that does not say what the processor can do computes in float32.
        found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
    ask = getattr(_module(device.type), "get_device_capability", None)
    capability = ask and ask(device)
    return isinstance(capability, tuple) and capability >= (8, 0)


def _module(kind):
    """Return what `torch.cuda` is for a kind of device, None without such a module."""
    return getattr(torch, kind, None)


# How many calls compute now, of all threads, and the default dtype before the first of them.
_RUNNING: dict[str, Any] = {"lock": threading.Lock(), "n_calls": 0, "dtype": torch.float32}


@contextmanager
def default_torch_modes() -> Iterator[None]:
    """Compute as where no mode of torch is set: with gradients, without autocast, in float32.

    A caller may be in `torch.inference_mode`, `torch.no_grad` or `torch.autocast`, or may have
    called `torch.set_default_dtype`. The default dtype is that of all threads, and is set back
    when the last of the calls that run now ends; all else belongs to the calling thread.
    """
    # Without a cache: it would keep weights of before a step until the caller's ends.
    off = partial(torch.autocast, enabled=False, cache_enabled=False)
    found = torch.accelerator.current_accelerator() or torch.device("cpu")
    with torch.inference_mode(False), torch.enable_grad(), off("cpu"), off(found.type):
        _count_calls(1)
        try:
            yield
        finally:
            _count_calls(-1)


def _count_calls(change):
    """Set the default dtype when the first call begins, and back when the last one ends."""
    with _RUNNING["lock"]:
        if not _RUNNING["n_calls"]:
            _RUNNING["dtype"] = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
        _RUNNING["n_calls"] += change
        # Unless another thread has set it meanwhile.
        if not _RUNNING["n_calls"] and torch.get_default_dtype() == torch.float32:
            torch.set_default_dtype(_RUNNING["dtype"])
