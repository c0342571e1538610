"""torch.compile where it works, and a warning where it does not."""

import copy
import warnings

from .nn.dispatch import group_key

__all__ = ["compile_modules"]


def compile_modules(modules, x):
    """Compile modules in place, for batches of any size.

    A copy of the first one is tried on x, forwards and backwards, to begin with: if that fails,
    all modules stay as they are, with a warning.
    """
    if len(modules) > 1 and group_key(modules) is not None:
        warnings.warn(
            "compile=True has no effect: experts of this kind answer together, in few large "
            "operations.",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    trial = copy.deepcopy(modules[0]).train()
    try:
        trial.compile(dynamic=True)
        trial(x).sum().backward()
    except Exception as error:  # compilers fail in many ways
        reason = str(error).strip().splitlines()
        warnings.warn(
            f"compile=True has no effect: torch.compile failed with {type(error).__name__}: "
            f"{reason[0] if reason else 'no message'}. Training goes on without it. It needs a C++ "
            "compiler on a CPU and Triton on a GPU, and experts that it can trace.",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    for module in modules:
        module.compile(dynamic=True)
