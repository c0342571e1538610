"""Fewer experts in a fitted mixture: the others go on as they were."""

import pickle

import numpy as np
import pytest
import torch
from helpers import brief_fits
from scipy.special import softmax
from sklearn.base import clone

from sklearn_moe import MoEClassifier, MoERegressor, prune_experts
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches


@pytest.fixture(scope="module")
def fitted():
    X, y = make_cluster_patches(1200, random_state=0, **PAPER_SETTINGS[1])
    return MoEClassifier(8, random_state=0, max_iter=150, tol=None).fit(X, y), X, y


@pytest.mark.parametrize("order", ["load", "router", "experts", np.arange(8.0)])
def test_samples_of_removed_experts_go_to_the_best_that_is_kept(fitted, order):
    model, X, _ = fitted
    before = model.predict_proba(X)
    pruned = prune_experts(model, 3, order=order)
    weights = {
        "load": model.expert_load_,
        "router": np.linalg.norm(model.module_.router.network.weight.detach(), axis=1),
        "experts": [
            np.sqrt(sum(float((w**2).sum()) for w in expert.state_dict().values()))
            for expert in model.module_.experts
        ],
    }
    kept = np.sort(np.argsort(weights.get(str(order), order))[-3:])
    scores = X.sum(1) @ model.module_.router.network.weight.detach().numpy()[kept].T
    np.testing.assert_array_equal(pruned.apply(X), scores.argmax(1))
    np.testing.assert_allclose(pruned.gate_proba(X), softmax(scores, 1), rtol=1e-4)
    same = kept[pruned.apply(X)] == model.apply(X)
    assert same.any()
    np.testing.assert_array_equal(pruned.predict(X[same]), model.predict(X[same]))
    np.testing.assert_array_equal(model.predict_proba(X), before)
    load = model.expert_load_[kept]
    np.testing.assert_allclose(pruned.expert_load_, load / load.sum(), rtol=1e-6)


def test_a_pruned_mixture_is_an_estimator(fitted):
    model, X, y = fitted
    np.testing.assert_allclose(
        prune_experts(model, 8).predict_proba(X), model.predict_proba(X), atol=1e-6
    )
    pruned = pickle.loads(pickle.dumps(prune_experts(model, 4)))
    assert (pruned.n_experts, len(pruned.module_.experts)) == (4, 4)
    after = pruned.set_params(warm_start=True, max_iter=20).fit(X, y)
    assert len(after.expert_load_) == 4
    assert after.score(X, y) > 0.8
    assert prune_experts(model, 1).partial_fit(X, y).score(X, y) > 0.4


def test_all_parts_but_the_experts_stay():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)), rng.normal(size=200)
    model = MoERegressor(
        5, expert="mlp", router="topk", top_k=2, trunk=lambda shape: torch.nn.Linear(3, 8),
        balance="bias", max_iter=5, tol=None, early_stopping=False, random_state=0,
    )  # fmt: skip
    model.set_params(router__n_shared_experts=1).fit(X, y)
    pruned = prune_experts(model, 4, order=[5, 1, 4, 3, 2])
    kept = [0, 2, 3, 4]
    old, new = model.module_.state_dict(), pruned.module_.state_dict()
    for name, value in old.items():
        if not name.startswith("experts."):
            entries = value[kept] if value.shape[:1] == (5,) else value
            assert torch.equal(new[name], entries), name
    assert clone(pruned).get_params().keys() == model.get_params().keys()
    for expert, m in zip(pruned.module_.experts, kept, strict=True):
        for name, value in model.module_.experts[m].state_dict().items():
            assert torch.equal(expert.state_dict()[name], value)


def test_what_cannot_be_pruned_is_refused(fitted):
    model, *_ = fitted
    for n_experts in (0, 9):
        with pytest.raises(ValueError, match=f"from 1 to 8.*got {n_experts}"):
            prune_experts(model, n_experts)
    with pytest.raises(ValueError, match="'n_experts' parameter of prune_experts must be an inst"):
        prune_experts(model, 2.5)
    with pytest.raises(ValueError, match="each of the 8 experts"):
        prune_experts(model, 1, order=[1, 2])
    with pytest.raises(ValueError, match="'size'"):
        prune_experts(model, 1, order="size")
    table = np.random.default_rng(0).normal(size=(60, 3))
    pool = MoERegressor(max_iter=2, tol=None, random_state=0).fit(table, table[:, 0])
    with pytest.raises(ValueError, match="how many experts there are of each kind"):
        prune_experts(pool, 2)
    bag = MoERegressor(4, expert="mlp", max_iter=2, random_state=0).fit(table, table[:, 0])
    pruned = prune_experts(bag, 2)
    assert hasattr(bag, "oob_prediction_")
    assert not hasattr(pruned, "oob_prediction_")
    assert pruned.validation_fraction == bag.validation_fraction
    both = (model.expert_predict(table) for model in (pruned, bag))
    np.testing.assert_allclose(next(both), next(both)[:, np.argsort(-bag.expert_load_)[:2]])


@brief_fits
def test_the_last_expert_is_trained_further():
    bags = np.random.default_rng(0).normal(size=(60, 4, 6))
    table, y = bags[:, 0, :3], bags[:, 0, 0] > 0
    soft = {"expert": "patch", "router": "soft", "early_stopping": "out_of_bag"}
    for X, options in (
        (table, {"expert": "mlp"}),
        (table, {"expert": "mlp", "expert_loss_weight": 0.5}),
        (bags, soft),
    ):
        model = MoEClassifier(4, max_iter=2, random_state=0, **options).fit(X, y)
        last = prune_experts(model, 1)
        before = last.predict_proba(X)
        assert not np.array_equal(last.partial_fit(X, y).predict_proba(X), before)
        last.set_params(warm_start=True).fit(X, y)
        assert model.get_params() == model.get_params() | options
