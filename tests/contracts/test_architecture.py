"""The house: which file may import and call which, and what an import may cost."""

import ast
import re
from graphlib import TopologicalSorter

from house import FILES, PACKAGE, arrows, imports, room, tree

# From top to bottom: a room, which is a module or package of the top level, imports from the lines
# below its own, never from above.
LAYERS = [
    ["paper"],
    ["__init__"],
    ["_estimators", "callbacks", "distributed"],
    ["_parameters", "_training", "inspection"],
    ["metrics", "preprocessing", "_mixtures"],
    ["_data"],
    ["_persistence"],
    ["nn", "optim", "datasets"],
    ["_devices"],
    ["exceptions"],
    ["_compat", "_threads", "_validation"],
]
RANK = {name: -depth for depth, layer in enumerate(LAYERS) for name in layer}
WITHOUT_TORCH = {"_mixtures", "metrics", "inspection"}.union(*LAYERS[-2:])
# Loaded when a function needs them, so that `import sklearn_moe` is light.
LATE = {"torchvision", "PIL", "matplotlib", "pandas"}


def file_of(name):
    """Return the file of a module, of a package its `__init__.py`; None of other names."""
    place = PACKAGE.parent / name.replace(".", "/")
    files = [file for file in (place.with_suffix(".py"), place / "__init__.py") if file in FILES]
    return files[0] if files else None


def test_imports_point_down():
    found = arrows()
    assert not {*found} - {*RANK}, "these have no place in the layers yet"
    assert not [(a, b) for a, below in found.items() for b in below if RANK[b] >= RANK[a]]


def test_no_files_import_each_other_in_a_circle():
    graph = {}
    for path in FILES:  # parts of a package may import each other by `from . import`
        files = {file_of(name) for name in imports(path)}
        graph[path] = files - {None, path, PACKAGE / "__init__.py", path.parent / "__init__.py"}
    assert [*TopologicalSorter(graph).static_order()]  # raises CycleError


def test_mixtures_do_not_wait_for_torch():
    seen = set()
    todo = [PACKAGE / "__init__.py", PACKAGE / "_mixtures" / "__init__.py"]
    while todo:
        path = todo.pop()
        names = {*imports(path, in_functions=False)}
        assert not {"torch", "skorch"} & {name.split(".")[0] for name in names}, path
        seen.add(path)
        todo += {file_of(name) for name in names} - {None, *seen}
    assert len(seen) > 10


def test_who_may_import_what():
    wrong = []
    for path in FILES:
        used, home = {name.split(".")[0] for name in imports(path)}, room(path)
        forbidden = set() if home == "_training" else {"skorch"}
        forbidden |= {"sklearn"} if home in ("nn", "optim") else set()
        forbidden |= {"torch"} if home in WITHOUT_TORCH else set()
        wrong += [f"{path.name} imports {name}" for name in used & forbidden]
        late = LATE | {"torch"} if home == "datasets" else LATE
        at_import = {name.split(".")[0] for name in imports(path, in_functions=False)}
        # Is itself imported by functions only.
        at_import -= {"torchvision"} if path.name == "backbones.py" else set()
        wrong += [f"{path.name} imports {name} too early" for name in at_import & late]
    assert not wrong


def is_estimator(node):
    """Tell a parameter `estimator`, and where an object keeps one, such as `fit.working`."""
    return getattr(node, "id", getattr(node, "attr", None)) in ("estimator", "working")


def reaches(function):
    """Yield the attributes of a parameter `estimator` that are set, and its private ones."""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and is_estimator(node.value):
            is_set = isinstance(node.ctx, ast.Store | ast.Del) and not node.attr.startswith("__")
            if is_set or re.match("_[^_]", node.attr):
                yield node.attr


def test_no_call_runs_up():
    """Below the estimators nothing writes on one, or uses what is private to it."""
    below = [path for path in FILES if RANK[room(path)] < RANK["_estimators"]]
    wrong, n_functions = [], 0
    for path in below:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                n_functions += "estimator" in [a.arg for a in node.args.args]
                wrong += [f"{path.name}, {node.name}: {name}" for name in {*reaches(node)}]
    assert n_functions > 10
    assert not wrong
