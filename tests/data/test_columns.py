"""What becomes of a table, part by part: each against a slow and obvious reference in float64."""

import math
import tracemalloc
from itertools import repeat
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch
from helpers import SKLEARN_1_6
from scipy.sparse import csr_array
from skorch.history import History

from sklearn_moe import MoEClassifier, RouterParams, SolverParams
from sklearn_moe._data import rows as _rows
from sklearn_moe._data.categories import Categories, find_categories
from sklearn_moe._data.frames import read_table
from sklearn_moe._data.statistics import describe_columns
from sklearn_moe._training import Callback, Stopping
from sklearn_moe._training.callbacks import StopTraining
from sklearn_moe.nn import MLPExpert
from sklearn_moe.nn.encoders import TableEncoder

NAN = float("nan")


# -- columns ------------------------------------------------------------------------------


def draw_table(n=61):
    """Return columns of every kind, and weights."""
    rng = np.random.default_rng(0)
    some = rng.random(n) < 0.3
    X = np.stack(
        [
            rng.normal(1e4, 1, n),  # far from 0
            rng.choice([-1.0, 2.0], n),
            np.where(some, NAN, rng.lognormal(size=n)),
            np.full(n, NAN),
            rng.integers(0, 5, n),
            np.where(some, NAN, rng.choice([7.0, 7.5], n)),
            np.zeros(n),
        ],
        axis=1,
    )
    return X, rng.uniform(0.1, 3, n)


def center_and_scale(column, weight):
    """Return those of one column, everything written out."""
    known = ~np.isnan(column)
    column, weight = column[known], weight[known]
    values = np.unique(column)
    if len(values) < 2:  # has no effect
        return (values[0] if len(values) else 0), np.inf
    if len(values) == 2:
        return values[0], values[1] - values[0]
    mean = np.average(column, weights=weight)
    return mean, np.sqrt(np.average((column - mean) ** 2, weights=weight))


def assert_described(columns, X, weight):
    expected = np.array([center_and_scale(column, weight) for column in X.T])
    np.testing.assert_allclose(columns.scale, expected[:, 1], rtol=1e-7)
    np.testing.assert_allclose(columns.center, expected[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 90, 2**20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_center_and_scale_of_columns(monkeypatch, chunk, dtype):
    monkeypatch.setattr(_rows, "_CHUNK", chunk)
    X, weight = (array.astype(dtype) for array in draw_table())
    X.flags.writeable = False
    columns = describe_columns(X, weight)
    assert columns.numeric == tuple(range(7))
    assert columns.with_missing == (2, 5)  # one without any value tells nothing
    assert columns.categories == columns.n_categories == ()
    assert_described(columns, X.astype(np.float64), weight.astype(np.float64))


def test_categorical_columns_are_counted_and_no_numbers():
    X, weight = draw_table()
    columns = describe_columns(X, weight, [1, 4])
    assert columns.categories == (1, 4)
    assert columns.n_categories == (3, 5)  # codes 0 ... 2 and 0 ... 4
    assert columns.numeric == (0, 2, 3, 5, 6)
    assert columns.with_missing == (1, 3)
    assert_described(columns, X[:, columns.numeric], weight)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_columns_are_those_of_the_dense_array(dtype):
    draws = np.random.default_rng(0).random((50, 7))
    X = np.where(draws < 0.3, draws, 0)
    X[:, 5], X[:, 6] = X[:, 5] > 0, 0
    X, weight = X.astype(dtype), draw_table(50)[1].astype(dtype)
    assert_described(describe_columns(csr_array(X), weight), X.astype(np.float64), weight)


@pytest.mark.parametrize("kind", ["dense", "missing", "sparse"])
@pytest.mark.parametrize("value", [0.1, -1e-9, 1e10 / 3])
@pytest.mark.parametrize("n", [3, 7, 1000])
def test_a_constant_column_has_no_effect_whatever_is_rounded(kind, value, n):
    X, weight = np.full((n, 1), value), draw_table(n)[1]
    X[1:2] = NAN if kind == "missing" else value
    columns = describe_columns(csr_array(X) if kind == "sparse" else X, weight)
    assert columns.scale == (np.inf,)
    assert columns.center == pytest.approx((value,), rel=1e-14)


@pytest.mark.parametrize("make", [np.asarray, csr_array])
@pytest.mark.parametrize("spread", [0, 1])
def test_far_values_count_for_neither_center_nor_scale(make, spread):
    rng = np.random.default_rng(0)
    X = np.where(rng.random((2000, 4)) < 0.3, rng.normal(3, 1, (2000, 4)), 0.0)
    X[:, 1] *= rng.random(2000) < 0.1  # nearly always 0
    X[:, 2] = X[:, 2] > 0
    X[:, 3] = rng.normal(size=2000)
    weight = rng.uniform(0.1, 3, 2000) if spread else np.ones(2000)
    far = X.copy()
    far[:3] = [[1e4], [1e9], [-999]]
    seen = describe_columns(make(far), weight)
    expected = describe_columns(make(X[3:]), weight[3:])
    for ours, theirs in zip(seen, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert seen.center[2] == 0  # of two values, as before
    assert seen.scale[2] == 1


def test_values_that_are_many_or_near_are_not_far():
    rng = np.random.default_rng(0)
    X = np.stack([rng.exponential(size=500), np.repeat([0.0, 100.0], 250)], axis=1)
    X[:50, 1] = 1000  # a tenth
    columns = describe_columns(X, np.ones(500))
    np.testing.assert_allclose(columns.center, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(columns.scale, X.std(axis=0), rtol=1e-12)


def test_rows_repeated_have_the_same_far_values():
    rng = np.random.default_rng(0)
    X, weight = rng.standard_cauchy((300, 3)), rng.integers(1, 4, 300)
    X[7] = 1e4
    weighted = describe_columns(X, weight.astype(float))
    repeated = describe_columns(X.repeat(weight, 0), np.ones(weight.sum()))
    np.testing.assert_allclose(weighted.scale, repeated.scale, rtol=1e-9)
    assert (np.array(weighted.scale) < X.std(axis=0) / 1.5).all()


def test_a_missing_value_stands_for_the_mean_of_two_values_too():
    X = np.array([[0.0, 5.0], [0.0, 7.0], [1.0, 9.0], [NAN, 1.0]])
    encoder = TableEncoder(describe_columns(X, np.array([1.0, 1.0, 2.0, 1.0])))
    half, marked = encoder(torch.tensor([[NAN, NAN]]).double())[0, [0, 2]].tolist()
    assert half == pytest.approx(0.5 / math.sqrt(1 + (0.5 / 3) ** 2))
    assert marked == 1


def test_a_sole_category_has_no_effect():
    X = np.array([[0.0, 0.0, NAN], [0.0, NAN, NAN], [0.0, 0.0, NAN]])
    columns = describe_columns(X, np.ones(3), [0, 1, 2])
    assert columns.n_categories == (0, 1, 0)  # whether the second is missing tells something


def test_centers_stay_in_float64_whatever_the_type_of_the_module():
    t = 1.7e9 + np.arange(100.0)
    encoder = TableEncoder(describe_columns(t[:, None], np.ones(100))).float()
    assert encoder.center.dtype == torch.float64
    z = encoder(torch.from_numpy(t[:, None]))[:, 0]
    assert (z.diff() > 0).all()
    other = TableEncoder(describe_columns(t[:, None], np.ones(100))).float()
    other.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(other.center, encoder.center, rtol=0, atol=0)


def test_a_memory_map_is_read_chunk_by_chunk(monkeypatch, tmp_path):
    X = np.random.default_rng(0).normal(size=(100_000, 5)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    monkeypatch.setattr(_rows, "_CHUNK", 10_000)
    weight = np.ones(len(X), dtype=np.float32)
    tracemalloc.start()
    columns = describe_columns(mapped, weight)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < X.nbytes / 4
    np.testing.assert_allclose(columns.center, X.mean(0, dtype=float), atol=1e-12)


# -- experts ---------------------------------------------------------------------------


def test_what_another_factory_made_of_an_expert_stays():
    def with_dropout(input_shape, n_outputs):
        expert = MLPExpert(input_shape, n_outputs)
        expert.insert(0, torch.nn.Dropout(0.5))
        return expert

    clf = MoEClassifier(3, expert=with_dropout, max_iter=2, tol=None, random_state=0)
    clf.fit(np.eye(20), np.arange(20) % 2)
    assert all(isinstance(expert[0], torch.nn.Dropout) for expert in clf.module_.experts)


# -- categories ---------------------------------------------------------------------------

COLORS = ["red", "blue", None, "red", "green"]
CODES = [2, 0, NAN, 2, 1]  # in the order of the alphabet
SEEN = ["blue", "black", None, "green", "red"]  # one of them not known
CODES_SEEN = [0, NAN, NAN, 1, 2]
NUMBERS = [0.5, 1.5, NAN, 3.5, 4.5]


def in_pandas(colors, dtype):
    colors = pandas.Series(colors, dtype=dtype)
    return pandas.DataFrame({"size": NUMBERS, "color": colors, "n": range(5)})


def in_polars(colors, dtype):
    polars = pytest.importorskip("polars")
    known = sorted({*COLORS, *SEEN} - {None})
    dtype = polars.Enum(known) if dtype == "Enum" else getattr(polars, dtype)
    colors = polars.Series(colors, dtype=dtype)
    return polars.DataFrame({"size": NUMBERS, "color": colors, "n": range(5)})


def learn(X, chosen, weight=None):
    """Return the categories of a table, learned with weights that are 1 by default."""
    return Categories(find_categories(X, chosen)).fit(
        X, np.ones(len(X)) if weight is None else weight
    )


FRAMES = [(in_pandas, dtype) for dtype in ("category", "object", "string", "str")]
FRAMES += [(in_polars, dtype) for dtype in ("Categorical", "String", "Enum")]


@pytest.mark.parametrize("chosen", ["from_dtype", ["color"], [1], [False, True, False]])
@pytest.mark.parametrize(("make", "dtype"), FRAMES)
def test_categories_of_a_frame(make, dtype, chosen):
    categories = learn(make(COLORS, dtype), chosen)
    assert categories.columns == [1]
    assert categories.values == [["blue", "green", "red"]]
    for colors, codes in ((COLORS, CODES), (SEEN, CODES_SEEN)):
        encoded, dtype_of_training = read_table(make(colors, dtype), categories)
        expected = np.stack([NUMBERS, codes, range(5)], axis=1)
        np.testing.assert_array_equal(encoded, expected)
        assert dtype_of_training == np.float64  # that of the sizes


@pytest.mark.parametrize("missing", [None, np.nan, pandas.NA])
@pytest.mark.parametrize("values", [["b", "a"], [2, 1], [2.5, 1.5], [True, False]])
def test_whatever_is_missing_has_no_code(missing, values):
    frame = pandas.DataFrame({"c": pandas.Series([*values, missing], dtype=object)})
    for X in (frame, frame.astype("category")):
        codes = learn(X, ["c"]).encode(X)[0]
        np.testing.assert_array_equal(codes, [1, 0, NAN])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, object])
def test_categories_of_an_array(dtype):
    X = np.array([[7, 1], [3, 2], [9, 3], [3, 4]]).astype(dtype)
    categories = learn(X, [0])
    before = X.copy()
    encoded, _ = read_table(X, categories)
    np.testing.assert_array_equal(encoded, [[1, 1], [0, 2], [2, 3], [0, 4]])
    X[0, 0] = 5
    np.testing.assert_array_equal(categories.encode(X)[0], [NAN, 0, 2, 0])
    np.testing.assert_array_equal(X[1:], before[1:])


def test_the_rarest_of_many_categories_are_one():
    names = [f"{i:03}" for i in range(150)]
    often = pandas.DataFrame({"c": names[:60] * 3 + names[60:]})
    asked = pandas.DataFrame({"c": [*names, "new"]})
    codes = learn(often, "from_dtype").encode(asked)[0]
    assert len(np.unique(codes[:60])) == 60
    assert len(np.unique(codes[:-1])) == 100
    assert np.isnan(codes[-1])
    # Rare is what weighs little, however often it comes.
    weight = np.where(often["c"].isin(names[:60]), 0.01, 1.0)
    codes = learn(often, "from_dtype", weight).encode(asked)[0]
    assert len(np.unique(codes[60:-1])) == 90
    assert len(np.unique(codes[:-1])) == 100


def test_what_is_no_category_and_what_is_not_there():
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [True, False], "c": ["x", "y"]})
    assert find_categories(frame[["a", "b"]], "from_dtype") == []
    assert find_categories(frame[["a", "b"]], None) == []
    assert find_categories(np.eye(2), "from_dtype") == []
    assert find_categories(frame, ["b"]) == [1]
    with pytest.raises(ValueError, match="not a column" if SKLEARN_1_6 else "nope"):
        find_categories(frame, ["nope"])
    with pytest.raises(ValueError, match=r"all features must be in \[0, 2\]"):
        find_categories(frame, [3])
    with pytest.raises(ValueError, match=r"(?s)Columns \['c'\] hold categories.*make_column_trans"):
        find_categories(frame, None)


# -- the course of training ---------------------------------------------------------------


def run(scores, name, n_batches=None, **options):
    """Return the epochs run and the weight kept, that of epoch e being e."""
    net = SimpleNamespace(history=History(), module_=torch.nn.PReLU())
    stopping = Stopping(score=None if name == "train_loss" else name, **options).initialize()
    for epoch, (score, count) in enumerate(zip(scores, n_batches or repeat(50), strict=False)):
        net.history.new_epoch()
        for entry in {"train_batch_count": count, "train_loss": 1.0, name: score}.items():
            net.history.record(*entry)
        torch.nn.init.constant_(net.module_.weight, epoch)
        try:
            stopping.on_epoch_end(net)
        except StopTraining:
            break
    stopping.on_train_end(net)
    return epoch + 1, net.module_.weight.item(), stopping.converged_


@pytest.mark.parametrize(("name", "sign"), [("oob_loss", 1), ("valid_loss", 1), ("valid_r2", -1)])
def test_stopping_returns_to_the_least_loss_or_the_largest_score(name, sign):
    scores = [sign * score for score in (3, 2, 1, 0, 4, -1, *[5] * 40)]
    assert run(scores, name, tol=0.0, patience=3) == (9, 5, True)
    assert run(scores, name, tol=0.0, patience=1) == (5, 3, True)
    assert run(scores, name, tol=0.0, patience=3, share=0.5) == (12, 5, True)
    assert run(scores, name, tol=None, patience=1) == (46, 5, False)
    assert run(scores[:6], name, tol=0.0, patience=3) == (6, 5, False)


@pytest.mark.parametrize(("loss", "epochs"), [(0.0, 1), (0.9e-3, 1), (1.1e-3, 3)])
def test_a_training_loss_below_the_tolerance_ends_it(loss, epochs):
    assert run([loss] * 9, "train_loss", tol=1e-3, patience=2)[0] == epochs


def test_fifty_steps_are_waited_for_at_least():
    """Those of the epochs themselves: the first one may have had more batches than the others."""
    n_batches = [100, *[7] * 30]  # eight epochs of 7 steps have 50
    assert run([0] * 31, "valid_loss", n_batches, tol=0.0, patience=3) == (9, 0, True)
    assert run([0] * 31, "valid_loss", n_batches, tol=0.0, patience=12) == (13, 0, True)


class Rates(Callback):
    """Remember the rate of every parameter group in every step."""

    def __init__(self):
        self.seen = []

    def on_grad_computed(self, net, **kwargs):
        self.seen.append([group["lr"] for group in net.optimizer_.param_groups])


@pytest.mark.parametrize("again", [False, True])
def test_rates_rise_over_a_twentieth_and_fall_by_a_cosine(again):
    X = np.random.default_rng(0).normal(size=(50, 2))
    rates = Rates()
    clf = MoEClassifier(
        2,
        solver=SolverParams(schedule="cosine"),
        learning_rate_init=0.2,
        router=RouterParams(learning_rate=0.1),
        batch_size=5,
        max_iter=8,
        early_stopping=False,
        callbacks=[rates],
        warm_start=True,
        random_state=0,
    ).fit(X, X[:, 0] > 0)
    if again:
        rates.seen.clear()
        clf.fit(X, X[:, 0] > 0)
    of_experts, of_router = np.array(rates.seen).T
    rise = np.minimum(1, np.arange(1, 81) / 4)
    expected = 0.1 * rise * (1 + np.cos(np.pi * np.arange(80) / 80))
    np.testing.assert_allclose(of_experts, expected)
    np.testing.assert_allclose(of_router, expected / 2)
    assert of_experts.argmax() == 3
    assert of_experts[0] == pytest.approx(0.05)
    assert of_experts[-1] < 1e-3 * of_experts.max()
