"""How large the library may be. Whoever makes it smaller lowers the limit."""

import ast
import re
import sys
import warnings

from house import FILES, PACKAGE, ROOT, arrows, room, tree
from sklearn.datasets import make_classification

from sklearn_moe import MoEClassifier

LIMITS = {
    "lines of code outside paper": 12_520,
    "lines of code of paper": 4_200,
    "lines of code of tests": 12_600,
    "lines of the largest file": 650,
    "constants that are numbers": 120,
    "rooms": 20,
    "arrows between rooms": 55,
    "files of a fit": 28,
    "functions of a fit": 247,
    "files of a prediction": 11,
    "functions of a prediction": 27,
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


def walk(call, *args):
    """Return what a call returns, how many files of the library it runs, and how many functions."""
    seen = set()

    def see(frame, event, arg):
        code = frame.f_code
        if event == "call" and str(PACKAGE) in code.co_filename and code.co_name[0] != "<":
            seen.add((code.co_filename, code.co_name, code.co_firstlineno))

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        found = call(*args)
    finally:
        sys.setprofile(before)
    return found, len({file for file, *_ in seen}), len(seen)


def walks():
    """Count the files and functions of a default fit of a small table, and of a prediction."""
    X, y = make_classification(60, 5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf, *fit = walk(MoEClassifier(random_state=0).fit, X, y)
    return fit, walk(clf.predict_proba, X)[1:]


def test_the_library_is_no_larger_than_its_limits():
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.name != "mutation.py"]
    rooms, (fit, prediction) = arrows(), walks()
    del rooms["__init__"]
    found = {
        "lines of code outside paper": code_lines(OUTSIDE),
        "lines of code of paper": code_lines({*FILES} - {*OUTSIDE}),
        "lines of code of tests": code_lines(p for p in tests if p.parent.name != "benchmarks"),
        "lines of the largest file": max(len(path.read_text().splitlines()) for path in OUTSIDE),
        "constants that are numbers": sum(map(n_number_constants, OUTSIDE)),
        "rooms": len(rooms),
        "arrows between rooms": sum(map(len, rooms.values())),
        "files of a fit": fit[0],
        "functions of a fit": fit[1],
        "files of a prediction": prediction[0],
        "functions of a prediction": prediction[1],
    }
    assert found.keys() == LIMITS.keys()
    assert {name: found[name] for name, limit in LIMITS.items() if found[name] > limit} == {}
