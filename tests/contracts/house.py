"""The files of the library, what they import, and how large and how deep it is."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sklearn_moe"
FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree(path):
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text())


def room(path):
    """Return the top-level name of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path, in_functions=True, for_types=True):
    """Yield the dotted names of everything a file imports, own modules as sklearn_moe.x."""
    package = [*path.relative_to(ROOT).parent.parts]
    only_for_types = set()
    if not for_types:
        checks = [n for n in ast.walk(tree(path)) if isinstance(n, ast.If)]
        checks = [n for n in checks if ast.unparse(n.test) == "TYPE_CHECKING"]
        only_for_types = {node for check in checks for node in check.body}
    for node in ast.walk(tree(path)) if in_functions else tree(path).body:
        if node in only_for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += (node.module or "").split(".") if node.module else []
            yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in node.names)


def arrows():
    """Return for every room the rooms that it imports."""
    found = {room(path): set() for path in FILES}
    for path in FILES:
        names = [n.split(".")[1] for n in imports(path) if n.startswith("sklearn_moe.")]
        found[room(path)] |= {*names} & {*found} - {room(path)}
    return found


def code_lines(*paths):
    """Count lines of code: without blank lines, comments and docstrings."""
    count = 0
    for path in paths:
        documentation = set()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                if ast.get_docstring(node, clean=False) is not None:
                    documentation |= {*range(node.body[0].lineno, node.body[0].end_lineno + 1)}
        lines = enumerate(map(str.strip, path.read_text().splitlines()), 1)
        count += sum(n not in documentation and bool(re.match("[^#]", line)) for n, line in lines)
    return count


def n_public_names():
    """Return how many names the public modules offer, without those of `paper`."""
    count = 0
    for path in FILES:
        names = [name.replace("__init__.py", "") for name in path.relative_to(PACKAGE).parts]
        if room(path) != "paper" and not any(name.startswith("_") for name in names):
            for node in tree(path).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    count += len(node.value.elts)
    return count


def walk(call):
    """Return how many files and functions of the library a call runs, and in how many calls."""
    seen, n_calls = set(), 0

    def see(frame, event, argument):
        nonlocal n_calls
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PACKAGE)):
            if not code.co_name.startswith("<"):
                seen.add((code.co_filename, code.co_firstlineno))
                n_calls += 1

    sys.setprofile(see)
    try:
        call()
    finally:
        sys.setprofile(None)
    return len({file for file, _ in seen}), len(seen), n_calls
