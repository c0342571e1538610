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
# What these modules define is a version, records, warns, or keeps and exports what is fitted.
_WITHOUT_EFFECT = {
    *(_LIBRARY, __name__),
    *(f"{_LIBRARY}.{name}" for name in ("_compat", "_persistence", "exceptions", "nn.predictor")),
    *(f"{_LIBRARY}._training.{name}" for name in ("checkpoint", "diagnostics")),
}


@cache
def code_hash(names):
    """Return a hash of the code behind some names, without docstrings, comments and annotations.

    Modules of the library count as a whole, with what they import. Of the experiments only the
    definitions in use count: a new figure or finding makes no new runs. Nor does another way to
    import the same, or a change of what has no effect on results, such as a warning.

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
    text = "\n".join(f"{name}\n{code}" for name, code in sorted(codes.items()) if code)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _code(name):
    """Return the code that belongs to a dotted name, and the names of what it uses."""
    module, first = _split(name)
    if module in _WITHOUT_EFFECT:
        return "", frozenset()
    tree, imports = _parse(module)
    own = frozenset()
    if not module.startswith(_PAPER):
        if first:
            return "", frozenset({module})
    else:
        definitions = {target: node for node in tree.body for target in _defined(node)}
        if first not in definitions:
            return "", frozenset()
        tree = definitions[first]
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        own = {f"{module}.{target}" for target in used & definitions.keys()}
        imports = {alias: imports[alias] for alias in used & imports.keys()}
    imports = {alias: _definition(imported) for alias, imported in sorted(imports.items())}
    return f"{ast.unparse(tree)}\n{imports}", frozenset({*own, *imports.values()})


def _definition(name):
    """Return where a name is defined that modules may pass on."""
    module, first = _split(name)
    imports = _parse(module)[1]
    return _definition(imports[first]) if first in imports else name


def _split(name):
    """Return the module in which a dotted name lies, and what of the name comes first in it."""
    module, *parts = name.split(".")
    while parts:
        is_package = find_spec(module).submodule_search_locations is not None
        if not is_package or find_spec(f"{module}.{parts[0]}") is None:
            return module, parts[0]
        module = f"{module}.{parts.pop(0)}"
    return module, ""


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
        if isinstance(getattr(node, "body", None), list):  # `imports` has these
            node.body = [part for part in node.body if not getattr(part, "level", 0)]
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
