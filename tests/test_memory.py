"""Memory is kept between steps. Out of it: less is done at a time, or it says what to lower."""

import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from sklearn_moe import MoEClassifier
from sklearn_moe._devices import OutOfMemoryError
from sklearn_moe._training import net as predicting
from sklearn_moe.nn import EXPERTS

BRIEF = {"n_experts": 2, "max_iter": 1, "tol": None, "early_stopping": False, "random_state": 0}


class Greedy(torch.nn.Module):
    """An expert that takes no more than so many samples at a time."""

    most, error, seen = 100, OutOfMemoryError("CUDA out of memory."), []

    def __init__(self, input_shape, n_outputs):
        super().__init__()
        self.expert = EXPERTS["mlp"].build(input_shape, n_outputs)

    def forward(self, x):
        if len(x) > self.most:
            raise self.error
        self.seen.append(len(x))
        return self.expert(x)


@pytest.fixture
def table():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(300, 5)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def test_prediction_takes_smaller_batches(table, monkeypatch):
    X, y = table
    monkeypatch.setattr(Greedy, "most", 300)
    clf = MoEClassifier(expert=Greedy, router="sigmoid", **BRIEF).fit(X, y)
    expected = clf.predict_proba(X)
    monkeypatch.setattr(Greedy, "most", 80)
    monkeypatch.setattr(Greedy, "seen", [])
    np.testing.assert_allclose(clf.predict_proba(X), expected, atol=1e-6)
    assert Greedy.seen == [75] * 8
    monkeypatch.setattr(Greedy, "most", 0)
    with pytest.raises(OutOfMemoryError):
        clf.predict(X)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemoryError("CUDA out of memory."), OutOfMemoryError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), MemoryError),
        (MemoryError("Unable to allocate"), MemoryError),
    ],
)
def test_training_says_what_to_lower(table, monkeypatch, error, kind):
    X, y = table
    monkeypatch.setattr(Greedy, "error", error)
    clf = MoEClassifier(expert=Greedy, router="sigmoid", batch_size=150, **BRIEF)
    message = r"step of 150 samples ran out of memory on cpu. Lower batch_size, .* torch says"
    with pytest.raises(kind, match=message) as caught:
        clf.fit(X, y)
    assert caught.value.__cause__ is error
    assert not hasattr(clf, "net_")


def test_other_errors_of_an_expert_stay_as_they_are(table, monkeypatch):
    monkeypatch.setattr(Greedy, "error", RuntimeError("shapes"))
    with pytest.raises(RuntimeError, match=r"^shapes$"):
        MoEClassifier(expert=Greedy, router="sigmoid", batch_size=150, **BRIEF).fit(*table)


@pytest.mark.parametrize(("shape", "n_numbers"), [((5,), 5), ((3, 4), 12)])
def test_prediction_takes_a_share_of_what_is_free(shape, n_numbers, monkeypatch):
    X = np.random.default_rng(0).normal(size=(40, *shape))
    clf = MoEClassifier(**BRIEF).fit(X, np.arange(40) % 2)
    of_the_cpu = clf.net_._predict_size(X)
    clf.net_.device = "cuda"
    sizes = []
    for free in (0, 64 * n_numbers * 1000, float("inf")):
        monkeypatch.setattr(predicting, "free_memory", lambda device, free=free: free)
        sizes.append(clf.net_._predict_size(X))
    assert sizes == [1, 1000, 2**28 // n_numbers]
    assert of_the_cpu == 2**22 // n_numbers


def test_gradients_do_not_stay(table):
    clf = MoEClassifier(**BRIEF).fit(*table)
    assert all(parameter.grad is None for parameter in clf.module_.parameters())
    clf.partial_fit(*table)
    assert all(parameter.grad is None for parameter in clf.module_.parameters())


# In a process of its own, as glibc does not forget.
KEPT = """
import resource, numpy as np, torch
from sklearn_moe import MoEClassifier

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        arrays = [torch.ones(10 * 2**20, dtype=torch.uint8) for _ in range(5)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
MoEClassifier(max_iter=1, tol=None, early_stopping=False).fit(np.eye(4), [0, 1, 0, 1])
print(first / max(1, faults()))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is a habit of glibc")
def test_a_training_keeps_the_memory_of_its_steps():
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 5
