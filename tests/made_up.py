"""Made-up data with regimes, and how they were made."""

import numpy as np
import pandas as pd


def two_lines(n=300, seed=0, noise=0.3):
    """Return samples of two lines that cross, and which line each is of."""
    rng = np.random.default_rng(seed)
    X, line = rng.uniform(-2, 2, size=(n, 2)), rng.integers(2, size=n)
    y = np.where(line, 1 + 2 * X[:, 0], -1 - 2 * X[:, 0] + X[:, 1])
    return X, y + noise * rng.normal(size=n), line


def three_rules(seed, n=1500, n_noise=0):
    """Return samples of three linear rules that hold in parts of two of their columns."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, 4 + n_noise))
    rule = np.where(X[:, 0] < 0.4, 0, np.where(X[:, 1] < 0.6, 1, 2))
    slopes = np.array([[0, 0, 4, -2], [0, 0, -4, 2], [0, 0, 1, 5]])
    y = np.array([1, 3, -2])[rule] + (slopes[rule] * X[:, :4]).sum(axis=1)
    return X, y + 0.2 * rng.normal(size=n), rule


def two_rules_of_classes(n=300, seed=0):
    """Return samples of which the class depends on one column, upwards or downwards."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(n, 3))
    odds = 4 * X[:, 1] * np.sign(X[:, 0])
    return X, np.where(rng.uniform(size=n) < 1 / (1 + np.exp(-odds)), "yes", "no")


def counts(n=300, seed=0):
    """Return samples of counts whose mean grows or falls with a column."""
    rng = np.random.default_rng(seed)
    X, kind = rng.uniform(-1, 1, size=(n, 1)), rng.integers(2, size=n)
    return X, rng.poisson(np.exp(1.5 + np.where(kind, 1.2, -1.2) * X[:, 0])).astype(float)


def quadrants(seed, n=2000):
    """Return samples of a target that is linear in each of four quadrants."""
    problem, rng = np.random.default_rng(7), np.random.default_rng(seed)
    slopes, levels = problem.normal(0, 2, size=(4, 4)), np.array([0, 3, -3, 1])
    X = rng.uniform(-1, 1, size=(n, 4))
    quadrant = 2 * (X[:, 0] > 0) + (X[:, 1] > 0)
    y = (X * slopes[quadrant]).sum(axis=1) + levels[quadrant]
    return X, y + 0.05 * rng.normal(size=n), quadrant


def shops(n=400, seed=0, kinds=("shop", "flat")):
    """Return a frame with categories and missing values, and prices by two rules."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"size": rng.uniform(20, 200, n), "age": rng.integers(0, 80, n) * 1.0})
    frame["kind"] = rng.choice(np.array(kinds, object), n)
    frame.loc[::17, "age"] = np.nan
    is_shop = frame["kind"] == "shop"
    price = np.where(is_shop, 5 * frame["size"], 300 - 2 * frame["age"].fillna(40))
    return frame, price + rng.normal(size=n)
