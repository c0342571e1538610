"""What made a result: the code behind it as a hash, the commit, the date, the machine, versions."""

import ast
import hashlib
import os
import platform
import subprocess
from datetime import datetime, timezone
from functools import cache
from importlib.util import find_spec, resolve_name
from itertools import chain
from pathlib import Path

import numpy as np
import sklearn
import torch

from .. import __version__

_PAPER = __package__
_LIBRARY = _PAPER.partition(".")[0]


@cache
def code_hash(names):
    """Return a hash of the code behind some names, without docstrings, comments and annotations.

    Modules of the library count as a whole, with what they import. Of the experiments only the
    definitions in use count: a new figure or finding makes no new runs.

    Parameters
    ----------
    names : frozenset of str
        Such as "sklearn_moe._classifier.MoEClassifier". Names of other packages are left out.

    Returns
    -------
    hash : str
    """
    codes, wanted = {}, {name for name in names if name.startswith(f"{_LIBRARY}.")}
    while wanted:
        name = wanted.pop()
        codes[name], used = _code(name)
        wanted |= used - codes.keys()
    text = "\n".join(f"{name}\n{codes[name]}" for name in sorted(codes))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _code(name):
    """Return the code that belongs to a dotted name, and the names of what it uses."""
    module = _module_of(name)
    tree, imports = _parse(module)
    first = name.removeprefix(f"{module}.").partition(".")[0]
    if first in imports:  # and only passed on
        return "", frozenset({imports[first]})
    if module in (_LIBRARY, __name__):  # what it defines is a version; what is here records
        return "", frozenset()
    if not module.startswith(_PAPER):
        whole = ast.unparse(tree), frozenset(imports.values())
        return whole if name == module else ("", frozenset({module}))
    definitions = {target: node for node in tree.body for target in _defined(node)}
    if first not in definitions:
        return "", frozenset()
    used = {node.id for node in ast.walk(definitions[first]) if isinstance(node, ast.Name)}
    own = {f"{module}.{target}" for target in used & definitions.keys()}
    others = {imports[target] for target in used & imports.keys()}
    return ast.unparse(definitions[first]), frozenset(own | others)


def _module_of(name):
    """Return the module in which a dotted name lies."""
    parts = name.split(".")
    module = parts[0]
    for part in parts[1:]:
        spec = find_spec(module)
        if spec.submodule_search_locations is None or find_spec(f"{module}.{part}") is None:
            break
        module = f"{module}.{part}"
    return module


@cache
def _parse(module):
    """Return the syntax tree of a module, and by alias the names it imports from the library."""
    spec, imports = find_spec(module), {}
    tree = ast.parse(_read(spec.origin))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = resolve_name("." * node.level + (node.module or ""), spec.parent)
            imports |= {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body[0] = ast.Pass()
            if isinstance(node, ast.FunctionDef):
                node.returns = None
    return tree, imports


def _read(path):
    return Path(path).read_text(encoding="utf-8")


def _defined(node):
    """Return the names that a statement at the top level of a module defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    parts = chain(*map(ast.walk, node.targets)) if isinstance(node, ast.Assign) else ()
    return [part.id for part in parts if isinstance(part, ast.Name)]


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
    library = Path(__file__).parents[1]
    if not (library.parent / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(
                ["git", *command], cwd=library, capture_output=True, text=True, check=True
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
