"""A training step of every part: the host waits once at most, and sums have a fixed order."""

import numpy as np
import pytest
from devices import step_cost
from helpers import is_deep, named, narrow

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.nn import BALANCES, EXPERTS, LOSSES, ROUTERS, ReLURouter
from sklearn_moe.optim import SOLVERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
SHAPES = {"table": (6,), "patches": (4, 6), "pictures": (3, 8, 8)}
KINDS = {2: "table", 3: "patches", 4: "pictures"}
BRIEF = {"n_experts": 3, "expert_width": 4, "batch_size": 30, "max_iter": 2, "tol": None}
BRIEF |= {"early_stopping": False, "random_state": 0}

# What raises on CUDA under `torch.use_deterministic_algorithms(True)`, by its documentation.
UNORDERED = [
    *("bincount", "histc", "kthvalue", "median", "cumsum", "scatter_reduce", "put_", "ctc_loss"),
    *("adaptive_avg_pool", "adaptive_max_pool", "fractional_max_pool", "max_pool3d", "avg_pool3d"),
    *("max_unpool", "upsample", "reflection_pad", "replication_pad", "grid_sample", "nll_loss2d"),
    *("embedding_bag", "resize_"),
]


def chooses(router):
    """Tell whether some experts answer, and the host asks which."""
    return ROUTERS[router].router_class.sparse or ROUTERS[router].router_class is ReLURouter


def check(model, kind, *, waits):
    X = np.random.default_rng(0).normal(size=(90, *SHAPES[kind])).astype(np.float32)
    flat = X.reshape(len(X), -1)
    step = step_cost(
        model, X, flat[:, 0] if hasattr(model, "expert_predict") else flat[:, :2].argmax(1)
    )
    assert step.waits <= waits, step.waiting
    names = [op.removeprefix("aten::").removeprefix("_") for op in step.log]
    assert not [name for name in names if name.startswith(tuple(UNORDERED))]


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("router", ROUTERS)
def test_routers(pretend, router, kind):
    if router == "patch_choice" and kind != "patches":
        pytest.skip("chooses patches")
    check(MoEClassifier(router=router, **BRIEF), kind, waits=chooses(router) and kind != "patches")


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("kind", ["table", "patches"])
def test_balances(pretend, balance, kind):
    model = MoEClassifier(router="noisy_topk", top_k=2, balance=balance, **BRIEF)
    check(model, kind, waits=kind != "patches")


@pytest.mark.parametrize("expert", [e for e in EXPERTS if not is_deep(e)])
@pytest.mark.parametrize("solver", SOLVERS)
def test_experts_and_solvers(pretend, expert, solver):
    kind = KINDS[EXPERTS[expert].ndim]
    options = BRIEF | narrow(expert, 4) | {"solver": solver, "router": "top1", "trunk": None}
    check(MoEClassifier(**options), kind, waits=kind != "patches")


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(pretend, loss):
    model = MoERegressor if LOSSES[loss].numbers else MoEClassifier
    check(model(loss=loss, router="sigmoid", **BRIEF), "table", waits=0)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "weight_decay": 0.1},
        {"learning_rate": "constant"},
        {"n_shared_experts": 1},
        {"upcycle": 0.4},
        {"class_weight": "balanced"},
        {"train_transform": lambda x: x + 1},
    ],
    ids=named,
)
def test_other_parts(pretend, options):
    check(MoEClassifier(**BRIEF | options), "patches", waits=0)


@pytest.mark.parametrize("kind", ["table", "pictures"])
def test_losses_of_single_experts(pretend, kind):
    for options in ({"expert_loss_weight": 0.5}, {"early_stopping": "out_of_bag"}):
        check(MoEClassifier(router="soft", **BRIEF | options), kind, waits=0)


@pytest.mark.slow
@pytest.mark.parametrize("expert", [e for e in EXPERTS if is_deep(e)])
def test_deep_experts(pretend, expert):
    options = BRIEF | narrow(expert, 8) | {"n_experts": 2, "trunk": None}
    check(MoEClassifier(router="top1", **options), "pictures", waits=1)
