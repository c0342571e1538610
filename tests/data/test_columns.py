"""Statistics of columns, against a slow and obvious reference in float64."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from sklearn_moe import MoERegressor
from sklearn_moe._data import tables
from sklearn_moe._data.statistics import describe_columns
from sklearn_moe.nn.encoders import TableEncoder

NAN = float("nan")


def draw_table(n=61):
    """Return columns of every kind, and weights."""
    rng = np.random.default_rng(0)
    some = rng.random(n) < 0.3
    columns = [rng.normal(1e4, 1, n), rng.choice([-1.0, 2.0], n)]  # the first is far from 0
    columns += [np.where(some, NAN, rng.lognormal(size=n)), np.full(n, NAN)]
    columns += [rng.integers(5, size=n), np.where(some, NAN, rng.choice([7.0, 7.5], n))]
    columns += [np.zeros(n)]
    return np.stack(columns, axis=1), rng.uniform(0.1, 3, n)


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


@pytest.mark.parametrize(("chunk", "dtype"), [(1, "f8"), (90, "f4"), (2**20, "f8")])
def test_center_and_scale_of_columns(monkeypatch, chunk, dtype):
    monkeypatch.setattr(tables, "N_NUMBERS_READ", chunk)
    X, weight = (array.astype(dtype) for array in draw_table())
    X.flags.writeable = False
    columns = describe_columns(X, weight)
    assert columns.numeric == tuple(range(7))
    assert columns.with_missing == (2, 5)  # one without any value tells nothing
    assert columns.categories == columns.n_categories == ()
    assert_described(columns, X.astype(np.float64), weight.astype(np.float64))


def test_categorical_columns_are_counted_and_not_measured():
    X, weight = draw_table()
    columns = describe_columns(X, weight, [1, 4])
    assert columns.categories == (1, 4)
    assert columns.n_categories == (3, 5)  # codes 0 ... 2 and 0 ... 4
    assert columns.numeric == (0, 2, 3, 5, 6)
    assert columns.with_missing == (1, 3)
    assert_described(columns, X[:, columns.numeric], weight)
    sole = np.array([[0.0, 0.0, NAN], [0.0, NAN, NAN], [0.0, 0.0, NAN]])
    columns = describe_columns(sole, np.ones(3), [0, 1, 2])
    assert columns.n_categories == (0, 1, 0)  # whether the second is missing tells something


def test_sparse_columns_are_those_of_the_dense_array():
    for dtype in (np.float32, np.float64):
        draws = np.random.default_rng(0).random((50, 7))
        X = np.where(draws < 0.3, draws, 0)
        X[:, 5], X[:, 6] = X[:, 5] > 0, 0
        X, weight = X.astype(dtype), draw_table(50)[1].astype(dtype)
        assert_described(describe_columns(csr_array(X), weight), X.astype(np.float64), weight)


@pytest.mark.parametrize("rest", [1.0, 1000.0])
def test_entries_of_one_place_are_summed_in_a_copy(rest):
    X = np.where(np.random.default_rng(0).random((200, 3)) < 0.3, np.arange(600).reshape(-1, 3), 0)
    sums = csr_array(X / 64)  # so that nothing is rounded
    parts = np.stack([sums.data + rest, np.full(sums.nnz, -rest)], axis=1)
    given = csr_array((parts.ravel(), sums.indices.repeat(2), 2 * sums.indptr), shape=X.shape)
    model = MoERegressor(2, max_iter=2, random_state=0)
    expected = model.fit(sums, X[:, 0]).predict(sums)
    np.testing.assert_array_equal(model.fit(given, X[:, 0]).predict(given), expected)
    assert given.nnz == 2 * sums.nnz


def test_a_constant_column_has_no_effect_whatever_is_rounded():
    for value, n in product((0.1, -1e-9, 1e10 / 3), (3, 7, 1000)):
        X, weight = np.full((n, 1), value), draw_table(n)[1]
        holed = np.append([[NAN]], X[1:], axis=0)
        for given in (X, holed, csr_array(X)):
            columns = describe_columns(given, weight)
            assert columns.scale == (np.inf,)
            assert columns.center == pytest.approx((value,), rel=1e-14)


@pytest.mark.parametrize(("make", "spread"), [(np.asarray, 0), (np.asarray, 1), (csr_array, 1)])
def test_far_values_count_for_neither_center_nor_scale(make, spread):
    rng = np.random.default_rng(0)
    X = np.where(rng.random((2000, 4)) < 0.3, rng.normal(3, 1, (2000, 4)), 0.0)
    X[:, 1] *= (rng.random(2000) < 0.1) * (1 if spread else -1)  # nearly always 0
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


def test_few_values_beyond_five_times_the_distance_of_the_tails_are_far():
    near = np.append(np.repeat([1.0, 2.0, 3.0], 100), [12.9, 13.1])  # 3 + 5 (3 - 1)
    many = np.repeat([0.0, 100.0, 1000.0], [250, 200, 50])  # a tenth
    tail = np.random.default_rng(0).exponential(size=500)
    for x, n_far in ((near, 1), (-near, 1), (many, 0), (tail, 0)):
        columns, x = describe_columns(x[:, None], np.ones(len(x))), x[: len(x) - n_far]
        np.testing.assert_allclose((*columns.center, *columns.scale), (x.mean(), x.std()), 1e-12)


def test_rows_repeated_have_the_same_far_values():
    rng = np.random.default_rng(0)
    X, weight = rng.standard_cauchy((300, 3)), rng.integers(1, 4, 300)
    X[7] = 1e4
    weighted = describe_columns(X, weight.astype(float))
    repeated = describe_columns(X.repeat(weight, 0), np.ones(weight.sum()))
    np.testing.assert_allclose(weighted.scale, repeated.scale, rtol=1e-9)
    assert (np.array(weighted.scale) < X.std(axis=0) / 1.5).all()


def test_a_missing_value_stands_for_the_mean_of_two_values_too():
    X = np.array([[0.0, 5.0], [0.0, 7.0], [1.0, 9.0], [NAN, NAN]])
    columns = describe_columns(X, np.array([1.0, 1.0, 2.0, 1.0]))
    assert columns.missing == pytest.approx((0.5, 0.0))  # in units of their columns
    encoder = TableEncoder(columns)
    half, marked = encoder(torch.tensor([[NAN, NAN]]).double())[0, [0, 2]].tolist()
    assert half == pytest.approx(0.5 / np.sqrt(1 + (0.5 / 3) ** 2))
    assert marked == 1


def test_a_memory_map_is_read_in_slices(monkeypatch, tmp_path):
    X = np.random.default_rng(0).normal(size=(100_000, 5)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    monkeypatch.setattr(tables, "N_NUMBERS_READ", 10_000)
    weight = np.ones(len(X), dtype=np.float32)
    tracemalloc.start()
    columns = describe_columns(mapped, weight)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < X.nbytes / 4
    np.testing.assert_allclose(columns.center, X.mean(0, dtype=float), atol=1e-12)
