"""X, y and weights of every kind: a clear error that names what is wrong, or a finite model."""

import numpy as np
import pytest
import torch
from helpers import SKLEARN_1_6
from scipy.sparse import csr_matrix
from sklearn.exceptions import DataConversionWarning, NotFittedError

from sklearn_moe import MoEClassifier, MoERegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning"),
    pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The number of unique classes:UserWarning"),
]

N_SAMPLES = 24
RNG = np.random.default_rng(0)
SAMPLES = {
    "table": RNG.normal(size=(N_SAMPLES, 3)).astype(np.float32),
    "patches": RNG.normal(size=(N_SAMPLES, 4, 5)).astype(np.float32),
    "pictures": RNG.normal(size=(N_SAMPLES, 1, 8, 8)).astype(np.float32),
}
CLASSES = RNG.integers(2, size=N_SAMPLES)
NUMBERS = RNG.normal(size=N_SAMPLES)
ESTIMATORS = [MoEClassifier, MoERegressor]


def make(cls=MoEClassifier, **parameters):
    return cls(**{"max_iter": 2, "random_state": 0, "n_experts": 3} | parameters)


def target(cls, n_samples=N_SAMPLES):
    return (CLASSES if cls is MoEClassifier else NUMBERS)[:n_samples]


def answers(model, X):
    made = model.predict_proba(X) if isinstance(model, MoEClassifier) else model.predict(X)
    assert np.isfinite(made).all()
    assert np.isfinite(model.gate_proba(X)).all()
    return made


def fits(cls, X, y, **weights):
    return answers(make(cls).fit(X, y, **weights), X)


def refuses(match, cls, X, y, **weights):
    model = make(cls)
    with pytest.raises((TypeError, ValueError), match=match):
        model.fit(X, y, **weights)
    with pytest.raises(NotFittedError):
        model.predict(SAMPLES["table"])


def changed(X, value):
    X = X.astype(np.result_type(X, np.array(value))) if not isinstance(value, float) else X.copy()
    X[(0,) * X.ndim] = value
    return X


def objects(X, value):
    X = X.astype(object)
    X[(0,) * X.ndim] = value
    return X


MALFORMED = {
    "no sample": (lambda X: X[:0], "X: Found array with 0 sample"),
    "no feature": (lambda X: X[..., :0], "^X.*(0 feature|is empty)"),
    "no patch or channel": (lambda X: X[:, :0], "^X.*(0 feature|is empty)"),
    "five axes": (lambda X: X.reshape(N_SAMPLES, 1, 1, 1, -1), "X must have shape"),
    "six axes": (lambda X: X.reshape(N_SAMPLES, 1, 1, 1, 1, -1), "X must have shape"),
    "one axis": (lambda X: X.reshape(N_SAMPLES, -1)[:, 0], "X: Expected 2D array"),
    "no axis": (lambda X: np.array(1.0), "X: Expected 2D array"),
    "a number": (lambda X: 3.0, "X: Expected 2D array"),
    "nothing": (lambda X: None, "X: Expected 2D array"),
    "a string": (lambda X: "abc", "X: Expected 2D array"),
    "a dict": (lambda X: {"a": X}, "X: Expected 2D array"),
    "a set": (lambda X: {1, 2}, "X: Expected 2D array"),
    "a generator": (lambda X: (row for row in X), "X is generator.*partial_fit reads batches"),
    "an object": (lambda X: object(), "X: Expected 2D array"),
    "ragged lists": (lambda X: [[1, 2], [3]] * 12, "X: setting an array element.*inhomogeneous"),
    "a record array": (lambda X: np.zeros(N_SAMPLES, dtype=[("a", "f4")]), "X: Expected 2D array"),
    "a matrix": (lambda X: np.asmatrix(np.ones((24, 2))), r"X: np\.matrix is not supported"),
    "a tensor with gradient": (lambda X: torch.from_numpy(X).requires_grad_(), "X: Can't call"),
    "complex numbers": (lambda X: X * 1j, "X: Complex data not supported"),
    "raw bytes": (lambda X: X.view("V4"), "X: "),
    "a string among numbers": (
        lambda X: objects(X, "a"),
        r"(X:|^Column 0 of X holds.*:) could not convert.*'a'",
    ),
    "a list among numbers": (
        lambda X: objects(X, {}),
        r"(X:|^Column 0 of X holds.*:) float.*not 'dict'",
    ),
    "infinity": (lambda X: changed(X, np.inf), "Input X contains infinity"),
    "minus infinity": (lambda X: changed(X, -np.inf), "Input X contains infinity"),
    "infinities only": (lambda X: np.full_like(X, np.inf), "Input X contains infinity"),
    "1e308": (lambda X: np.full(X.shape, 1e308), "X holds numbers so large"),
    "1e308 and its negative": (lambda X: X.astype(float) / 5 * 1e308, "X holds numbers so large"),
}


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize(("spoil", "match"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_samples_are_named(spoil, match, kind, cls):
    refuses(match, cls, spoil(SAMPLES[kind]), target(cls))


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("kind", ["patches", "pictures"])
@pytest.mark.parametrize("value", [np.nan, None])
def test_patches_and_pictures_have_no_missing_numbers(kind, value, cls):
    refuses("Input X contains NaN", cls, objects(SAMPLES[kind], value), target(cls))


def test_one_number_of_1e200_is_far_in_a_table_and_named_elsewhere():
    for cls in ESTIMATORS:
        fits(cls, changed(SAMPLES["table"].astype(float), 1e200), target(cls))
        for kind in ("patches", "pictures"):
            large = changed(SAMPLES[kind].astype(float), 1e200)
            refuses("X holds numbers so large", cls, large, target(cls))


def test_patches_whose_squares_leave_float32_are_named():
    X = SAMPLES["patches"]
    for large in (changed(X, 1e30), X * np.float32(1e30), np.full_like(X, 3e38)):
        refuses("X holds numbers so large.*Divide X", MoEClassifier, large, CLASSES)
    refuses("X holds numbers so small.*Multiply X", MoEClassifier, X * np.float32(1e-30), CLASSES)


UNUSUAL = {
    "one feature": lambda X: X[:, :1] if X.ndim == 2 else X,
    "one patch": lambda X: X[:, :1],
    "lists": lambda X: X.tolist(),
    "tuples": lambda X: tuple(map(tuple, X.tolist())),
    "lists of arrays": lambda X: list(X),
    "a tensor": torch.from_numpy,
    "a masked array": lambda X: np.ma.array(X, mask=X > 1),
    "bools": lambda X: X > 0,
    "float16": lambda X: X.astype(np.float16),
    "float64": lambda X: X.astype(np.float64),
    "long doubles": lambda X: X.astype(np.longdouble),
    "objects": lambda X: X.astype(object),
    "digits": lambda X: X.astype("U9"),
    "uint8": lambda X: (9 * X).astype(np.int8).view(np.uint8),
    "zeros": np.zeros_like,
    "sevens": lambda X: np.full_like(X, 7),
    "1e15": lambda X: X * np.float32(1e15),
    "1e-15": lambda X: X * np.float32(1e-15),
    "a subnormal number": lambda X: changed(X, 1e-42),
    "one of 1e15": lambda X: changed(X, 1e15),
    "1e15 in float64": lambda X: X * 1e15,
}


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("vary", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_samples_make_a_finite_model(vary, kind, cls):
    fits(cls, vary(SAMPLES[kind]), target(cls))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.int64, np.uint64])
def test_whole_numbers_are_numbers_but_no_pictures(dtype):
    for kind in ("table", "patches"):
        fits(MoEClassifier, (9 * np.abs(SAMPLES[kind])).astype(dtype), CLASSES)
    pictures = SAMPLES["pictures"].astype(dtype)
    refuses(f"X holds pictures of type {np.dtype(dtype)}", MoEClassifier, pictures, CLASSES)


@pytest.mark.parametrize("value", [np.nan, 3e38, -1e30, 1e-30])
def test_a_table_takes_missing_and_extreme_numbers(value):
    X = SAMPLES["table"]
    for cls in ESTIMATORS:
        fits(cls, changed(X, value), target(cls))
        fits(cls, np.full_like(X, value), target(cls))


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("kind", SAMPLES)
def test_two_samples_are_enough(kind, cls):
    fits(cls, SAMPLES[kind][:2], np.array([0, 1]))


@pytest.mark.parametrize("kind", SAMPLES)
def test_one_sample_is_enough_for_numbers_and_not_for_classes(kind):
    X = SAMPLES[kind][:1]
    fits(MoERegressor, X, NUMBERS[:1])
    refuses("at least 2 classes, got 1 class: ", MoEClassifier, X, CLASSES[:1])


def read_only(X, path):
    X = X.copy()
    X.flags.writeable = False
    return X


def strided(X, path):
    return np.repeat(X, 2, axis=-1)[..., ::2]


def memory_map(X, path):
    np.save(path / "X.npy", X)
    return np.load(path / "X.npy", mmap_mode="r")


LAYOUTS = {
    "read-only": read_only,
    "Fortran": lambda X, path: np.asfortranarray(X),
    "strided": strided,
    "reversed": lambda X, path: X[::-1].copy()[::-1],
    "reversed features": lambda X, path: X[..., ::-1].copy()[..., ::-1],
    "big-endian": lambda X, path: X.astype(">f4"),
    "memory map": memory_map,
    "memory map, reversed": lambda X, path: memory_map(X[::-1], path)[::-1],
    "broadcast": lambda X, path: np.broadcast_to(X[None], (1, *X.shape))[0],
}


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_layout_of_an_array_makes_no_difference(layout, kind, tmp_path):
    X = SAMPLES[kind]
    laid_out = layout(X, tmp_path)
    model = make().fit(laid_out, CLASSES)
    np.testing.assert_array_equal(laid_out, X)
    # Products are summed in another order where columns are contiguous.
    rtol = 1e-4 if layout is LAYOUTS["Fortran"] else 0
    expected = make().fit(X, CLASSES).predict_proba(X)
    np.testing.assert_allclose(model.predict_proba(laid_out), expected, rtol=rtol)


X_TABLE = SAMPLES["table"]
BAD_TARGETS = {
    "too few": (lambda y: y[:-1], r"X and y: .*\[24, 23\]"),
    "too many": (lambda y: np.r_[y, 0], r"X and y: .*\[24, 25\]"),
    "nothing": (lambda y: None, "requires y to be passed"),
    "none": (lambda y: [], "y: Found array with 0 sample"),
    "no axis": (lambda y: np.array(0), "y: Input should have at least 1 dimension"),
    "a dict": (lambda y: {}, "y: Input should have at least 1 dimension"),
    "a string": (lambda y: "abc", "y: Input should have at least 1 dimension"),
    "three axes": (lambda y: y[:, None, None], "y: Found array with dim 3"),
    "ragged lists": (lambda y: [[1], [1, 2]] * 12, "y: setting an array element"),
    "NaN": (lambda y: np.r_[np.nan, y[1:]], "Input y contains NaN"),
    "infinity": (lambda y: np.r_[np.inf, y[1:]], "Input y contains infinity"),
    "complex numbers": (lambda y: y * 1j, "y: Complex data not supported"),
    "a sparse matrix": (lambda y: csr_matrix(y[:, None]), "Sparse data was passed for y"),
}


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize(("spoil", "match"), BAD_TARGETS.values(), ids=BAD_TARGETS)
def test_a_malformed_target_is_named(spoil, match, cls):
    refuses(match, cls, X_TABLE, spoil(target(cls)))


NO_CLASSES = {
    "one class": (np.zeros(N_SAMPLES), "at least 2 classes, got 1 class: 0.0"),
    "one string": (["a"] * N_SAMPLES, "at least 2 classes, got 1 class: 'a'"),
    "fractions": (NUMBERS, "y: Unknown label type: continuous"),
    "tiny fractions": (CLASSES * 1e-320, "y: Unknown label type: continuous"),
    "1e30": (CLASSES * 1e30, "y: Unknown label type"),
    "1e308": (np.where(CLASSES, 1e308, -1e308), "y: Unknown label type"),
    "mixed types": (np.array([1, "a"] * 12, dtype=object), "y: Unknown label type"),
    "some None": (np.array([None, *CLASSES[1:]], dtype=object), "y holds None.* 1 sample"),
    "objects": ([object()] * N_SAMPLES, "y: Unknown label type"),
    "raw bytes": (np.where(CLASSES, b"a", b"b"), "y: Support for labels represented as bytes"),
    "several columns": (RNG.integers(3, size=(N_SAMPLES, 2)), "y of shape .*zeros and ones"),
}


@pytest.mark.parametrize(("y", "match"), NO_CLASSES.values(), ids=NO_CLASSES)
def test_what_are_no_classes_is_named(y, match):
    refuses(match, MoEClassifier, X_TABLE, y)


CLASS_KINDS = {
    "strings": np.where(CLASSES, "a", "b"),
    "a list of strings": np.where(CLASSES, "a", "b").tolist(),
    "objects": np.where(CLASSES, "a", "b").astype(object),
    "bools": CLASSES.astype(bool),
    "floats": CLASSES.astype(float),
    "float16": CLASSES.astype(np.float16),
    "int8": CLASSES.astype(np.int8),
    "negative": -CLASSES,
    "huge": CLASSES * 2**62,
    "a class each": np.arange(N_SAMPLES),
    "labels": np.c_[CLASSES, 1 - CLASSES],
}


@pytest.mark.parametrize("y", CLASS_KINDS.values(), ids=CLASS_KINDS)
def test_classes_of_every_kind_come_back(y):
    model = make().fit(X_TABLE, y)
    answers(model, X_TABLE)
    predicted = model.predict(X_TABLE)
    assert predicted.shape == np.shape(y)
    assert set(np.unique(predicted)) <= set(np.unique(y))


def test_ten_thousand_classes():
    classes = np.arange(10_000)
    y = RNG.choice(classes, N_SAMPLES)
    proba = answers(make(expert_width=2).partial_fit(X_TABLE, y, classes=classes), X_TABLE)
    assert proba.shape == (N_SAMPLES, 10_000)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-4)


NO_NUMBERS = {
    "strings": (np.where(CLASSES, "a", "b"), "y: could not convert string to float"),
    "mixed types": (np.array([1, "a"] * 12, dtype=object), "y: could not convert string to float"),
    "objects": ([object()] * N_SAMPLES, "y: float.*not 'object'"),
    "some None": (np.array([None, *NUMBERS[1:]], dtype=object), "Input y contains NaN"),
    "1e308": (np.where(CLASSES, 1e308, -1e308), "y holds numbers so large.*Divide y"),
    "1e200": (NUMBERS * 1e200, "y holds numbers so large"),
}


@pytest.mark.parametrize(("y", "match"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_are_no_numbers_is_named(y, match):
    refuses(match, MoERegressor, X_TABLE, y)


@pytest.mark.parametrize(
    "y",
    [
        *(np.full(N_SAMPLES, value) for value in (0.0, 3.3, 1e30, -1e100, 1e-320)),
        *(NUMBERS * scale for scale in (1e30, 1e100, 1e-30, 1e-150)),
        1e12 + NUMBERS,
        CLASSES.astype(bool),
        NUMBERS.astype(np.float16),
        np.c_[NUMBERS, np.zeros(N_SAMPLES)],
    ],
)
def test_numbers_of_every_size_come_back_in_their_range(y):
    predicted = fits(MoERegressor, X_TABLE, y)
    assert predicted.shape == y.shape
    y = y.astype(float)
    spread = np.ptp(y, axis=0)
    reach = 5 * np.where(spread > 0, spread, 1) + 1e-9 * np.abs(y).max()
    assert (predicted >= y.min(0) - reach).all()
    assert (predicted <= y.max(0) + reach).all()


def test_a_column_is_taken_with_a_warning():
    for cls in ESTIMATORS:
        with pytest.warns(DataConversionWarning, match="column-vector"):
            make(cls).fit(X_TABLE, target(cls)[:, None])


def one(value):
    weight = np.ones(N_SAMPLES)
    weight[0] = value
    return weight


# scikit-learn 1.6 leaves weights of 0 to us.
NO_WEIGHT = (
    "All samples have weight 0" if SKLEARN_1_6 else "sample_weight: Sample weights must contain"
)
BAD_WEIGHTS = {
    "negative": (one(-1), "sample_weight must not be negative, got -1.0"),
    "all negative": (-np.ones(N_SAMPLES), "sample_weight must not be negative"),
    "a negative number": (-1, "sample_weight must not be negative"),
    "NaN": (one(np.nan), "Input sample_weight contains NaN"),
    "infinity": (one(np.inf), "Input sample_weight contains infinity"),
    "zeros": (np.zeros(N_SAMPLES), NO_WEIGHT),
    "zero": (0, NO_WEIGHT),
    "None": ([None] * N_SAMPLES, "Input sample_weight contains NaN"),
    "too few": (np.ones(3), r"sample_weight.shape == \(3,\)"),
    "none": ([], "sample_weight: Found array with 0 sample"),
    "two axes": (np.ones((N_SAMPLES, 1)), "sample_weight: Sample weights must be 1D"),
    "strings": (["a"] * N_SAMPLES, "sample_weight: could not convert string"),
    "a string": ("balanced", "sample_weight: could not convert string"),
    "a dict": ({}, "sample_weight: float.*not 'dict'"),
    "an object": (object(), "sample_weight: float.*not 'object'"),
    "complex numbers": (np.ones(N_SAMPLES) * 1j, "sample_weight: Complex data"),
}


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize(("weight", "match"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_bad_weights_are_named(weight, match, cls):
    refuses(match, cls, X_TABLE, target(cls), sample_weight=weight)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("factor", [2.0**-1000, 2.0**-140, 2.0**60, 2.0**127, 2.0**1000])
def test_a_factor_of_all_weights_changes_nothing(factor, kind):
    X, weight = SAMPLES[kind], np.linspace(0.1, 1, N_SAMPLES)
    expected = fits(MoEClassifier, X, CLASSES, sample_weight=weight)
    found = fits(MoEClassifier, X, CLASSES, sample_weight=factor * weight)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("weight", [one(1e30), one(1e-30), one(0), 7, np.ones(24, bool)])
def test_weights_of_every_size_make_a_finite_model(weight):
    for cls in ESTIMATORS:
        fits(cls, X_TABLE, target(cls), sample_weight=weight)


METHODS = ["predict", "predict_proba", "apply", "gate_proba", "expert_proba", "decision_function"]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_answered_before_fit(method):
    with pytest.raises(NotFittedError, match="not fitted"):
        getattr(make(), method)(X_TABLE)


OTHER_SAMPLES = {
    "fewer features": ("table", lambda X: X[:, :2], "X has 2 features.* expecting 3"),
    "patches": ("table", lambda X: X[:, None], "X has"),
    "other patches": ("patches", lambda X: X[..., :2], r"X has samples of shape \(4, 2\)"),
    "fewer patches": ("patches", lambda X: X[:, :2], "X has 2"),
    "a table": ("patches", lambda X: X[:, 0], "X has"),
    "no channels": ("pictures", lambda X: X[:, 0], "X of shape .*holds bags of patches"),
    "other pictures": ("pictures", lambda X: X[..., :4], "X has samples of shape"),
    "bytes": ("pictures", lambda X: X.astype(np.uint8), "X holds pictures of type uint8"),
    "no sample": ("table", lambda X: X[:0], "X: Found array with 0 sample"),
    "one axis": ("table", lambda X: X[0], "X: Expected 2D array"),
    "infinity": ("table", lambda X: changed(X, np.inf), "Input X contains infinity"),
    "strings": ("table", lambda X: objects(X, "a"), r"^Column 0 of X holds.*: could not convert"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("kind", "vary", "match"), OTHER_SAMPLES.values(), ids=OTHER_SAMPLES)
def test_samples_unlike_those_of_fit_are_named(kind, vary, match, method):
    model = make().fit(SAMPLES[kind], CLASSES)
    with pytest.raises((TypeError, ValueError), match=match):
        getattr(model, method)(vary(SAMPLES[kind]))


FURTHER = {
    "new classes": ({}, CLASSES + 1, r"labels \[2\] that are not among the classes"),
    "other classes": ({"classes": [0, 1, 2]}, CLASSES, "is not the same as on last call"),
    "labels": ({}, np.c_[CLASSES, CLASSES], r"y must have shape \(n_samples,\)"),
    "fractions": ({}, NUMBERS, "y: Unknown label type"),
}


@pytest.mark.parametrize(("options", "y", "match"), FURTHER.values(), ids=FURTHER)
def test_partial_fit_refuses_another_target_and_loses_nothing(options, y, match):
    model = make().partial_fit(X_TABLE, CLASSES, classes=[0, 1])
    before = model.predict_proba(X_TABLE)
    with pytest.raises(ValueError, match=match):
        model.partial_fit(X_TABLE, y, **options)
    np.testing.assert_array_equal(model.predict_proba(X_TABLE), before)


@pytest.mark.parametrize("parameters", [{"n_experts": 4}, {"expert_width": 7}, {"router": "top1"}])
def test_a_warm_start_of_another_model_is_refused_and_loses_nothing(parameters):
    model = make(warm_start=True).fit(X_TABLE, CLASSES)
    before = model.predict_proba(X_TABLE)
    with pytest.raises(ValueError, match=f"cannot be trained further.*{next(iter(parameters))}"):
        model.set_params(**parameters).fit(X_TABLE, CLASSES)
    np.testing.assert_array_equal(model.predict_proba(X_TABLE), before)
