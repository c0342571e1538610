"""PiecewiseLinearEncoder: equal to its definition, number by number; a row of weight 2 is two."""

import math
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import get_tags

from sklearn_moe.preprocessing import PiecewiseLinearEncoder

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def table(n_samples=200, dtype=np.float64):
    """Normal, skewed, few values, two values, mostly zero, constant; the latter two with NaN."""
    rng = np.random.default_rng(0)
    X = np.column_stack(
        [
            rng.normal(size=n_samples),
            np.exp(3 * rng.normal(size=n_samples)),
            rng.integers(4, size=n_samples),
            rng.integers(2, size=n_samples),
            rng.random(n_samples) * (rng.random(n_samples) < 0.3),
            np.full(n_samples, 2.5),
        ]
    ).astype(dtype)
    X[::7, 4] = np.nan
    X[::5, 5] = np.nan
    return X


# -- the definition, one number after the other -----------------------------------------------


def slow_edges(values, n_bins):
    """Return the smallest values up to which there are k / n_bins of all."""
    values = sorted(v for v in values if not math.isnan(v))
    n = len(values)
    ranks = [max(math.ceil(k * n / n_bins), 1) for k in range(n_bins + 1)]
    return sorted({values[rank - 1] for rank in ranks}) if n else []


def slow_code(x, edges, missing):
    """Return the columns of a single number."""
    n_bins, flag = len(edges) - 1, [float(math.isnan(x))] if missing else []
    if n_bins < 1 or math.isnan(x):
        return [0.0] * max(n_bins, 1) + flag
    code = []
    for t in range(1, n_bins + 1):
        passed = (x - edges[t - 1]) / (edges[t] - edges[t - 1])
        if t > 1:
            passed = max(passed, 0.0)
        if t < n_bins:
            passed = min(passed, 1.0)
        code.append(passed)
    return code + flag


def slow_encoding(X_fit, X, n_bins):
    columns = X_fit.T.tolist()
    edges = [slow_edges(column, n_bins) for column in columns]
    missing = [any(math.isnan(v) for v in column) for column in columns]
    rows = [[slow_code(*f) for f in zip(row, edges, missing, strict=True)] for row in X.tolist()]
    return edges, np.array([np.concatenate(row) for row in rows])


@pytest.mark.parametrize("n_bins", [1, 2, 3, 8, 500])
@pytest.mark.parametrize("n_samples", [1, 2, 3, 200, 3000])
@every_dtype
def test_follows_the_definition(n_samples, n_bins, dtype):
    X = table(n_samples, dtype)
    encoder = PiecewiseLinearEncoder(n_bins).fit(X)
    X_test = np.concatenate([X, 3 * X - 1, np.full((1, 6), np.nan, dtype)])
    edges, expected = slow_encoding(X, X_test, n_bins)
    assert [found.tolist() for found in encoder.bin_edges_] == edges
    np.testing.assert_array_equal(encoder.missing_, np.isnan(X).any(axis=0))
    X_new = encoder.transform(X_test)
    assert X_new.dtype == dtype
    np.testing.assert_allclose(X_new, expected, rtol=1e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("n_bins", [2, 3, 7, 8, 10])
def test_edges_are_numpys_quantiles(n_bins):
    x = np.random.default_rng(0).normal(size=(1003, 1))
    expected = np.quantile(x, np.arange(n_bins + 1) / n_bins, method="inverted_cdf")
    np.testing.assert_array_equal(PiecewiseLinearEncoder(n_bins).fit(x).bin_edges_[0], expected)


def test_bins_hold_as_many_samples():
    x = np.exp(np.random.default_rng(0).normal(size=(800, 1)))
    (edges,) = PiecewiseLinearEncoder(n_bins=8).fit(x).bin_edges_
    assert (x <= edges).sum(axis=0).tolist() == [1, *range(100, 801, 100)]


def test_known_numbers():
    encoder = PiecewiseLinearEncoder(n_bins=3).fit([[0.0], [1.0], [3.0], [7.0], [8.0], [10.0]])
    assert encoder.bin_edges_[0].tolist() == [0, 1, 7, 10]
    X_new = encoder.transform([[-2.0], [0.0], [0.5], [1.0], [4.0], [7.0], [10.0], [13.0]])
    expected = [
        [-2, 0, 0],
        [0, 0, 0],
        [0.5, 0, 0],
        [1, 0, 0],
        [1, 0.5, 0],
        [1, 1, 0],
        [1, 1, 1],
        [1, 1, 2],
    ]
    assert X_new.tolist() == expected


@every_dtype
def test_edges_are_met_exactly(dtype):
    X = table(dtype=dtype)
    encoder = PiecewiseLinearEncoder().fit(X)
    for j, edges in enumerate(encoder.bin_edges_[:2]):
        at_edges = np.tile(X[1], (len(edges), 1))
        at_edges[:, j] = edges
        X_new = encoder.transform(at_edges)[:, 8 * j : 8 * j + 8]
        np.testing.assert_array_equal(X_new, np.tri(9, 8, -1))


def test_a_linear_model_is_piecewise_linear_and_goes_on_outside():
    x = np.linspace(0, 8, 801)[:, np.newaxis]
    y = np.abs(x[:, 0] - 4)
    model = make_pipeline(PiecewiseLinearEncoder(n_bins=2), LinearRegression()).fit(x, y)
    X_test = np.array([[-10.0], [4.0], [20.0]])
    np.testing.assert_allclose(model.predict(X_test), [14, 0, 16], atol=1e-9)


def test_scale_and_origin_do_not_matter():
    X = table()[:, :2]
    expected = PiecewiseLinearEncoder().fit_transform(X)
    X_new = PiecewiseLinearEncoder().fit_transform(1000 * X - 5)
    np.testing.assert_allclose(X_new, expected, atol=1e-9)


# -- weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_bins", [1, 2, 5, 8])
@pytest.mark.parametrize("unit", [1.0, 0.1, 1 / 3, 1e-8, 1e8])
@every_dtype
def test_weights_are_repetitions(n_bins, unit, dtype):
    X = table(dtype=dtype)
    counts = np.random.default_rng(1).integers(4, size=len(X))
    weighted = PiecewiseLinearEncoder(n_bins).fit(X, sample_weight=counts * unit)
    repeated = PiecewiseLinearEncoder(n_bins).fit(np.repeat(X, counts, axis=0))
    for one, other in zip(weighted.bin_edges_, repeated.bin_edges_, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(weighted.missing_, repeated.missing_)
    np.testing.assert_array_equal(weighted.transform(X), repeated.transform(X))


def test_order_of_rows_does_not_matter():
    X, weight = table(), np.random.default_rng(0).random(200)
    order = np.random.default_rng(1).permutation(200)
    expected = PiecewiseLinearEncoder().fit(X, sample_weight=weight).transform(X)
    X_new = PiecewiseLinearEncoder().fit(X[order], sample_weight=weight[order]).transform(X)
    np.testing.assert_array_equal(X_new, expected)


def test_rows_of_weight_zero_do_not_exist():
    X = np.array([[0.0], [1.0], [2.0], [100.0], [np.nan]])
    encoder = PiecewiseLinearEncoder(n_bins=2).fit(X, sample_weight=[1, 1, 1, 0, 0])
    assert encoder.bin_edges_[0].tolist() == [0, 1, 2]
    assert not encoder.missing_[0]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, 1, -1], r"sample_weight must be non-negative .* values from -1 to 1"),
        ([0, 0, 0], "at least one (positive entry|non-zero number)"),
        ([1, 1], "sample_weight.shape"),
        ([1, np.nan, 1], "sample_weight contains NaN"),
    ],
)
def test_weights_are_checked(weight, message):
    with pytest.raises(ValueError, match=message):
        PiecewiseLinearEncoder().fit([[0.0], [1.0], [2.0]], sample_weight=weight)


# -- missing values and features without bins ---------------------------------------------------


def test_missing_values_have_a_column():
    X = np.array([[0.0, 1.0], [2.0, 3.0], [np.nan, 5.0]])
    encoder = PiecewiseLinearEncoder(n_bins=1).fit(X)
    assert encoder.missing_.tolist() == [True, False]
    assert encoder.transform(X).tolist() == [[0, 0, 0], [1, 0, 0.5], [0, 1, 1]]


def test_a_missing_value_never_seen_is_all_zeros():
    encoder = PiecewiseLinearEncoder().fit(table()[:, :2])
    X_new = encoder.transform([[np.nan, 1.0], [0.0, np.nan]])
    assert not X_new[0, :8].any()
    assert not X_new[1, 8:].any()
    assert X_new[0, 8:].any()
    assert X_new[1, :8].any()


def test_constant_features_have_a_column_of_zeros():
    encoder = PiecewiseLinearEncoder().fit([[3.0], [3.0]])
    assert encoder.bin_edges_[0].tolist() == [3]
    assert encoder.transform([[3.0], [-1e300], [1e300], [np.nan]]).tolist() == [[0]] * 4
    encoder.fit([[3.0], [np.nan]])
    assert encoder.transform([[3.0], [4.0], [np.nan]]).tolist() == [[0, 0], [0, 0], [0, 1]]


def test_features_that_are_always_missing():
    encoder = PiecewiseLinearEncoder().fit([[np.nan, 1.0], [np.nan, 2.0]])
    assert encoder.bin_edges_[0].tolist() == []
    assert encoder.get_feature_names_out().tolist() == ["x0_0", "x0_missing", "x1_0"]
    assert encoder.transform([[np.nan, 1.0], [7.0, 2.0]]).tolist() == [[0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("values", "n_columns"), [([0, 1], 1), ([0, 1, 2], 2), ([0] * 9 + [1], 1), ([5, 5, 5, 7, 9], 2)]
)
def test_equal_edges_are_merged(values, n_columns):
    x = np.repeat(np.array(values, dtype=float), 10)[:, np.newaxis]
    encoder = PiecewiseLinearEncoder(n_bins=8)
    assert encoder.fit_transform(x).shape == (len(x), n_columns)
    (edges,) = encoder.bin_edges_
    assert (np.diff(edges) > 0).all()
    assert {x.min(), x.max()} <= set(edges) <= set(values)


# -- types, layouts, names --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (np.float16, np.float64),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int64, np.float64),
        (bool, np.float64),
    ],
)
def test_types(given, found):
    X = (10 * table()[:, :4]).clip(0, 100).astype(given)
    X_new = PiecewiseLinearEncoder().fit_transform(X)
    assert X_new.dtype == found
    expected = PiecewiseLinearEncoder().fit_transform(X.astype(np.float64))
    np.testing.assert_allclose(X_new, expected, rtol=1e-6)


def test_edges_that_float32_cannot_tell_apart():
    x = 1 + 1e-10 * np.arange(5.0)[:, np.newaxis]
    encoder = PiecewiseLinearEncoder(n_bins=4).fit(x)
    X_new = encoder.transform(np.array([[0.5], [1.0], [1.5]], dtype=np.float32))
    assert np.isfinite(X_new).all()
    assert X_new[1].tolist() == [0, 0, 0, 0]
    assert X_new[2, :3].tolist() == [1, 1, 1]


def test_far_numbers_do_not_overflow_in_narrow_bins():
    x = np.array([0.0, 1.0, 1.0 + 1e-15, 2.0])[:, np.newaxis]
    encoder = PiecewiseLinearEncoder(n_bins=4).fit(x)
    assert np.isfinite(encoder.transform([[-1e300], [1e300]])).all()


@pytest.mark.parametrize("n_samples", [1, 1023, 1024, 1025, 3000])
def test_rows_do_not_depend_on_each_other(n_samples):
    X = table(3000)
    encoder = PiecewiseLinearEncoder().fit(X)
    np.testing.assert_array_equal(
        encoder.transform(X[:n_samples]), encoder.transform(X)[:n_samples]
    )


def test_layouts_do_not_matter_and_input_stays():
    X = table()
    before, expected = X.copy(), PiecewiseLinearEncoder().fit_transform(X)
    read_only = X.copy()
    read_only.flags.writeable = False
    for other in (read_only, np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], X.tolist()):
        np.testing.assert_array_equal(PiecewiseLinearEncoder().fit_transform(other), expected)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_names(frame):
    data = {"age": [1.0, 2.0, float("nan"), 4.0], "sex": [0, 1, 0, 1], "one": [1, 1, 1, 1]}
    encoder = PiecewiseLinearEncoder(n_bins=2).fit(frame(data))
    assert encoder.feature_names_in_.tolist() == ["age", "sex", "one"]
    assert encoder.n_features_in_ == 3
    names = ["age_0", "age_1", "age_missing", "sex_0", "one_0"]
    assert encoder.get_feature_names_out().tolist() == names
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        encoder.get_feature_names_out(["a", "b", "c"])
    for library in ("pandas", "polars"):
        X_new = encoder.set_output(transform=library).transform(frame(data))
        assert list(X_new.columns) == names
        assert X_new["age_missing"].to_list() == [0, 0, 1, 0]


def test_names_without_names():
    encoder = PiecewiseLinearEncoder(n_bins=2).fit(table()[:, 3:])
    expected = ["x0_0", "x1_0", "x1_missing", "x2_0", "x2_missing"]
    assert encoder.get_feature_names_out().tolist() == expected
    assert encoder.get_feature_names_out(["a", "b", "c"])[2] == "b_missing"


# -- the contract of scikit-learn, beside its own checks --------------------------------------


def test_clone_and_pickle():
    X = table()
    encoder = PiecewiseLinearEncoder(n_bins=5).fit(X)
    assert repr(clone(encoder)) == "PiecewiseLinearEncoder(n_bins=5)"
    loaded = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(loaded.transform(X), encoder.transform(X))
    # A second fit forgets the first one.
    again = encoder.fit(X[:, :2])
    np.testing.assert_array_equal(
        again.transform(X[:, :2]), PiecewiseLinearEncoder(n_bins=5).fit_transform(X[:, :2])
    )


def test_tags():
    tags = get_tags(PiecewiseLinearEncoder())
    assert tags.input_tags.allow_nan
    assert not tags.input_tags.sparse
    assert set(tags.transformer_tags.preserves_dtype) == {"float32", "float64"}


def test_must_be_fitted():
    for call in (lambda e: e.transform([[1.0]]), lambda e: e.get_feature_names_out()):
        with pytest.raises(NotFittedError, match="PiecewiseLinearEncoder instance is not fitted"):
            call(PiecewiseLinearEncoder())


@pytest.mark.parametrize("n_bins", [0, -1, 2.5, "8", None])
def test_parameters_are_checked(n_bins):
    with pytest.raises(ValueError, match="'n_bins' parameter of PiecewiseLinearEncoder must be"):
        PiecewiseLinearEncoder(n_bins).fit([[0.0]])


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused(value):
    encoder = PiecewiseLinearEncoder().fit([[0.0], [1.0]])
    with pytest.raises(ValueError, match="Input X contains infinity"):
        encoder.transform([[value]])
    with pytest.raises(ValueError, match="Input X contains infinity"):
        encoder.fit([[value]])


# -- in front of a linear model ---------------------------------------------------------------


def test_logistic_regression_on_moons():
    X, y = make_moons(1000, noise=0.15, random_state=0)
    plain = LogisticRegression()
    encoded = make_pipeline(PiecewiseLinearEncoder(), LogisticRegression())
    scores = [cross_val_score(model, X, y, cv=5).mean() for model in (plain, encoded)]
    assert scores[1] > scores[0] + 0.08


def test_search_in_a_column_transformer():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(size=300), "town": rng.choice(["a", "b"], size=300)})
    y = (frame["age"].abs() > 0.7) ^ (rng.random(300) < 0.05)
    frame.loc[::10, "age"] = np.nan
    encode = make_column_transformer(
        (PiecewiseLinearEncoder(), ["age"]), (OneHotEncoder(), ["town"])
    )
    model = make_pipeline(encode, LogisticRegression())
    parameter = "columntransformer__piecewiselinearencoder__n_bins"
    search = GridSearchCV(model, {parameter: [1, 8]}, cv=3, error_score="raise").fit(frame, y)
    assert search.best_params_ == {parameter: 8}
    assert search.best_score_ > 0.8
    names = search.best_estimator_[0].get_feature_names_out().tolist()
    assert names[0] == "piecewiselinearencoder__age_0"
    assert names[8:] == [
        "piecewiselinearencoder__age_missing",
        "onehotencoder__town_a",
        "onehotencoder__town_b",
    ]
