"""Categories of a table: which columns hold them, and their codes."""

import re

import numpy as np
import pandas
import pytest
from helpers import refuses

from sklearn_moe import MoEClassifier
from sklearn_moe._data.tables import Categories, Table

NAN = float("nan")
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


def learn(X, chosen, weight=1.0):
    """Return the categories of a table, learned with weights that are 1 by default."""
    weights = np.broadcast_to(weight, len(X))
    return Categories(Table(X).find_categories(chosen)).fit(Table(X), weights)


FRAMES = [(in_pandas, dtype) for dtype in ("category", "object", "string", "str")]
FRAMES += [(in_polars, dtype) for dtype in ("Categorical", "String", "Enum")]


@pytest.mark.parametrize(("make", "dtype"), FRAMES)
def test_categories_of_a_frame(make, dtype):
    for chosen in ("from_dtype", ["color"], [1], [False, True, False]):
        categories = learn(make(COLORS, dtype), chosen)
        assert (categories.columns, categories.values) == ([1], [["blue", "green", "red"]])
        assert (categories.columns, categories.values) == ([1], [["blue", "green", "red"]])
        for colors, codes in ((COLORS, CODES), (SEEN, CODES_SEEN)):
            encoded, dtype_of_training = Table(make(colors, dtype)).to_numbers(categories)
            np.testing.assert_array_equal(encoded, np.stack([NUMBERS, codes, range(5)], axis=1))
            assert dtype_of_training == np.float64  # that of the sizes


def test_whatever_is_missing_has_no_code():
    for missing in (None, np.nan, pandas.NA):
        for values in (["b", "a"], [2, 1], [2.5, 1.5], [True, False]):
            frame = pandas.DataFrame({"c": pandas.Series([*values, missing], dtype=object)})
            for X in (frame, frame.astype("category")):
                np.testing.assert_array_equal(learn(X, ["c"]).encode(Table(X))[0], [1, 0, NAN])


@pytest.mark.parametrize("dtype", ["i8", "f8", "U", "M8[ns]", "bool"])
def test_the_order_in_which_pandas_keeps_categories_changes_no_code(dtype):
    rng = np.random.default_rng(0)
    values = np.unique(rng.integers(9, size=9)).astype(dtype)
    seen = pandas.DataFrame({"c": rng.choice(values[:4], 60)}).astype("category")
    asked = (
        seen["c"].cat.set_categories(rng.permutation(np.unique(values))).where(rng.random(60) > 0.2)
    )
    ((_, codes),) = learn(seen, ["c"]).encode(Table(asked.to_frame())).items()
    expected = np.where(asked.isna(), np.nan, seen["c"].cat.codes)
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, object])
def test_categories_of_an_array(dtype):
    X = np.array([[7, 1], [3, 2], [9, 3], [3, 4]]).astype(dtype)
    categories = learn(X, [0])
    before = X.copy()
    encoded, _ = Table(X).to_numbers(categories)
    np.testing.assert_array_equal(encoded, [[1, 1], [0, 2], [2, 3], [0, 4]])
    X[0, 0] = 5
    np.testing.assert_array_equal(categories.encode(Table(X))[0], [NAN, 0, 2, 0])
    np.testing.assert_array_equal(X[1:], before[1:])


UNKNOWN = {  # the values of fit and of predict, how many of them, and what is said of them
    "texts": ([1, 2], ["1", "2"], 1, r"1 of 1 values .* such as '1' \(str\)\. .* 1 \(int\)"),
    "numbers": (["1", "2"], [1, 2], 1, r"1 of 1 values .* such as 1 \(int\)\. .*'1' \(str\)"),
    "bools": ([True, False], ["True", "False"], 30, r"30 of 30 values .*'True'.*False \(bool\)"),
    "many": (["a", "b"], ["c", "d"], 30, r"30 of 30 values .*'c' \(str\).*'a' \(str\)"),
    "most": (["a", "b"], ["c", None, "c", "a"], 40, "20 of 30 values"),
    "few": (["a", "b"], ["c"], 10, None),
    "half": (["a", "b"], ["c", "a"], 40, None),
    "missing": (["a", "b"], [None, None, "b"], 60, None),
    "told nothing": (["a"], ["b"], 60, None),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_most_values_unknown_are_worth_a_warning(kind, recwarn):
    seen, asked, n_rows, message = UNKNOWN[kind]
    frame = pandas.DataFrame({"c": pandas.Series(seen, dtype=object)})
    asked = pandas.DataFrame({"c": pandas.Series((asked * n_rows)[:n_rows], dtype=object)})
    known = learn(frame, ["c"])
    assert not recwarn
    known.encode(Table(asked))
    if message is None:
        assert not recwarn
    else:
        assert re.search(f"Column 'c' of X: {message}", str(recwarn.pop(UserWarning).message))


def test_numbers_in_the_place_of_objects_are_compared_with_these():
    X = np.array([[7, 1.5], [3, 2.5], [7, 3.5]])
    for fitted, asked in ((X.astype(object), X), (X, X.astype(object))):
        np.testing.assert_array_equal(learn(fitted, [0]).encode(Table(asked))[0], [1, 0, 1])
    words = learn(np.array([["u"], ["v"]], dtype=object), [0])
    with pytest.warns(UserWarning, match="Column 0 of X"):
        assert np.isnan(words.encode(Table(X))[0]).all()


def test_a_row_of_weight_zero_brings_no_category():
    x = np.random.default_rng(0).normal(size=90)
    X = pandas.DataFrame({"x": x, "c": ["amber"] * 3 + ["red", "blue", "green"] * 29})
    y, options = x > 0, {"n_experts": 2, "max_iter": 5, "random_state": 0}
    clf = MoEClassifier(**options).fit(X, y, sample_weight=np.arange(90) >= 3)
    without = MoEClassifier(**options).fit(X[3:], y[3:])
    np.testing.assert_allclose(clf.predict_proba(X), without.predict_proba(X), rtol=1e-9)


def test_what_is_no_category_and_what_is_not_there():
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [True, False], "c": ["x", "y"]})
    numbers = frame[["a", "b"]]
    for X, chosen in ((numbers, "from_dtype"), (numbers, None), (np.eye(2), "from_dtype")):
        assert Table(X).find_categories(chosen) == []
    find_categories = Table(frame).find_categories
    assert find_categories(["b"]) == [1]
    refuses("name", "nope", find_categories, ["nope"])
    refuses("index", r"\[0, 2\]", find_categories, [3])
    hold = r"(?s)Columns \['c'\] hold categories.*make_column_trans"
    refuses("none", hold, find_categories, None)
