"""Processes that train together: the same model as one, and an end for all when one fails."""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.callbacks import StopTraining
from sklearn_moe.distributed import data_parallel

pytest.importorskip("accelerate")
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
BRIEF = {"n_experts": 4, "tol": None, "random_state": 0, "device": "cpu"}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start(rank, port, function, folder):
    """Be one of two processes, as a launcher starts them."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    joblib.dump(function(), f"{folder}/{rank}.joblib")


def on_two_processes(function, folder):
    """Return what a function returns on each of two processes."""
    torch.multiprocessing.spawn(start, (free_port(), function, folder), nprocs=2)
    return [joblib.load(f"{folder}/{rank}.joblib") for rank in range(2)]


# -- the same model -----------------------------------------------------------------------


def bags():
    X = np.random.default_rng(0).normal(size=(101, 3, 4))
    return X, (X[:, 0, 0] > 0).astype(int)


def table():
    X = np.random.default_rng(0).normal(size=(101, 4))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def pictures():
    X = np.random.default_rng(0).normal(size=(60, 1, 8, 8))
    return X, (X.mean((1, 2, 3)) > 0).astype(int)


def numbers():
    X, _ = table()
    return X, X[:, 0] * X[:, 1]


CASES = {
    "patch": (MoEClassifier, {}, bags),
    "out_of_bag": (MoEClassifier, {}, table),
    "switch": (MoEClassifier, {"router": "topk", "top_k": 2, "balance": "switch"}, bags),
    "bias": (MoEClassifier, {"router": "topk", "top_k": 2, "balance": "bias"}, table),
    "relu": (MoEClassifier, {"router": "relu", "top_k": 2}, bags),
    "noisy": (MoEClassifier, {"router": "noisy_topk", "top_k": 2, "balance": "load"}, bags),
    "cnn": (MoEClassifier, {"expert_width": 4}, pictures),
    "numbers": (MoERegressor, {}, numbers),
    "early_stopping": (MoEClassifier, {"early_stopping": True}, table),
}
# One step, and ten epochs of several.
LENGTHS = {
    "step": {"max_iter": 1, "batch_size": None},
    "epochs": {"max_iter": 10, "batch_size": 30},
}


def fit(case, length):
    cls, options, data = CASES[case]
    X, y = data()
    model = cls(**BRIEF, **options, **LENGTHS[length]).fit(X, y)
    said = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
    state = [value.numpy() for value in model.module_.state_dict().values()]
    return [said, np.array(model.loss_curve_), model.expert_load_, *state]


def fit_together(cases):
    with data_parallel(timeout=60):
        return {(case, length): fit(case, length) for case in cases for length in LENGTHS}


def assert_like_one_process(cases, folder):
    for of_rank in on_two_processes(partial(fit_together, cases), folder):
        for key, seen in of_rank.items():
            for ours, theirs in zip(seen, fit(*key), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9, err_msg=str(key))


def test_two_processes_make_the_model_of_one(tmp_path):
    assert_like_one_process(["patch"], tmp_path)


@pytest.mark.slow
def test_two_processes_make_the_model_of_one_of_any_kind(tmp_path):
    assert_like_one_process([case for case in CASES if case != "patch"], tmp_path)


def test_one_process_is_as_always():
    X, y = table()
    make = partial(MoEClassifier, max_iter=2, **BRIEF)
    with data_parallel() as ranks:
        together = make().fit(X, y)
    assert (ranks.rank, ranks.size) == (0, 1)
    np.testing.assert_array_equal(together.predict_proba(X), make().fit(X, y).predict_proba(X))


# -- what goes wrong ----------------------------------------------------------------------


class AfterThreeEpochs(Callback):
    """Do something at the beginning of the fourth epoch, or the end of the third."""

    def __init__(self, action, at_end=False):
        self.action, self.at_end = action, at_end

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 4 and not self.at_end:
            self.action()

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3 and self.at_end:
            self.action()


class Statistics(torch.nn.Linear):
    """A layer that remembers what it has seen."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_buffer("seen", torch.zeros(sizes[0], dtype=torch.float64))

    def forward(self, x):
        self.seen += x.detach().sum(0)
        return super().forward(x)


def statistics(input_shape, n_outputs):
    return Statistics(*input_shape, n_outputs)


def dropout(input_shape, n_outputs):
    return torch.nn.Sequential(torch.nn.Linear(*input_shape, n_outputs), torch.nn.Dropout(0.5))


def own_noise(x, scores, generator):
    return torch.rand(scores.shape, generator=generator, dtype=scores.dtype)


def divide():
    return 1 / 0


def stop():
    raise StopTraining


def press():
    signal.raise_signal(signal.SIGINT)


ACTIONS = {
    "callback": divide,
    "interrupt": press,
    "interrupt at the end": press,
    "stop at the end": stop,
    "death": partial(os._exit, 0),
}


def attempt(rank, name):
    """Return an estimator and its data, of which something is wrong."""
    X, y = table()
    options = BRIEF | {"max_iter": 20, "batch_size": 30}
    if name == "data":
        X = X + rank
    elif name == "labels":
        y = y ^ (np.arange(len(y)) == 7 + rank)
    elif name == "nan" and rank == 1:
        X[3, 2] = np.nan
        options["standardize"] = False
    elif name == "seed":
        options["random_state"] = None
    elif name == "rate":
        options["learning_rate_init"] = 0.01 * (rank + 1)
    elif name == "norm":
        X, y = pictures()
        options |= {"expert": "resnet18", "expert_width": 8, "trunk": None}
    elif name == "noise":
        options |= {"router": "top1", "router_noise": own_noise}
    elif name == "rows":
        options["batch_size"] = 1
    elif name == "statistics":
        options["expert"] = statistics
    elif name == "dropout":
        options |= {"expert": dropout, "router": "top1"}
    elif name in ACTIONS and rank == 1:
        options["callbacks"] = [AfterThreeEpochs(ACTIONS[name], at_end="end" in name)]
    return MoEClassifier(**options), X, y


TROUBLE = {  # what both ranks raise, or each of them; None: a model
    "data": "ValueError: The 2 ranks differ in training data",
    "labels": "ValueError: The 2 ranks differ in training data",
    "seed": "ValueError: The 2 ranks differ in weights at the start",
    "rate": "ValueError: The 2 ranks differ in parameters",
    "norm": "ValueError: .*BatchNorm.*norm='group'",
    "noise": "ValueError: router_noise=.*own_noise",
    "rows": "ValueError: A batch of 1 samples cannot be shared by 2 ranks",
    "statistics": "ValueError: The 2 ranks differ in weights.*statistics",
    "nan": ("RuntimeError: Another rank left the training: ValueError: .*NaN", "ValueError: .*NaN"),
    "callback": ("RuntimeError: Another rank left .*: ZeroDivisionError", "ZeroDivisionError"),
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
    rank, (X, y) = int(os.environ["RANK"]), table()
    alone = MoEClassifier(**BRIEF, max_iter=rank + 1, batch_size=1).fit(X[rank:], y[rank:])
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
    # Of the one that died there is nothing to load.
    torch.multiprocessing.spawn(start, (free_port(), partial(outcome, "death"), tmp_path), nprocs=2)
    error, _, seconds = joblib.load(tmp_path / "0.joblib")
    assert error.startswith("RuntimeError: Another rank left the training")
    assert seconds < 30
    assert not (tmp_path / "1.joblib").exists()


# -- launchers ----------------------------------------------------------------------------

PROGRAM = """
    import sys
    import numpy as np
    from sklearn_moe import MoEClassifier
    from sklearn_moe.distributed import data_parallel

    X = np.random.default_rng(0).normal(size=(101, 4))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    with data_parallel() as ranks:
        clf = MoEClassifier(max_iter=2, random_state=0, device="cpu").fit(X, y)
    np.savez(f"{sys.argv[1]}/{ranks.rank}-of-{ranks.size}.npz", clf.predict_proba(X))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--nproc-per-node=2", "--master-port={port}"],
        [
            *("accelerate.commands.launch", "--multi_gpu", "--num_processes=2"),
            *("--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"),
            "--main_process_port={port}",
        ],
    ],
    ids=lambda launcher: launcher[0].split(".")[0],
)
def test_launchers(tmp_path, launcher):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, "-m", *(part.format(port=free_port()) for part in launcher)]
    done = subprocess.run(
        [*command, program, tmp_path],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = (np.load(tmp_path / f"{rank}-of-2.npz")["arr_0"] for rank in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # dask's
def test_a_group_of_dask_workers():
    dask = pytest.importorskip("dask.distributed")
    page = (Path(__file__).parent.parent / "docs" / "distributed.rst").read_text()
    section = page[page.index("A group of dask workers") : page.index("\nRay\n")]
    code = textwrap.dedent(section[section.index("   import socket") : section.index("\n`fit_on")])
    names = {"__name__": "page"}
    exec(compile(code, "distributed.rst", "exec"), names)
    X, y = table()
    clf = MoEClassifier(**BRIEF, max_iter=2, batch_size=30)
    with dask.LocalCluster(2, processes=True, threads_per_worker=1, dashboard_address=None) as two:
        with dask.Client(two) as client:
            fitted = [names["fit_on_workers"](client, clf, X, y) for _ in range(2)]
    for model in fitted:
        np.testing.assert_allclose(
            model.predict_proba(X), clf.fit(X, y).predict_proba(X), rtol=0, atol=1e-9
        )
