"""Processes that train together: the model of one, and an end for all when one fails.

Most tests use threads instead of processes.
"""

import os
import re
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
from helpers import at, brief_fits, hook, named, press, raises, throw
from scipy.sparse import csr_matrix

from sklearn_moe import MoEClassifier, MoERegressor, RouterParams, SolverParams
from sklearn_moe._training.process_group import CURRENT_GROUP, DataParallelGroup, use_group
from sklearn_moe.callbacks import StopTraining
from sklearn_moe.distributed import data_parallel
from sklearn_moe.nn import BALANCES, LOSSES, ROUTERS
from sklearn_moe.optim import SOLVERS

pytestmark = brief_fits
BRIEF = {"n_experts": 4, "max_iter": 3, "tol": None, "random_state": 0, "device": "cpu"}
BRIEF |= {"batch_size": 30}


def classifier(**options):
    return MoEClassifier().set_params(**BRIEF | options)


def make_table():
    X = np.random.default_rng(0).normal(size=(99, 4))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def make_bags():
    X = np.random.default_rng(0).normal(size=(99, 3, 4))
    return X, (X[:, 0, 0] > 0).astype(int)


table, bags = map(pytest.fixture(scope="module"), (make_table, make_bags))


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
        with use_group(DataParallelGroup(Threads(rank, *shared))):
            return make().fit(*data)

    with ThreadPoolExecutor(size) as pool:
        fits = [pool.submit(fit, rank) for rank in range(size)]
    errors = {str(fit.exception()) for fit in fits}
    assert len(errors) == 1, errors  # all end alike
    return [fit.result() for fit in fits]


def rank():
    return CURRENT_GROUP.get().rank


def learned(model):
    """Return all that a fit has learned and recorded."""
    curves = ("loss_curve_", "oob_loss_curve_", "validation_scores_")
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
    assert joblib.hash(learned(parts[0])) == joblib.hash(learned(parts[-1]))


@pytest.mark.parametrize("router", ROUTERS)
def test_every_router(bags, router):
    assert_same(partial(classifier, router=router), *bags, size=2 + (router == "sampled"))


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_with_experts_that_have_no_rows_in_a_process(table, solver):
    options = {"n_experts": 12, "batch_size": 8, "solver": solver, "router": "top1"}
    assert_same(partial(classifier, **options), *table)


def test_every_loss(table):
    X, y = table
    for name, loss in LOSSES.items():
        model = partial(MoERegressor if loss.regression else MoEClassifier, loss=name, **BRIEF)
        if loss.classes:
            assert_same(model, X, y)
        if loss.multilabel:
            assert_same(model, X, (X[:, :2] > 0).astype(int))
        if loss.regression:
            assert_same(model, X, np.abs(X[:, 0] * X[:, 1]))


SHARED = {"router": RouterParams("topk", n_shared_experts=1)}
POOL = {"expert": ["deep", "piecewise", "linear"], "n_experts": "auto"}
WAYS = [
    *({"balance": b, "balance__weight": 1.0, "router": "topk", "top_k": 2} for b in BALANCES),
    *(POOL, POOL | {"early_stopping": True}, {"batch_size": None}),
    {"early_stopping": True, "tol": 0.5, "n_iter_no_change": 2, "max_iter": 100},
    {"expert_loss_weight": 0.0, "early_stopping": False},
    SHARED | {"top_k": 2, "class_weight": "balanced"},
    {"router": RouterParams("topk", gate="relative"), "top_k": 2},
    {"router": RouterParams("top1", noise="gumbel"), "early_stopping": True},
    {"solver": SolverParams(schedule="constant")},
]


@pytest.mark.parametrize("options", WAYS, ids=named)
def test_every_way_of_training(table, options):
    assert_same(partial(classifier, **options), *table)


def test_samples_of_every_kind(table, images):
    X, y = table
    weight = np.random.default_rng(1).uniform(0.1, 3, size=99)
    weight[:5] = 0
    assert_same(partial(classifier, balance="switch", router="topk", top_k=2), X, y, weight)
    assert_same(classifier, csr_matrix(X), y)
    for options in ({}, {"trunk": None, "expert": "cnn", "router": "top1"}):
        make = partial(classifier, batch_size=50, expert_width=4, **options)
        assert_same(make, images[0].astype(float), images[1])


CRASH = at(3, partial(throw, ZeroDivisionError), "on_epoch_begin")


def test_a_fit_goes_on_from_a_checkpoint(table, tmp_path, store_every_epoch):
    options, epochs = {"router": "top1", "max_iter": 5}, []
    whole, count = classifier(**options).fit(*table), hook("on_epoch_end", epochs.append)
    for size in (1, 2):
        place = tmp_path / f"{size}.checkpoint"
        make = partial(classifier, **options, checkpoint=place)
        with pytest.raises(ZeroDivisionError):
            fit_in_parts(partial(make, callbacks=[CRASH]), *table)
        for part in fit_in_parts(partial(make, callbacks=[count]), *table, size=size):
            assert_close(part, whole)
    assert len(epochs) == 3 * (1 + 2)


def test_one_process_stores_and_all_need_what_is_stored(table, tmp_path, store_every_epoch):
    def make(**more):
        return classifier(checkpoint=tmp_path / f"{rank()}.checkpoint", **more)

    with pytest.raises(ZeroDivisionError):
        fit_in_parts(partial(make, callbacks=[CRASH]), *table)
    assert [path.name for path in tmp_path.glob("*.checkpoint")] == ["0.checkpoint"]
    raises(ValueError, r"differ in weights .*parameters", fit_in_parts, make, *table)


def test_each_process_has_draws_of_its_own():
    def draws(seed):
        shared = torch.Generator().manual_seed(seed)
        groups = [DataParallelGroup(Threads(rank, [None] * 3, None, None)) for rank in range(3)]
        sources = [shared, *(group.own_draws([shared], seed)[0] for group in groups)]
        return [tuple(torch.rand(4, generator=source).tolist()) for source in sources]

    assert (len({*draws(0), *draws(1)}), draws(0)) == (8, draws(0))


class Statistics(torch.nn.Linear):
    """An expert that remembers what it has seen."""

    def __init__(self, input_shape, n_outputs):
        super().__init__(*input_shape, n_outputs)
        self.register_buffer("seen", torch.zeros(*input_shape, dtype=torch.float64))

    def forward(self, x):
        self.seen += x.detach().sum(0)
        return super().forward(x)


def normalized(input_shape, n_outputs):
    return torch.nn.Sequential(torch.nn.Linear(*input_shape, 2), torch.nn.BatchNorm1d(2))


def own_noise(x, scores, generator):
    return torch.rand(scores.shape, generator=generator, dtype=scores.dtype)


REFUSED = {
    "differ in training data": lambda: SimpleNamespace(
        fit=lambda X, y: classifier(standardize=False, early_stopping=False).fit(X + rank(), y)
    ),
    "differ in weights at the start": lambda: classifier(random_state=rank()),
    "differ in parameters": lambda: classifier(learning_rate_init=0.01 * (rank() + 1)),
    "differ in weights.*statistics": partial(classifier, expert=Statistics),
    "BatchNorm.*norm='group'": partial(classifier, expert=normalized, router="soft"),
    "noise=.*own_noise": partial(classifier, router=RouterParams("top1", noise=own_noise)),
    "A batch of 1 samples cannot be shared by 2": partial(classifier, batch_size=1),
}


def test_what_cannot_be_trained_together_is_refused_in_all(table):
    for match, make in REFUSED.items():
        raises(ValueError, match, fit_in_parts, make, *table)


# -- processes ----------------------------------------------------------------------------


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def fits():
    """Return what some models have learned, one after the other."""
    noisy = classifier(router="topk", top_k=2, balance="switch")
    pairs = (classifier(max_iter=10), make_bags), (noisy, make_bags), (classifier(), make_table)
    return [values for model, data in pairs for values in learned(model.fit(*data()))]


def fits_together():
    with data_parallel(timeout=60):
        return fits()


def test_one_process_is_as_always(table):
    pytest.importorskip("accelerate")
    with data_parallel() as group:
        together = learned(classifier().fit(*table))
    assert (group.rank, group.size) == (0, 1)
    assert joblib.hash(together) == joblib.hash(learned(classifier().fit(*table)))


LEFT = "RuntimeError: Another .* left the training: "
TROUBLE = {  # a callback of the second process, what the two raise, and the epochs that both keep
    "interrupt": (at(4, press, "on_epoch_begin"), 2 * ["KeyboardInterrupt"], 3),
    "late_interrupt": (at(3, press, "on_epoch_end"), 2 * ["KeyboardInterrupt"], 3),
    "stop": (at(3, partial(throw, StopTraining), "on_epoch_end"), 2 * ["None"], 3),
    "error": (
        "no callback",
        [LEFT + "TypeError: callbacks must", "TypeError: callbacks must"],
        None,
    ),
    "death": (at(4, partial(os._exit, 0), "on_epoch_begin"), [LEFT], None),
}


def outcome(name):
    """Return the error of a fit, what was fitted in spite of it, and how long it took."""
    clf, error, start = classifier(max_iter=20), None, time.perf_counter()
    if os.environ["RANK"] == "1":
        clf.set_params(callbacks=[TROUBLE[name][0]])
    try:
        with data_parallel(timeout=60):
            clf.fit(*make_table())
    except (Exception, KeyboardInterrupt) as raised:
        error = f"{type(raised).__name__}: {raised}"
    fitted = (clf.n_iter_, joblib.hash(learned(clf))) if hasattr(clf, "net_") else (None, None)
    return error, *fitted, time.perf_counter() - start


def epochs_alone():
    """Return the epochs of a fit outside of the context, of which others know nothing."""
    rank, (X, y) = int(os.environ["RANK"]), make_table()
    return classifier(max_iter=rank + 1, batch_size=1).fit(X[rank:], y[rank:]).n_iter_


def report(folder):
    """Be one of the processes that a launcher starts: store what each function returns."""
    functions = {"fits": fits_together, "alone": epochs_alone}
    functions |= {name: partial(outcome, name) for name in TROUBLE}
    for name, function in functions.items():
        joblib.dump(function(), f"{folder}/{name}{os.environ['RANK']}")


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What each function returns on each of two processes, started once; of a dead one nothing.

    `accelerate launch` calls `torchrun`; workers of dask have what the latter sets, and no more.
    """
    pytest.importorskip("accelerate")
    folder = tmp_path_factory.mktemp("processes")
    (folder / "train.py").write_text(f"import {__name__}\n{__name__}.report({str(folder)!r})")
    launch = "accelerate.commands.launch --multi_gpu --num_processes=2 --num_machines=1 "
    launch += f"--mixed_precision=no --dynamo_backend=no --main_process_port={free_port()}"
    done = subprocess.run(
        [sys.executable, "-m", *launch.split(), folder / "train.py"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    names = ("fits", "alone", *TROUBLE)
    return [[joblib.load(path) for path in sorted(folder.glob(f"{n}[01]"))] for n in names]


@pytest.mark.slow
def test_two_processes_make_the_model_of_one(processes):
    expected = fits()
    for seen in processes[0]:
        for ours, theirs in zip(seen, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_trouble_ends_all_and_a_process_that_dies_is_noticed(processes):
    _, n_epochs, *outcomes = processes
    assert n_epochs == [1, 2]
    for (name, (_, expected, n_iter)), seen in zip(TROUBLE.items(), outcomes, strict=True):
        for wanted, (error, n_done, _, seconds) in zip(expected, seen, strict=True):
            assert re.match(wanted, str(error), re.DOTALL), (name, error)
            assert n_done == n_iter, name
            assert seconds < 30, name
        assert len({learned for _, _, learned, _ in seen}) == 1, name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # dask's
def test_a_group_of_dask_workers(table):
    dask = pytest.importorskip("dask.distributed")
    page = (Path(__file__).parents[2] / "docs" / "distributed.rst").read_text()
    section = page[page.index("A group of dask workers") :]
    code = textwrap.dedent(section[section.index("   import socket") : section.index("\n`fit_on")])
    names = {"__name__": "page"}
    exec(compile(code, "distributed.rst", "exec"), names)
    clf = classifier(max_iter=2)
    with dask.LocalCluster(2, processes=True, threads_per_worker=1, dashboard_address=None) as two:
        with dask.Client(two) as client:
            fitted = [names["fit_on_workers"](client, clf, *table) for _ in range(2)]
    for model in fitted:
        assert_close(model, clf.fit(*table))
