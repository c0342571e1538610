"""Tables of any container: what the data hold decides about precision, and dates are named."""

import numpy as np
import pandas
import pytest
import torch
from helpers import raises
from made_up import shops
from numpy.testing import assert_allclose
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.linear_model import Ridge

from sklearn_moe import MixtureRegressor, MoEClassifier, MoERegressor
from sklearn_moe._data.tables import Categories, Table, hash_rows
from sklearn_moe.inspection import region_rules

polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")

RNG = np.random.default_rng(0)
SECONDS = 1.7e9 + RNG.uniform(0, 100, 98)
LATE = (SECONDS > 1.7e9 + 50).astype(int)
MILLISECONDS = (1000 * SECONDS).astype(np.int64)


def arrow(values):
    dtype = pandas.ArrowDtype(pyarrow.from_numpy_dtype(values.dtype))
    return pandas.DataFrame({"t": pandas.array(values, dtype=dtype)})


def nullable(values):
    name = values.dtype.name.capitalize()
    return pandas.DataFrame({"t": pandas.array([*values[:-1], None], dtype=name)})


CONTAINERS = {
    "array": lambda t: t[:, np.newaxis],
    "list": lambda t: t[:, np.newaxis].tolist(),
    "tensor": lambda t: torch.from_numpy(t)[:, None],
    "nullable": nullable,
    "Arrow column": arrow,
    "polars": lambda t: polars.DataFrame({"t": t}),
    "beside categories": lambda t: polars.DataFrame({"t": t, "c": list("ab") * (len(t) // 2)}),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_large_numbers_keep_their_digits(name):
    times = MILLISECONDS if [*CONTAINERS].index(name) % 2 else SECONDS
    X = CONTAINERS[name](times)
    model = MoEClassifier(2, early_stopping=False, max_iter=40, random_state=0).fit(X, LATE)
    assert model.score(X, LATE) > 0.97
    # float64 is trained in float64, integers in float32.
    assert model.net_.dtype == (torch.float64 if times is SECONDS else torch.float32)
    module = model.to_torch()
    if name not in ("beside categories", "nullable"):
        got = module(torch.from_numpy(times)[:, None])
        np.testing.assert_allclose(got.detach(), model.predict_proba(X), atol=1e-6)


TYPES = {  # of columns, and in which they are kept and trained; all integers are small
    "float32": "float32 int8 int64 bool Int64 Float32 boolean float[pyarrow]",
    "float64": "float64 Float64 object Sparse[float64] double[pyarrow]",
}


def test_types_of_columns():
    for expected, dtypes in TYPES.items():
        for dtype in dtypes.split():
            column = pandas.Series([0, 1, 1, 0]).astype(dtype)
            array, trained = Table(pandas.DataFrame({"a": column, "b": np.float32(2)})).to_numbers()
            assert array.dtype == trained == expected, dtype
            np.testing.assert_array_equal(array, [[0, 2], [1, 2], [1, 2], [0, 2]])

    for largest, kept in ((2**24, np.float32), (2**24 + 1, np.float64), (-(2**40), np.float64)):
        array, trained = Table(pandas.DataFrame({"n": [0, largest]})).to_numbers()
        assert (array.dtype, trained) == (kept, np.float32)  # float32 would round
        assert array[1, 0] == largest


def test_no_prediction_depends_on_how_large_other_integers_are():
    X = RNG.integers(0, 9, (60, 3))
    model = MoERegressor(2, max_iter=2, random_state=0).fit(X, X[:, 0])
    large = X.copy()  # as many rows: their number may change the last bits of a product
    large[-1] = 2**40, 0, 0
    np.testing.assert_array_equal(model.predict(large)[:-1], model.predict(X)[:-1])


def test_arrow_strings_are_categories():
    words = pyarrow.array(["u", "v"] * 30)
    for column in (words.cast(pyarrow.large_string()), words.dictionary_encode()):
        X = pandas.DataFrame({"c": pandas.Series(column, dtype=pandas.ArrowDtype(column.type))})
        model = MoEClassifier(2, early_stopping=False, max_iter=40, random_state=0)
        assert model.fit(X, [0, 1] * 30).score(X, [0, 1] * 30) == 1


DAYS = pandas.date_range("2020-01-01", periods=30)
DATES = {
    "pandas": pandas.DataFrame({"number": range(30), "when": DAYS}),
    "periods": pandas.DataFrame({"when": DAYS.to_period("D")}),
    "objects": pandas.DataFrame({"when": [None, *DAYS.date[1:]], "c": ["a"] * 30}),
    "polars": polars.DataFrame({"when": DAYS.to_numpy(), "c": ["a"] * 30}),
}


def test_dates_are_named_with_a_remedy():
    for X in DATES.values():
        with pytest.raises(TypeError, match=r"'when'.*dates or times.*Timedelta"):
            MoERegressor().fit(X, np.arange(30.0))
    for X in (DAYS.to_numpy()[:, None], np.array([[day] for day in DAYS], dtype=object)):
        raises(TypeError, r"X.*dates or times", MoERegressor().fit, X, np.arange(30.0))


def test_columns_of_one_name_are_taken_by_their_place_or_named():
    frame = pandas.DataFrame({"a": np.arange(30.0), "c": list("ab") * 15, "b": np.ones(30)})
    twice = frame.set_axis(["a", "c", "a"], axis=1)
    table = Table(twice)
    array, _ = table.to_numbers(Categories([1]).fit(table, np.ones(30)))
    np.testing.assert_array_equal(array, np.stack([np.arange(30), 15 * [0, 1], np.ones(30)], 1))
    with pytest.raises(ValueError, match=r"several columns of one name: \['a'\]"):
        MoERegressor(2).fit(twice, np.arange(30.0))


def test_equal_rows_have_equal_numbers_whatever_holds_them():
    array = np.where(np.eye(4) > 0, -0.0, np.arange(16.0).reshape(4, 4) % 5)
    expected = hash_rows(array)
    assert len(set(expected.tolist())) == 4
    frame = pandas.DataFrame(array)
    for other in (csr_array(array), frame, frame.astype("Int64"), frame.astype(object)):
        np.testing.assert_array_equal(hash_rows(other), expected)
    texts = pandas.DataFrame({"a": ["u", None, "u", None], "b": [1.0, np.nan, 1.0, -np.nan]})
    for other in (texts, texts.astype({"a": "category", "b": object})):
        assert hash_rows(other)[:2].tolist() == hash_rows(texts)[2:].tolist()


@pytest.mark.parametrize("model", [MoERegressor(1, expert="linear"), MixtureRegressor(None, 1)])
def test_texts_that_are_all_different_are_no_categories(model):
    frame = pandas.DataFrame({"a": np.arange(60.0), "note": [f"note {i}" for i in range(60)]})
    with pytest.warns(UserWarning, match="Column 'note' of X holds 60 different texts in 60 rows"):
        model.set_params(random_state=0).fit(frame, np.arange(60.0))


def test_predictions_are_those_of_the_parameters_of_the_fit():
    X = np.where(RNG.random((40, 4)) < 0.1, np.nan, RNG.normal(size=(40, 4)))
    model = MoERegressor(2, max_iter=2, random_state=0).fit(X, np.arange(40.0))
    before = model.predict(X)
    model.set_params(standardize=False, sample_shape=(2, 2), categorical_features=[0])
    np.testing.assert_array_equal(model.predict(X), before)
    model.set_params(standardize=True, sample_shape=None, categorical_features="from_dtype")
    rows = np.nan_to_num(X)
    model.set_params(standardize="auto", sample_shape=(2, 2))
    before = model.fit(rows, np.arange(40.0)).predict(rows)
    np.testing.assert_array_equal(model.set_params(sample_shape=None).predict(rows), before)


def test_columns_that_told_nothing_have_no_effect():
    X = RNG.normal(size=(150, 8))
    X[:, 3], X[:, 4:6], X[:, 6] = 2023.0, np.nan, 0.0
    y = (X[:, 0] > 0).astype(int)
    moved = X.copy()
    moved[:, 3], moved[:, 4:6], moved[:, 6] = 2030.0, RNG.normal(size=(150, 2)), 100.0
    rows, later = csr_array(np.nan_to_num(X)), np.nan_to_num(X)
    later[:, 3] = 2030.0
    words = pandas.DataFrame({"x": X[:, 0], "c": ["u"] * 150})
    model = MoEClassifier(2, max_iter=5, random_state=0)
    for given, asked in ((X, moved), (rows, later), (words, words.assign(c="v"))):
        model.fit(given, y)
        np.testing.assert_array_equal(model.predict_proba(asked), model.predict_proba(given))


@pytest.mark.slow
def test_containers_that_are_set_for_steps_of_pipelines_change_nothing():
    frame, price = shops(200)
    sparse = csr_array(frame[["size"]])
    for model, X in [
        (MixtureRegressor(n_init=1, random_state=0), frame),
        (MixtureRegressor([Ridge(), Ridge(9)], method="stack", random_state=0), sparse),
        (MoERegressor(2, expert="linear", max_iter=2, tol=None, random_state=0), frame),
    ]:
        expected = model.fit(X, price).predict(X)
        words = region_rules(model, X).where
        with config_context(transform_output="pandas"):
            assert_allclose(model.fit(X, price).predict(X), expected)
            assert region_rules(model, X).where == words
