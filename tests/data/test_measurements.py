"""Equal rows: copies of a record, or measurements of the same thing."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._data.statistics import number_measurements


def measured(levels, n_rows, seed=0):
    """Return values of some columns, the means that belong to them, and y around these."""
    rng = np.random.default_rng(seed)
    X = rng.integers(levels, size=(n_rows, len(levels))).astype(float)
    mean = rng.normal(size=levels)[tuple(X.astype(int).T)]
    return X, mean, mean + 0.6 * rng.normal(size=n_rows)


def is_measured(X, y, weight=None):
    return number_measurements(X, y, np.ones(len(y)) if weight is None else weight) is not None


@pytest.mark.parametrize("levels", [(2,), (24,), (7, 24), (100,), (3, 4, 5)])
def test_rows_of_few_values_are_measurements(levels):
    X, _, y = measured(levels, 1000)
    assert is_measured(X, y)
    assert is_measured(X, (y > 0).astype(int))
    # y need not differ if there are so many copies.
    assert is_measured(X[:, :1], X[:, 0])


@pytest.mark.parametrize("load", [load_breast_cancer, load_diabetes])
@pytest.mark.parametrize("n_copies", [1, 5])
def test_records_are_none_however_often_they_are_repeated(load, n_copies):
    X, y = load(return_X_y=True)
    rows = np.repeat(np.arange(len(y)), n_copies)
    assert not is_measured(X[rows], y[rows])
    drawn = np.random.default_rng(0).choice(rows, len(rows))
    assert not is_measured(X[drawn], y[drawn])


def test_numbers_do_not_depend_on_order_or_repetition_or_rows_without_weight():
    X, _, y = measured((4, 6), 200)
    y = (y > 0).astype(int)
    numbers = number_measurements(X, y, np.ones(200))
    assert len(set(numbers)) == 200
    order = np.random.default_rng(1).permutation(200)
    shuffled = number_measurements(X[order], y[order], np.ones(200))
    cells = np.column_stack([X, y])
    for cell in np.unique(cells, axis=0):
        here = (cells == cell).all(1)
        assert set(numbers[here]) == set(shuffled[here[order]])
    twice = number_measurements(np.repeat(X, 2, 0), np.repeat(y, 2), np.ones(400))
    np.testing.assert_array_equal(np.bincount(twice), 2)
    more = number_measurements(
        np.vstack([X, X[:50] + 9]), np.append(y, y[:50]), np.repeat([1.0, 0.0], [200, 50])
    )
    np.testing.assert_array_equal(more[:200], numbers)


@pytest.mark.parametrize(("levels", "n_rows"), [((24,), 1000), ((7, 24), 1000), ((5,), 300)])
def test_a_table_of_repeated_values_is_learned_as_its_means(levels, n_rows):
    X, mean, y = measured(levels, n_rows)
    r2 = MoERegressor(random_state=0).fit(X, y).score(X, mean)
    # By the mean of y for each value: .96 and more. Without the rule .19, .00 and .15.
    assert r2 > 0.9


def test_classes_of_repeated_values_are_learned():
    X, mean, _ = measured((24,), 2000)
    probability = 1 / (1 + np.exp(-1.5 * mean))
    y = np.random.default_rng(1).random(2000) < probability
    found = MoEClassifier(random_state=0).fit(X, y).predict_proba(X)[:, 1]
    assert np.mean((found - probability) ** 2) < 0.05 * probability.var()
