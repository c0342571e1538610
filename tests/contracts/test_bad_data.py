"""X, y and weights of every kind: a clear error that names what is wrong, or a finite model."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import SKLEARN_1_6, brief, brief_fits, predictions, refuses
from representatives import CLASSES, N_SAMPLES, NUMBERS, SAMPLES, target_of
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

from sklearn_moe import MoEClassifier, MoERegressor

pytestmark = [
    brief_fits,
    pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The number of unique classes:UserWarning"),
]
BOTH = [MoEClassifier, MoERegressor]
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

MALFORMED = {  # what scikit-learn finds is said in its words, after the name
    "no sample": (lambda X: X[:0], "^X.*0 sample"),
    "no feature": (lambda X: X[..., :0], "^X.*(0 feature|is empty)"),
    "five axes": (lambda X: X.reshape(N_SAMPLES, 1, 1, 1, -1), "X must have shape"),
    "one axis": (lambda X: X.reshape(N_SAMPLES, -1)[:, 0], "^X: "),
    "nothing": (lambda X: None, "^X: "),
    "a dict": (lambda X: {"a": X}, "^X: "),
    "a generator": (lambda X: (row for row in X), r"^X: "),
    "ragged lists": (lambda X: [[1, 2], [3]] * 12, "^X: .*inhomogeneous"),
    "a matrix": (lambda X: np.asmatrix(np.ones((24, 2))), "^X: .*matrix"),
    "a tensor with gradient": (lambda X: torch.from_numpy(X).requires_grad_(), "^X: "),
    "complex numbers": (lambda X: X * 1j, "^X: Complex"),
    "a string": (lambda X: changed(X, "a", object), r"^(X|Column 0 of X holds.*): could.*'a'"),
    "infinity": (lambda X: changed(X, np.inf), "X contains infinity"),
    "1e308": (lambda X: np.full(X.shape, 1e308), "X holds numbers so large"),
    "1e308 and its negative": (lambda X: X.astype(float) / 5 * 1e308, "X holds numbers so large"),
}


@pytest.mark.parametrize(("kind", "cls"), PAIRS)
def test_malformed_samples_are_named(kind, cls):
    X, y = SAMPLES[kind], target_of(cls)
    for label, (spoil, match) in MALFORMED.items():
        model = make(cls)
        refuses(label, match, model.fit, spoil(X), y)
        assert not hasattr(model, "net_"), label
    if kind != "table":
        for value in (np.nan, None):
            refuses(value, "X contains NaN", make(cls).fit, changed(X, value, object), y)
        refuses(1e200, "X holds numbers so large", make(cls).fit, changed(X, 1e200, float), y)


FRAME = pd.DataFrame(TABLE, columns=["a", "b", "c"])
ONE_NAN = csr_matrix(np.nan_to_num(changed(TABLE, 7)))
ONE_NAN.data[4] = np.nan
MALFORMED_TABLES = {
    "sparse": (ONE_NAN, "X contains NaN"),
    "complex": (FRAME.assign(b=1j), "Column 'b' of X holds complex numbers"),
    "a list": (FRAME.assign(b=24 * [[1, 2]]), r"Column 'b' of X.*a sequence\. Make"),
}


def test_what_is_wrong_with_a_table_is_named_by_its_column():
    for label, (X, match) in MALFORMED_TABLES.items():
        refuses(label, match, make().fit, X, CLASSES)
    query = pytest.importorskip("polars").DataFrame(TABLE).lazy()
    refuses("a query", r"LazyFrame.*X\.collect\(\)", make().fit, query, CLASSES)


UNUSUAL = {
    "one feature": lambda X: X[:, :1] if X.ndim == 2 else X,
    "one patch": lambda X: X[:, :1],
    "lists": lambda X: X.tolist(),
    "a tensor": torch.from_numpy,
    "a masked array": lambda X: np.ma.array(X, mask=X > 1),
    "objects": lambda X: X.astype(object),
    "digits": lambda X: X.astype("U9"),
    "uint8": lambda X: (9 * X).astype(np.int8).view(np.uint8),
    "1e15": lambda X: X * np.float32(1e15),
    "a subnormal number": lambda X: changed(X, 1e-42),
    "1e15 in float64": lambda X: X * 1e15,
    "two samples": lambda X: X[:2],
}


@pytest.mark.parametrize(("kind", "cls"), PAIRS)
def test_unusual_samples_make_a_finite_model(kind, cls):
    y = np.append([0, 1], target_of(cls)[2:])
    for vary in UNUSUAL.values():
        X = vary(SAMPLES[kind])
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
    for dtype, cls in (("u1", MoEClassifier), ("i8", MoERegressor), ("f4", MoERegressor)):
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


def memory_map(X, path):
    np.save(path / "X.npy", X)
    return np.load(path / "X.npy", mmap_mode="r")


LAYOUTS = {
    "read-only": lambda X, path: np.broadcast_to(X[None], (1, *X.shape))[0],
    "Fortran": lambda X, path: np.asfortranarray(X),
    "reversed": lambda X, path: X[::-1].copy()[::-1],
    "big-endian": lambda X, path: X.astype(">f4"),
    "memory map, reversed": lambda X, path: memory_map(X[::-1], path)[::-1],
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_layout_of_an_array_makes_no_difference(kind, tmp_path):
    X = SAMPLES[kind]
    expected = make().fit(X, CLASSES).predict_proba(X)
    for name, layout in LAYOUTS.items():
        laid_out = layout(X, tmp_path)
        model = make().fit(laid_out, CLASSES)
        np.testing.assert_array_equal(laid_out, X)
        # Products are summed in another order where columns are contiguous.
        rtol = 1e-4 if name == "Fortran" else 0
        np.testing.assert_allclose(model.predict_proba(laid_out), expected, rtol, err_msg=name)


# -- targets ------------------------------------------------------------------------------

BAD_TARGETS = {
    "too few": (lambda y: y[:-1], r"X and y: .*\[24, 23\]"),
    "nothing": (lambda y: None, "requires y to be passed"),
    "a dict": (lambda y: {}, "^y: "),
    "ragged lists": (lambda y: [[1], [1, 2]] * 12, "^y: "),
    "NaN": (lambda y: np.r_[np.nan, y[1:]], "y contains NaN"),
    "infinity": (lambda y: np.r_[np.inf, y[1:]], "y contains infinity"),
    "complex numbers": (lambda y: y * 1j, "^y: Complex"),
    "a sparse matrix": (lambda y: csr_matrix(y[:, None]), r"\by\b"),
}
NO_CLASSES = {
    "one class": (np.zeros(N_SAMPLES), "at least 2 classes, got 1 class: 0.0"),
    "fractions": (NUMBERS, "^y: .*continuous"),
    "1e308": (np.where(CLASSES, 1e308, -1e308), "^y: "),
    "mixed types": (np.array([1, "a"] * 12, dtype=object), "^y: "),
    "some None": (np.array([None, *CLASSES[1:]], dtype=object), "y holds None.* 1 sample"),
    "some NaN": (np.array(["a", "b", np.nan] * 8, dtype=object), "y holds None or NaN.* place 2"),
    "some NA": (pd.Series(["a", "b", None] * 8, dtype="string"), "y holds None or NaN.* place 2"),
    "columns": (RNG.integers(3, size=(N_SAMPLES, 2)), "y of shape .*zeros and ones"),
}
NO_NUMBERS = {
    "strings": (np.where(CLASSES, "a", "b"), "^y holds text .*use the classifier"),
    "objects": ([object()] * N_SAMPLES, "^y: .*'object'"),
    "some None": (np.array([None, *NUMBERS[1:]], dtype=object), "y holds None or NaN"),
    "1e308": (np.where(CLASSES, 1e308, -1e308), "y holds numbers so large.*Divide y"),
    "1e200": (NUMBERS * 1e200, "y holds numbers so large"),
}


@pytest.mark.parametrize("cls", BOTH)
def test_a_malformed_target_is_named(cls):
    for label, (spoil, match) in BAD_TARGETS.items():
        refuses(label, match, make(cls).fit, TABLE, spoil(target_of(cls)))
    for label, (y, match) in (NO_CLASSES if cls is MoEClassifier else NO_NUMBERS).items():
        refuses(label, match, make(cls).fit, TABLE, y)


CLASS_KINDS = {
    "strings": np.where(CLASSES, "a", "b"),
    "objects": np.where(CLASSES, "a", "b").astype(object),
    "bools": CLASSES.astype(bool),
    "huge": CLASSES * 2**62,
    "a class each": np.arange(N_SAMPLES),
    "labels": np.c_[CLASSES, 1 - CLASSES],
}


def test_classes_of_every_kind_come_back():
    for label, y in CLASS_KINDS.items():
        predicted = make().fit(TABLE, y).predict(TABLE)
        assert predicted.shape == np.shape(y), label
        assert {*predicted.ravel()} <= {*np.ravel(y)}, label
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


# -- weights ------------------------------------------------------------------------------


def one(value):
    return changed(np.ones(N_SAMPLES), value)


# scikit-learn 1.6 leaves weights of 0 to us.
NO_WEIGHT = "All samples have weight 0" if SKLEARN_1_6 else "^sample_weight: "
BAD_WEIGHTS = {
    "negative": (one(-1), "sample_weight must not be negative, got -1.0"),
    "NaN": (one(np.nan), "sample_weight contains NaN"),
    "infinity": (one(np.inf), "sample_weight contains infinity"),
    "zeros": (np.zeros(N_SAMPLES), NO_WEIGHT),
    "None": ([None] * N_SAMPLES, "sample_weight contains NaN"),
    "too few": (np.ones(3), r"sample_weight.*\(3,\)"),
    "a string": ("balanced", "^sample_weight: "),
    "a dict": ({}, "^sample_weight: "),
}


def test_bad_weights_of_classes_are_named():
    names, labels = np.where(CLASSES, "a", "b"), np.c_[CLASSES, CLASSES]
    for value in (-1, np.nan, np.inf, None, "x"):
        model = make(class_weight={"a": value, "b": 1})
        refuses(value, "class_weight", model.fit, TABLE, names)
    for value, y in (({"z": 1}, names), ([], names), ([{0: 1}], labels), ({0: 1}, labels)):
        refuses(value, "class_weight", make(class_weight=value).fit, TABLE, y)


def test_bad_weights_are_named():
    for label, (weight, match) in BAD_WEIGHTS.items():
        refuses(label, match, make().fit, TABLE, CLASSES, sample_weight=weight)
    refuses("0", "1 class: 1", make().fit, TABLE, CLASSES, sample_weight=CLASSES == 1)


def test_weights_of_every_size_make_a_finite_model():
    for weight in (one(1e30), one(1e-30), one(0), 7, np.ones(24, bool)):
        fits(MoERegressor, TABLE, NUMBERS, sample_weight=weight)


# -- after a fit --------------------------------------------------------------------------

METHODS = ["predict", "predict_proba", "apply", "gate_proba", "expert_proba", "decision_function"]
OTHER_SAMPLES = {
    "fewer features": ("table", lambda X: X[:, :2], "X has 2 features.* expecting 3"),
    "patches": ("table", lambda X: X[:, None], "X has"),
    "no channels": (
        *("images", lambda X: X[:, 0]),
        r"X of shape \(24, 8, 8\) holds bags of patches, MoEClassifier was fitted on images of "
        r"shape \(1, 8, 8\)\. .* pass X\[:, np\.newaxis\], of a single image X\[np\.newaxis\]\.",
    ),
    "bytes": ("images", lambda X: X.astype(np.uint8), "uint8"),
    "one axis": ("table", lambda X: X[0], "^X: "),
    "strings": ("table", lambda X: changed(X, "a", object), "^Column 0 of X holds.*: "),
}


def test_samples_unlike_those_of_fit_are_named():
    models = {kind: make().fit(X, CLASSES) for kind, X in SAMPLES.items()}
    for label, (kind, vary, match) in OTHER_SAMPLES.items():
        for method in METHODS:
            refuses(label, match, getattr(models[kind], method), vary(SAMPLES[kind]))


def test_nothing_is_predicted_before_fit():
    names = [(MoEClassifier, name) for name in (*METHODS, "predict_log_proba", "to_torch")]
    for cls, name in [*names, (MoERegressor, "expert_predict"), (MoEClassifier, "module_")]:
        with pytest.raises(NotFittedError, match="not fitted"):
            getattr(cls(), name)(*[] if name == "to_torch" else [TABLE])


FURTHER = {
    "new classes": ({}, CLASSES + 1, r"labels \[2\] that are not among the classes"),
    "other classes": ({"classes": [0, 1, 2]}, CLASSES, "not the same as on last call"),
    "labels": ({}, np.c_[CLASSES, CLASSES], r"y must have shape \(n_samples,\)"),
    "fractions": ({}, NUMBERS, "^y: "),
}


def test_further_training_refuses_what_does_not_fit_and_loses_nothing():
    model = make().partial_fit(TABLE, CLASSES, classes=[0, 1])
    before = model.predict_proba(TABLE)
    for label, (options, y, match) in FURTHER.items():
        refuses(label, match, model.partial_fit, TABLE, y, **options)
        np.testing.assert_array_equal(model.predict_proba(TABLE), before)
    model = make(warm_start=True).fit(TABLE, CLASSES)
    before = model.predict_proba(TABLE)
    for name, value in {"n_experts": 4, "expert_width": 7, "router": "top1"}.items():
        kept = model.get_params()[name]
        refuses(name, name, model.set_params(**{name: value}).fit, TABLE, CLASSES)
        model.set_params(**{name: kept})
        np.testing.assert_array_equal(model.predict_proba(TABLE), before)
