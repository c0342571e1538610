"""Which samples are held out, or shown to some experts only: copies, groups and rare classes."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from helpers import brief, raises
from sklearn import config_context
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_moe import MixtureClassifier, MixtureRegressor, MoEClassifier, MoERegressor
from sklearn_moe._training.pool import _balanced_bags

make = partial(brief, n_experts=4, max_iter=10, tol="auto")


def copies(n_copies, noise=0.0):
    """Return noisy classes of 120 rows, each given several times, and rows to test them by."""
    rng = np.random.default_rng(0)
    (X, y), test = (
        (X, (rng.random(len(X)) < 1 / (1 + np.exp(-2 * X[:, 0]))).astype(int))
        for X in (rng.normal(size=(n, 5)) for n in (120, 2000))
    )
    X = X.repeat(n_copies, 0)
    return X + noise * rng.normal(size=X.shape), y.repeat(n_copies), test


def test_copies_are_known_wherever_they_come():
    X, y, (X_test, y_test) = copies(8)
    X = np.vstack([np.zeros((2000, 5)), X])
    y = np.append(np.arange(2000) % 2, y)
    order = np.random.default_rng(0).permutation(len(y))
    for rows in (slice(None), order):
        clf = make(n_experts=6, max_iter=20).fit(X[rows], y[rows])
        assert log_loss(y_test, clf.predict_proba(X_test)) < 0.66


@pytest.mark.parametrize("early_stopping", ["out_of_bag", True])
def test_rows_of_a_group_are_tested_by_experts_that_saw_none_of_them(early_stopping):
    X, y, (X_test, y_test) = copies(6, noise=0.05)
    groups = np.array([f"g{i}" for i in range(120)]).repeat(6)
    options = {"n_experts": 4, "expert": "mlp", "random_state": 0}
    clf = MoEClassifier(early_stopping=early_stopping, **options)
    assert log_loss(y_test, clf.fit(X, y, groups=groups).predict_proba(X_test)) < 0.7
    if early_stopping == "out_of_bag":
        assert log_loss(y_test, clf.fit(X, y).predict_proba(X_test)) > 0.9


@pytest.mark.parametrize("sizes", [[30] * 10, [100, 50, 50, 40, 30, 10, 10, 10], [150, 150]])
def test_bags_of_groups_are_balanced(sizes):
    hidden = ~_balanced_bags(np.array(sizes), n_bags=5, n_out_of_bag=1).numpy()
    assert hidden.sum(axis=1).tolist() == [1] * len(sizes)
    assert (sizes @ hidden).max() == max(60, *sizes)


@pytest.mark.parametrize("model", [MoERegressor, MoEClassifier])
def test_a_single_group_is_told_and_judged_by_other_rows(model):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 5))
    y = X[:, 0] + rng.normal(size=120)
    y = y if model is MoERegressor else (y > 0).astype(int)
    grouped = model(max_iter=3, tol=None, random_state=0)
    with pytest.warns(UserWarning, match="groups holds a single group"):
        grouped.fit(X, y, groups=["a"] * 120)
    none = model(max_iter=3, tol=None, random_state=0).fit(X, y)
    np.testing.assert_array_equal(grouped.predict(X), none.predict(X))
    name = "oob_prediction_" if model is MoERegressor else "oob_decision_function_"
    np.testing.assert_array_equal(getattr(grouped, name), getattr(none, name))


@pytest.mark.parametrize(("n_groups", "fraction"), [(2, 0.1), (11, 0.8)])
def test_few_groups_are_left_by_those_that_are_held_out(n_groups, fraction):
    """One group, or several whose numbers differ by that of the folds."""
    X, groups = np.random.default_rng(0).normal(size=(110, 3)), np.arange(110) % n_groups
    for seed in range(6):
        reg = MoERegressor(expert="linear", n_experts=1, early_stopping=True, random_state=seed)
        reg.set_params(validation_fraction=fraction).fit(X, X[:, 0], groups=groups)
        assert reg.score(X, X[:, 0]) > 0.99


def test_groups_and_weights_are_requested_by_other_estimators():
    X, y, _ = copies(3)
    groups, weight = np.arange(120).repeat(3), np.linspace(0, 2, 360)
    with config_context(enable_metadata_routing=True):
        clf = make().set_fit_request(groups=True, sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipe = make_pipeline(scaler, clf).fit(X, y, groups=groups, sample_weight=weight)
    Z = StandardScaler().fit_transform(X)
    # Numbers of groups are names: only who is together matters.
    alone, named = (make().fit(Z, y, weight, groups=which) for which in (None, 7 * groups))
    np.testing.assert_array_equal(pipe.predict_proba(X), named.predict_proba(Z))
    assert alone.oob_loss_curve_ != named.oob_loss_curve_ == pipe[-1].oob_loss_curve_
    raises(ValueError, "groups", make().fit, X, y, groups=groups[:-1])


def test_a_class_of_one_row_is_trained_on_and_held_out_is_what_can_be():
    X = np.random.default_rng(0).normal(size=(60, 4))
    y = np.append((X[:-1, 0] > 0).astype(int), 2)
    clf = make(early_stopping=True).fit(X, y)
    assert (list(clf.classes_), len(clf.validation_scores_)) == ([0, 1, 2], clf.n_iter_)


def test_what_is_too_little_to_be_held_out_is_told():
    X, model = np.random.default_rng(0).normal(size=(60, 4)), make(early_stopping=True)
    thirds = np.arange(60) // 3
    for X_some, y, match in (
        (X[:9], np.arange(9) // 3, "test_size = 1 .* the number of classes = 3"),
        (X, thirds, "test_size = 6 .* the number of classes = 20"),
        (X[:3], np.arange(3), "0 sample|n_samples=0"),
    ):
        raises(ValueError, f"^validation_fraction: .*{match}", model.fit, X_some, y)


@pytest.mark.parametrize(
    "missing", [[None, "b"], [np.nan, 1.0], pd.array([None, "b"], dtype="string")], ids=str
)
def test_a_missing_group_is_no_group(missing):
    X, y = np.random.default_rng(0).normal(size=(2, 30))
    for model in (make(), MoERegressor(), MixtureRegressor(), MixtureClassifier()):
        named = y > 0 if hasattr(model, "predict_proba") else y
        with pytest.raises(ValueError, match=r"groups holds None or NaN for 15 .* place 0"):
            model.fit(X[:, np.newaxis], named, groups=pd.concat([pd.Series(missing)] * 15))
