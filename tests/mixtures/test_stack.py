"""Stacks: models of all samples, and a gate by what they predict of samples of other folds."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import adjusted_rand_score, log_loss
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_predict,
)
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from sklearn_moe import MixtureClassifier, MixtureRegressor
from sklearn_moe.inspection import region_rules
from sklearn_moe.metrics import specialization_report

STACKS = {"numbers": MixtureRegressor, "classes": MixtureClassifier}
TREES = {"numbers": DecisionTreeRegressor, "classes": DecisionTreeClassifier}
LINES = {"numbers": Ridge, "classes": LogisticRegression}


class OneColumn(BaseEstimator):
    """A model that knows beforehand how y depends on one column."""

    def __init__(self, column):
        self.column = column

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def score_of(self, X):
        return 5 * np.asarray(X)[:, self.column].astype(float)


class OneColumnRegressor(RegressorMixin, OneColumn):
    def predict(self, X):
        return self.score_of(X)


class OneColumnClassifier(ClassifierMixin, OneColumn):
    def predict_proba(self, X):
        return np.c_[1 - expit(self.score_of(X)), expit(self.score_of(X))]

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


COLUMNS = {"numbers": OneColumnRegressor, "classes": OneColumnClassifier}


def thirds(seed, kind="classes", n=900):
    """Return samples, y and which of three columns, 0 to 2, decides about y."""
    rng = np.random.default_rng(seed)
    X = np.c_[rng.normal(size=(n, 3)), rng.uniform(0, 3, n)]
    third = X[:, 3].astype(int)
    y = 5 * X[np.arange(n), third] + rng.normal(size=n)
    return X, y if kind == "numbers" else np.where(y > 0, "yes", "no"), third


def models(kind):
    """Return a line and a tree."""
    return [make_pipeline(StandardScaler(), LINES[kind]()), TREES[kind](max_depth=4)]


def outputs(model, X):
    return model.expert_predict(X) if hasattr(model, "expert_predict") else model.expert_proba(X)


@pytest.mark.parametrize(
    ("kind", "gate"),
    [
        *(("numbers", "auto"), ("numbers", DecisionTreeClassifier(max_depth=2))),
        *(("classes", "auto"), ("classes", LogisticRegression())),
    ],
)
def test_stack_finds_where_each_model_is_right(kind, gate):
    X, y, third = thirds(0, kind)
    parts = [COLUMNS[kind](column) for column in range(3)]
    model = STACKS[kind](parts, method="stack", gate=gate, random_state=0).fit(X[:600], y[:600])
    assert adjusted_rand_score(third[600:], model.apply(X[600:])) > 0.85
    rules = region_rules(model, X[:600], y[:600])
    assert rules.is_stack
    assert rules.fidelity > 0.9
    assert all("x3" in " or ".join(parts) for parts in rules.where)
    assert str(rules).startswith("Which model to trust depends on the row. 3 models, 600 rows.")
    assert specialization_report(model, X[:600], y[:600]).verdict == rules.verdict
    if kind == "numbers":
        assert (model.scale_ < 4).all()  # 1 where a model is right, 7 elsewhere
    else:
        rival = StackingClassifier([(str(k), p) for k, p in enumerate(parts)]).fit(X[:600], y[:600])
        losses = [log_loss(y[600:], m.predict_proba(X[600:])) for m in (model, rival)]
        assert losses[0] < 0.7 * losses[1]


def test_models_that_see_one_column_each_are_as_certain_as_they_are_right():
    """Fitted to all samples, each of them knows of much chance."""
    X, y, third = thirds(1, n=1500)
    columns = [make_column_transformer(("passthrough", [k])) for k in range(3)]
    parts = [make_pipeline(column, LogisticRegression()) for column in columns]
    model = MixtureClassifier(parts, method="stack", random_state=0).fit(X[:900], y[:900])
    assert adjusted_rand_score(third[900:], model.apply(X[900:])) > 0.9
    assert model.sharpness_ > 3
    assert log_loss(y[900:], model.predict_proba(X[900:])) < 0.25  # .52 without the factor
    sharp = [normalize(e.predict_proba(X) ** model.sharpness_, "l1") for e in model.experts_]
    assert_allclose(model.expert_proba(X), np.stack(sharp, axis=1))


def test_few_samples_that_are_all_right_do_not_make_a_stack_certain():
    X, y = load_wine(return_X_y=True)
    line = make_pipeline(StandardScaler(), LogisticRegression())
    models = [line, RandomForestClassifier(20, random_state=0)]
    train, test = next(StratifiedKFold(2, shuffle=True, random_state=0).split(X, y))
    stack = MixtureClassifier(models, method="stack", random_state=0).fit(X[train], y[train])
    proba = stack.predict_proba(X[test])
    assert proba.max() <= 1
    alone = line.fit(X[train], y[train]).predict_proba(X[test])
    assert log_loss(y[test], proba) < 1.1 * log_loss(y[test], alone)


@pytest.mark.parametrize("gate", ["auto", None])
@pytest.mark.parametrize("kind", STACKS)
def test_weights_are_constant_where_nothing_tells_the_models_apart(kind, gate):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    y = X[:, 0] + X[:, 1] + 0.5 * rng.normal(size=600)
    y = y if kind == "numbers" else np.where(y > 0, "yes", "no")
    parts = [COLUMNS[kind](0), COLUMNS[kind](1)]
    model = STACKS[kind](parts, method="stack", gate=gate, random_state=0).fit(X, y)
    assert model.gate_ is None
    assert_allclose(model.weights_.sum(), 1)
    rules = region_rules(model, X, y)
    assert str(rules).startswith(f"The same everywhere: {COLUMNS[kind].__name__}")
    assert model.expert_kinds_ == [f"{COLUMNS[kind].__name__} {k}" for k in (1, 2)]
    assert np.isfinite(rules.own_score).all()
    assert np.isnan(rules.other_score).all()
    assert_allclose(model.gate_proba(X), np.tile(model.weights_, (600, 1)))


@pytest.mark.parametrize("kind", STACKS)
def test_a_stack_in_which_one_model_has_all_the_weight_is_the_same_everywhere(kind):
    X, y, _ = thirds(0, kind, 300)
    model = STACKS[kind](models(kind), method="stack", gate=None, random_state=0).fit(X, y)
    model.weights_ = np.array([1.0, 0.0])
    expected = f"The same everywhere: {LINES[kind].__name__} 1.00."
    report = specialization_report(model, X, y)
    assert report.verdict == expected
    assert_allclose(report.load, [1, 0])
    for rules in (region_rules(model, X, y), region_rules(model, X)):
        assert rules.verdict == expected
    single = STACKS[kind](models(kind)[:1], 1, method="stack", random_state=0).fit(X, y)
    assert str(region_rules(single, X)).startswith("1 expert, 300 rows.\n\nChange of")
    assert "depends on the row" not in str(region_rules(single, X, y))


@pytest.mark.parametrize("kind", STACKS)
def test_predictions_by_folds_are_those_of_models_that_did_not_see_the_row(kind):
    X, y, _ = thirds(1, kind, 200)
    folds = KFold(4, shuffle=True, random_state=3)
    stack = STACKS[kind](models(kind), method="stack", gate=None, cv=folds, random_state=0)
    model = stack.fit(X, y)
    method = "predict" if kind == "numbers" else "predict_proba"
    expected = [
        cross_val_predict(part, X, y, cv=folds, method=method)
        for part in (models(kind)[0], TREES[kind](max_depth=4, random_state=0))
    ]
    assert_allclose(model.oof_predictions_[:, 0], expected[0], atol=1e-6)
    assert np.array_equal(model.out_of_fold(X)[1], model.oof_predictions_)
    assert_allclose(model.out_of_fold(X[50:90])[1], model.oof_predictions_[50:90])
    new = thirds(2, kind, 50)[0]
    assert_allclose(model.out_of_fold(new)[1], outputs(model, new))
    assert_allclose(
        outputs(model, X)[:, 0], getattr(models(kind)[0].fit(X, y), method)(X), atol=1e-6
    )
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
    again = model.set_params(method="em", estimator=None, n_components=1, cv=None)
    assert not hasattr(again.fit(X, y), "out_of_fold")


def test_new_rows_are_new_also_where_models_predict_what_they_predicted_before():
    X, y, _ = thirds(0, "numbers", 400)
    stumps = [TREES["numbers"](max_leaf_nodes=n) for n in (2, 3)]
    stack = MixtureRegressor(stumps, method="stack", random_state=0).fit(X[:300], y[:300])
    gates, outputs = stack.out_of_fold(X[300:])
    assert np.array_equal(gates, stack.gate_proba(X[300:]))
    assert np.array_equal(outputs, stack.expert_predict(X[300:]))
    mixed = stack.out_of_fold(np.concatenate([X[300:], X[:300][::-1]]))[1]
    assert np.array_equal(mixed, np.concatenate([outputs, stack.oof_predictions_[::-1]]))


def test_a_gate_takes_columns_of_many_categories():
    X, y, third = thirds(0, "numbers", 600)
    parts = [OneColumnRegressor(column) for column in range(3)]
    frame = pd.DataFrame(X).add_prefix("x").assign(street=[str(i % 250) for i in range(600)])
    stack = MixtureRegressor(parts, method="stack", random_state=0).fit(frame, y)
    assert adjusted_rand_score(third, stack.apply(frame)) > 0.85


@pytest.mark.parametrize("column", [{}, {"town": "Oslo"}, {"gap": np.nan}])
def test_equal_rows_are_in_one_fold_whatever_holds_them(column):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(np.tile(rng.normal(size=(120, 3)), (3, 1)), columns=list("abc"))
    numbers = make_column_transformer(("passthrough", list("abc")))
    parts = [make_pipeline(numbers, model) for model in (KNeighborsRegressor(1), Ridge())]
    stack = MixtureRegressor(parts, method="stack", gate=None, random_state=0)
    stack.fit(X.assign(**column), np.tile(rng.normal(size=120), 3))
    assert stack.weights_[0] < 0.05  # of noise the nearest row is the row itself


def test_classes_of_models_that_were_fitted_before_are_known_by_name():
    X, y, _ = thirds(0)
    y = np.where(np.abs(X[:, 0]) < 0.3, "maybe", y)
    parts = [LogisticRegression().fit(X[y != "no"], y[y != "no"]), LogisticRegression()]
    pairs = [("frozen", FrozenEstimator(parts[0])), ("line", parts[1])]
    stack = MixtureClassifier(pairs, method="stack", gate=None, random_state=0).fit(X, y)
    assert_allclose(stack.expert_proba(X)[:, 0, [0, 2]], parts[0].predict_proba(X), atol=1e-9)
    assert stack.expert_kinds_ == ["frozen", "line"]
    with pytest.raises(ValueError, match=r"FrozenEstimator.* classes \['maybe', 'yes'\].*: \[0, 1"):
        stack.fit(X, np.unique(y, return_inverse=True)[1])


@pytest.mark.parametrize("kind", STACKS)
def test_printed_errors_are_those_on_new_rows(kind):
    """A full tree predicts its training samples without an error."""
    X, y, _ = thirds(0, kind, 3000)
    parts = [COLUMNS[kind](0), COLUMNS[kind](1), make_pipeline(TREES[kind](min_samples_leaf=3))]
    model = STACKS[kind](parts, method="stack", random_state=0).fit(X[:1000], y[:1000])
    seen, new = (region_rules(model, X[rows], y[rows]) for rows in (slice(1000), slice(1000, None)))
    for name in ("own_score", "other_score"):
        rtol = 0.1 if kind == "classes" else 0.4  # few rows at borders have most of the squares
        assert_allclose(getattr(seen, name), getattr(new, name), rtol=rtol)
    assert ("accuracy" if kind == "classes" else "RMSE") in str(seen)


@pytest.mark.parametrize("kind", STACKS)
def test_a_weight_of_two_is_the_sample_twice_and_groups_are_in_one_fold(kind):
    X, y, _ = thirds(0, kind, 120)
    weight = np.random.default_rng(0).integers(0, 3, size=120)
    rows = np.repeat(np.arange(120), weight)
    stack = STACKS[kind]([LINES[kind](), COLUMNS[kind](1)], method="stack", random_state=0)
    with pytest.raises(ValueError, match=r"OneColumn.*sample_weight"):
        stack.fit(X, y, sample_weight=weight)
    stack.estimator = [LINES[kind](), TREES[kind](max_depth=2)]
    weighted = stack.fit(X, y, sample_weight=weight).gate_proba(X)
    assert_allclose(weighted, stack.fit(X[rows], y[rows]).gate_proba(X), atol=1e-3)
    stack.gate = None
    for n_groups in (40, 3):
        model = stack.fit(X[rows], y[rows], groups=rows % n_groups)
        assert np.isfinite(model.oof_predictions_).all()


def test_models_are_searched_by_their_names():
    X, y, _ = thirds(0, "numbers", 200)
    pairs = [("ridge (old)", Ridge()), ("tree", DecisionTreeRegressor(max_depth=2))]
    stack = MixtureRegressor(pairs, method="stack", gate=None, random_state=0)
    grid = {"ridge (old)__alpha": [1e6, 1.0], "tree": [KNeighborsRegressor(2)]}
    search = GridSearchCV(stack, grid, cv=2).fit(X, y)
    assert search.best_params_["ridge (old)__alpha"] == 1
    named = search.best_estimator_.get_params()
    assert named["ridge (old)__alpha"] == named["ridge (old)"].alpha == 1
    rules = region_rules(search.best_estimator_, X, y)
    assert rules.expert_names == ("ridge (old)", "tree")


def test_stack_of_frames_in_a_search_with_folds_of_time():
    X, y, third = thirds(0, n=600)
    frame = pd.DataFrame(X, columns=list("abcd")).assign(town=np.array(["A", "B", "C"])[third])
    parts = [OneColumnClassifier(k) for k in range(3)]
    stack = MixtureClassifier(parts, 3, method="stack", cv=TimeSeriesSplit(3), random_state=0)
    search = GridSearchCV(stack, {"gate": ["auto", None]}, cv=2).fit(frame, y)
    assert search.best_params_ == {"gate": "auto"}
    best = search.best_estimator_
    assert np.isnan(best.oof_predictions_[:150]).all()
    rules = region_rules(best, frame, y)
    assert rules.fidelity > 0.95
    assert np.isfinite([rules.own_score, rules.other_score]).all()
    proba = best.predict_proba(frame)[np.arange(600), (y == "yes").astype(int)]
    assert_allclose(best.score_samples(frame, y), np.log(proba), atol=1e-5)
    with pytest.raises(ValueError, match="cannot be counted"):
        best.bic(frame, y)
