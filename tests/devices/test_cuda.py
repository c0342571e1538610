"""What is true of CUDA alone: its rounding, its memory, and that it agrees with the pretend device.

Every part of a fit runs there by `SKLEARN_MOE_DEVICE=cuda`, see devices.py.
"""

import numpy as np
import pytest
import torch

from sklearn_moe import MoEClassifier, RouterParams, _devices
from sklearn_moe._training.loop import Step
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.nn import ROUTERS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning"),
]
BRIEF = {"tol": None, "early_stopping": False, "random_state": 0}


def images(n, side=32):
    generator = np.random.default_rng(0)
    y = generator.integers(3, size=n)
    X = generator.normal(size=(n, 3, side, side)) + y[:, None, None, None]
    return X.astype(np.float32), y


def patches(n):
    return make_cluster_patches(n, random_state=0, **PAPER_SETTINGS[1])


def table(n):
    X, y = patches(n)
    return X.reshape(n, -1), y


@pytest.mark.parametrize("make", [patches, table, images])
def test_numbers_are_those_of_the_cpu(make, monkeypatch):
    X, y = make(500)
    monkeypatch.setattr(_devices, "is_fast_in_bf16", lambda device: False)
    options = {"batch_size": None, "router": RouterParams(noise=None), "max_iter": 5}
    cpu = MoEClassifier(device="cpu", **BRIEF | options).fit(X, y).predict_proba(X)
    for tf32, tolerance in ((False, 1e-3), (True, 5e-2)):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
        gpu = MoEClassifier(device="cuda", **BRIEF | options).fit(X, y).predict_proba(X)
        assert np.abs(gpu - cpu).max() < tolerance


def test_cuda_agrees_that_no_step_waits(monkeypatch):
    make_step = Step.__call__

    def strict(step, batch):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return make_step(step, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Step, "__call__", strict)
    clf = MoEClassifier(max_iter=2, batch_size=1024, device="cuda", **BRIEF)
    for router in ROUTERS:
        clf.set_params(router=router).fit(*patches(3072))
    for balance in ("switch", "bias"):
        clf.set_params(router="topk", top_k=2, balance=balance).fit(*patches(3072))


def test_a_fit_leaves_the_model_and_no_more():
    X, y = images(1000)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    options = {"expert": "resnet18", "trunk": None, "router": "top1", "max_iter": 1}
    clf = MoEClassifier(2, device="cuda", **BRIEF, **options).fit(X, y)
    after = torch.cuda.memory_allocated()
    weights = sum(p.numel() * p.element_size() for p in clf.module_.parameters())
    assert after - before < 3.5 * weights  # with the two moments of an optimizer that goes on
    clf.expert_proba(X)
    assert torch.cuda.memory_allocated() - after < weights
