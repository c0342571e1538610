"""The house: which file may import which, and what an import may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sklearn_moe"

# From top to bottom: a file imports from the lines below its own, never from above.
LAYERS = [
    ["paper"],
    ["__init__"],
    ["onnx", "model_selection"],
    ["_classifier", "_regressor"],
    ["_base", "callbacks", "distributed"],
    ["_defaults", "_training"],
    ["_parameters", "inspection", "preprocessing"],
    ["metrics"],
    ["_data"],
    ["_persistence", "nn", "optim", "datasets"],
    ["_devices"],
    ["exceptions"],
    ["_compat", "_registry", "_validation"],
]
RANK = {name: -depth for depth, layer in enumerate(LAYERS) for name in layer}
WITHOUT_TORCH = ["metrics", "inspection", *LAYERS[-2], *LAYERS[-1]]


def room(path):
    """Return the top-level name of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path, in_functions=True):
    """Yield the dotted names of everything a file imports, own modules as sklearn_moe.x."""
    package = ["sklearn_moe", *path.relative_to(PACKAGE).parent.parts]
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if in_functions else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += (node.module or "").split(".") if node.module else []
            yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in node.names)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_down(path):
    own = room(path)
    assert own in RANK, f"{own} has no place in the layers yet"
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("sklearn_moe.")}
    for other in rooms & set(RANK) - {own}:
        assert RANK[other] < RANK[own], f"{path.name} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_who_may_import_what(path):
    used = {name.split(".")[0] for name in imports(path)}
    own = room(path)
    assert "skorch" not in used or own == "_training"
    if own in ("nn", "optim"):
        assert not used & {"sklearn", "skorch"}
    if own in WITHOUT_TORCH:
        assert "torch" not in used
    if own == "datasets":  # pictures need them, but only once a function is called
        at_import = {name.split(".")[0] for name in imports(path, in_functions=False)}
        assert not at_import & {"torch", "torchvision", "PIL"}


def test_import_is_light():
    # scikit-learn itself imports pandas where it is installed: what counts is what we add.
    code = (
        "import sys, sklearn.base, skorch, torch; before = set(sys.modules)\n"
        "import sklearn_moe, sklearn_moe.datasets, sklearn_moe.inspection\n"
        "print(*{m.split('.')[0] for m in set(sys.modules) - before})\n"
        "print('sklearn_moe.paper' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    added, paper = shown.stdout.splitlines()
    assert not {"torchvision", "matplotlib", "pandas"} & set(added.split())
    assert paper == "False"
