"""Upcycling: one network is trained, then copied to all experts without a change of the output."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sklearn_moe import MoEClassifier
from sklearn_moe.exceptions import ExpertCollapseWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")

SPLITS = [
    {"router": "topk", "top_k": 2, "n_shared_experts": 1},
    {"router": "noisy_topk", "top_k": 1},
    {"router": "top1", "balance": "bias"},
    {"router": "top1", "solver": "normalized_sgd", "learning_rate_init": 0.01},
]


def are_copies(experts):
    first, *others = ([*expert.parameters()] for expert in experts)
    return all(all(map(torch.equal, first, other)) for other in others)


class Watch(Callback):
    """Predictions at both ends of every epoch, when the experts may just have been split."""

    def __init__(self, X):
        self.X = X

    def on_train_begin(self, net, **kwargs):
        self.dense, self.copies, self.before, self.after = [], [], [], []

    def on_epoch_begin(self, net, **kwargs):
        self.before.append(net.predict_proba(self.X))
        self.dense.append(net.module_.dense_phase)
        self.copies.append(are_copies(net.module_.experts))

    def on_epoch_end(self, net, **kwargs):
        self.after.append(net.predict_proba(self.X))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 6)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


@pytest.fixture(scope="module")
def bags():
    X = np.random.default_rng(0).normal(size=(200, 4, 6))
    return X, X[:, 0, 0] * X[:, 1, 1] > 0


def fit(data, callback=None, **options):
    options = {"max_iter": 8, "random_state": 0, "device": "cpu", "upcycle": 0.5} | options
    callbacks = None if callback is None else [callback]
    options = {"solver": "adamw", "tol": None} | options
    return MoEClassifier(4, callbacks=callbacks, **options).fit(*data)


@pytest.mark.parametrize("options", SPLITS, ids=str)
def test_the_output_is_the_same_before_and_after_the_split(data, options):
    watch = Watch(data[0])
    fit(data, watch, **options)
    assert watch.dense == [True] * 4 + [False] * 4
    assert watch.copies == [False] + [True] * 4 + [False] * 3  # complete after every epoch
    np.testing.assert_allclose(watch.after[3], watch.before[4], atol=1e-5)
    assert np.abs(watch.after[4] - watch.before[4]).max() > 1e-3  # and then they learn on


def test_images_and_patches_are_split_without_a_change(bags):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(60, 3, 8, 8)).astype(np.uint8), np.arange(60) % 3
    for data, tolerance, options in (
        (images, 1e-5, {"expert": "cnn", "expert_width": 4, "router": "top1"}),
        (images, 1e-5, {"n_shared_experts": 1}),
        (bags, 1e-10, {"router": "top1", "solver": "adamw"}),
        (bags, 1e-10, {"router": "top1", "solver": "normalized_sgd"}),
    ):
        watch = Watch(data[0])
        clf = fit(data, watch, max_iter=4, **options)
        np.testing.assert_allclose(watch.after[1], watch.before[2], atol=tolerance)
        assert watch.copies == [False, True, True, False]  # complete after every epoch
        assert not clf.module_.dense_phase
        assert not are_copies(clf.module_.experts)


def test_the_state_of_the_optimizer_is_copied(data):
    steps = set()

    class Look(Callback):
        def on_train_end(self, net, **kwargs):
            state = net.optimizer_.state
            steps.update(float(state[p]["step"]) for p in net.module_.experts.parameters())

    fit(data, Look(), max_iter=2, upcycle=0.9)
    # Copies continue at the step of the first expert, with samples or without.
    assert min(steps) >= 2


def test_the_momentum_of_stacked_experts_is_copied(bags):
    momenta = []

    class Look(Callback):
        def on_epoch_begin(self, net, **kwargs):
            (weight,) = net.module_.experts.parameters()
            state = net.optimizer_.state.get(weight, {})
            momenta.append([value.clone() for value in state.values()])

    sgd = {"solver": "normalized_sgd", "momentum": 0.9}
    fit(bags, Look(), max_iter=4, router="top1", **sgd)
    (dense,), (split,) = momenta[1:3]
    assert dense[0].abs().max() > 0 == dense[1:].abs().max()  # the others were not trained
    assert split[0].abs().max() > 0
    assert torch.equal(split, split[:1].expand_as(split))


def test_before_the_split_it_is_the_single_network(data):
    watch = Watch(data[0])
    fit(data, watch, gate="relative")
    alone = Watch(data[0])
    options = {"max_iter": 8, "random_state": 0, "device": "cpu", "solver": "adamw"}
    MoEClassifier(1, callbacks=[alone], **options).fit(*data)
    assert np.corrcoef(watch.after[3].ravel(), alone.after[3].ravel())[0, 1] > 0.9


def test_a_fit_that_ends_before_the_split_is_complete(data):
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    with pytest.warns(ExpertCollapseWarning):  # the router has not learned anything yet
        clf = fit(data, Stop())
    assert clf.n_iter_ == 2
    assert are_copies(clf.module_.experts)
    np.testing.assert_allclose(
        clf.expert_proba(data[0])[:, 0], clf.predict_proba(data[0]), atol=1e-6
    )


def test_the_best_weights_may_be_those_before_the_split(data):
    options = {"early_stopping": True, "tol": 0.5, "n_iter_no_change": 1, "max_iter": 300}
    with pytest.warns(ExpertCollapseWarning):
        clf = fit(data, **options)
    assert clf.n_iter_ < 150
    alone, mixed = clf.expert_proba(data[0])[:, 3], clf.predict_proba(data[0])
    np.testing.assert_allclose(alone, mixed, atol=1e-6)


def test_a_warm_start_splits_nothing(data):
    clf = fit(data, warm_start=True)
    before = [expert[0].weight.clone() for expert in clf.module_.experts]
    clf.set_params(max_iter=1, learning_rate_init=1e-12, router_learning_rate_init=0).fit(*data)
    for old, expert in zip(before, clf.module_.experts, strict=True):
        torch.testing.assert_close(old, expert[0].weight, rtol=1e-4, atol=1e-6)


def test_what_would_change_the_output_is_refused(data):
    for options in (
        *({"router": router} for router in ("soft", "random", "merge", "relu")),
        *({"router_noise": None}, {"gate": "softmax"}),
    ):
        with pytest.raises(ValueError, match=r"upcycle=0\.5"):
            fit(data, **options)
    with pytest.raises(ValueError, match="n_experts=1"):
        MoEClassifier(1, upcycle=0.5).fit(*data)
