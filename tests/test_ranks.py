"""Ranks that are threads of one process: every part of a mixture trains in parts as in one piece.

Real processes are in test_distributed.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from scipy.sparse import csr_matrix
from sklearn_moe.checkpoints import FitCheckpoint
from skorch.callbacks import Callback

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._training import CURRENT, ConnectedRanks
from sklearn_moe._training.checkpoint import _restore_draws
from sklearn_moe.nn import BALANCES, LOSSES, ROUTERS, LossSpec
from sklearn_moe.optim import SOLVERS

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
BRIEF = {"n_experts": 4, "max_iter": 3, "tol": None, "random_state": 0, "device": "cpu"}


class Threads:
    """What threads exchange instead of processes."""

    def __init__(self, rank, brought, barrier, door):
        self.rank, self.size = rank, len(brought)
        self.brought, self.barrier, self.door = brought, barrier, door

    def exchange(self, function, *tensors):
        self.brought[self.rank] = tensors[-1].clone()
        self.barrier.wait()
        if function is dist.all_reduce:
            tensors[0].copy_(sum(self.brought[1:], start=self.brought[0]))
        else:
            tensors[0][:] = self.brought
        self.barrier.wait()

    def close(self, error=None):
        try:
            self.door.wait(5)  # all leave
        except threading.BrokenBarrierError:
            self.barrier.abort()


def fit_in_parts(make, *data, size=2):
    """Return what `make()` becomes on each of several ranks."""
    shared = [None] * size, threading.Barrier(size, timeout=60), threading.Barrier(size)

    def fit(rank):
        CURRENT.set(ConnectedRanks(Threads(rank, *shared)))
        torch.set_num_threads(1)
        return make().fit(*data)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(fit, range(size)))


def numbers(model):
    """Return all that a fit has learned and recorded."""
    curves = ("loss_curve_", "oob_loss_curve_", "validation_scores_", "router_gradient_curve_")
    state = [value.double().numpy() for value in model.module_.state_dict().values()]
    state += [value.double().numpy() for value in model.net_.criterion_.state_dict().values()]
    return state + [np.asarray(getattr(model, name, ()), dtype=float) for name in curves]


def assert_same(make, *data, size=2, atol=1e-9):
    whole = make().fit(*data)
    parts = fit_in_parts(make, *data, size=size)
    for part in parts:
        assert part.n_iter_ == whole.n_iter_
        for ours, theirs in zip(numbers(part), numbers(whole), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)
    for ours, theirs in zip(numbers(parts[0]), numbers(parts[-1]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return whole


class Epochs(Callback):
    def on_train_begin(self, net, **kwargs):
        self.n = 0

    def on_epoch_end(self, net, **kwargs):
        self.n += 1


class EndInThirdEpoch(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            raise RuntimeError("no power")


@pytest.fixture(scope="module")
def table():
    X = np.random.default_rng(0).normal(size=(101, 4))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


@pytest.fixture(scope="module")
def bags():
    X = np.random.default_rng(0).normal(size=(101, 3, 4))
    return X, (X[:, 0, 0] > 0).astype(int)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("router", ROUTERS)
def test_every_router(bags, router, size):
    assert_same(lambda: MoEClassifier(router=router, batch_size=30, **BRIEF), *bags, size=size)


@pytest.mark.parametrize("balance", BALANCES)
def test_every_balance(bags, balance):
    options = {"router": "noisy_topk", "top_k": 2, "batch_size": 30, "balance_weight": 1.0}
    assert_same(lambda: MoEClassifier(balance=balance, **options, **BRIEF), *bags)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("router", ["top1", "soft"])
def test_every_solver_with_experts_that_have_no_rows_on_a_rank(table, router, solver):
    options = BRIEF | {"n_experts": 12}
    assert_same(
        lambda: MoEClassifier(router=router, solver=solver, batch_size=8, **options), *table
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(table, loss):
    X, y = table
    spec = LOSSES[loss]
    if isinstance(spec, LossSpec) and spec.classes:
        assert_same(lambda: MoEClassifier(loss=loss, batch_size=30, **BRIEF), X, y)
    if isinstance(spec, LossSpec) and spec.multilabel:
        labels = (X[:, :2] > 0).astype(int)
        assert_same(lambda: MoEClassifier(loss=loss, batch_size=30, **BRIEF), X, labels)
    if isinstance(spec, LossSpec) and spec.regression:
        assert_same(lambda: MoERegressor(loss=loss, batch_size=30, **BRIEF), X, X[:, 0] * X[:, 1])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": None},
        {"early_stopping": True},
        {"early_stopping": True, "tol": 0.5, "n_iter_no_change": 2, "max_iter": 100},
        {"expert_loss_weight": 0.0, "early_stopping": False},
        {"router": "topk", "top_k": 2, "n_shared_experts": 1, "class_weight": "balanced"},
        {"router": "topk", "top_k": 2, "gate": "relative", "upcycle": 0.4},
        {"learning_rate": "constant"},
        {"router_noise": "gumbel", "router": "top1"},
    ],
    ids=str,
)
def test_every_way_of_training(table, options):
    assert_same(lambda: MoEClassifier(**(BRIEF | {"batch_size": 30} | options)), *table)


def test_a_dense_gradient(bags):
    router = replace(ROUTERS["top1"], dense_gradient=True)
    assert_same(lambda: MoEClassifier(router=router, batch_size=30, **BRIEF), *bags)


def test_sample_weight(table):
    weight = np.random.default_rng(1).uniform(0.1, 3, size=101)
    weight[:5] = 0
    options = {"balance": "switch", "router": "topk", "top_k": 2, "batch_size": 30}
    assert_same(lambda: MoEClassifier(**options, **BRIEF), *table, weight)


@pytest.mark.parametrize("size", [1, 2])
def test_a_fit_goes_on_from_a_checkpoint(table, tmp_path, size):
    options = BRIEF | {"router": "top1", "max_iter": 5, "batch_size": 30}
    checkpoint = FitCheckpoint(tmp_path / "fit.checkpoint", every=0)
    make = partial(MoEClassifier, **options, checkpoint=checkpoint)
    with pytest.raises(RuntimeError, match="no power"):
        fit_in_parts(partial(make, callbacks=[EndInThirdEpoch()]), *table)
    assert checkpoint.path.exists()
    whole = MoEClassifier(**options).fit(*table)
    for part in fit_in_parts(lambda: make(callbacks=[Epochs()]), *table, size=size):
        assert (part.n_iter_, part.callbacks[0].n) == (5, 3)
        for ours, theirs in zip(numbers(part), numbers(whole), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_draws_of_a_rank_go_on_with_others_than_at_the_start():
    shared, own = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    net = SimpleNamespace(device="cpu", generators_=[shared], draws_=[own])
    stored = {"device": "cpu", "draws": [shared.get_state()], "n_epochs": 3}
    at_the_start = torch.rand(4, generator=torch.Generator().manual_seed(2))
    _restore_draws(net, stored)
    assert not torch.equal(torch.rand(4, generator=own), at_the_start)
    assert torch.equal(shared.get_state(), stored["draws"][0])


def test_one_rank_stores_and_all_need_what_is_stored(table, tmp_path):
    def make(**more):
        path = tmp_path / f"{CURRENT.get().rank}.checkpoint"
        return MoEClassifier(checkpoint=FitCheckpoint(path, every=0), **BRIEF, **more)

    with pytest.raises(RuntimeError, match="no power"):
        fit_in_parts(partial(make, callbacks=[EndInThirdEpoch()]), *table)
    assert [path.name for path in tmp_path.glob("*.checkpoint")] == ["0.checkpoint"]
    with pytest.raises(ValueError, match=r"The 2 ranks differ in weights .*parameters"):
        fit_in_parts(make, *table)


def test_sparse_rows(table):
    X, y = table
    assert_same(lambda: MoEClassifier(batch_size=30, **BRIEF), csr_matrix(X), y)


@pytest.mark.parametrize("options", [{}, {"trunk": None, "expert": "cnn", "router": "top1"}])
def test_pictures(images, options):
    X, y = images
    options = BRIEF | {"batch_size": 50, "expert_width": 4} | options
    assert_same(lambda: MoEClassifier(**options), X.astype(float), y)


def test_each_rank_has_draws_of_its_own():
    def draws(seed):
        shared = torch.Generator().manual_seed(seed)
        ranks = [ConnectedRanks(Threads(rank, [None] * 3, None, None)) for rank in range(3)]
        sources = [shared, *(rank.own_draws([shared], seed)[0] for rank in ranks)]
        return [tuple(torch.rand(4, generator=source).tolist()) for source in sources]

    assert len({*draws(0), *draws(1)}) == 8
    assert draws(0) == draws(0)


def test_one_rank_shows_a_bar(table, capsys):
    fit_in_parts(lambda: MoEClassifier(verbose=1, **BRIEF), *table)
    assert capsys.readouterr().err.count("\n") == 1
