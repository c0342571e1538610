"""What a training step asks of a GPU: operations, and moments in which the host waits for it."""

import pytest
from devices import step_cost

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

BATCH = 1024

# Of the default model of patches with other parameters: most operations, most waits.
BOUNDS = [
    ({}, 116, 0),
    ({"learning_rate": "constant"}, 109, 8),
    ({"balance": "switch"}, 142, 0),
    ({"balance": "bias"}, 132, 0),
    ({"router": "topk", "top_k": 2}, 138, 0),
    ({"router": "soft"}, 139, 0),
    ({"router": "merge"}, 110, 0),
    ({"router": "relu"}, 125, 0),
    ({"router": "patch_choice"}, 143, 0),
]


@pytest.fixture(scope="module")
def three_batches():
    return make_cluster_patches(3 * BATCH, random_state=0, **PAPER_SETTINGS[1])


def cost(X, y, **options):
    brief = {"max_iter": 2, "tol": None, "early_stopping": False, "random_state": 0}
    return step_cost(MoEClassifier(**brief | options), X, y)


@pytest.mark.parametrize(("options", "operations", "waits"), BOUNDS, ids=lambda o: str(o))
def test_a_step_on_patches(pretend, three_batches, options, operations, waits):
    step = cost(*three_batches, batch_size=BATCH, **options)
    assert step.waits <= waits, step.waiting
    assert step.operations <= operations, step.log


def test_a_step_on_a_table(pretend, three_batches):
    X, y = three_batches
    step = cost(X.reshape(len(X), -1), y, batch_size=BATCH)
    assert step.waits <= 1, step.waiting
    assert step.operations <= 114, step.log


def test_the_log_finds_a_wait(pretend, three_batches):
    X, y = three_batches
    waiting = cost(
        X, y, batch_size=BATCH, router="soft", train_transform=lambda x: x * x.max().item()
    )
    assert waiting.waits == 1
    assert waiting.log["item"] == 1
    assert all(["item" in line for line in waiting.waiting])
