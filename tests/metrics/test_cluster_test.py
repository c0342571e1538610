"""The test for clusters that one expert cannot serve."""

import numpy as np
import pytest
from joblib import parallel_config

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.datasets import make_cluster_patches
from sklearn_moe.metrics import cluster_test

BRIEF = {"n_experts": 4, "max_iter": 100, "tol": None, "random_state": 0}


def bags(n, gamma):
    few = {"n_clusters": 2, "n_patches": 3, "patch_size": 4}
    return make_cluster_patches(n, gamma=gamma, random_state=0, **few)


def test_clusters_are_found():
    found = cluster_test(MoEClassifier(**BRIEF), *bags(400, (0.5, 3)), n_splits=4)
    assert found.p_value < 0.01
    assert found.low < found.effect < found.high
    others = [found.losses[name] for name in ("one expert", "ensemble")]
    assert found.effect == pytest.approx(min(others) - found.losses["mixture"])
    assert found.losses["mixture"] < 0.2 < 0.6 < min(others)


def test_nothing_is_found_where_one_expert_does():
    X, y = bags(400, 0.01)  # nothing misleads
    y = np.where(np.random.default_rng(0).random(400) < 0.1, 1 - y, y)
    assert cluster_test(MoEClassifier(**BRIEF), X, y, n_splits=4).p_value > 0.05


def test_numbers_as_targets():
    X, y = bags(200, (0.5, 3))
    model, y = MoERegressor(**BRIEF, expert="patch"), 2.0 * y
    found = cluster_test(model, X, y, n_splits=2)
    assert found.losses["mixture"] < 1 < found.losses["ensemble"]
    assert 0 <= found.p_value <= 1
    with parallel_config("threading"):
        assert cluster_test(model, X, y, n_splits=2, n_jobs=2) == found


def test_what_has_no_single_expert_of_as_many_units_is_refused():
    X, y = bags(60, 1.0)
    brief = {"max_iter": 2, "tol": None, "random_state": 0}
    with pytest.raises(ValueError, match="one expert, expected several: set n_experts"):
        cluster_test(MoEClassifier(1, **brief), X, y)
    with pytest.raises(ValueError, match="number of units is not known: set expert and"):
        cluster_test(MoEClassifier(**brief), X.reshape(60, -1), y)


@pytest.mark.slow
@pytest.mark.parametrize(("gamma", "least", "most"), [(0.01, 0, 4), ((0.5, 3), 10, 40)])
def test_level_and_power(gamma, least, most):
    """Of 40 sets of 200 bags, of which a tenth have the wrong label if one expert does."""
    found = []
    for seed in range(40):
        few = {"n_clusters": 2, "n_patches": 3, "patch_size": 4}
        X, y = make_cluster_patches(200, gamma=gamma, random_state=seed, **few)
        if gamma == 0.01:
            y = np.where(np.random.default_rng(seed).random(200) < 0.1, 1 - y, y)
        model = MoEClassifier(**BRIEF | {"max_iter": 40, "random_state": seed})
        found.append(cluster_test(model, X, y).p_value)
    count = (np.array(found) < 0.05).sum()
    assert least <= count <= most
