"""What made a result: functions of the library by their code, commit, date, machine, versions."""

import ast
import cProfile
import hashlib
import importlib
import os
import platform
import subprocess
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache
from operator import attrgetter
from pathlib import Path
from types import CodeType

import numpy as np
import sklearn
import torch

from .. import __version__

_LIBRARY = Path(__file__).parents[1]
_STARTED = time.time()


@contextmanager
def traced():
    """Yield a dict, filled in the end with a hash of each function of the library that was called.

    It is {module: {function: hash}}. A class of which methods were called is there by itself, for
    its attributes and bases; methods that replace one of a base and were not called have no hash.
    """
    called = {}
    profile = cProfile.Profile(subcalls=False, builtins=False)
    profile.enable()
    try:
        yield called
    finally:
        profile.disable()
    codes = [entry.code for entry in profile.getstats() if isinstance(entry.code, CodeType)]
    parts = {part for code in codes for part in _parts_at(code)}
    for module, name in sorted(parts | {other for part in parts for other in _cached(*part)}):
        called.setdefault(module, {})[name] = hash_of(module, name)
    for module, hashes in called.items():
        for name in _replacing(module, hashes):
            hashes.setdefault(name, "")


def changes_since(stored):
    """Return what has become of the functions that :func:`traced` has found, by kind of change.

    Parameters
    ----------
    stored : dict

    Returns
    -------
    changes : dict
        Names of functions that "changed", that are "gone", and that are "new": methods that
        replace one of a base in a class of which methods were called.
    """
    changes = {"changed": [], "gone": [], "new": []}
    for module, hashes in stored.items():
        for name in filter(hashes.get, hashes):
            now = hash_of(module, name)
            if now != hashes[name]:
                changes["changed" if now else "gone"].append(f"{module}: {name}")
        changes["new"] += [
            f"{module}: {name}" for name in _replacing(module, hashes) if name not in hashes
        ]
    return {kind: names for kind, names in changes.items() if names}


def merged(kinds):
    """Return the functions that any of several kinds of runs call."""
    together = {}
    for functions in kinds:
        for module, hashes in functions.items():
            before = together.get(module, {})
            # A method that one of them did not call has no hash there.
            together[module] = hashes | before | {n: h for n, h in hashes.items() if h}
    return {module: dict(sorted(hashes.items())) for module, hashes in sorted(together.items())}


def digest(functions):
    """Return a hash of all that :func:`traced` has found."""
    return _hash(repr(sorted((module, sorted(of.items())) for module, of in functions.items())))


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()[:10]


class _Module:
    """What a module of the library defines and imports, by name: syntax trees without docstrings.

    Parameters
    ----------
    name : str
        Its path in the library, such as "nn/mixture".
    """

    def __init__(self, name):
        self.name = name
        self.functions, self.classes, self.constants, self.imports = {}, {}, {}, {}
        path = _LIBRARY / f"{name}.py"
        # What runs here may be older than the file.
        self.is_edited = path.exists() and path.stat().st_mtime > _STARTED
        tree = ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""
        self._add(tree.body, "")

    def _add(self, nodes, prefix):
        for node in nodes:
            if isinstance(node, ast.FunctionDef):
                self.functions.setdefault(prefix + node.name, []).append(node)
            elif isinstance(node, ast.ClassDef):
                self._add(node.body, f"{prefix}{node.name}.")
                kept = [part for part in node.body if not isinstance(part, ast.FunctionDef)]
                node.body = kept or [ast.Pass()]
                self.classes[prefix + node.name] = [node]
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
                for name in {n.id for n in names if isinstance(n.ctx, ast.Store)}:
                    self.constants.setdefault(prefix + name, []).append(node)
            elif isinstance(node, ast.ImportFrom) and node.level:
                above = self.name.split("/")[: -node.level]
                place = "/".join([*above, *(node.module or "").split(".")]).strip("/")
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = place, alias.name
            else:  # the parts of an if, or a try
                self._add(ast.iter_child_nodes(node), prefix)

    def nodes(self, name):
        """Return the syntax trees of a function, class or constant."""
        of = (self.functions, self.classes, self.constants)
        return next((named[name] for named in of if name in named), [])

    def at(self, line):
        """Return the function, or else the constant, that a line is in, None for neither."""
        for named in (self.functions, self.constants):
            for name, nodes in named.items():
                for node in nodes:
                    first = min([node.lineno, *(d.lineno for d in _decorators(node))])
                    if first <= line <= node.end_lineno:
                        return name
        return None

    def find(self, name):
        """Return module and name of where a name is defined that is used here."""
        if name not in self.imports:
            return self.name, name
        place, original = self.imports[name]
        return _module(place).find(original)


@cache
def _module(path):
    is_folder = (_LIBRARY / path).is_dir()
    return _Module(f"{path}/__init__".strip("/") if is_folder else path)


def _decorators(node):
    return getattr(node, "decorator_list", [])


def _parts_at(code):
    """Yield (module, name) of the function of the library that code belongs to, and its classes."""
    path = Path(code.co_filename)
    if path.is_relative_to(_LIBRARY) and path != Path(__file__):
        module = _module(path.relative_to(_LIBRARY).with_suffix("").as_posix())
        name = module.at(code.co_firstlineno) or ""
        while name:
            yield module.name, name
            name = name.rpartition(".")[0]


def _read(module, name):
    """Return (module, name) of all that a function or constant uses by name in the library."""
    used, here = set(), _module(module)
    for part in (part for node in here.nodes(name) for part in ast.walk(node)):
        if isinstance(part, ast.Name):
            used.add(here.find(part.id))
        elif isinstance(part, ast.Attribute) and getattr(part.value, "id", "") in here.imports:
            # Of a module, if it is one.
            used.add(_module("/".join(here.imports[part.value.id]).strip("/")).find(part.attr))
    return {(where, original) for where, original in used if _module(where).nodes(original)}


def _closure(part, is_followed):
    """Return a part and all that it uses, directly or not, through parts that are followed."""
    found, new = {part}, {part}
    while new:
        used = {other for one in new for other in _read(*one)}
        new = {other for other in used - found if is_followed(*other)}
        found |= new
    return found


def _cached(module, name):
    """Yield the functions whose results may have been kept, and all that they use.

    A traced run has no need to call them if another one has done so.
    """
    for where, used in _read(module, name):
        decorators = (d for node in _module(where).nodes(used) for d in _decorators(node))
        if any("cache" in ast.unparse(decorator) for decorator in decorators):
            yield from _closure((where, used), lambda at, n: n in _module(at).functions)


@cache
def hash_of(module, name):
    """Return a hash of the code of a function, or class, and of the constants that it reads.

    Empty if there is none of that name, "not known" if its file has been changed since this process
    began. Comments and docstrings do not count, nor do the methods of a class.
    """
    if not _module(module).nodes(name):
        return ""
    read = sorted(_closure((module, name), lambda at, n: n in _module(at).constants))
    if any(_module(at).is_edited for at, _ in read):
        return "not known"
    nodes = (node for at, used in read for node in _module(at).nodes(used))
    return _hash("\n".join(map(ast.unparse, nodes)))


def _replacing(module, names):
    """Return the methods that replace one of a base, in those classes that are among the names."""
    found = []
    for name in names:
        if name in _module(module).classes:
            place = f"{__package__.split('.')[0]}.{module}".replace("/", ".")
            cls = attrgetter(name)(importlib.import_module(place.removesuffix(".__init__")))
            methods = (m for m in vars(cls) if f"{name}.{m}" in _module(module).functions)
            replacing = (m for m in methods if any(m in vars(base) for base in cls.__mro__[1:]))
            found += [f"{name}.{method}" for method in replacing]
    return found


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
    """Return the model of the processor, the instructions that torch uses, and the cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"
