"""Experts that start as linear models, where columns outnumber rows."""

import numpy as np
import pytest
import torch
from helpers import brief_fits
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression, RidgeCV

from sklearn_moe import MoEClassifier, MoERegressor

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 90)).astype(np.float32)
TARGETS = {
    "two classes": (MoEClassifier, X[:, 0] > 0),
    "three classes": (MoEClassifier, X[:, :3].argmax(axis=1)),
    "labels": (MoEClassifier, (X[:, :2] > 0).astype(int)),
    "a number": (MoERegressor, X[:, 0]),
    "several numbers": (MoERegressor, X[:, :3]),
}


def start_of(kind, **options):
    """Return a single expert that has not moved, and its standardized columns."""
    model, y = TARGETS[kind]
    options = {"max_iter": 1, "learning_rate_init": 1e-12, "random_state": 0} | options
    moe = model(n_experts=1, **options).fit(X, y)
    return moe, moe.module_.encode(torch.from_numpy(X)).numpy(), y


@brief_fits
@pytest.mark.parametrize("kind", TARGETS)
def test_it_is_the_linear_model_of_scikit_learn(kind):
    moe, columns, y = start_of(kind)
    if kind in ("a number", "several numbers"):
        expected = RidgeCV(np.logspace(-1, 5, 13)).fit(columns, y).predict(columns)
        assert_allclose(moe.predict(X), expected, atol=1e-5)
        return
    each = y.T if kind == "labels" else [y]
    found = moe.predict_proba(X)
    models = [LogisticRegression(max_iter=1000).fit(columns, one) for one in each]
    expected = [model.predict_proba(columns) for model in models]
    expected = np.stack(expected, 1)[..., 1] if kind == "labels" else expected[0]
    assert_allclose(found, expected, atol=1e-5)


@brief_fits
@pytest.mark.parametrize(("width", "is_linear"), [(5, False), (6, True)])
def test_it_takes_two_units_for_each_output(width, is_linear):
    moe, columns, y = start_of("three classes", expert_width=width)
    expected = LogisticRegression(max_iter=1000).fit(columns, y).predict_proba(columns)
    assert np.allclose(moe.predict_proba(X), expected, atol=1e-5) == is_linear
