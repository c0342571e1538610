"""A fit that was stopped at any moment goes on to the model of one that was not."""

import os
import pickle
import random
import signal
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from helpers import at, brief_fits, hook, named, press, raises, throw
from scipy.sparse import csr_array
from sklearn.base import clone
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, PrintLog

from sklearn_moe import FitCheckpoint, MoEClassifier, MoERegressor, RouterParams, SolverParams
from sklearn_moe._training import checkpoint as resuming
from sklearn_moe._training.checkpoint import describe, dump_state, load_state
from sklearn_moe.callbacks import FreezeRouter, RoutingTrace
from sklearn_moe.nn import ROUTERS
from sklearn_moe.optim import SOLVERS

pytestmark = brief_fits
BRIEF = {"n_experts": 3, "max_iter": 6, "tol": None, "random_state": 0}
CRASH = partial(throw, RuntimeError)  # as if the process had died
EPOCHS = []  # that were run, by all copies
COUNT = hook("on_epoch_end", EPOCHS.append)


@pytest.fixture(autouse=True)
def count_from_zero():
    EPOCHS.clear()


@pytest.fixture(scope="module")
def table():
    X = np.random.default_rng(0).normal(size=(90, 4))
    return X, np.array(["a", "b", "c"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0)]


@pytest.fixture(scope="module")
def bags():
    X = np.random.default_rng(1).normal(size=(90, 3, 4))
    return X, (X[:, 0, 0] > 0).astype(int)


def classifier(**options):
    return MoEClassifier(**BRIEF | options)


def always(path):
    return FitCheckpoint(path, every=0)


def trained(model):
    """Return all that a fit has made: weights, history, state of the optimizer."""
    return joblib.hash(model.set_params(checkpoint=None, callbacks=None))


def stop(model, data, epoch, *callbacks):
    """Stop a fit in an epoch."""
    with pytest.raises(RuntimeError):
        model.set_params(callbacks=[*callbacks, at(epoch, CRASH)]).fit(*data)


def crash_and_go_on(model, data, path, *epochs, callbacks=()):
    """Stop a fit in some epochs, one after the other, and go on to its end."""
    for epoch in epochs or (4,):
        stop(model.set_params(checkpoint=always(path)), data, epoch, *callbacks)
        model = type(model)(**model.get_params(deep=False))
    return model.set_params(callbacks=[*callbacks, COUNT]).fit(*data)


class Dropping(torch.nn.Sequential):
    def __init__(self, input_shape, n_outputs):
        layers = torch.nn.Linear(*input_shape, 5), torch.nn.Dropout(), torch.nn.Linear(5, n_outputs)
        super().__init__(*layers)


def jitter(x):
    return x + 0.1 * torch.randn_like(x)


# Pairwise: every router, solver and balance, and what has a state of its own.
BAGS = [
    {"router": "top1", "batch_size": 20, "solver": "sgd", "balance": "switch"},
    {"router": "noisy_topk", "top_k": 2, "balance": "switch", "solver": "adamw"},
    {"router": "sampled", "balance": "bias", "train_transform": jitter},
    {"router": "soft", "early_stopping": True, "balance": "importance", "solver": "adam"},
    {"router": "top1", "solver": SolverParams("normalized_sgd", momentum=0.5), "batch_size": 30},
    {"router": RouterParams("top1", n_shared_experts=1), "loss": "margin"},
    {"router": "patch_choice"},
]
TABLES = [
    {"expert": Dropping},
    {"early_stopping": "out_of_bag", "tol": 1.0, "max_iter": 90},
]


@pytest.mark.parametrize(
    ("kind", "options"),
    [*(("table", options) for options in TABLES), *(("bags", options) for options in BAGS)],
    ids=named,
)
def test_it_goes_on_to_the_same_model(kind, options, table, bags, tmp_path):
    data = table if kind == "table" else bags
    whole = classifier(**options).fit(*data)
    resumed = crash_and_go_on(classifier(**options), data, tmp_path, 2, 2, 3, 4)  # once at once
    assert len(EPOCHS) == whole.n_iter_ - 3
    assert trained(resumed) == trained(whole)
    further = [m.set_params(early_stopping="auto").partial_fit(*data) for m in (resumed, whole)]
    assert trained(further[0]) == trained(further[1])


def test_samples_of_every_kind(table, images, tmp_path):
    np.save(tmp_path / "X.npy", table[0])
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    sparse, several = csr_array(np.maximum(table[0], 0)), MoERegressor(**BRIEF, loss="gaussian")
    few = images[0][:40], images[1][:40]
    for i, (model, data, X) in enumerate(
        [
            (classifier(max_iter=3, expert_width=4), few, few[0]),
            (classifier(early_stopping=True), (mapped, table[1], np.arange(90) % 3), table[0]),
            (several.set_params(early_stopping=True), (sparse, table[0][:, :2]), sparse),
        ]
    ):
        whole = clone(model).fit(X, *data[1:])
        assert trained(crash_and_go_on(model, data, tmp_path / f"{i}", 2)) == trained(whole)


def test_ctrl_c_goes_on_from_the_last_epoch(table, tmp_path, monkeypatch):
    whole = trained(classifier(batch_size=20).fit(*table))
    in_epoch = [(0, 1, "on_batch_end", 6), (1e9, 4, "on_batch_end", 3)]
    for every, epoch, name, left in [(60, 3, "on_epoch_end", 3), *in_epoch]:
        file = FitCheckpoint(tmp_path / f"{epoch}", every=every)
        clf = classifier(batch_size=20, checkpoint=file)
        with pytest.raises(KeyboardInterrupt):
            clf.set_params(callbacks=[at(epoch, press, name)]).fit(*table)
        monkeypatch.setattr(resuming, "_GLANCE", 0)  # of the others
        EPOCHS.clear()
        clf.set_params(callbacks=[COUNT]).fit(*table)  # Ctrl-C was no end of its own
        assert len(EPOCHS) == left
        assert trained(clf) == whole


def test_a_finished_fit_returns_at_once(table, tmp_path):
    stop = {"early_stopping": True, "tol": 10.0, "n_iter_no_change": 2, "max_iter": 100}
    for options in ({}, stop, {"callbacks": [EarlyStopping("train_loss", 2, threshold=10.0)]}):
        options = {**options, "checkpoint": tmp_path / "made" / "by" / "fit"}
        first = classifier(**options).fit(*table)
        again = classifier(**options | {"callbacks": [*options.get("callbacks", ()), COUNT]})
        again.fit(*table)
        assert not EPOCHS
        assert trained(again) == trained(first)


def test_a_warm_start_is_a_fit_of_its_own(table, tmp_path):
    whole = classifier(warm_start=True).fit(*table).fit(*table)
    clf = classifier(warm_start=True, checkpoint=always(tmp_path)).fit(*table)
    begun = pickle.loads(pickle.dumps(clf))
    stop(clf, table, 9)
    assert trained(begun.set_params(callbacks=[COUNT]).fit(*table)) == trained(whole)
    assert len(EPOCHS) == 4
    begun.set_params(checkpoint=always(tmp_path), callbacks=[COUNT]).fit(*table)
    assert len(EPOCHS) == 4 + 6


# -- random states ------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", ["auto", True])
def test_what_an_unseeded_fit_draws_is_drawn_again(table, tmp_path, early_stopping, monkeypatch):
    options = {"batch_size": 20, "early_stopping": early_stopping}
    whole = classifier(**options | {"random_state": np.random.RandomState(5)}).fit(*table)
    for seed in (5, 6):
        # In place of NumPy's global generator, which the tests leave as it is.
        monkeypatch.setattr("numpy.random.mtrand._rand", np.random.RandomState(seed))
        clf = classifier(**options | {"random_state": None}, checkpoint=always(tmp_path))
        stop(clf, table, 3) if seed == 5 else clf.fit(*table)
    np.testing.assert_array_equal(clf.predict_proba(table[0]), whole.predict_proba(table[0]))
    assert clf.loss_curve_ == whole.loss_curve_


def test_a_generator_is_left_as_an_uninterrupted_fit_leaves_it(table, tmp_path):
    whole, first, last = (np.random.RandomState(0) for _ in range(3))
    classifier(batch_size=20, random_state=whole).fit(*table)
    for generator in (first, last):
        clf = classifier(batch_size=20, random_state=generator, checkpoint=always(tmp_path))
        stop(clf, table, 3)
    clf.set_params(callbacks=None).fit(*table)
    assert last.randint(2**31) == whole.randint(2**31)


def test_fits_that_end_or_draw_otherwise_have_checkpoints_of_their_own(table, tmp_path):
    seeds = [classifier(random_state=np.random.RandomState(seed)) for seed in (0, 1, 0)]
    losses = [model.set_params(checkpoint=tmp_path).fit(*table).loss_curve_ for model in seeds]
    assert losses[0] == losses[2] != losses[1]
    stops = [[EarlyStopping("train_loss", n, threshold=10.0, sink=str)] for n in (2, 4)]
    watch = [("trace", RoutingTrace()), PrintLog(sink=str)]
    ways = *stops, None, watch, [("stop", *stops[0])]  # the third one is found by the fourth
    epochs = []
    for callbacks in ways:
        epochs.append(classifier(callbacks=callbacks, checkpoint=tmp_path).fit(*table).n_iter_)
    assert epochs == [3, 5, 6, 6, 3]
    assert len(list(tmp_path.iterdir())) == 2 + 4
    file = tmp_path / "fit.ckpt"
    classifier(callbacks=stops[0], checkpoint=file).fit(*table)
    with pytest.raises(ValueError, match=r"another fit. What differs: callbacks \(was"):
        classifier(checkpoint=file).fit(*table)


# -- which file ---------------------------------------------------------------------------


def test_a_path_is_a_file_or_a_folder_also_behind_links(table, tmp_path):
    (tmp_path / "v1.2").mkdir()
    classifier(max_iter=1, checkpoint=str(tmp_path / "v1.2")).fit(*table)
    assert len(list((tmp_path / "v1.2").iterdir())) == 1
    (tmp_path / "disk").mkdir()
    link = tmp_path / "fit.ckpt"
    link.symlink_to("disk/made/by.fit")
    for _ in range(2):
        classifier(max_iter=2, checkpoint=always(link), callbacks=[COUNT]).fit(*table)
    assert len(EPOCHS) == 2
    assert link.is_symlink()
    assert (tmp_path / "disk/made/by.fit").is_file()


def test_an_unwritable_place_is_told_before_training(table, tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "itself.ckpt").symlink_to("itself.ckpt")
    clf = classifier(callbacks=[COUNT])
    for path in ("file/fit.ckpt", "file/fits/all", "itself.ckpt"):
        with pytest.raises(OSError, match=rf"checkpoint='.*{path}' cannot be written"):
            clf.set_params(checkpoint=tmp_path / path).fit(*table)
    assert not EPOCHS
    raises(ValueError, "every must be at least 0", FitCheckpoint, tmp_path, every=-1)
    with pytest.raises(ValueError, match="path of a file or folder, got ''"):
        clf.set_params(checkpoint="").fit(*table)


def test_another_fit_is_refused_by_a_file_and_welcome_in_a_folder(table, tmp_path):
    X, y = table
    others = {
        "X": (classifier(), (np.where(X == X[7, 2], 0, X), y)),
        "y": (classifier(), (X, np.where(X[:, 0] == X[0, 0], "c", y))),
        "sample_weight": (classifier(), (X, y, np.arange(1.0, len(y) + 1))),
        "n_experts": (classifier(n_experts=4), table),
        "tol": (classifier(tol=0.1), table),
        "random_state": (classifier(random_state=1), table),
        "router__network": (classifier(router=RouterParams("soft", network="mlp")), table),
        "balance__weight": (classifier().set_params(balance__weight=0.1), table),
        "solver__weight_decay": (classifier(solver=SolverParams(weight_decay=0.1)), table),
        "class_weight": (classifier(class_weight={"a": 2}), table),
        "train_transform": (classifier(train_transform=jitter), table),
        "estimator": (MoERegressor(**BRIEF), (X, X[:, 0])),
        "callbacks": (classifier(callbacks=[FreezeRouter(3)]), table),
    }
    file, folder = tmp_path / "fit.ckpt", tmp_path / "fits"
    for path in (file, folder):
        classifier(checkpoint=path).fit(*table)
    before = file.read_bytes()
    for name, (model, data) in others.items():
        with pytest.raises(ValueError, match=rf"of another fit. What differs: .*\b{name} \(was"):
            model.set_params(checkpoint=file).fit(*data)
        EPOCHS.clear()
        model.set_params(checkpoint=folder, callbacks=[*(model.callbacks or ()), COUNT]).fit(*data)
        assert len(EPOCHS) == 6
    assert file.read_bytes() == before
    assert len(list(folder.iterdir())) == len(others) + 1


def test_what_changes_nothing_goes_on(table, tmp_path):
    file = FitCheckpoint(tmp_path / "fit.ckpt", every=3)
    classifier(checkpoint=file).fit(*table)
    for options in (
        {"verbose": 1, "device": "cpu", "warm_start": True},
        {"n_experts": np.int64(3), "train_transform": None},
        {"router": "soft"},  # what "auto" became
    ):
        classifier(callbacks=[COUNT], checkpoint=file).set_params(**options).fit(*table)
    assert not EPOCHS


def test_times_of_another_process_are_not_restored(table, tmp_path, capsys):
    file = FitCheckpoint(tmp_path / "fit.ckpt", every=0)
    classifier(checkpoint=file, max_iter=2, verbose=1).fit(*table)
    assert load_state(file.path)["callbacks"]["Progress"] == ({"n_before_": 0}, {})
    assert "2 epochs" in capsys.readouterr().err


def test_a_shorter_fit_is_the_beginning_of_a_longer_one(bags, tmp_path):
    whole = classifier(max_iter=10).fit(*bags)
    for path in (tmp_path / "fits", tmp_path / "fit.ckpt"):
        EPOCHS.clear()
        for epochs in (2, 9, 10, 10):
            clf = classifier(max_iter=epochs, checkpoint=path, callbacks=[COUNT]).fit(*bags)
        assert len(EPOCHS) == 10
        assert trained(clf) == trained(whole)
    short = classifier(max_iter=2, callbacks=[COUNT])
    with pytest.raises(ValueError, match=r"holds 10 epochs .* more than max_iter=2"):
        short.set_params(checkpoint=tmp_path / "fit.ckpt").fit(*bags)
    short.set_params(checkpoint=tmp_path / "fits").fit(*bags)  # it has its own file there
    assert len(EPOCHS) == 10
    assert short.n_iter_ == 2


def test_where_the_course_depends_on_its_length_it_is_another_one(bags, tmp_path):
    options = {"solver": SolverParams("adam", schedule="cosine")}
    file, folder = tmp_path / "fit.ckpt", tmp_path / "fits"
    for path in (file, folder):
        classifier(**options, checkpoint=path).fit(*bags)
    longer = classifier(**options, max_iter=8, callbacks=[COUNT])
    with pytest.raises(ValueError, match=r"max_iter \(was 6, is 8\).* depends on max_iter"):
        longer.set_params(checkpoint=file).fit(*bags)
    longer.set_params(checkpoint=folder).fit(*bags)
    assert len(EPOCHS) == 8


# -- damage -------------------------------------------------------------------------------


def flip(data, position):
    damaged = bytearray(data)
    damaged[position] ^= 0x10
    return bytes(damaged)


def test_a_damaged_file_is_refused_and_a_half_written_one_does_not_matter(table, tmp_path):
    path = tmp_path / "fit.ckpt"
    stop(classifier(checkpoint=always(path)), table, 4)
    whole = path.read_bytes()
    path.with_name("fit.ckpt.1-2.part").write_bytes(whole[:100])  # of a process that was killed
    for damaged in (whole[:-1], b"", flip(whole, 2000)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"fit.ckpt' is damaged, or no checkpoint"):
            classifier(checkpoint=path).fit(*table)
        assert path.read_bytes() == damaged
    path.write_bytes(whole)
    resumed = classifier(checkpoint=path, callbacks=[COUNT]).fit(*table)
    assert len(EPOCHS) == 3
    assert trained(resumed) == trained(classifier().fit(*table))


def test_what_is_no_checkpoint_is_left_alone_and_runs_no_code(table, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    path = tmp_path / "results.csv"
    for content in (b"mine", pickle.dumps(np.array([Bomb()], dtype=object))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"results.csv' is damaged, or no checkpoint"):
            classifier(checkpoint=path).fit(*table)
        assert path.read_bytes() == content
    assert not (tmp_path / "exploded").exists()


def test_all_that_is_stored_comes_back_and_every_flipped_bit_is_found(tmp_path):
    state = {
        "numbers": [1, 2.5, float("inf"), -0.0, True, None, np.float32(0.1), np.int64(3)],
        "texts": {"ä": ("b", ())},
        7: {"nested": [np.zeros((0, 3)), np.array("x"), np.arange(3)[::-1]]},
        "tensors": (torch.tensor(2), torch.zeros(2, 3).T, torch.ones(3, dtype=torch.bfloat16)),
    }
    data, path = dump_state(state), tmp_path / "file"
    path.write_bytes(data)
    loaded = load_state(path)
    assert describe(loaded) == describe(state)
    assert loaded["tensors"][2].dtype == torch.bfloat16
    assert type(loaded["numbers"][6]) is np.float32
    for position in range(0, len(data), 3):
        path.write_bytes(flip(data, position))
        with pytest.raises(resuming.DamagedFileError):
            load_state(path)
    for wrong in (object(), {1}, np.array([None]), b"bytes"):
        raises(TypeError, "can hold", dump_state, {"a": [wrong]})


class Tracker(Callback):
    """Has learned a number, and what is no value: a function and a class."""

    def on_train_begin(self, net, **kwargs):
        self.path, self.score_, self.kind_, self.n_epochs_ = "mine", len, dict, 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs_ += 1 + self.score_([])

    @property
    def twice_(self):
        return 2 * self.n_epochs_


def test_only_learned_values_of_callbacks_are_stored_and_read(bags, tmp_path):
    path, trackers = tmp_path / "fit.ckpt", [Tracker() for _ in range(3)]
    classifier(checkpoint=path, max_iter=2, callbacks=trackers[:1]).fit(*bags)
    stored = load_state(path)
    assert stored["callbacks"]["Tracker"] == ({"n_epochs_": 2}, {})
    classifier(checkpoint=path, max_iter=3, callbacks=trackers[1:2]).fit(*bags)
    assert trackers[1].n_epochs_ == 3
    clf = classifier(checkpoint=path, callbacks=[trackers[2], COUNT])
    names = ["path", "__class__", "_own_", "on_epoch_end", "twice_", "score_", "kind_"]
    for part, name in [*((0, name) for name in names), (1, "path"), (1, "twice_")]:
        stored["callbacks"]["Tracker"][part][name] = "stranger's" if part == 0 else {}
        path.write_bytes(dump_state(stored))
        raises(ValueError, rf"fit.ckpt' holds \['{name}'\] .*'Tracker'", clf.fit, *bags)
        del stored["callbacks"]["Tracker"][part][name]
    assert not EPOCHS


def test_other_versions(table, tmp_path):
    path = tmp_path / "fit.ckpt"
    classifier(checkpoint=path).fit(*table)
    state = load_state(path)
    path.write_bytes(dump_state(state | {"format": 99}))
    raises(ValueError, r"has format 99 .* reads format 1", classifier(checkpoint=path).fit, *table)
    path.write_bytes(dump_state(state | {"version": "0.0.1"}))
    with pytest.warns(UserWarning, match=r"is of sklearn_moe 0.0.1"):
        classifier(checkpoint=path).fit(*table)


def test_a_write_that_fails_loses_nothing(table, tmp_path):
    folder = tmp_path / "fits"
    for callback in (
        at(2, lambda: folder.rename(tmp_path / "elsewhere"), "on_epoch_end"),
        hook("on_epoch_end", lambda net: net.history.record("figure", {1, 2})),  # cannot be stored
    ):
        clf = classifier(checkpoint=always(folder), callbacks=[callback])
        with pytest.warns(UserWarning, match=r"could not be written .* Training goes on"):
            clf.fit(*table)
        assert clf.n_iter_ == 6


# -- callbacks ----------------------------------------------------------------------------


def test_callbacks_of_skorch_go_on(table, tmp_path):
    solver = SolverParams("adam", schedule="constant")
    for i, callback in enumerate(
        [
            LRScheduler("ExponentialLR", gamma=0.5),
            LRScheduler("ReduceLROnPlateau", monitor="train_loss", patience=0, threshold=10.0),
            EarlyStopping("train_loss", 4, threshold=10.0, load_best=True, sink=str),
        ]
    ):
        whole = classifier(solver=solver, callbacks=[callback]).fit(*table)
        clf = classifier(solver=solver)
        resumed = crash_and_go_on(clf, table, tmp_path / f"{i}", callbacks=[callback])
        assert trained(resumed) == trained(whole), callback


def test_callbacks_of_the_library_go_on(bags, tmp_path):
    traces = [RoutingTrace(clusters=bags[1], every=2) for _ in range(2)]
    options = {"balance": "bias", "batch_size": 30}
    whole = classifier(**options, callbacks=[FreezeRouter(after=2), traces[0]]).fit(*bags)
    callbacks = [FreezeRouter(after=2), traces[1]]
    model = classifier(**options, checkpoint=always(tmp_path))
    stop(clone(model), bags, 4, *clone(callbacks, safe=False))
    resumed = model.set_params(callbacks=callbacks).fit(*bags)
    assert trained(resumed) == trained(whole)
    assert traces[1].epochs_.tolist() == [0, 2, 4, 6]
    for name in ("load_", "dispatch_entropy_", "experts_"):
        np.testing.assert_array_equal(getattr(traces[1], name), getattr(traces[0], name))


# -- names of values ----------------------------------------------------------------------


def test_descriptions_tell_values_apart_and_hold_no_address():
    def scaled(factor):
        return lambda x: factor * x

    def copied(value):
        try:
            return pickle.loads(pickle.dumps(value))
        except (pickle.PicklingError, AttributeError):  # a lambda
            return value

    rng = np.random.default_rng(0)
    values = [
        *(None, True, 1, 1.5, "1", (1,), [1], {1}, {1: 2}, {1: 3}),
        *(torch.relu, torch.tanh, np.tanh, Dropping, torch.nn.Linear),
        *(lambda x: x, lambda x: x + 1, scaled(2), scaled(3)),
        *(partial(jitter), partial(jitter, x=1), ROUTERS["topk"], SOLVERS["adam"]),
        *(np.zeros(3), np.zeros((3, 1)), np.zeros(3, int), np.array(["a", None], dtype=object)),
        *(torch.zeros(2), torch.ones(2), torch.nn.ReLU()),
        *(torch.nn.Dropout(0.1), torch.nn.Dropout(0.2)),
        *(csr_array(np.eye(2)), np.random.default_rng(1), np.random.default_rng(2)),
        *(rng.normal(size=9), rng.normal(size=9)),
    ]
    texts = [describe(value) for value in values]
    assert len(set(texts)) == len(texts)
    assert not any("0x" in text for text in texts)
    assert max(map(len, texts)) <= 120
    assert texts == [describe(copied(value)) for value in values]


# -- killed at random moments, also in the middle of a write ------------------------------


def kill_at_random_moments(n):
    """Return how many fits were killed, how many in a write, and from how many it went on well."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    X = np.random.default_rng(0).normal(size=(120, 3, 4))
    y = (X[:, 0, 0] > 0).astype(int)
    options = {"router": "topk", "balance": "bias", "max_iter": 8}
    model = classifier(**options, batch_size=30).fit(X, y)  # imports
    start = time.perf_counter()
    whole, seconds = trained(model.fit(X, y)), time.perf_counter() - start
    moments, fsync, killed, in_write, same = random.Random(0), os.fsync, 0, 0, 0
    while killed < n:
        with tempfile.TemporaryDirectory() as folder:
            moment = moments.uniform(0, 2 * seconds)
            if not (child := os.fork()):
                os.fsync = lambda file: time.sleep(0.01) or fsync(file)
                signal.setitimer(signal.ITIMER_REAL, moment)  # ends what does not handle it
                model.set_params(checkpoint=always(folder)).fit(X, y)
                os._exit(0)
            if os.WIFSIGNALED(os.waitpid(child, 0)[1]):  # else it was faster
                in_write += any(path.suffix == ".part" for path in Path(folder).iterdir())
                same += trained(model.set_params(checkpoint=folder).fit(X, y)) == whole
                killed += 1
    return killed, in_write, same


@pytest.mark.slow
def test_killed_at_random_moments():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        killed, in_write, same = pool.submit(kill_at_random_moments, 15).result(timeout=600)
    assert same == killed == 15
    assert in_write > 0
