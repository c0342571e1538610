"""Which devices there are, and what they can do."""

import math

import torch

__all__ = [
    "OutOfMemoryError",
    "accelerator",
    "as_device",
    "free_memory",
    "is_fast_in_bf16",
    "is_out_of_memory",
]

OutOfMemoryError = torch.OutOfMemoryError  # of every device

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
    if hasattr(module, "memory_reserved"):  # of tensors that are gone
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
