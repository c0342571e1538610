"""A fit that was stopped at any moment goes on to the model of one that was not."""

import pickle
import signal
import zipfile
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from helpers import named
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn_moe.checkpoints import FitCheckpoint
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    LoadInitState,
    LRScheduler,
)
from tqdm import tqdm

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._training import callbacks as progress
from sklearn_moe._training import checkpoint as resuming
from sklearn_moe._training.checkpoint import (
    DamagedFileError,
    FitFile,
    describe,
    dump_state,
    load_state,
)
from sklearn_moe.callbacks import FreezeRouter, RoutingTrace
from sklearn_moe.nn import BALANCES, ROUTERS
from sklearn_moe.optim import SOLVERS

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_moe.exceptions.ExpertCollapseWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
BRIEF = {"n_experts": 3, "max_iter": 6, "tol": None, "random_state": 0}


class Crash(Callback):
    """End a fit in the middle of an epoch, as if the process had died."""

    def __init__(self, epoch, kind=RuntimeError):
        self.epoch, self.kind = epoch, kind

    def on_batch_end(self, net, training, **kwargs):
        if training and len(net.history) == self.epoch:
            if self.kind is KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
            raise self.kind


class Count(Callback):
    """Count the epochs that are run, of all copies."""

    total = 0

    def on_epoch_end(self, net, **kwargs):
        Count.total += 1


@pytest.fixture(autouse=True)
def count_from_zero():
    Count.total = 0


@pytest.fixture(scope="module")
def table():
    X = np.random.default_rng(0).normal(size=(90, 4))
    return X, np.array(["a", "b", "c"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0)]


@pytest.fixture(scope="module")
def bags():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(90, 3, 4))
    return X, (X[:, 0, 0] > 0).astype(int)


def always(path):
    return FitCheckpoint(path, every=0)


def trained(model):
    """Return all that a fit has made: weights, history, state of the optimizer."""
    return joblib.hash(model.set_params(checkpoint=None, callbacks=None))


def crash_and_go_on(model, data, path, epoch=4, kind=RuntimeError, callbacks=()):
    """Stop a fit in an epoch, and fit another estimator of the same parameters."""
    model.set_params(checkpoint=always(path))
    with pytest.raises(kind):
        model.set_params(callbacks=[*callbacks, Crash(epoch, kind)]).fit(*data)
    again = type(model)(**model.get_params()).set_params(callbacks=[*callbacks, Count()])
    return again.fit(*data)


class Dropping(torch.nn.Module):
    def __init__(self, input_shape, n_outputs):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(*input_shape, 5), torch.nn.Dropout(), torch.nn.Linear(5, n_outputs)
        )

    def forward(self, x):
        return self.layers(x)


def jitter(x):
    return x + 0.1 * torch.randn_like(x)


CONFIGURATIONS = [
    *({"router": router} for router in ROUTERS),
    *({"balance": balance, "router": "noisy_topk"} for balance in BALANCES),
    *({"solver": solver} for solver in SOLVERS),
    {"solver": "sgd", "momentum": 0.9, "learning_rate": "cosine"},
    {"solver": "normalized_sgd", "momentum": 0.5, "batch_size": 30},
    {"batch_size": 20},
    {"early_stopping": True},
    {"early_stopping": True, "n_iter_no_change": 4, "tol": 10.0, "max_iter": 100},
    {"router": "top1", "upcycle": 0.8},  # not yet split in epoch 4
    {"router": "top1", "upcycle": 0.4},
    {"router": "top1", "n_shared_experts": 1},
    {"train_transform": jitter},
    {"n_experts": 1},
    {"loss": "margin"},
]
TABLES = [
    {"expert": Dropping},
    {"router": "noisy_topk", "standardize": False},
    {"early_stopping": "out_of_bag", "tol": 1.0, "max_iter": 90},
    {"trunk": partial(Dropping, n_outputs=6)},
]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *(("table", options) for options in TABLES),
        *(("bags", options) for options in CONFIGURATIONS),
    ],
    ids=named,
)
def test_it_goes_on_to_the_same_model(kind, options, table, bags, tmp_path):
    data = {"table": table, "bags": bags}[kind]
    options = BRIEF | options
    whole = MoEClassifier(**options).fit(*data)
    resumed = crash_and_go_on(MoEClassifier(**options), data, tmp_path)
    assert Count.total == whole.n_iter_ - 3
    assert trained(resumed) == trained(whole)
    for model in (resumed, whole):
        model.set_params(early_stopping="auto").partial_fit(*data)
    assert trained(resumed) == trained(whole)


def test_pictures_behind_a_trunk(images, tmp_path):
    X, y = (array[:40] for array in images)
    options = {**BRIEF, "max_iter": 3, "expert_width": 4}
    whole = MoEClassifier(**options).fit(X, y)
    resumed = crash_and_go_on(MoEClassifier(**options), (X, y), tmp_path, epoch=2)
    assert trained(resumed) == trained(whole)


def test_a_memory_map_and_rows_of_no_weight(table, tmp_path):
    np.save(tmp_path / "X.npy", table[0])
    data = np.load(tmp_path / "X.npy", mmap_mode="r"), table[1], np.arange(90) % 3
    options = {**BRIEF, "early_stopping": True}
    whole = MoEClassifier(**options).fit(table[0], *data[1:])
    resumed = crash_and_go_on(MoEClassifier(**options), data, tmp_path / "fits")
    assert trained(resumed) == trained(whole)


@pytest.mark.parametrize("loss", ["squared_error", "gaussian"])
def test_a_regressor(table, tmp_path, loss):
    X = csr_array(np.where(table[0] > 0, table[0], 0))  # sparse, too
    data = X, table[0][:, :2]
    options = {**BRIEF, "loss": loss, "early_stopping": True}
    whole = MoERegressor(**options).fit(*data)
    resumed = crash_and_go_on(MoERegressor(**options), data, tmp_path)
    assert trained(resumed) == trained(whole)


@pytest.mark.parametrize("every", [0, 1e9])
@pytest.mark.parametrize("epoch", [1, 4])
def test_ctrl_c_goes_on_from_the_last_epoch(table, tmp_path, monkeypatch, every, epoch):
    monkeypatch.setattr(resuming, "_GLANCE", 0)
    where = FitCheckpoint(tmp_path, every=every)
    clf = MoEClassifier(**BRIEF, batch_size=20, checkpoint=where)
    with pytest.raises(KeyboardInterrupt):
        clf.set_params(callbacks=[Crash(epoch, KeyboardInterrupt)]).fit(*table)
    clf.set_params(callbacks=[Count()]).fit(*table)
    assert Count.total == 6 - (epoch - 1)
    assert trained(clf) == trained(MoEClassifier(**BRIEF, batch_size=20).fit(*table))


def test_ctrl_c_between_two_epochs(table, tmp_path):
    class Press(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3:
                signal.raise_signal(signal.SIGINT)

    clf = MoEClassifier(**BRIEF, checkpoint=tmp_path, callbacks=[Press()])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*table)
    clf.set_params(callbacks=[Count()]).fit(*table)  # it was no end of its own
    assert Count.total == 3
    assert trained(clf) == trained(MoEClassifier(**BRIEF).fit(*table))


def test_a_finished_fit_returns_at_once(table, tmp_path):
    stop = {"early_stopping": True, "tol": 10.0, "n_iter_no_change": 2, "max_iter": 100}
    for options in ({}, stop, {"callbacks": [EarlyStopping("train_loss", 2, threshold=10.0)]}):
        options = {**BRIEF, **options, "checkpoint": tmp_path / "made" / "by" / "fit"}
        first = MoEClassifier(**options).fit(*table)
        again = MoEClassifier(**options).set_params(callbacks=[Count()]).fit(*table)
        assert Count.total == 0
        assert trained(again) == trained(first)


def test_it_may_be_interrupted_again_and_again(table, tmp_path):
    options = {**BRIEF, "checkpoint": always(tmp_path), "batch_size": 20}
    for epoch in (2, 2, 3, 5):  # the second time at once
        with pytest.raises(RuntimeError):
            MoEClassifier(**options, callbacks=[Crash(epoch)]).fit(*table)
    whole = MoEClassifier(**BRIEF, batch_size=20).fit(*table)
    assert trained(MoEClassifier(**options).fit(*table)) == trained(whole)


def test_a_bar_shows_what_was_done(table, tmp_path, monkeypatch):
    bars = []

    def bar(**options):
        bars.append(options)
        return tqdm(disable=True, **options)

    monkeypatch.setattr(progress, "progress_bar", bar)
    crash_and_go_on(MoEClassifier(**BRIEF, verbose=1), table, tmp_path)
    assert [(bar["initial"], bar["total"]) for bar in bars] == [(0, 6), (3, 6)]


def test_partial_fit_neither_reads_nor_writes(table, tmp_path):
    clf = MoEClassifier(**BRIEF, checkpoint=tmp_path).partial_fit(*table, classes=list("abc"))
    assert clf.partial_fit(*table).n_iter_ == 2
    assert list(tmp_path.iterdir()) == []


def test_a_warm_start_is_a_fit_of_its_own(table, tmp_path):
    warm = {**BRIEF, "warm_start": True}
    whole = MoEClassifier(**warm).fit(*table).fit(*table)
    clf = MoEClassifier(**warm, checkpoint=always(tmp_path)).fit(*table)
    begun = pickle.loads(pickle.dumps(clf))
    with pytest.raises(RuntimeError):
        clf.set_params(callbacks=[Crash(9)]).fit(*table)
    begun.set_params(callbacks=[Count()]).fit(*table)
    assert Count.total == 4
    assert trained(begun) == trained(whole)


# -- random states ------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}], ids=named)
def test_what_an_unseeded_fit_draws_is_drawn_again(table, tmp_path, options):
    options = BRIEF | options | {"batch_size": 20}
    whole = MoEClassifier(**options | {"random_state": np.random.RandomState(5)}).fit(*table)
    # The global generator of NumPy must be where it was: the tests see to it.
    state = np.random.get_state()  # noqa: NPY002
    try:
        for seed in (5, 6):
            np.random.seed(seed)  # noqa: NPY002
            clf = MoEClassifier(**options | {"random_state": None}, checkpoint=always(tmp_path))
            if seed == 5:
                with pytest.raises(RuntimeError):
                    clf.set_params(callbacks=[Crash(3)]).fit(*table)
            else:
                clf.fit(*table)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    np.testing.assert_array_equal(clf.predict_proba(table[0]), whole.predict_proba(table[0]))
    assert clf.loss_curve_ == whole.loss_curve_


def test_a_generator_is_left_as_an_uninterrupted_fit_leaves_it(table, tmp_path):
    generators = [np.random.RandomState(0) for _ in range(3)]
    options = {**BRIEF, "batch_size": 20}
    MoEClassifier(**options | {"random_state": generators[0]}).fit(*table)
    for generator in generators[1:]:
        options |= {"random_state": generator, "checkpoint": always(tmp_path)}
        with pytest.raises(RuntimeError):
            MoEClassifier(**options, callbacks=[Crash(3)]).fit(*table)
    MoEClassifier(**options).fit(*table)
    assert generators[2].randint(2**31) == generators[0].randint(2**31)


# -- which file ---------------------------------------------------------------------------


def test_a_path_is_a_file_or_a_folder(table, tmp_path):
    (tmp_path / "v1.2").mkdir()
    for name in ("a/b/fit.ckpt", "c/d", "v1.2"):
        MoEClassifier(**BRIEF, checkpoint=str(tmp_path / name)).fit(*table)
    assert (tmp_path / "a" / "b" / "fit.ckpt").is_file()
    assert len(list((tmp_path / "c" / "d").iterdir())) == 1
    assert len(list((tmp_path / "v1.2").iterdir())) == 1


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("fit.ckpt", "disk/fit.ckpt", "fit.ckpt"),
        ("fit.ckpt", "disk/made/by.fit", "fit.ckpt"),
        ("fits", "disk/fits", "fits"),
        ("fits", "disk/fits", "fits/fit.ckpt"),
    ],
)
def test_what_is_written_goes_through_links(table, tmp_path, link, target, path):
    (tmp_path / "disk").mkdir()
    (tmp_path / link).symlink_to(target)
    options = {**BRIEF, "checkpoint": always(tmp_path / path), "callbacks": [Count()]}
    MoEClassifier(**options).fit(*table)
    assert (tmp_path / link).is_symlink()
    found = [tmp_path / target, *(tmp_path / target).glob("*")]
    assert any(name.is_file() for name in found)
    assert set(tmp_path.iterdir()) == {tmp_path / link, tmp_path / "disk"}
    MoEClassifier(**options).fit(*table)
    assert Count.total == BRIEF["max_iter"]


@pytest.mark.parametrize("name", ["fit.ckpt", "fits"])
def test_a_link_to_itself_is_refused(table, tmp_path, name):
    (tmp_path / name).symlink_to(name)
    with pytest.raises(OSError, match=rf"checkpoint='.*{name}' cannot be written"):
        MoEClassifier(**BRIEF, checkpoint=tmp_path / name).fit(*table)


OTHERS = {
    "X": lambda X, y: (np.where(X == X[7, 2], 0, X), y),
    "y": lambda X, y: (X, np.where(X[:, 0] == X[0, 0], "c", y)),
    "sample_weight": lambda X, y: (X, y, np.arange(1.0, len(y) + 1)),
    "n_experts": {"n_experts": 4},
    "tol": {"tol": 0.1},
    "random_state": {"random_state": 1},
    "activation": {"activation": "tanh"},
    "class_weight": {"class_weight": {"a": 2}},
    "train_transform": {"train_transform": jitter},
    "expert": {"expert": Dropping},
    "estimator": None,
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_fit_is_refused_by_a_file_and_welcome_in_a_folder(table, tmp_path, name):
    MoEClassifier(**BRIEF, checkpoint=tmp_path / "fit.ckpt").fit(*table)
    MoEClassifier(**BRIEF, checkpoint=tmp_path / "fits").fit(*table)
    change, data, kind = OTHERS[name], table, MoEClassifier
    options = BRIEF | change if isinstance(change, dict) else BRIEF
    if callable(change):
        data = change(*table)
    if change is None:
        data, kind = (table[0], table[0][:, 0]), MoERegressor
    before = (tmp_path / "fit.ckpt").read_bytes()
    with pytest.raises(ValueError, match=rf"of another fit. What differs: .*\b{name} \(was"):
        kind(**options, checkpoint=tmp_path / "fit.ckpt").fit(*data)
    assert (tmp_path / "fit.ckpt").read_bytes() == before
    kind(**options, checkpoint=tmp_path / "fits", callbacks=[Count()]).fit(*data)
    assert Count.total == 6
    assert len(list((tmp_path / "fits").iterdir())) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"verbose": 1},
        {"device": "cpu"},
        {"warm_start": True},
        {"n_experts": np.int64(3)},
        {"router": "soft"},  # what "auto" became
        {"train_transform": None, "callbacks": []},
    ],
    ids=named,
)
def test_what_changes_nothing_goes_on(table, tmp_path, options):
    MoEClassifier(**BRIEF, checkpoint=tmp_path / "fit.ckpt").fit(*table)
    options = BRIEF | {"callbacks": [Count()]} | options
    MoEClassifier(**options, checkpoint=FitCheckpoint(tmp_path / "fit.ckpt", every=3)).fit(*table)
    assert Count.total == 0


def test_each_state_is_written_once(table, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(FitFile, "write", lambda file, packed: written.append(packed))
    crash = Crash(4, KeyboardInterrupt)  # after which the last whole epoch would be written
    with pytest.raises(KeyboardInterrupt):
        MoEClassifier(**BRIEF, checkpoint=always(tmp_path), callbacks=[crash]).fit(*table)
    assert len(set(map(bytes, written))) == len(written) > 2


def test_a_shorter_fit_is_the_beginning_of_a_longer_one(bags, tmp_path):
    whole = MoEClassifier(**BRIEF).fit(*bags)
    for path in (tmp_path / "fits", tmp_path / "fit.ckpt"):
        Count.total = 0
        for epochs in (2, 4, 6, 6):
            options = BRIEF | {"max_iter": epochs, "checkpoint": path, "callbacks": [Count()]}
            clf = MoEClassifier(**options).fit(*bags)
        assert Count.total == 6
        assert trained(clf.set_params(max_iter=6)) == trained(whole)
    short = MoEClassifier(**BRIEF | {"max_iter": 2}, callbacks=[Count()])
    with pytest.raises(ValueError, match=r"holds 6 epochs .* more than max_iter=2"):
        short.set_params(checkpoint=tmp_path / "fit.ckpt").fit(*bags)
    short.set_params(checkpoint=tmp_path / "fits").fit(*bags)  # it has its own file there
    assert Count.total == 6
    assert short.n_iter_ == 2


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "adam", "learning_rate": "cosine"},
        {"router": "top1", "upcycle": 0.5},
    ],
    ids=named,
)
def test_where_the_course_depends_on_its_length_it_is_another_one(bags, tmp_path, options):
    MoEClassifier(**BRIEF | options, checkpoint=tmp_path / "fit.ckpt").fit(*bags)
    longer = MoEClassifier(**BRIEF | options | {"max_iter": 8}, callbacks=[Count()])
    with pytest.raises(ValueError, match=r"max_iter \(was 6, is 8\).* depends on max_iter"):
        longer.set_params(checkpoint=tmp_path / "fit.ckpt").fit(*bags)
    MoEClassifier(**BRIEF | options, checkpoint=tmp_path / "fits").fit(*bags)
    longer.set_params(checkpoint=tmp_path / "fits").fit(*bags)
    assert Count.total == 8


def test_an_unwritable_place_is_told_before_training(table, tmp_path):
    (tmp_path / "file").write_text("text")
    clf = MoEClassifier(**BRIEF, callbacks=[Count()])
    for path in ("file/fit.ckpt", "file/fits/all"):
        with pytest.raises(OSError, match=r"checkpoint='.*file.*' cannot be written"):
            clf.set_params(checkpoint=tmp_path / path).fit(*table)
    assert Count.total == 0
    with pytest.raises(ValueError, match="every must be at least 0"):
        FitCheckpoint(tmp_path, every=-1)
    with pytest.raises(ValueError, match="path of a file or folder, got ''"):
        clf.set_params(checkpoint="").fit(*table)


# -- searches -----------------------------------------------------------------------------


def test_a_search_goes_on(table, tmp_path):
    X, y = table
    grid = {"n_experts": [2, 3], "activation": ["relu", "tanh"]}
    options = BRIEF | {"max_iter": 3, "callbacks": [Count()]}
    expected = GridSearchCV(MoEClassifier(**options), grid, cv=2).fit(X, y)
    options["checkpoint"] = tmp_path / "fits"
    search = GridSearchCV(MoEClassifier(**options), grid, cv=2)
    search.fit(X, y)
    files = list((tmp_path / "fits").iterdir())
    assert len(files) == 2 * 4 + 1
    files[0].unlink()  # as if it had been stopped before that one
    Count.total = 0
    search.fit(X, y)
    assert Count.total == 3
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], expected.cv_results_[name])
    assert trained(search.best_estimator_) == trained(expected.best_estimator_)


def test_halving_by_epochs_goes_on_from_the_last_rung(bags, tmp_path):
    X, y = bags
    options = {
        **{"resource": "max_iter", "min_resources": 2, "max_resources": 8, "factor": 2},
        **{"cv": 2, "random_state": 0, "refit": False},
    }
    grid = {"learning_rate_init": [0.001, 0.01, 0.03, 0.1]}
    clf = MoEClassifier(**BRIEF, callbacks=[Count()])
    expected = HalvingGridSearchCV(clf, grid, **options).fit(X, y)
    assert Count.total == 2 * (4 * 2 + 2 * 4 + 1 * 8)
    Count.total = 0
    search = HalvingGridSearchCV(clf.set_params(checkpoint=tmp_path / "fits"), grid, **options)
    search.fit(X, y)
    assert Count.total == 2 * (4 * 2 + 2 * 2 + 1 * 4)
    scores = "mean_test_score"
    np.testing.assert_array_equal(search.cv_results_[scores], expected.cv_results_[scores])
    search.fit(X, y)  # once more, with nothing left to do in any rung
    assert Count.total == 2 * (4 * 2 + 2 * 2 + 1 * 4)
    np.testing.assert_array_equal(search.cv_results_[scores], expected.cv_results_[scores])


# -- damage -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_generations(table, tmp_path_factory):
    """Return the bytes of two generations of an interrupted fit, and of the whole fit's model."""
    path = tmp_path_factory.mktemp("fit") / "fit.ckpt"
    clf = MoEClassifier(**BRIEF, checkpoint=always(path), callbacks=[Crash(4)])
    with pytest.raises(RuntimeError):
        clf.fit(*table)
    previous = path.with_name("fit.ckpt.previous")
    whole = trained(MoEClassifier(**BRIEF).fit(*table))
    return path.read_bytes(), previous.read_bytes(), whole


def flip(data, position):
    damaged = bytearray(data)
    damaged[position] ^= 0x10
    return bytes(damaged)


DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "cut at the end": lambda data: data[:-1],
    "empty": lambda data: b"",
    "flipped": lambda data: flip(data, len(data) // 3),
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_the_previous_one_used(
    table, tmp_path, two_generations, damage
):
    newest, previous, whole = two_generations
    path = tmp_path / "fit.ckpt"
    path.write_bytes(DAMAGES[damage](newest))
    path.with_name("fit.ckpt.previous").write_bytes(previous)
    clf = MoEClassifier(**BRIEF, checkpoint=path, callbacks=[Count()])
    with pytest.warns(UserWarning, match=r"fit.ckpt' is damaged .* of 2 epochs"):
        clf.fit(*table)
    assert Count.total == 4
    assert trained(clf) == whole
    assert path.with_name("fit.ckpt.damaged").read_bytes() == DAMAGES[damage](newest)


def test_killed_between_two_generations(table, tmp_path, two_generations):
    path = tmp_path / "fit.ckpt"
    path.with_name("fit.ckpt.previous").write_bytes(two_generations[1])
    path.with_name("fit.ckpt.1-2.part").write_bytes(two_generations[0][:100])
    clf = MoEClassifier(**BRIEF, checkpoint=path, callbacks=[Count()]).fit(*table)
    assert Count.total == 4
    assert trained(clf) == two_generations[2]


@pytest.mark.parametrize("previous", [None, b"also"])
def test_what_is_no_checkpoint_is_left_alone(table, tmp_path, previous):
    path = tmp_path / "results.csv"
    path.write_text("mine")
    if previous:
        path.with_name("results.csv.previous").write_bytes(previous)
    with pytest.raises(ValueError, match=r"results.csv' is damaged, or no checkpoint"):
        MoEClassifier(**BRIEF, checkpoint=path).fit(*table)
    assert path.read_text() == "mine"


def test_every_flipped_bit_is_found_or_harmless(tmp_path):
    state = {"a": torch.arange(5.0), "b": [1, (2.5, None)], 3: np.eye(2)}
    data, path = dump_state(state), tmp_path / "file"
    found = 0
    for position in range(0, len(data), 3):
        path.write_bytes(flip(data, position))
        try:
            assert describe(load_state(path)) == describe(state)
        except DamagedFileError:
            found += 1
    assert found > 0.2 * len(data)  # the others are times and flags of the archive


def test_all_that_is_stored_comes_back(tmp_path):
    state = {
        "numbers": [1, 2.5, float("inf"), -0.0, True, None, np.float32(0.1), np.int64(3)],
        "texts": {"ä": ("b", ())},
        7: {"nested": [np.zeros((0, 3)), np.array("x"), np.arange(3)[::-1]]},
        "tensors": (torch.tensor(2), torch.zeros(2, 3).T, torch.ones(3, dtype=torch.bfloat16)),
    }
    (tmp_path / "file").write_bytes(dump_state(state))
    loaded = load_state(tmp_path / "file")
    assert describe(loaded) == describe(state)
    assert loaded["tensors"][2].dtype == torch.bfloat16
    assert type(loaded["numbers"][6]) is np.float32
    for wrong in (object(), {1}, np.array([None]), b"bytes"):
        with pytest.raises(TypeError, match="cannot hold"):
            dump_state({"a": [wrong]})


def test_a_checkpoint_of_a_stranger_runs_no_code(table, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    bomb = pickle.dumps(np.array([Bomb()], dtype=object))
    path = tmp_path / "fit.ckpt"
    np.save(tmp_path / "array.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("state.json", '{"dict": [["format", {"tensor": "0.npy"}]]}')
        archive.write(tmp_path / "array.npy", "0.npy")
    for content in (path.read_bytes(), bomb):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged, or no checkpoint"):
            MoEClassifier(**BRIEF, checkpoint=path).fit(*table)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("part", [0, 1], ids=["values", "states"])
@pytest.mark.parametrize("name", ["f_params", "dirname", "__class__", "on_epoch_end", "f_history_"])
def test_a_checkpoint_of_a_stranger_changes_no_callback(bags, tmp_path, name, part):
    victim, path = tmp_path / "victim", tmp_path / "fit.ckpt"
    victim.write_text("mine")
    kept = Checkpoint(dirname=tmp_path / "skorch", f_params="victim", monitor=None)
    MoEClassifier(**BRIEF | {"max_iter": 2}, checkpoint=path, callbacks=[kept]).fit(*bags)
    state = load_state(path)
    content = {"dirname": str(tmp_path)}.get(name, str(victim))
    state["callbacks"]["Checkpoint"][part][name] = content if part == 0 else {}
    path.write_bytes(dump_state(state))
    clf = MoEClassifier(**BRIEF, checkpoint=path, callbacks=[kept, Count()])
    with pytest.raises(ValueError, match=rf"fit.ckpt' holds \['{name}'\] .*'Checkpoint'"):
        clf.fit(*bags)
    assert Count.total == 0
    assert victim.read_text() == "mine"


class Tracker(Callback):
    """Has learned attributes that are no values: a function and a class."""

    def on_train_begin(self, net, **kwargs):
        self.score_, self.kind_, self.n_epochs_ = len, dict, 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs_ += 1
        assert self.score_([]) == 0


@pytest.mark.parametrize("name", ["score_", "kind_"])
def test_values_replace_values_only(bags, tmp_path, name):
    path = tmp_path / "fit.ckpt"
    options = {**BRIEF, "checkpoint": path}
    MoEClassifier(**options | {"max_iter": 2}, callbacks=[Tracker()]).fit(*bags)
    state = load_state(path)
    assert state["callbacks"]["Tracker"] == ({"n_epochs_": 2}, {})
    trackers = [Tracker(), Tracker()]
    MoEClassifier(**options | {"max_iter": 3}, callbacks=trackers[:1]).fit(*bags)
    assert trackers[0].n_epochs_ == 3
    state["callbacks"]["Tracker"][0][name] = 7
    path.write_bytes(dump_state(state))
    with pytest.raises(ValueError, match=rf"\['{name}'\]"):
        MoEClassifier(**options, callbacks=trackers[1:]).fit(*bags)


@pytest.mark.parametrize(
    ("head", "kind", "match"),
    [
        ({"format": 99}, ValueError, r"has format 99 .* reads format 1"),
        ({"version": "0.0.1"}, UserWarning, r"is of sklearn_moe 0.0.1"),
    ],
    ids=["format", "version"],
)
def test_other_versions(table, tmp_path, two_generations, head, kind, match):
    path = tmp_path / "fit.ckpt"
    path.write_bytes(two_generations[0])
    path.write_bytes(dump_state(load_state(path) | head))
    expected = pytest.warns if kind is UserWarning else pytest.raises
    with expected(kind, match=match):
        MoEClassifier(**BRIEF, checkpoint=path).fit(*table)


class Disturb(Callback):
    """Do something to the place of the checkpoint, or record what it cannot hold."""

    def __init__(self, folder=None):
        self.folder = folder

    def on_epoch_end(self, net, **kwargs):
        if self.folder is None:
            net.history.record("figure", {1, 2})
        elif len(net.history) == 2:
            self.folder.rename(self.folder.with_name("elsewhere"))


@pytest.mark.parametrize("what", ["folder", "history"])
def test_a_write_that_fails_loses_nothing(table, tmp_path, what):
    callback = Disturb(tmp_path / "fits" if what == "folder" else None)
    clf = MoEClassifier(**BRIEF, checkpoint=always(tmp_path / "fits"), callbacks=[callback])
    with pytest.warns(UserWarning, match=r"could not be written .* Training goes on"):
        clf.fit(*table)
    assert clf.n_iter_ == 6


# -- callbacks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "callback",
    [
        LRScheduler("ExponentialLR", gamma=0.5),
        LRScheduler("ReduceLROnPlateau", monitor="train_loss", patience=0, threshold=10.0),
        LRScheduler(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.01, total_steps=99),
        EarlyStopping("train_loss", patience=4, threshold=10.0, load_best=True),
    ],
    ids=lambda callback: f"{type(callback).__name__} {vars(callback).get('policy', '')}",
)
def test_callbacks_of_skorch_go_on(table, tmp_path, callback):
    options = {**BRIEF, "learning_rate": "constant", "solver": "adam"}
    if isinstance(callback, EarlyStopping):
        callback.sink = str
    whole = MoEClassifier(**options, callbacks=[callback]).fit(*table)
    resumed = crash_and_go_on(MoEClassifier(**options), table, tmp_path, callbacks=[callback])
    assert trained(resumed) == trained(whole)


def test_callbacks_of_the_library_go_on(bags, tmp_path):
    traces = [RoutingTrace(clusters=bags[1], every=2, max_records=3) for _ in range(2)]
    options = {**BRIEF, "balance": "bias", "batch_size": 30}
    whole = MoEClassifier(**options, callbacks=[FreezeRouter(after=2), traces[0]]).fit(*bags)
    callbacks = [FreezeRouter(after=2), traces[1]]
    model = MoEClassifier(**options, checkpoint=always(tmp_path))
    with pytest.raises(RuntimeError):
        clone(model).set_params(callbacks=[*clone(callbacks, safe=False), Crash(4)]).fit(*bags)
    resumed = model.set_params(callbacks=callbacks).fit(*bags)
    assert trained(resumed) == trained(whole)
    assert traces[1].epochs_.tolist() == [0, 4]
    for name in ("load_", "dispatch_entropy_", "router_gradient_norm_", "last_fluctuation_"):
        np.testing.assert_array_equal(getattr(traces[1], name), getattr(traces[0], name))


def test_load_init_state_is_for_the_start(table, tmp_path):
    kept = Checkpoint(dirname=tmp_path / "skorch", monitor="train_loss_best")
    MoEClassifier(**BRIEF, callbacks=[kept]).fit(*table)
    callbacks = [LoadInitState(kept)]
    whole = MoEClassifier(**BRIEF, callbacks=callbacks).fit(*table)
    assert whole.n_iter_ == 12
    resumed = crash_and_go_on(
        MoEClassifier(**BRIEF), table, tmp_path / "fits", epoch=9, callbacks=callbacks
    )
    assert Count.total == 4
    assert trained(resumed) == trained(whole)


# -- names of values ----------------------------------------------------------------------


def test_descriptions_tell_values_apart_and_hold_no_address():
    def scaled(factor):
        return lambda x: factor * x

    rng = np.random.default_rng(0)
    values = [
        *(None, True, 1, 1.5, "1", (1,), [1], {1}, {1: 2}, {1: 3}),
        *(torch.relu, torch.tanh, np.tanh, Dropping, torch.nn.Linear),
        *(lambda x: x, lambda x: x + 1, scaled(2), scaled(3)),
        *(partial(jitter), partial(jitter, x=1), ROUTERS["topk"], SOLVERS["adam"]),
        *(np.zeros(3), np.zeros((3, 1)), np.zeros(3, int), np.array(["a", None], dtype=object)),
        *(torch.zeros(2), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Dropout(0.2)),
        *(csr_array(np.eye(2)), np.random.default_rng(1), np.random.default_rng(2)),
        *(rng.normal(size=9), rng.normal(size=9)),
    ]
    texts = [describe(value) for value in values]
    assert len(set(texts)) == len(texts)
    assert not any("0x" in text for text in texts)
    assert max(map(len, texts)) <= 120
    assert texts == [describe(joblib_copy(value)) for value in values]


def joblib_copy(value):
    try:
        return pickle.loads(pickle.dumps(value))
    except (pickle.PicklingError, AttributeError):  # a lambda
        return value
