"""What a training step asks of a GPU: operations, and moments in which the host waits for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from devices import step_cost

from sklearn_moe import MoEClassifier
from sklearn_moe._training import MoENet
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.nn import ROUTERS

BATCH = 1024

# Of the default model of patches with other parameters: the most operations of a step.
OPERATIONS = [
    ({}, 62),
    ({"learning_rate": "constant"}, 50),
    ({"balance": "switch"}, 88),
    ({"balance": "bias"}, 78),
    ({"expert": "patch_conv"}, 67),
    ({"n_experts": 1}, 43),
    ({"momentum": 0.9, "weight_decay": 1e-3}, 84),
    ({"router": "topk", "top_k": 2}, 66),
    ({"router": replace(ROUTERS["topk"], dense_gradient=True), "top_k": 2}, 90),
    ({"router": "top1"}, 62),
    ({"router": "topk"}, 62),
    ({"router": "noisy_topk"}, 78),
    ({"router": "sampled"}, 67),
    ({"router": "soft"}, 84),
    ({"router": "sigmoid"}, 53),
    ({"router": "merge"}, 55),
    ({"router": "relu"}, 72),
    ({"router": "patch_choice"}, 78),
    ({"router": "random"}, 52),
    ({"router": "kmeans"}, 57),
]
# What raises on CUDA where `torch.use_deterministic_algorithms(True)` was called.
NOT_DETERMINISTIC = {"bincount", "cumsum", "histc", "nll_loss2d", "put_", "resize_"}


@pytest.fixture(scope="module")
def three_batches():
    return make_cluster_patches(3 * BATCH, random_state=0, **PAPER_SETTINGS[1])


def estimator(**options):
    brief = {"max_iter": 2, "tol": None, "early_stopping": False, "random_state": 0}
    return MoEClassifier(**brief | {"batch_size": BATCH} | options)


def cost(X, y, **options):
    return step_cost(estimator(**options), X, y)


@pytest.mark.parametrize(("options", "operations"), OPERATIONS, ids=str)
def test_a_step_on_patches_waits_for_nothing(pretend, three_batches, options, operations):
    step = cost(*three_batches, **options)
    assert step.waits == 0, step.waiting
    assert step.operations <= operations, step.log
    names = {operation.removeprefix("aten::").split(".")[0] for operation in step.log}
    assert not names & NOT_DETERMINISTIC


def test_every_router_is_counted():
    assert set(ROUTERS) <= {options.get("router") for options, _ in OPERATIONS if len(options) == 1}


@pytest.mark.parametrize("router", [router for router in ROUTERS if router != "patch_choice"])
def test_a_step_on_a_table_waits_once_where_experts_are_chosen(pretend, three_batches, router):
    X, y = three_batches
    step = cost(X.reshape(len(X), -1), y, router=router)
    chooses = ROUTERS[router].router_class.sparse or router == "relu"
    assert step.waits == chooses, step.waiting
    assert step.operations <= (182 if chooses else 146), step.log


def test_a_large_step_computes_what_is_asked_for_and_waits_once(pretend):
    X, y = make_cluster_patches(3 * 2**14, random_state=0, **PAPER_SETTINGS[1])
    step = cost(X, y, batch_size=2**14, n_experts=12)
    assert step.waits == 1, step.waiting


def test_the_log_finds_a_wait(pretend, three_batches):
    X, y = three_batches
    waiting = cost(X, y, router="soft", train_transform=lambda x: x * x.max().item())
    assert waiting.waits == 1
    assert waiting.log["item"] == 1
    assert all(["item" in line for line in waiting.waiting])


@pytest.mark.gpu
def test_cuda_agrees_that_nothing_waits(three_batches, monkeypatch):
    train_step = MoENet.train_step

    def strict(net, batch, **params):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return train_step(net, batch, **params)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(MoENet, "train_step", strict)
    for options, _ in OPERATIONS:
        estimator(device="cuda", **options).fit(*three_batches)


@pytest.mark.gpu
@pytest.mark.parametrize(("options", "_"), OPERATIONS, ids=str)
def test_deterministic_algorithms_give_equal_fits(three_batches, options, _, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    X, y = three_batches
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (
            estimator(device="cuda", **options).fit(X, y).predict_proba(X) for _ in range(2)
        )
    finally:
        torch.use_deterministic_algorithms(False)
    np.testing.assert_array_equal(first, second)
