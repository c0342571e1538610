"""How large and how deep the library is: what was reached is the limit, and one per cent more."""

import ast

import numpy as np
from house import FILES, ROOT, arrows, code_lines, n_public_names, room, tree, walk

from sklearn_moe import MoEClassifier

# The least of comments, the most of everything else. Of a table of 60 rows and 5 columns, by
# default. Whoever makes one of these better lowers its limit.
LIMITS = {
    "lines of code outside paper": 14_030,
    "lines of code of paper": 4_490,
    "lines of code of tests": 13_900,
    "lines of the largest file": 690,
    "rooms": 22,
    "arrows between rooms": 62,
    "public names": 82,
    "full-line comments per 100 lines of code": 5.6,
    "ternaries per 100 lines of code": 2.5,
    "assignments of several names per 100 lines of code": 3.2,
    "files of a fit": 33,
    "functions of a fit": 276,
    "calls of a fit": 1_236,
    "files of predict_proba": 14,
    "functions of predict_proba": 32,
}


OUTSIDE = [path for path in FILES if room(path) != "paper"]


def sizes():
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.name != "mutation.py"]
    rooms = arrows()
    del rooms["__init__"]
    return {
        "lines of code outside paper": code_lines(*OUTSIDE),
        "lines of code of paper": code_lines(*{*FILES} - {*OUTSIDE}),
        "lines of code of tests": code_lines(*(p for p in tests if p.parent.name != "benchmarks")),
        "lines of the largest file": max(len(path.read_text().splitlines()) for path in OUTSIDE),
        "public names": n_public_names(),
        "rooms": len(rooms),
        "arrows between rooms": sum(map(len, rooms.values())),
    }


def style():
    lines = [line.lstrip() for path in OUTSIDE for line in path.read_text().splitlines()]
    nodes = [node for path in OUTSIDE for node in ast.walk(tree(path))]
    targets = [node.targets[0] for node in nodes if isinstance(node, ast.Assign)]
    counts = {
        "full-line comments": sum(line.startswith("#") for line in lines),
        "ternaries": sum(isinstance(node, ast.IfExp) for node in nodes),
        "assignments of several names": sum(isinstance(t, ast.Tuple) for t in targets),
    }
    n_lines = code_lines(*OUTSIDE)
    return {f"{n} per 100 lines of code": 100 * c / n_lines for n, c in counts.items()}


def depth():
    X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    model = MoEClassifier(max_iter=1, random_state=0).fit(X, y)
    model.predict_proba(X)
    files, functions, calls = walk(lambda: MoEClassifier(max_iter=1, random_state=0).fit(X, y))
    fit = {"files of a fit": files, "functions of a fit": functions, "calls of a fit": calls}
    files, functions, _ = walk(lambda: model.predict_proba(X))
    return fit | {"files of predict_proba": files, "functions of predict_proba": functions}


def test_the_library_grows_by_no_more_than_one_per_cent():
    found = sizes() | style() | depth()
    assert found.keys() == LIMITS.keys()
    grown = {
        name: f"{found[name]:.4g}, {limit} was reached"
        for name, limit in LIMITS.items()
        if (found[name] < 0.99 * limit if "comments" in name else found[name] > 1.01 * limit)
    }
    assert not grown, grown
