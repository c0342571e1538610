"""Processes that train together: the model of one, and an end for all when one fails.

Most tests use threads instead of processes.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers import named
from scipy.sparse import csr_matrix
from skorch.callbacks import Callback

from sklearn_moe import (
    BalanceParams,
    FitCheckpoint,
    MoEClassifier,
    MoERegressor,
    RouterParams,
    SolverParams,
)
from sklearn_moe._training.checkpoint import _restore_draws
from sklearn_moe._training.process_group import DataParallelGroup, current_group, entered
from sklearn_moe.callbacks import StopTraining
from sklearn_moe.distributed import data_parallel
from sklearn_moe.nn import BALANCES, LOSSES, ROUTERS
from sklearn_moe.optim import SOLVERS

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
BRIEF = {"n_experts": 4, "max_iter": 3, "tol": None, "random_state": 0, "device": "cpu"}
BRIEF |= {"batch_size": 30}


def classifier(**options):
    return MoEClassifier(**BRIEF | options)


def make_table():
    X = np.random.default_rng(0).normal(size=(101, 4))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def make_bags():
    X = np.random.default_rng(0).normal(size=(101, 3, 4))
    return X, (X[:, 0, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module")
def bags():
    return make_bags()


# -- threads ------------------------------------------------------------------------------


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
    """Return what `make()` becomes in each of several threads."""
    shared = [None] * size, threading.Barrier(size, timeout=60), threading.Barrier(size)

    def fit(rank):
        torch.set_num_threads(1)
        with entered(DataParallelGroup(Threads(rank, *shared))):
            return make().fit(*data)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(fit, range(size)))


def learned(model):
    """Return all that a fit has learned and recorded."""
    curves = ("loss_curve_", "oob_loss_curve_", "validation_scores_", "router_gradient_curve_")
    state = [value.double().numpy() for value in model.module_.state_dict().values()]
    state += [value.double().numpy() for value in model.net_.criterion_.state_dict().values()]
    return state + [np.asarray(getattr(model, name, ()), dtype=float) for name in curves]


def assert_close(part, whole):
    assert part.n_iter_ == whole.n_iter_
    for ours, theirs in zip(learned(part), learned(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def assert_same(make, *data, size=2):
    whole = make().fit(*data)
    parts = fit_in_parts(make, *data, size=size)
    for part in parts:
        assert_close(part, whole)
    for ours, theirs in zip(learned(parts[0]), learned(parts[-1]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("router", ROUTERS)
def test_every_router(bags, router):
    assert_same(partial(classifier, router=router), *bags, size=2 + (router == "noisy_topk"))


def test_every_balance(bags):
    for balance in BALANCES:
        options = {"balance": BalanceParams(balance, weight=1.0), "router": "noisy_topk"}
        assert_same(partial(classifier, top_k=2, **options), *bags)


def test_every_solver_with_experts_that_have_no_rows_in_a_process(table):
    for solver in SOLVERS:
        for router in ("top1", "soft") if solver == "adamw" else ("top1",):
            options = {"n_experts": 12, "batch_size": 8, "solver": solver, "router": router}
            assert_same(partial(classifier, **options), *table)


def test_every_loss(table):
    X, y = table
    for name, loss in LOSSES.items():
        if loss.classes:
            assert_same(partial(classifier, loss=name), X, y)
        if loss.multilabel:
            assert_same(partial(classifier, loss=name), X, (X[:, :2] > 0).astype(int))
        if loss.regression:
            assert_same(partial(MoERegressor, loss=name, **BRIEF), X, X[:, 0] * X[:, 1])


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": None},
        {"early_stopping": True, "tol": 0.5, "n_iter_no_change": 2, "max_iter": 100},
        {"expert_loss_weight": 0.0, "early_stopping": False},
        {
            "router": RouterParams("topk", n_shared_experts=1),
            **{"top_k": 2, "class_weight": "balanced"},
        },
        {"router": RouterParams("topk", gate="relative", upcycle=0.4), "top_k": 2},
        {"router": RouterParams("top1", noise="gumbel"), "early_stopping": True},
        {"solver": SolverParams(schedule="constant")},
        {"router": ROUTERS["top1"].with_options(dense_gradient=True)},
    ],
    ids=named,
)
def test_every_way_of_training(table, options):
    assert_same(partial(classifier, **options), *table)


def test_samples_of_every_kind(table, images):
    X, y = table
    weight = np.random.default_rng(1).uniform(0.1, 3, size=101)
    weight[:5] = 0
    assert_same(partial(classifier, balance="switch", router="topk", top_k=2), X, y, weight)
    assert_same(classifier, csr_matrix(X), y)
    for options in ({}, {"trunk": None, "expert": "cnn", "router": "top1"}):
        make = partial(classifier, batch_size=50, expert_width=4, **options)
        assert_same(make, images[0].astype(float), images[1])


class InEpoch(Callback):
    """Do something at the beginning of an epoch, or at its end; count the epochs."""

    def __init__(self, epoch=0, action=None, at_end=False):
        self.epoch, self.action, self.at_end, self.n = epoch, action, at_end, 0

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch and not self.at_end:
            self.action()

    def on_epoch_end(self, net, **kwargs):
        self.n += 1
        if len(net.history) == self.epoch and self.at_end:
            self.action()


def divide():
    return 1 / 0


def test_a_fit_goes_on_from_a_checkpoint(table, tmp_path):
    options = {"router": "top1", "max_iter": 5}
    whole = classifier(**options).fit(*table)
    for size in (1, 2):
        place = FitCheckpoint(tmp_path / f"{size}.checkpoint", every=0)
        make = partial(classifier, **options, checkpoint=place)
        with pytest.raises(ZeroDivisionError):
            fit_in_parts(partial(make, callbacks=[InEpoch(3, divide)]), *table)
        for part in fit_in_parts(lambda make=make: make(callbacks=[InEpoch()]), *table, size=size):
            assert part.callbacks[0].n == 3
            assert_close(part, whole)


def test_one_process_stores_and_all_need_what_is_stored(table, tmp_path):
    def make(**more):
        path = tmp_path / f"{current_group().rank}.checkpoint"
        return classifier(checkpoint=FitCheckpoint(path, every=0), **more)

    with pytest.raises(ZeroDivisionError):
        fit_in_parts(partial(make, callbacks=[InEpoch(3, divide)]), *table)
    assert [path.name for path in tmp_path.glob("*.checkpoint")] == ["0.checkpoint"]
    with pytest.raises(ValueError, match=r"differ in weights .*parameters"):
        fit_in_parts(make, *table)


def test_draws_of_a_process_go_on_with_others_than_at_the_start():
    shared, own = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    net = SimpleNamespace(device="cpu")
    training = SimpleNamespace(net=net, generators=[shared], draws=[own])
    stored = {"device": "cpu", "draws": [shared.get_state()], "n_epochs": 3}
    at_the_start = torch.rand(4, generator=torch.Generator().manual_seed(2))
    _restore_draws(training, stored)
    assert not torch.equal(torch.rand(4, generator=own), at_the_start)
    assert torch.equal(shared.get_state(), stored["draws"][0])


def test_each_process_has_draws_of_its_own():
    def draws(seed):
        shared = torch.Generator().manual_seed(seed)
        groups = [DataParallelGroup(Threads(rank, [None] * 3, None, None)) for rank in range(3)]
        sources = [shared, *(group.own_draws([shared], seed)[0] for group in groups)]
        return [tuple(torch.rand(4, generator=source).tolist()) for source in sources]

    assert len({*draws(0), *draws(1)}) == 8
    assert draws(0) == draws(0)


def test_one_process_shows_a_bar(table, capsys):
    fit_in_parts(partial(classifier, verbose=1), *table)
    assert capsys.readouterr().err.count("\n") == 1


# -- processes ----------------------------------------------------------------------------


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start(rank, port, function, folder):
    """Be one of two processes, as a launcher starts them."""
    values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    values |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    os.environ |= {name: str(value) for name, value in values.items()}
    joblib.dump(function(), f"{folder}/{rank}.joblib")


def on_two_processes(function, folder):
    """Return what a function returns on each of two processes; of one that died nothing."""
    pytest.importorskip("accelerate")
    torch.multiprocessing.spawn(start, (free_port(), function, folder), nprocs=2)
    return [joblib.load(path) for path in sorted(Path(folder).glob("*.joblib"))]


def fits():
    """Return what a step and several epochs make of some models."""
    return {
        (options.get("router"), options["max_iter"]): learned(classifier(**options).fit(*data()))
        for options, data in (
            ({"max_iter": 1, "batch_size": None}, make_bags),
            ({"max_iter": 10}, make_bags),
            ({"max_iter": 4}, make_table),
            ({"max_iter": 4, "router": "noisy_topk", "top_k": 2, "balance": "load"}, make_bags),
        )
    }


def fits_together():
    with data_parallel(timeout=60):
        return fits()


def test_two_processes_make_the_model_of_one(tmp_path):
    expected = fits()
    for seen in on_two_processes(fits_together, tmp_path):
        for key, values in seen.items():
            for ours, theirs in zip(values, expected[key], strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9, err_msg=str(key))


def test_one_process_is_as_always(table):
    pytest.importorskip("accelerate")
    with data_parallel() as group:
        together = classifier().fit(*table)
    assert (group.rank, group.size) == (0, 1)
    for ours, theirs in zip(learned(together), learned(classifier().fit(*table)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Statistics(torch.nn.Linear):
    """A layer that remembers what it has seen."""

    def __init__(self, input_shape, n_outputs):
        super().__init__(*input_shape, n_outputs)
        self.register_buffer("seen", torch.zeros(*input_shape, dtype=torch.float64))

    def forward(self, x):
        self.seen += x.detach().sum(0)
        return super().forward(x)


def dropout(input_shape, n_outputs):
    return torch.nn.Sequential(torch.nn.Linear(*input_shape, n_outputs), torch.nn.Dropout(0.5))


def own_noise(x, scores, generator):
    return torch.rand(scores.shape, generator=generator, dtype=scores.dtype)


def stop():
    raise StopTraining


PRESS = partial(signal.raise_signal, signal.SIGINT)
IN_SECOND = {  # what the second process does
    "interrupt": InEpoch(4, PRESS),
    "interrupt at the end": InEpoch(3, PRESS, at_end=True),
    "stop at the end": InEpoch(3, stop, at_end=True),
    "death": InEpoch(4, partial(os._exit, 0)),
}
BATCH_NORM = {"expert": "resnet18", "expert_width": 8, "trunk": None}
IN_BOTH = {
    "seed": {"random_state": None},
    "norm": BATCH_NORM,
    "noise": {"router": RouterParams("top1", noise=own_noise)},
    "rows": {"batch_size": 1},
    "statistics": {"expert": Statistics},
    "dropout": {"expert": dropout, "router": "top1"},
}


def attempt(rank, name):
    """Return an estimator and its data, of which something is wrong."""
    X, y = make_table()
    options = {"max_iter": 20} | IN_BOTH.get(name, {})
    if name == "data":
        X = X + rank
    elif name == "nan" and rank == 1:
        X[3, 2] = np.nan
        options["standardize"] = False
    elif name == "rate":
        options["learning_rate_init"] = 0.01 * (rank + 1)
    elif name == "norm":
        X, y = np.random.default_rng(0).normal(size=(60, 1, 8, 8)), np.arange(60) % 2
    elif name in IN_SECOND and rank == 1:
        options["callbacks"] = [IN_SECOND[name]]
    return classifier(**options), X, y


LEFT = "RuntimeError: Another .* left the training: "
TROUBLE = {  # what both processes raise, or each of them; None: a model
    "data": "ValueError: .* differ in training data",
    "seed": "ValueError: .* differ in weights at the start",
    "rate": "ValueError: .* differ in parameters",
    "norm": "ValueError: .*BatchNorm.*norm='group'",
    "noise": "ValueError: .*noise=.*own_noise",
    "rows": "ValueError: A batch of 1 samples cannot be shared by 2",
    "statistics": "ValueError: .* differ in weights.*statistics",
    "nan": (LEFT + "ValueError: .*NaN", "ValueError: .*NaN"),
    "interrupt": "KeyboardInterrupt",
    "interrupt at the end": "KeyboardInterrupt",
    "stop at the end": None,
    "dropout": None,
}


def outcome(name):
    """Return the error of an attempt, what was fitted in spite of it, and how long it took."""
    clf, X, y = attempt(int(os.environ["RANK"]), name)
    start, error = time.perf_counter(), None
    try:
        with data_parallel(timeout=60):
            clf.fit(X, y)
    except (Exception, KeyboardInterrupt) as raised:
        error = f"{type(raised).__name__}: {raised}"
    fitted = (clf.n_iter_, clf.predict_proba(X)) if hasattr(clf, "net_") else None
    return error, fitted, time.perf_counter() - start


def run_into_trouble():
    seen = {name: outcome(name) for name in TROUBLE}
    # Outside of the context the processes have nothing to do with each other.
    rank, (X, y) = int(os.environ["RANK"]), make_table()
    alone = classifier(max_iter=rank + 1, batch_size=1).fit(X[rank:], y[rank:])
    return seen, alone.n_iter_


@pytest.mark.slow
def test_trouble_ends_all(tmp_path):
    ranks = on_two_processes(run_into_trouble, tmp_path)
    assert [n_iter for _, n_iter in ranks] == [1, 2]
    for name, expected in TROUBLE.items():
        outcomes = [seen[name] for seen, _ in ranks]
        for rank, (error, _, seconds) in enumerate(outcomes):
            wanted = expected[rank] if isinstance(expected, tuple) else expected
            assert seconds < 30, name
            assert re.match(wanted or "None", str(error), re.DOTALL), (name, error)
        if expected is None:
            (n_iter, proba), (same_n_iter, same_proba) = (fitted for _, fitted, _ in outcomes)
            assert n_iter == same_n_iter == (20 if name == "dropout" else 3)
            np.testing.assert_array_equal(proba, same_proba)
        elif name.startswith("interrupt"):  # as always it keeps what was learned
            assert all(fitted[0] == 3 for _, fitted, _ in outcomes)
        else:
            assert all(fitted is None for _, fitted, _ in outcomes)


@pytest.mark.slow
def test_a_process_that_dies_is_noticed(tmp_path):
    ((error, _, seconds),) = on_two_processes(partial(outcome, "death"), tmp_path)
    assert re.match(LEFT, error)
    assert seconds < 30


# -- launchers ----------------------------------------------------------------------------

PROGRAM = """
import sys
import numpy as np
from sklearn_moe import MoEClassifier
from sklearn_moe.distributed import data_parallel

X = np.random.default_rng(0).normal(size=(101, 4))
y = (X[:, 0] * X[:, 1] > 0).astype(int)
with data_parallel() as group:
    clf = MoEClassifier(max_iter=2, random_state=0, device="cpu").fit(X, y)
np.savez(f"{sys.argv[1]}/{group.rank}-of-{group.size}.npz", clf.predict_proba(X))
"""
LAUNCHERS = {
    "torch.distributed.run": "--nproc-per-node=2 --master-port=",
    "accelerate.commands.launch": "--multi_gpu --num_processes=2 --num_machines=1 "
    "--mixed_precision=no --dynamo_backend=no --main_process_port=",
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launchers(tmp_path, launcher):
    pytest.importorskip("accelerate")
    (tmp_path / "program.py").write_text(PROGRAM)
    options = f"{LAUNCHERS[launcher]}{free_port()}".split()
    done = subprocess.run(
        [sys.executable, "-m", launcher, *options, tmp_path / "program.py", tmp_path],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    first, second = (np.load(tmp_path / f"{rank}-of-2.npz")["arr_0"] for rank in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # dask's
def test_a_group_of_dask_workers(table):
    dask = pytest.importorskip("dask.distributed")
    page = (Path(__file__).parents[2] / "docs" / "distributed.rst").read_text()
    section = page[page.index("A group of dask workers") : page.index("\nRay\n")]
    code = textwrap.dedent(section[section.index("   import socket") : section.index("\n`fit_on")])
    names = {"__name__": "page"}
    exec(compile(code, "distributed.rst", "exec"), names)
    clf = classifier(max_iter=2)
    with dask.LocalCluster(2, processes=True, threads_per_worker=1, dashboard_address=None) as two:
        with dask.Client(two) as client:
            fitted = [names["fit_on_workers"](client, clf, *table) for _ in range(2)]
    for model in fitted:
        assert_close(model, clf.fit(*table))
