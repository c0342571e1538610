"""The files of the library, and what they import."""

import ast
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


def imports(path, in_functions=True):
    """Yield the dotted names of everything a file imports, those of the library in full."""
    package = [*path.relative_to(ROOT).parent.parts]
    for node in ast.walk(tree(path)) if in_functions else tree(path).body:
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
