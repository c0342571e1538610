"""What made a result: the code behind it as a hash, the commit, the date, the machine, versions."""

import ast
import hashlib
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
# Modules of the experiments that make runs. All others ask for runs, or show them.
RUNS = {"_run", "_protocols", "_artificial_runs", "_image_runs", "_text_runs"}
# Those whose code makes no other runs than their own.
OWN_RUNS = {"_later_runs"}
# Of the library: what shows, stores or exports a fitted model. The first has the version.
_WITHOUT_EFFECT = {"__init__", "inspection", "onnx", "_persistence", "exceptions"}


@cache
def code_hash(module="_run"):
    """Return a hash of the code that makes the runs of a module, without comments and docstrings.

    It covers the whole library but for what only shows, stores or exports a fitted model, and of
    the experiments the modules that fit and measure: a new figure or finding makes no new runs.
    """
    code, runs = hashlib.sha256(), RUNS | OWN_RUNS & {module}
    for path in sorted(_LIBRARY.rglob("*.py")):
        room, *inside = path.relative_to(_LIBRARY).with_suffix("").parts
        if inside[0] in runs if room == "paper" else room not in _WITHOUT_EFFECT:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                    node.value.value = ""  # a docstring
            code.update(f"{room} {inside} {ast.unparse(tree)}".encode())
    return code.hexdigest()[:16]


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
    """Return the commit of a checkout, with a "+" if the library differs from it; else None."""
    if not (_LIBRARY.parent / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(
                ["git", *command], cwd=_LIBRARY, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["rev-parse", "--short=10", "HEAD"], ["status", "--porcelain", "."])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+" if changes else commit


@cache
def _machine():
    """Return the model of the processor and the number of its cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"
