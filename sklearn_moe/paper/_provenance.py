"""What made a result: commit, date, machine and versions."""

import os
import platform
import subprocess
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import numpy as np
import sklearn
import torch

from .. import __version__

_LIBRARY = Path(__file__).parents[1]


def origin():
    """Return commit, date, machine and versions of what is computed now, as plain values."""
    return {
        "commit": _commit(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": _machine(),
        "versions": {
            "sklearn_moe": __version__,
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


@cache
def _commit():
    """Return the last commit of a checkout that changed the library; None outside of one.

    With a "+" if the library differs from it.
    """
    if not (_LIBRARY.parent / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(
                ["git", *command, "."], cwd=_LIBRARY, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["log", "-1", "--format=%h", "--abbrev=10"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+" if changes else commit


@cache
def _machine():
    """Return the model of the processor, the instructions that torch uses, and the cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"
