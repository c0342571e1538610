"""Tables as users meet them: raw columns, missing values, categories, and when training ends."""

import pickle
import re
import warnings
from functools import partial

import numpy as np
import pandas
import pytest
from helpers import brief, predictions, refuses
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._parameters.plan import resolve
from sklearn_moe.nn.heads import choose_head

BOTH = [MoEClassifier, MoERegressor]
make = partial(brief, n_experts=4, max_iter=10, tol="auto")
NAN = float("nan")


def draw(n=80, n_columns=4, seed=0):
    """Return a table, and classes 0 and 1, which are numbers, too."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_columns))
    return X, (X[:, 0] + X[:, 1] ** 2 + 0.3 * rng.normal(size=n) > 0.7).astype(int)


# -- columns as they come -----------------------------------------------------------------


@pytest.mark.parametrize("model", BOTH)
def test_units_of_columns_do_not_matter(model):
    X, y = draw()
    X[:, 3] = X[:, 3] > 0
    factor, shift = np.array([1e-6, 3.7, 1e5, 2.3]), np.array([1e-6, -11.0, 1e6, 5.0])
    one, other = make(model).fit(X, y), make(model).fit(factor * X + shift, y)
    X_new, _ = draw(seed=1)
    found = predictions(other, factor * X_new + shift)
    np.testing.assert_allclose(found, predictions(one, X_new), 0, 1e-6)


def test_columns_of_two_values_are_learned_however_few_rows_differ():
    X = np.random.default_rng(0).integers(2, size=(300, 2))
    for model, y in ((MoEClassifier, X.sum(1) == 1), (MoERegressor, X.prod(1))):
        assert model(3, max_iter=50, random_state=0).fit(X, y).score(X, y) > 0.95


@pytest.mark.parametrize(
    ("model", "dtype", "early_stopping"),
    [(MoEClassifier, np.float32, "out_of_bag"), (MoERegressor, np.float64, True)],
)
def test_a_sparse_table_is_the_same_table(model, dtype, early_stopping):
    draws = np.random.default_rng(0).random((90, 6))
    X = np.where(draws < 0.4, draws, 0).astype(dtype)
    y = (X[:, 0] > X[:, 1]).astype(int)
    options = {"batch_size": 30, "early_stopping": early_stopping}
    dense, sparse = make(model, **options).fit(X, y), make(model, **options)
    sparse.fit(csr_array(X), y)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    for given in (X, csr_array(X), csr_array(X).tocsc()):
        np.testing.assert_allclose(predictions(sparse, given), predictions(dense, X), 0, tolerance)


# -- missing values -----------------------------------------------------------------------


@pytest.mark.parametrize("model", BOTH)
def test_that_a_value_is_missing_is_learned(model):
    X, _ = draw(200)
    y = np.random.default_rng(1).integers(2, size=200)
    X[y == 1, 2] = NAN
    fitted = make(model, max_iter=100).fit(X, y)
    assert fitted.score(X, y) > 0.9
    X[:50, 0] = NAN  # of a column that had none
    assert np.isfinite(predictions(fitted, X)).all()
    X[:, 3] = NAN
    assert np.isfinite(predictions(make(model).fit(X, y), X)).all()


def test_what_is_missing_is_refused_elsewhere():
    X, y = draw()
    X[3, 1] = NAN
    for model in (make(standardize=False), make(sample_shape=(2, 2))):
        refuses(model, "Input X contains NaN", model.fit, X, y)


# -- categories ---------------------------------------------------------------------------


def draw_frame(n=120, seed=0):
    """Return a frame of numbers and categories, some missing, and what follows from both."""
    rng = np.random.default_rng(seed)
    color, size = rng.choice(["red", "green", "blue"], n), rng.choice([1, 2, 5], n)
    columns = {"weight": rng.normal(50, 10, n)}
    columns["color"] = np.where(rng.random(n) > 0.1, color.astype(object), None)
    columns |= {"size": pandas.Categorical(size), "count": rng.integers(10, size=n)}
    columns["weight"][::7] = NAN
    frame = pandas.DataFrame(columns, index=rng.permutation(n))
    return frame, np.where((color == "red") ^ (size == 5), "yes", "no")


def test_a_frame_from_end_to_end():
    (X, y), (X_test, y_test) = draw_frame(300), draw_frame(seed=1)
    clf = make(n_experts="auto", max_iter=20).fit(X, y)
    assert list(clf.feature_names_in_) == ["weight", "color", "size", "count"]
    assert clf.n_features_in_ == 4
    assert clf.input_shape_ == (4,)
    proba = clf.predict_proba(X_test)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-6)
    assert clf.score(X_test, y_test) > 0.85
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X_test), proba)
    assert GridSearchCV(clf, {"n_experts": [1, 3]}, cv=2).fit(X, y).best_score_ > 0.75
    parts = (
        make().partial_fit(X[:150], y[:150], classes=["no", "yes"]).partial_fit(X[150:], y[150:])
    )
    assert (parts.predict_proba(X_test).shape, parts.n_iter_) == ((120, 2), 2)
    reg = make(MoERegressor, n_experts="auto", max_iter=20).fit(X, y == "yes")
    assert reg.score(X_test, y_test == "yes") > 0.5


def test_categories_of_an_array_are_named_by_index():
    rng = np.random.default_rng(0)
    X = np.stack([rng.normal(size=200), rng.choice([3, 10, 700, 4], 200)], axis=1)
    y = np.isin(X[:, 1], [3, 700])
    frame = pandas.DataFrame({"a": X[:, 0], "b": pandas.Categorical(X[:, 1])})
    clf, expected = make(categorical_features=[1]).fit(X, y), make().fit(frame, y)
    expected = expected.predict_proba(frame)
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-12)
    named = make(categorical_features=["b"]).fit(frame, y)
    np.testing.assert_array_equal(named.predict_proba(frame), expected)
    assert clf.score(X, y) > make().fit(X, y).score(X, y)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_what_differs_from_the_frame_of_the_fit_is_named():
    X, y = draw_frame()
    clf = make().fit(X, y)
    array = X.assign(color=1.0).to_numpy(dtype=float)
    for given in (array, array.tolist(), csr_array(np.nan_to_num(array))):
        refuses("array", r"Pass a data frame with the same columns", clf.predict, given)
    for given in (X.drop(columns="color"), X[["color", "weight", "size", "count"]]):
        refuses("frame", "feature names should match", clf.predict, given)
    without, plain = make(categorical_features=None), make(standardize=False)
    refuses("without", r"\['color', 'size'\] hold categories", without.fit, X, y)
    refuses("plain", r"\[1, 2\] hold categories.*standardize=True", plain.fit, X, y)
    refuses("nope", "categorical_features", make(categorical_features=["nope"]).fit, X, y)


# -- what "auto" means --------------------------------------------------------------------

OF_TABLES = {"n_experts": 3, "expert": ["deep", "piecewise", "linear"]}
OF_TABLES |= {"solver": "adamw", "solver__schedule": "cosine", "router": "soft"}
OF_TABLES |= {"early_stopping": "out_of_bag", "expert_loss_weight": 1.0, "standardize": True}
OF_TABLES |= {"batch_size": 200, "tol": 1e-4}
OF_PATCHES = {"solver": "normalized_sgd", "router": "top1", "early_stopping": False, "tol": 1e-4}
OF_PATCHES |= {"expert_loss_weight": 0.0, "standardize": False, "max_iter": 1000}


def plan_for(shape, model=MoEClassifier, **parameters):
    """Return the plan of a fit that is not made."""
    X, weight = np.zeros(shape, dtype=np.float32), np.ones(shape[0], dtype=np.float32)
    loss, kind = ("log_loss", "classes") if model is MoEClassifier else ("huber", "regression")
    return resolve(model().set_params(**parameters), X, weight, choose_head(loss, kind)(2))


@pytest.mark.parametrize("model", BOTH)
def test_defaults_of_tables(model):
    resolved = plan_for((4000, 4), model).resolved
    with_trees = {"n_experts": 4, "expert": [*OF_TABLES["expert"], "trees"]}
    assert resolved == resolved | OF_TABLES | with_trees | {"max_iter": 75}
    fitted = model(max_iter=1, random_state=0).fit(*draw(150))
    assert fitted.resolved_params_ == fitted.resolved_params_ | OF_TABLES
    alone = {"expert": "mlp", "early_stopping": "out_of_bag", "expert_loss_weight": 1.0}
    assert alone.items() <= plan_for((4000, 4), model, n_experts=1).resolved.items()


def test_a_router_that_is_trained_with_the_experts_makes_these_alike_and_says_so():
    for changed in ({"router__learning_rate": 0.1}, {"balance": "switch"}):
        with pytest.warns(UserWarning, match="8 of 'mlp', not a pool of kinds"):
            plan = plan_for((200, 4), **changed)
        assert (plan.resolved["n_experts"], plan.resolved["expert"]) == (8, "mlp")


def test_defaults_of_pictures():
    shape = (80, 3, 8, 8)
    shared = {"trunk": "cnn", "expert": "mlp", "router": "soft", "expert_loss_weight": 0.7}
    trained = {"solver": "adamw", "solver__schedule": "cosine", "learning_rate_init": 0.002}
    trained |= {"standardize": True, "early_stopping": False, "tol": None, "max_iter": 300}
    for model in BOTH:
        assert (shared | trained).items() <= plan_for(shape, model).resolved.items()
    whole = plan_for(shape, expert="cnn").resolved
    assert {"trunk": None, "router": "top1", "expert_loss_weight": 0.0}.items() <= whole.items()
    # Four squares of 4 x 4 pixels, whose scores are added up.
    assert whole["router__learning_rate"] == pytest.approx(0.0006 / 4)
    seeing = plan_for(shape, expert="cnn", router__network=lambda shape, n: None).resolved
    assert seeing["router__learning_rate"] == pytest.approx(0.0006)


def test_defaults_of_patches():
    shape = (80, 4, 5)
    assert OF_PATCHES.items() <= plan_for(shape).resolved.items()
    mixed = {"early_stopping": False, "expert_loss_weight": 0.0, "standardize": False}
    assert mixed.items() <= plan_for(shape, router="soft").resolved.items()
    of_numbers = {"router": "top1", "max_iter": 150, "tol": None}
    assert of_numbers.items() <= plan_for(shape, MoERegressor).resolved.items()


@pytest.mark.parametrize("model", BOTH)
def test_the_larger_a_table_the_fewer_epochs_and_the_larger_batches(model):
    for n, epochs, batch_size in (
        *((4_000, 75, 200), (20_000, 30, 200), (50_000, 12, 200)),
        *((100_000, 10, 400), (200_000, 10, 800), (2_000_000, 10, 800)),
    ):
        plan = plan_for((n, 2), model)
        assert (plan.training.max_iter, plan.training.batch_size) == (epochs, batch_size)
        n_members = 2 if n >= 10_000 else 4
        assert plan.model.n_members == (n_members, n_members, 1, n_members)
    for options in ({"batch_size": 200}, {"solver": "adam"}):
        assert plan_for((500_000, 2), model, **options).training.batch_size == 200


# -- when training ends -------------------------------------------------------------------


OOB = {MoEClassifier: "oob_decision_function_", MoERegressor: "oob_prediction_"}


@pytest.mark.parametrize("model", BOTH)
def test_out_of_bag_predictions_are_those_of_experts_that_saw_less(model):
    X, y = draw(120)
    is_classifier = model is MoEClassifier
    fitted = model(4, expert="mlp", max_iter=20, random_state=0)
    fitted.fit(X, y, sample_weight=np.arange(120) >= 20)
    found = getattr(pickle.loads(pickle.dumps(fitted)), OOB[model])
    each = (fitted.expert_proba if is_classifier else fitted.expert_predict)(X[20:])
    if is_classifier:
        each = each ** float(fitted.module_.sharpness)
        each /= each.sum(axis=2, keepdims=True)
    distances = np.abs(each - found[:, np.newaxis]).reshape(100, 4, -1).max(axis=2)
    np.testing.assert_allclose(distances.min(axis=1), 0, atol=1e-6)
    assert np.bincount(distances.argmin(axis=1), minlength=4).min() > 3  # of 4 experts, by turns
    fitted.partial_fit(X, y)
    assert not hasattr(fitted, OOB[model])
    assert not hasattr(make(model, expert="mlp", early_stopping=False).fit(X, y), OOB[model])


@pytest.mark.parametrize("model", BOTH)
def test_out_of_bag_errors_are_honest(model):
    (X, _), (X_test, _) = draw(200), draw(1000, seed=1)
    y, y_test = np.random.default_rng(2).integers(2, size=200), np.arange(1000) % 2
    fitted = model(max_iter=50, tol=None, random_state=0).fit(X, y)  # all of it is noise
    found = predictions(fitted, X), predictions(fitted, X_test), getattr(fitted, OOB[model])
    answers = zip((y, y_test, y), (p.reshape(len(p), -1)[:, -1] for p in found), strict=True)
    seen, unseen, out_of_bag = (np.mean((t - p) ** 2) for t, p in answers)
    assert out_of_bag > max(unseen - 0.01, seen)


NAMES = {"PCA": PCA, "SelectKBest": SelectKBest, "f_regression": f_regression}
SMALL = {"expert_width": 16, "max_iter": 100, "random_state": 0}


def draw_wide(kind):
    """Return 60 training and 200 other rows of 500 columns, three of which tell what y is."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(260, 500))
    y = X[:, :3].sum(axis=1) + rng.normal(size=260)
    if kind == "labels":
        y = np.stack([y, -y], axis=1)
    y = (y > 0).astype(int) if kind in ("classes", "labels") else y
    model = MoEClassifier if kind in ("classes", "labels") else MoERegressor
    return model, X[:60], X[60:], y[:60], y[60:]


def on_width(model, X, y):
    """Fit, and return the warnings that speak of the numbers of rows and columns."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    return [w for w in caught if str(X.shape[1]) in str(w.message)]


@pytest.mark.parametrize(
    ("kind", "early_stopping"),
    [("classes", "auto"), ("labels", True), ("numbers", True)],
)
def test_a_wide_table_of_which_little_was_learned_is_told(kind, early_stopping):
    model, X, _, y, _ = draw_wide(kind)
    moe = model(**SMALL, early_stopping=early_stopping)
    (warning,) = on_width(moe, X, y)
    message = str(warning.message)
    assert str(54 if early_stopping is True else 60) in message
    (reducer,) = re.findall(r"make_pipeline\((.*), model\)", message)
    assert ("f_regression" in reducer) == (kind == "numbers")
    assert ("PCA" in reducer) == (kind == "labels")
    better = make_pipeline(eval(reducer, NAMES), clone(moe))  # what it says is code that runs
    assert not on_width(better, X, y)
    blind = model(**SMALL | {"max_iter": 10, "expert": "mlp"}, early_stopping=False)
    assert not on_width(blind, X, y)


# -- again and again ----------------------------------------------------------------------


@pytest.mark.parametrize("model", BOTH)
def test_warm_start_goes_on_with_the_same_columns(model):
    X, y = draw_frame()
    y = y == "yes"
    fitted = make(model, expert="mlp", warm_start=True).fit(X, y)
    first, before = fitted.oob_loss_curve_, predictions(fitted, X)
    other = X.iloc[::-1].assign(weight=X["weight"] + 5, color="red")
    fitted.set_params(learning_rate_init=1e-9, router__learning_rate=0.0).fit(other, y)
    assert fitted.oob_loss_curve_[: len(first)] == first
    assert fitted.n_iter_ == len(fitted.oob_loss_curve_) > len(first)
    # Logits are calibrated anew, by a factor.
    assert np.corrcoef(predictions(fitted, X).ravel(), before.ravel())[0, 1] > 0.99
