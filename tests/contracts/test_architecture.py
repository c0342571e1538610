"""The house: which file may import and call which, and what an import may cost."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "sklearn_moe"
FILES = sorted(PACKAGE.rglob("*.py"))
# From top to bottom: a room, which is a module or package of the top level, imports from the lines
# below its own, never from above.
LAYERS = [
    ["paper"],
    ["__init__"],
    ["onnx"],
    ["_classifier", "_regressor"],
    ["_base", "callbacks", "distributed"],
    ["_parameters", "_training", "inspection"],
    ["metrics", "preprocessing", "_mixtures"],
    ["_data"],
    ["_persistence"],
    ["nn", "optim", "datasets"],
    ["_devices"],
    ["exceptions"],
    ["_compat", "_registry", "_validation"],
]
RANK = {name: -depth for depth, layer in enumerate(LAYERS) for name in layer}
WITHOUT_TORCH = {"_mixtures", "metrics", "inspection", *LAYERS[-2], *LAYERS[-1]}
MOST_ROOMS, MOST_ARROWS = 23, 68  # without the face of the package


def room(path):
    """Return the top-level name of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path, in_functions=True, for_types=True):
    """Yield the dotted names of everything a file imports, own modules as sklearn_moe.x."""
    package = ["sklearn_moe", *path.relative_to(PACKAGE).parent.parts]
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types:
            node.body = []
    for node in ast.walk(tree) if in_functions else tree.body:
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


def file_of(name):
    """Return the file of a module, of a package its `__init__.py`; None of other names."""
    place = PACKAGE.parent / name.replace(".", "/")
    files = [file for file in (place.with_suffix(".py"), place / "__init__.py") if file in FILES]
    return files[0] if files else None


def test_imports_point_down_and_are_few():
    found = arrows()
    assert not {*found} - {*RANK}, "these have no place in the layers yet"
    upward = [f"{own} imports {o}" for own in found for o in found[own] if RANK[o] >= RANK[own]]
    assert not upward
    del found["__init__"]
    assert len(found) <= MOST_ROOMS, found
    assert sum(map(len, found.values())) <= MOST_ARROWS, found


def test_no_files_import_each_other_in_a_circle():
    graph = {}
    for path in FILES:  # parts of a package may import each other by `from . import`
        files = {file_of(name) for name in imports(path, for_types=False)}
        graph[path] = files - {None, path, PACKAGE / "__init__.py", path.parent / "__init__.py"}
    assert [*TopologicalSorter(graph).static_order()]  # raises CycleError


def test_who_may_import_what():
    wrong = []
    for path in FILES:
        used, own = {name.split(".")[0] for name in imports(path)}, room(path)
        forbidden = set() if own == "_training" else {"skorch"}
        if own in ("nn", "optim"):
            forbidden |= {"sklearn"}
        if own in WITHOUT_TORCH:
            forbidden |= {"torch"}
        if own == "datasets":  # images need them, but only once a function is called
            at_import = {name.split(".")[0] for name in imports(path, in_functions=False)}
            used = used - {"torch", "torchvision", "PIL"} | at_import
            forbidden |= {"torch", "torchvision", "PIL"}
        wrong += [f"{path.name} imports {name}" for name in used & forbidden]
    assert not wrong


# Metrics and displays ask for what a router sees of samples, where an estimator can tell.
ASKED = {"_router_input"}


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
        elif isinstance(node, ast.Call) and node.args and is_estimator(node.args[0]):
            name = getattr(node.func, "id", None)
            asked = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
            if name in ("setattr", "delattr", "vars"):
                yield name
            elif name in ("getattr", "hasattr"):
                yield from (attr for attr in asked if attr.startswith("_"))


def test_no_call_runs_up():
    """Below the estimators nothing writes on one, or uses what is private to it."""
    below = [path for path in FILES if RANK[room(path)] < RANK["_base"]]
    wrong, n_functions = [], 0
    for path in below:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                n_functions += "estimator" in [a.arg for a in node.args.args]
                wrong += [f"{path.name}, {node.name}: {name}" for name in {*reaches(node)} - ASKED]
    assert n_functions > 10
    assert not wrong


def test_auto_is_resolved_in_one_place():
    rooms = {"_base", "_parameters", "_training", "_data", "_registry", "_devices", "nn", "optim"}
    says = {
        path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if room(path) in rooms and isinstance(node, ast.Constant) and node.value == "auto"
    }
    assert says == {"defaults.py", "estimator_params.py"}  # the latter declares parameters


def test_what_is_decided_or_measured_does_not_change():
    changing = {
        node.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        for decorator in getattr(node, "decorator_list", ())
        if re.match(r"dataclass\b(?!.*frozen=True)", ast.unparse(decorator))
    }
    assert changing == {"Column"}


def test_import_is_light():
    # scikit-learn itself imports pandas where it is installed: what counts is what we add.
    code = (
        "import sys, sklearn.base, skorch, torch; before = set(sys.modules)\n"
        "import sklearn_moe.datasets, sklearn_moe.inspection, sklearn_moe.preprocessing\n"
        "print(*{m.split('.')[0] for m in set(sys.modules) - before})\n"
        "print('sklearn_moe.paper' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    added, paper = shown.stdout.splitlines()
    assert not {"torchvision", "PIL", "matplotlib", "pandas"} & set(added.split())
    assert paper == "False"
