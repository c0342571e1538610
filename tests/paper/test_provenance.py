"""What a result says it was made by: the functions that were called, as they were then."""

import math

import pytest

from sklearn_moe import MoEClassifier
from sklearn_moe.paper import Problem, _provenance
from sklearn_moe.paper._provenance import changes_since, hash_of, merged, traced
from sklearn_moe.paper._run import Run

LIBRARY = {
    "limits": "LEAST = 3\nMOST = 5\n",
    "parts/__init__": "from .sums import add, WIDTH\n",
    "whole": "from . import parts\n\n\ndef double(x):\n    return x * parts.WIDTH\n",
    "parts/sums": '''"""Sums."""
from functools import cache

from ..limits import LEAST, MOST as UPPER

WIDTH = 2
ROWS = WIDTH * 4
OTHER = 1


def add(x):
    """Return a sum."""
    return load(x) + ROWS + LEAST  # of three


class Sum:
    size = 1

    def total(self, x):
        return x + self.size

    def mean(self, x):
        return x / 2


@cache
def load(x):
    return draw(x)


def draw(x):
    return [x + y for y in range(OTHER)][0]
''',
}


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of three modules; `library(module, old, new)` changes one of them."""

    def change(module=None, old="", new=""):
        for name, text in LIBRARY.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.replace(old, new) if name == module else text)
        _provenance._module.cache_clear()
        hash_of.cache_clear()

    monkeypatch.setattr(_provenance, "_LIBRARY", tmp_path)
    monkeypatch.setattr(_provenance, "_STARTED", math.inf)
    change()
    yield change
    _provenance._module.cache_clear()
    hash_of.cache_clear()


def test_a_hash_is_of_code_and_of_the_constants_that_it_reads(library, monkeypatch):
    names = ("add", "Sum", "Sum.total", "draw")
    usual = {name: hash_of("parts/sums", name) for name in names}
    of_double = hash_of("whole", "double")
    assert len({of_double, *usual.values()}) == 5
    for module, old, new, changed in (
        ("parts/sums", '"""Return a sum."""', '"""Another."""', set()),
        ("parts/sums", "  # of three", "", set()),
        ("parts/sums", "x / 2", "x / 3", set()),
        ("parts/sums", "WIDTH = 2", "WIDTH = 3", {"add"}),  # through another constant
        ("limits", "LEAST = 3", "LEAST = 4", {"add"}),
        ("limits", "MOST = 5", "MOST = 6", set()),
        ("parts/sums", "x + self.size", "x - self.size", {"Sum.total"}),
        ("parts/sums", "size = 1", "size = 2", {"Sum"}),
        ("parts/sums", "x + y", "x - y", {"draw"}),
        ("parts/sums", "OTHER = 1", "OTHER = 2", {"draw"}),
    ):
        library(module, old, new)
        assert (hash_of("whole", "double") != of_double) == ("WIDTH" in old)
        now = {name: hash_of("parts/sums", name) for name in names}
        assert {name for name in names if now[name] != usual[name]} == changed, (old, new)
    assert hash_of("parts/sums", "gone") == hash_of("gone", "add") == ""
    # A file that was changed after the process has begun may not be what runs.
    monkeypatch.setattr(_provenance, "_STARTED", 0)
    library()
    assert hash_of("parts/sums", "add") == "not known"


def test_functions_that_keep_their_results_count_without_a_call(library):
    assert {*_provenance._cached("parts/sums", "add")} == {
        ("parts/sums", "load"),
        ("parts/sums", "draw"),
    }


def test_a_run_keeps_the_functions_that_it_has_called():
    model = MoEClassifier(2, max_iter=1, tol=None, device="cpu")
    with traced() as called:
        Run(Problem(n_train=40, n_test=40), model, 0).perform()
    names = {f"{module}: {name}" for module, hashes in called.items() for name in hashes}
    assert {
        "_estimators/fit: BaseMoE",
        "nn/mixture: MixtureOfExperts.forward",
        "nn/experts/patch: PatchExpert.forward",
        "datasets/_cluster_patches: make_cluster_patches",
        "paper/_run: Run.fit",
        "paper/_run: Run",
    } <= names
    # What mixtures of any estimators are changes nothing here, nor does another kind of run.
    assert not [n for n in names if n.startswith(("_mixtures", "paper/_later", "paper/_prov"))]
    assert changes_since(called) == {}
    forward = called["nn/mixture"].pop("MixtureOfExperts.forward")
    assert changes_since(called) == {"new": ["nn/mixture: MixtureOfExperts.forward"]}
    called["nn/mixture"] |= {"MixtureOfExperts.forward": "0" * len(forward), "lost": "1", "old": ""}
    assert changes_since(called) == {
        "changed": ["nn/mixture: MixtureOfExperts.forward"],
        "gone": ["nn/mixture: lost"],
    }


def test_functions_of_several_kinds_of_runs_are_put_together():
    one = {"a": {"f": "1", "C.g": ""}, "b": {"h": "2"}}
    both = {"a": {"C.g": "3", "f": "1", "k": "4"}, "b": {"h": "2"}}
    assert merged([one, {"a": {"C.g": "3", "k": "4"}}]) == both
    assert merged([{"a": {"C.g": "3", "k": "4"}}, one]) == both
