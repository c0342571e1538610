"""A fit that was stopped at any moment goes on to the model of one that was not."""

import os
import pickle
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from helpers import at, brief_fits, hook, named, press, raises, throw
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from skorch.callbacks import EarlyStopping, PrintLog

from sklearn_moe import MoEClassifier, MoERegressor, RouterParams, SolverParams
from sklearn_moe.callbacks import FreezeRouter, RoutingTrace

pytestmark = brief_fits
BRIEF = {"n_experts": 3, "max_iter": 6, "tol": None, "random_state": 0}
CRASH = partial(throw, RuntimeError)  # as if the process had died
EPOCHS = []  # that were run, by all copies
COUNT = hook("on_epoch_end", EPOCHS.append)


@pytest.fixture(autouse=True)
def count_from_zero_and_store_every_epoch(store_every_epoch):
    EPOCHS.clear()


@pytest.fixture(scope="module")
def table():
    X = np.random.default_rng(0).normal(size=(90, 4))
    return X, np.array(["a", "b", "c"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0)]


@pytest.fixture(scope="module")
def bags():
    X = np.random.default_rng(1).normal(size=(90, 3, 4))
    return X, (X[:, 0, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def images(bags):
    return bags[0].repeat(4, axis=1).reshape(90, 1, 12, 4).repeat(2, axis=3), bags[1]


def classifier(**options):
    return MoEClassifier(**BRIEF | {"expert": "auto"} | options)


def of_tables(**options):
    return classifier(expert="mlp", **options)


def trained(model):
    """Return all that a fit has made: weights, history, state of the optimizer."""
    return joblib.hash(model.set_params(checkpoint=None, callbacks=None))


def stop(model, data, epoch, *callbacks):
    """Stop a fit in an epoch."""
    with pytest.raises(RuntimeError):
        model.set_params(callbacks=[*callbacks, at(epoch, CRASH)]).fit(*data)


def crash_and_go_on(model, data, path, *epochs):
    """Stop a fit in some epochs, one after the other, and go on to its end."""
    for epoch in epochs or (4,):
        stop(model.set_params(checkpoint=path), data, epoch)
        model = type(model)(**model.get_params(deep=False))
    return model.set_params(callbacks=[COUNT]).fit(*data)


class Dropping(torch.nn.Sequential):
    def __init__(self, input_shape, n_outputs):
        layers = torch.nn.Linear(*input_shape, 5), torch.nn.Dropout(), torch.nn.Linear(5, n_outputs)
        super().__init__(*layers)


def jitter(x):
    return x + 0.1 * torch.randn_like(x)


# Pairwise: every router, solver and balance, and what has a state of its own.
BAGS = [
    {"router": "top1", "batch_size": 20, "solver": "sgd", "balance": "switch"},
    {"router": "sampled", "top_k": 2, "balance": "switch", "solver": "adamw"},
    {"router": "sampled", "balance": "bias", "train_transform": jitter},
    {"router": "soft", "early_stopping": True, "balance": "switch", "solver": "adam"},
    {"router": "top1", "solver": SolverParams("normalized_sgd", momentum=0.5), "batch_size": 30},
    {"router": RouterParams("top1", n_shared_experts=1), "loss": "margin"},
]
TABLES = [
    {"expert": Dropping},
    {"expert": "mlp", "early_stopping": "out_of_bag", "tol": 1.0, "max_iter": 90},
]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *(("table", options) for options in TABLES),
        *(("bags", options) for options in BAGS),
        ("images", {"expert": "cnn", "router": RouterParams(upcycling=0.5)}),
    ],
    ids=named,
)
def test_it_goes_on_to_the_same_model(kind, options, table, bags, images, tmp_path):
    data = {"table": table, "bags": bags, "images": images}[kind]
    whole = classifier(**options).fit(*data)
    resumed = crash_and_go_on(classifier(**options), data, tmp_path, 2, 2, 3, 4)  # once at once
    assert len(EPOCHS) == whole.n_iter_ - 3
    assert trained(resumed) == trained(whole)
    further = [m.set_params(early_stopping="auto").partial_fit(*data) for m in (resumed, whole)]
    assert trained(further[0]) == trained(further[1])


def test_samples_of_every_kind(table, images, tmp_path):
    np.save(tmp_path / "X.npy", table[0])
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    sparse = csr_array(np.maximum(table[0], 0))
    several = MoERegressor(**BRIEF, loss="gaussian", expert="mlp", early_stopping=True)
    pictures = classifier(max_iter=3, expert_width=4)
    for model, X, *data in (
        (pictures, images[0][:40], images[1][:40]),
        (of_tables(early_stopping=True), mapped, table[1], np.arange(90) % 3),
        (several, sparse, table[0][:, :2]),
    ):
        whole = clone(model).fit(X, *data)
        assert trained(crash_and_go_on(model, (X, *data), tmp_path, 2)) == trained(whole)


def test_ctrl_c_goes_on_from_the_last_epoch(table, tmp_path):
    whole = trained(of_tables(batch_size=20).fit(*table))
    for epoch, name, left in ((3, "on_epoch_end", 3), (1, "on_batch_end", 6)):
        clf = of_tables(batch_size=20, checkpoint=tmp_path / name)
        with pytest.raises(KeyboardInterrupt):
            clf.set_params(callbacks=[at(epoch, press, name)]).fit(*table)
        EPOCHS.clear()
        clf.set_params(callbacks=[COUNT]).fit(*table)  # Ctrl-C was no end of its own
        assert len(EPOCHS) == left
        assert trained(clf) == whole


def test_after_ctrl_c_a_pool_does_not_go_on_with_kinds_trained_on_few_rows(table, tmp_path):
    options = {"max_iter": 6, "random_state": 0}
    clf = MoEClassifier(**options, checkpoint=tmp_path)
    presses = [press]
    once = at(3, lambda: presses and presses.pop()())
    with pytest.raises(KeyboardInterrupt):
        clf.set_params(callbacks=[once]).fit(*table)
    whole = MoEClassifier(**options).fit(*table)
    assert trained(clf.set_params(callbacks=None).fit(*table)) == trained(whole)


def test_a_finished_fit_returns_at_once_whatever_watches_it(table, tmp_path):
    waits = {"early_stopping": True, "tol": 10.0, "n_iter_no_change": 2, "max_iter": 100}
    ends = EarlyStopping("train_loss", 2, threshold=10.0, sink=str)
    watch = [("trace", RoutingTrace()), PrintLog(sink=str), COUNT]
    others = {"verbose": 1, "device": "cpu", "warm_start": True, "router": "soft"}  # as "auto" is
    for options, callbacks in (({}, []), (waits, []), ({}, [ends])):
        options = {**options, "checkpoint": tmp_path / "made" / "by" / "fit"}
        first = of_tables(**options, callbacks=callbacks).fit(*table)
        again = of_tables(**options | others, callbacks=[*callbacks, *watch]).fit(*table)
        assert not EPOCHS
        np.testing.assert_array_equal(again.predict_proba(table[0]), first.predict_proba(table[0]))
        assert again.loss_curve_ == first.loss_curve_


def test_a_warm_start_is_a_fit_of_its_own(table, tmp_path):
    whole = of_tables(warm_start=True).fit(*table).fit(*table)
    clf = of_tables(warm_start=True, checkpoint=tmp_path).fit(*table)
    begun = pickle.loads(pickle.dumps(clf))
    stop(clf, table, 9)
    assert trained(begun.set_params(callbacks=[COUNT]).fit(*table)) == trained(whole)
    assert len(EPOCHS) == 4
    begun.set_params(checkpoint=tmp_path, callbacks=[COUNT]).fit(*table)
    assert len(EPOCHS) == 4 + 6


@pytest.mark.parametrize("epochs", [(3,), (7, 8, 9)], ids=str)
@pytest.mark.parametrize("kinds", ["auto", ["deep", KNeighborsClassifier(), "linear"]], ids=named)
def test_the_kinds_of_a_pool_are_parts_of_a_file(table, tmp_path, kinds, epochs):
    """A part that has ended is as it ended; one that was not begun starts anew."""
    options = {"expert": kinds, "max_iter": 6, "random_state": 0}
    whole = MoEClassifier(**options).fit(*table)
    epochs = [epoch for epoch in epochs if epoch < whole.n_iter_] or [4]
    resumed = crash_and_go_on(MoEClassifier(**options), table, tmp_path, *epochs)
    assert len(EPOCHS) == whole.n_iter_ - epochs[-1] + 1
    assert trained(resumed) == trained(whole)
    EPOCHS.clear()
    again = MoEClassifier(**options, checkpoint=tmp_path, callbacks=[COUNT]).fit(*table)
    assert not EPOCHS
    assert trained(again) == trained(whole)


# -- random states ------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", ["auto", True])
def test_what_was_drawn_is_drawn_again(table, tmp_path, early_stopping, monkeypatch):
    """Of NumPy's global generator, in whose place there is another one."""
    model = of_tables(batch_size=20, early_stopping=early_stopping)
    generator = np.random.RandomState(5)
    whole = clone(model).set_params(random_state=generator).fit(*table)
    clf = model.set_params(checkpoint=tmp_path / "unseeded", random_state=None)
    for seed in (5, 6):
        # In its place: the tests leave NumPy's generator as it is.
        monkeypatch.setattr("numpy.random.mtrand._rand", np.random.RandomState(seed))
        stop(clf, table, 3) if seed == 5 else clf.set_params(callbacks=None).fit(*table)
    np.testing.assert_array_equal(clf.predict_proba(table[0]), whole.predict_proba(table[0]))


# -- which file ---------------------------------------------------------------------------


def test_an_unwritable_place_is_told_before_training(table, tmp_path):
    (tmp_path / "file").write_text("text")
    clf = of_tables(callbacks=[COUNT])
    for path in ("file/fit.ckpt", "file/fits/all"):
        with pytest.raises(OSError, match=rf"checkpoint='.*{path}' cannot be written"):
            clf.set_params(checkpoint=tmp_path / path).fit(*table)
    assert not EPOCHS
    with pytest.raises(ValueError, match="path of a file or folder, got ''"):
        clf.set_params(checkpoint="").fit(*table)
    clf.set_params(checkpoint=tmp_path, train_transform=lambda x: x)
    raises(ValueError, "some cannot be pickled .*Define functions", clf.fit, *table)


def test_another_fit_is_refused_by_a_file_and_welcome_in_a_folder(table, tmp_path):
    X, y = table
    others = [
        (of_tables(), (np.where(X == X[7, 2], 0, X), y)),
        (of_tables(), (X, np.where(X[:, 0] == X[0, 0], "c", y))),
        (of_tables(), (X, y, np.arange(1.0, len(y) + 1))),
        (MoERegressor(**BRIEF, expert="mlp"), (X, X[:, 0])),
        (of_tables().set_params(balance__weight=0.1), table),
        *((of_tables(random_state=np.random.RandomState(seed)), table) for seed in (0, 1)),
        *((of_tables(callbacks=[FreezeRouter(after)]), table) for after in (3, 4)),
        (of_tables(train_transform=jitter), table),
    ]
    # What is behind a link is written, not the link; folders are made.
    file, folder = tmp_path / "fit.ckpt", tmp_path / "fits"
    file.symlink_to("disk/made/by.fit")
    for path in (file, folder):
        of_tables(checkpoint=path).fit(*table)
    assert file.is_symlink()
    before = file.read_bytes()
    for model, data in others:
        with pytest.raises(ValueError, match=r"fit' belongs to another fit: other data or param"):
            model.set_params(checkpoint=file).fit(*data)
        EPOCHS.clear()
        model.set_params(checkpoint=folder, callbacks=[*(model.callbacks or ()), COUNT]).fit(*data)
        assert len(EPOCHS) == 6
    assert file.read_bytes() == before
    assert len(list(folder.iterdir())) == len(others) + 1


# -- damage -------------------------------------------------------------------------------


def test_what_is_damaged_or_no_checkpoint_is_refused_and_runs_no_code(table, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    path = tmp_path / "fit.ckpt"
    stop(of_tables(checkpoint=path), table, 4)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[2000] ^= 0x10
    bomb = pickle.dumps(np.array([Bomb()], dtype=object))
    for damaged in (whole[:-1], b"", bytes(flipped), b"mine", bomb):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"fit.ckpt' belongs to another fit: .*is damaged"):
            of_tables(checkpoint=path).fit(*table)
        assert path.read_bytes() == damaged
    assert not (tmp_path / "exploded").exists()
    path.write_bytes(whole)
    resumed = of_tables(checkpoint=path, callbacks=[COUNT]).fit(*table)
    assert len(EPOCHS) == 3
    assert trained(resumed) == trained(of_tables().fit(*table))


def test_a_write_that_fails_loses_nothing(table, tmp_path):
    folder = tmp_path / "fits"
    move = at(2, lambda: folder.rename(tmp_path / "elsewhere"), "on_epoch_end")
    clf = of_tables(checkpoint=folder, callbacks=[move])
    with pytest.warns(UserWarning, match=r"could not be written .* Training goes on"):
        clf.fit(*table)
    assert clf.n_iter_ == 6


def test_a_process_that_dies_in_a_write_goes_on_from_the_last_one(table, tmp_path, monkeypatch):
    writes = []

    def die(file):
        writes.append(file)
        if len(writes) == 4:
            raise SystemExit

    monkeypatch.setattr(os, "fsync", die)
    clf = of_tables(checkpoint=tmp_path)
    with pytest.raises(SystemExit):
        clf.fit(*table)
    assert {path.suffix for path in tmp_path.iterdir()} == {".part", ".checkpoint"}
    resumed = clf.set_params(callbacks=[COUNT]).fit(*table)
    assert len(EPOCHS) == 3
    assert trained(resumed) == trained(of_tables().fit(*table))


def test_callbacks_of_the_library_go_on(bags, tmp_path):
    traces = [RoutingTrace(clusters=bags[1], every=2) for _ in range(2)]
    options = {"balance": "bias", "batch_size": 30}
    whole = classifier(**options, callbacks=[FreezeRouter(after=2), traces[0]]).fit(*bags)
    callbacks = [FreezeRouter(after=2), traces[1]]
    model = classifier(**options, checkpoint=tmp_path)
    stop(clone(model), bags, 4, *clone(callbacks, safe=False))
    resumed = model.set_params(callbacks=callbacks).fit(*bags)
    assert trained(resumed) == trained(whole)
    assert traces[1].epochs_.tolist() == [0, 2, 4, 6]
    for name in ("load_", "dispatch_entropy_", "experts_"):
        np.testing.assert_array_equal(getattr(traces[1], name), getattr(traces[0], name))
