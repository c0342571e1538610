"""X, y and weights of every kind: an error that names what is wrong, or a finite model."""

import copy
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import brief, brief_fits, names, predictions, refuses
from representatives import CLASSES, N_SAMPLES, NUMBERS, SAMPLES, target_of
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

from sklearn_moe import MoEClassifier, MoERegressor

pytestmark = [
    brief_fits,
    pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The number of unique classes:UserWarning"),
]
# Each kind of sample with one estimator: what X must be is the same for both.
PAIRS = [("table", MoEClassifier), ("patches", MoERegressor), ("images", MoEClassifier)]
RNG = np.random.default_rng(1)
TABLE = SAMPLES["table"]
make = partial(brief, max_iter=2)


def fits(cls, X, y, **weights):
    model = make(cls).fit(X, y, **weights)
    found = predictions(model, X)
    assert np.isfinite(found).all()
    assert np.isfinite(model.gate_proba(X)).all()
    return found


def changed(X, value, dtype=None):
    X = X.astype(X.dtype if dtype is None else dtype)
    X[(0,) * X.ndim] = value
    return X


# -- samples ------------------------------------------------------------------------------


def malformed(X):
    """Return what is no X: of another shape, another kind, or of numbers that no model takes."""
    shapes = [X[:0], X[..., :0], X.reshape(len(X), 1, 1, 1, -1), X.reshape(len(X), -1)[:, 0]]
    kinds = [None, {"a": X}, iter(X), [[1, 2], [3]] * 12, np.asmatrix(np.ones((24, 2))), X * 1j]
    kinds += [torch.from_numpy(X).requires_grad_(), changed(X, "a", object)]
    numbers = [changed(X, np.inf), np.full(X.shape, 1e308), X.astype(float) / 5 * 1e308]
    if X.ndim > 2:  # tables are bounded, and their missing values encoded
        numbers += [changed(X, value, object) for value in (np.nan, None, 1e200)]
    return shapes + kinds + numbers


@pytest.mark.parametrize(("kind", "cls"), PAIRS)
def test_malformed_samples_are_named(kind, cls):
    for X in malformed(SAMPLES[kind]):
        model = make(cls)
        names("X", X, model.fit, X, target_of(cls))
        assert not hasattr(model, "net_"), X


def test_what_is_wrong_with_a_table_is_named_by_its_column():
    frame = pd.DataFrame(TABLE, columns=["a", "b", "c"])
    for values in (1j, 24 * [[1, 2]]):
        names("Column 'b' of X", values, make().fit, frame.assign(b=values), CLASSES)
    with_nan = csr_matrix(np.nan_to_num(changed(TABLE, 7)))
    with_nan.data[4] = np.nan
    names("X contains NaN", "sparse", make().fit, with_nan, CLASSES)
    query = pytest.importorskip("polars").DataFrame(TABLE).lazy()
    refuses("a query", r"LazyFrame.*X\.collect\(\)", make().fit, query, CLASSES)


def unusual(X):
    """Return what is read as an X, though it is no array of float32 with many samples."""
    kinds = [X.tolist(), torch.from_numpy(X), np.ma.array(X, mask=X > 1), X.astype("U9")]
    kinds += [X.astype(object), (9 * X).astype(np.int8).view(np.uint8), X * 1e15]
    return [*kinds, X * np.float32(1e15), changed(X, 1e-42), X[:, :1], X[:2]]


@pytest.mark.parametrize(("kind", "cls"), PAIRS)
def test_unusual_samples_make_a_finite_model(kind, cls):
    y = np.append([0, 1], target_of(cls)[2:])
    for X in unusual(SAMPLES[kind]):
        fits(cls, X, y[: len(X)])


def test_a_table_takes_missing_and_extreme_numbers():
    for value in (np.nan, 3e38, -1e30, 1e-30):
        fits(MoEClassifier, changed(TABLE, value), CLASSES)
        fits(MoERegressor, np.full_like(TABLE, value), NUMBERS)
    fits(MoEClassifier, changed(TABLE, 1e200, float), CLASSES)


def test_patches_whose_squares_leave_float32_are_named():
    X = SAMPLES["patches"]
    for large in (changed(X, 1e30), X * np.float32(1e30), np.full_like(X, 3e38)):
        refuses("large", "X holds numbers so large.*Divide X", make().fit, large, CLASSES)
    small = X * np.float32(1e-30)
    refuses("small", "X holds numbers so small.*Multiply X", make().fit, small, CLASSES)


def test_whole_numbers_are_numbers_but_no_images():
    for dtype in (np.int8, np.uint16, np.int64):
        for kind in ("table", "patches"):
            fits(MoEClassifier, (9 * np.abs(SAMPLES[kind])).astype(dtype), CLASSES)
        refuses(dtype, dtype.__name__, make().fit, SAMPLES["images"].astype(dtype), CLASSES)


SHADES = np.random.default_rng(0).integers(17, size=(N_SAMPLES, 8, 8))


def test_squares_of_integers_are_probably_images():
    message = r"shape \(24, 8, 8\) .* 8 patches.*images.*X\[:, np\.newaxis\].*sample_shape=\(8, 8\)"
    for dtype, cls in (("u1", MoEClassifier), ("f4", MoERegressor)):
        with pytest.warns(UserWarning, match=message) as caught:
            patches = make(cls, n_experts=1).fit(SHADES.astype(dtype), CLASSES)
        assert [warning.filename for warning in caught] == [__file__]
        assert patches.input_shape_ == (8, 8)


def test_channels_that_come_last_are_noticed():
    X = np.zeros((N_SAMPLES, 9, 8, 3))
    with pytest.warns(UserWarning, match=r"9 channels and 8 x 3 pixels.*transpose\(0, 3, 1, 2\)"):
        refuses("pixels", r"got 8 x 3.*transpose\(0, 3, 1, 2\)", make().fit, X, CLASSES)


def test_what_is_clear_needs_no_warning():
    table = SHADES.reshape(N_SAMPLES, 64)
    make(expert="cnn").fit(np.zeros((N_SAMPLES, 3, 9, 8)), CLASSES)
    other_values = SHADES / 16, SHADES - 8, SHADES > 8, 0 * SHADES
    no_squares = SHADES[:, :7], SHADES[:, :3, :3], SHADES[:, None].astype(np.uint8)
    for X in (*other_values, *no_squares, table):
        make().fit(X, CLASSES).predict(X)
    make(sample_shape=(8, 8)).fit(table, CLASSES).predict(table)


def test_one_sample_is_enough_for_numbers_and_not_for_classes():
    for X in SAMPLES.values():
        fits(MoERegressor, X[:1], NUMBERS[:1])
        refuses("1", "at least 2 classes, got 1 class: ", make().fit, X[:1], CLASSES[:1])
        refuses("0", "0 sample", make().fit(X, CLASSES).predict, X[:0])


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_layout_of_an_array_makes_no_difference(kind, tmp_path):
    X = SAMPLES[kind]
    np.save(tmp_path / "X.npy", X[::-1])
    layouts = [np.broadcast_to(X[None], (1, *X.shape))[0], X[::-1].copy()[::-1], X.astype(">f4")]
    layouts += [np.load(tmp_path / "X.npy", mmap_mode="r")[::-1], np.asfortranarray(X)]
    expected = make().fit(X, CLASSES).predict_proba(X)
    for laid_out in layouts:
        found = make().fit(laid_out, CLASSES).predict_proba(laid_out)
        np.testing.assert_array_equal(laid_out, X)
        # Products are summed in another order where columns are contiguous.
        rtol = 1e-4 if laid_out.flags.f_contiguous else 0
        np.testing.assert_allclose(found, expected, rtol)


# -- targets and weights ------------------------------------------------------------------

BAD_TARGETS = [np.r_[np.nan, NUMBERS[1:]], np.r_[np.inf, NUMBERS[1:]], NUMBERS * 1j, None, {}]
BAD_TARGETS += [NUMBERS[:-1], [[1], [1, 2]] * 12, csr_matrix(NUMBERS[:, None])]
BAD_TARGETS += [np.where(CLASSES, 1e308, -1e308), np.array([None, *CLASSES[1:]], dtype=object)]
NO_CLASSES = [NUMBERS, np.array([1, "a"] * 12, dtype=object)]
NO_CLASSES += [np.array(["a", "b", np.nan] * 8, dtype=object), RNG.integers(3, size=(24, 2))]
NO_CLASSES += [pd.Series(["a", "b", None] * 8, dtype="string")]
NO_NUMBERS = [np.where(CLASSES, "a", "b"), [object()] * N_SAMPLES, NUMBERS * 1e200]


@pytest.mark.parametrize(("cls", "bad"), [(MoEClassifier, NO_CLASSES), (MoERegressor, NO_NUMBERS)])
def test_a_malformed_target_is_named(cls, bad):
    for y in [*BAD_TARGETS, *bad]:
        names("y", y, make(cls).fit, TABLE, y)
    one_class = np.zeros(N_SAMPLES)
    refuses("one class", "at least 2 classes, got 1 class: 0.0", make().fit, TABLE, one_class)


def test_classes_of_every_kind_come_back():
    texts = np.where(CLASSES, "a", "b")
    kinds = [texts, texts.astype(object), CLASSES.astype(bool), CLASSES * 2**62]
    for y in [*kinds, np.arange(N_SAMPLES), np.c_[CLASSES, 1 - CLASSES]]:
        predicted = make().fit(TABLE, y).predict(TABLE)
        assert predicted.shape == np.shape(y)
        assert {*predicted.ravel()} <= {*np.ravel(y)}
    y = RNG.choice(10_000, N_SAMPLES)
    many = make(expert="mlp", expert_width=2).partial_fit(TABLE, y, classes=np.arange(10_000))
    proba = many.predict_proba(TABLE)
    assert proba.shape == (N_SAMPLES, 10_000)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-4)


def test_numbers_of_every_size_come_back_in_their_range():
    targets = [np.full(N_SAMPLES, value) for value in (0.0, 3.3, 1e30, -1e100, 1e-320)]
    targets += [NUMBERS * scale for scale in (1e30, 1e100, 1e-30, 1e-150)]
    targets += [1e12 + NUMBERS, CLASSES.astype(bool), NUMBERS.astype(np.float16)]
    for y in [*targets, np.c_[NUMBERS, np.zeros(N_SAMPLES)]]:
        predicted = fits(MoERegressor, TABLE, y)
        assert predicted.shape == y.shape
        y = y.astype(float)
        spread = np.ptp(y, axis=0)
        reach = 5 * np.where(spread > 0, spread, 1) + 1e-9 * np.abs(y).max()
        assert (predicted >= y.min(0) - reach).all()
        assert (predicted <= y.max(0) + reach).all()


def with_first(value):
    return changed(np.ones(N_SAMPLES), value)


def test_bad_weights_are_named():
    bad = [*map(with_first, (-1, np.nan, np.inf)), np.zeros(N_SAMPLES), [None] * N_SAMPLES]
    for weight in [*bad, np.ones(3), "balanced", {}]:
        names("sample_weight", weight, make().fit, TABLE, CLASSES, sample_weight=weight)
    refuses("0", "1 class: 1", make().fit, TABLE, CLASSES, sample_weight=CLASSES == 1)
    texts, labels = np.where(CLASSES, "a", "b"), np.c_[CLASSES, CLASSES]
    cases = [({"a": value, "b": 1}, texts) for value in (-1, np.nan, np.inf, None, "x")]
    for value, y in (*cases, ({"z": 1}, texts), ([], texts), ([{0: 1}], labels), ({0: 1}, labels)):
        names("class_weight", value, make(class_weight=value).fit, TABLE, y)


def test_weights_of_every_size_make_a_finite_model():
    for weight in (with_first(1e30), with_first(1e-30), with_first(0), 7, np.ones(24, bool)):
        fits(MoERegressor, TABLE, NUMBERS, sample_weight=weight)


# -- after a fit --------------------------------------------------------------------------

METHODS = ["predict", "predict_proba", "apply", "gate_proba", "expert_proba", "decision_function"]
OTHER_SAMPLES = {
    "fewer features": ("table", lambda X: X[:, :2], "X has 2 features.* expecting 3"),
    "patches": ("table", lambda X: X[:, None], "X has"),
    "no channels": (
        "images",
        lambda X: X[:, 0],
        r"X has samples of shape \(8, 8\).* X\[:, np\.newaxis\]",
    ),
    "bytes": ("images", lambda X: X.astype(np.uint8), "X holds images of type uint8"),
    "one axis": ("table", lambda X: X[0], "X"),
    "strings": ("table", lambda X: changed(X, "a", object), "Column 0 of X"),
}


def test_samples_unlike_those_of_fit_are_named():
    models = {kind: make().fit(X, CLASSES) for kind, X in SAMPLES.items()}
    for label, (kind, vary, match) in OTHER_SAMPLES.items():
        for method in METHODS:
            names(match, label, getattr(models[kind], method), vary(SAMPLES[kind]))


def test_nothing_is_predicted_before_fit():
    methods = [(MoEClassifier, name) for name in (*METHODS, "predict_log_proba", "to_torch")]
    for cls, name in [*methods, (MoERegressor, "expert_predict"), (MoEClassifier, "module_")]:
        with pytest.raises(NotFittedError, match="not fitted"):
            getattr(cls(), name)(*[] if name == "to_torch" else [TABLE])


def test_further_training_refuses_what_does_not_fit_and_loses_nothing():
    model = make().partial_fit(TABLE, CLASSES, classes=[0, 1])
    before = model.predict_proba(TABLE)
    for y in (CLASSES + 1, np.c_[CLASSES, CLASSES], NUMBERS):
        names("y", y, model.partial_fit, TABLE, y)
    names("classes", "others", model.partial_fit, TABLE, CLASSES, classes=[0, 1, 2])
    for name, value in {"n_experts": 4, "expert_width": 7, "router": "top1"}.items():
        other = copy.copy(model).set_params(warm_start=True, **{name: value})
        names(name, value, other.fit, TABLE, CLASSES)
        np.testing.assert_array_equal(other.predict_proba(TABLE), before)
