"""How large the library may be. Whoever makes it smaller lowers the limit."""

import ast
import re

from house import FILES, ROOT, arrows, room, tree

LIMITS = {
    "lines of code outside paper": 12_650,
    "lines of code of paper": 4_200,
    "lines of code of tests": 12_700,
    "lines of the largest file": 650,
    "constants that are numbers": 150,
    "rooms": 21,
    "arrows between rooms": 59,
}
OUTSIDE = [path for path in FILES if room(path) != "paper"]
NUMBER = ast.Constant | ast.Tuple | ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop | ast.Load


def code_lines(paths):
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


def n_number_constants(path):
    """Count the constants of a module that are numbers, or tuples of numbers."""
    count = 0
    for node in tree(path).body:
        parts = [*ast.walk(node.value)] if isinstance(node, ast.Assign) else [node]
        kinds = {type(part.value) for part in parts if isinstance(part, ast.Constant)}
        if all(isinstance(part, NUMBER) for part in parts) and {*kinds, int, float} == {int, float}:
            count += len(getattr(node.targets[0], "elts", node.targets))
    return count


def test_the_library_is_no_larger_than_its_limits():
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.name != "mutation.py"]
    rooms = arrows()
    del rooms["__init__"]
    found = {
        "lines of code outside paper": code_lines(OUTSIDE),
        "lines of code of paper": code_lines({*FILES} - {*OUTSIDE}),
        "lines of code of tests": code_lines(p for p in tests if p.parent.name != "benchmarks"),
        "lines of the largest file": max(len(path.read_text().splitlines()) for path in OUTSIDE),
        "constants that are numbers": sum(map(n_number_constants, OUTSIDE)),
        "rooms": len(rooms),
        "arrows between rooms": sum(map(len, rooms.values())),
    }
    assert found.keys() == LIMITS.keys()
    assert {name: found[name] for name, limit in LIMITS.items() if found[name] > limit} == {}
