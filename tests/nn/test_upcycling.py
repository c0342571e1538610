"""Upcycling: one network is trained, then copied to all experts without a change of the output."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import at, raises, throw
from skorch.callbacks import Callback

from sklearn_moe import MoEClassifier, RouterParams, SolverParams
from sklearn_moe.datasets import make_cluster_patches
from sklearn_moe.exceptions import ExpertCollapseWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")


def are_copies(experts):
    first, *others = ([*expert.parameters()] for expert in experts)
    return all(all(map(torch.equal, first, other)) for other in others)


class Watch(Callback):
    """Predictions at both ends of every epoch, and the state of the optimizer at its beginning."""

    def __init__(self, X):
        self.X = X

    def on_train_begin(self, net, **kwargs):
        self.dense, self.copies, self.before, self.after, self.states = [], [], [], [], []

    def on_epoch_begin(self, net, **kwargs):
        self.before.append(net.predict_proba(self.X))
        self.dense.append(net.module_.dense_phase)
        self.copies.append(are_copies(net.module_.experts))
        states = (net.optimizer_.state.get(p, {}) for p in net.module_.experts.parameters())
        self.states.append([{k: torch.as_tensor(v).clone() for k, v in s.items()} for s in states])

    def on_epoch_end(self, net, **kwargs):
        self.after.append(net.predict_proba(self.X))


def draw(shape, n=200):
    X = np.random.default_rng(0).normal(size=(n, *shape))
    return X, (X.reshape(n, -1)[:, 0] * X.reshape(n, -1)[:, 1] > 0).astype(int)


def fit(data, router="auto", callback=None, *, upcycle=0.5, solver="adamw", **options):
    router = router if isinstance(router, dict) else {"kind": router}
    options = {"max_iter": 8, "random_state": 0, "device": "cpu", "tol": None} | options
    options |= {"router": RouterParams(upcycle=upcycle, **router), "solver": solver}
    return MoEClassifier(4, callbacks=callback and [callback], **options).fit(*data)


IMAGES = np.random.default_rng(0).integers(256, size=(60, 3, 8, 8)).astype(np.uint8)
X, Y = draw((6,), 400)
TABLE = X.astype(np.float32), Y
SAMPLES = {"table": TABLE, "images": (IMAGES, np.arange(60) % 3), "patches": draw((4, 6))}


@pytest.mark.parametrize(
    ("kind", "router", "options"),
    [
        ("table", {"kind": "topk", "n_shared_experts": 1}, {"top_k": 2}),
        ("table", {"kind": "noisy_topk"}, {"top_k": 1}),
        ("table", "top1", {"balance": "bias"}),
        ("table", "top1", {"solver": "normalized_sgd", "learning_rate_init": 0.01}),
        ("images", "top1", {"expert": "cnn", "expert_width": 4}),
        ("images", {"n_shared_experts": 1}, {}),
        ("patches", "top1", {}),
        ("patches", "top1", {"solver": "normalized_sgd"}),
    ],
    ids=str,
)
def test_the_output_is_the_same_before_and_after_the_split(kind, router, options):
    watch = Watch(SAMPLES[kind][0])
    clf = fit(SAMPLES[kind], router, watch, max_iter=6, **options)
    assert watch.dense == [True] * 3 + [False] * 3
    assert watch.copies == [False] + [True] * 3 + [False] * 2  # complete after every epoch
    tolerance = 1e-10 if kind == "patches" else 1e-5  # float64 and float32
    np.testing.assert_allclose(watch.after[2], watch.before[3], atol=tolerance)
    if kind == "table":
        assert np.abs(watch.after[3] - watch.before[3]).max() > 1e-3  # and then they learn on
    assert not clf.module_.dense_phase
    assert not are_copies(clf.module_.experts)


def test_the_state_of_the_optimizer_is_copied():
    watch = Watch(TABLE[0])
    fit(TABLE, callback=watch, max_iter=3)
    (step,) = {float(state["step"]) for state in watch.states[2]}
    assert step >= 2  # copies continue at the step of the first expert
    watch = Watch(SAMPLES["patches"][0])
    solver = SolverParams("normalized_sgd", momentum=0.9)
    fit(SAMPLES["patches"], "top1", watch, max_iter=4, solver=solver)
    dense, split = (watch.states[epoch][0]["momentum_buffer"] for epoch in (1, 2))
    assert dense[0].abs().max() > 0 == dense[1:].abs().max()  # the others were not trained
    assert split[0].abs().max() > 0
    assert torch.equal(split, split[:1].expand_as(split))


def test_before_the_split_it_is_the_single_network():
    watch, alone = Watch(TABLE[0]), Watch(TABLE[0])
    fit(TABLE, {"gate": "relative"}, watch, early_stopping=False)
    options = {"max_iter": 8, "random_state": 0, "device": "cpu", "solver": "adamw"}
    MoEClassifier(1, callbacks=[alone], early_stopping=False, **options).fit(*TABLE)
    assert np.corrcoef(watch.after[3].ravel(), alone.after[3].ravel())[0, 1] > 0.9


def test_a_fit_that_ends_before_the_split_is_complete():
    stop = at(2, partial(throw, KeyboardInterrupt), "on_epoch_end")
    with pytest.warns(ExpertCollapseWarning):  # the router has not learned anything yet
        clf = fit(TABLE, callback=stop)
    assert clf.n_iter_ == 2
    assert are_copies(clf.module_.experts)
    alone, mixed = clf.expert_proba(TABLE[0])[:, 3], clf.predict_proba(TABLE[0])
    np.testing.assert_allclose(alone, mixed, atol=1e-6)


def test_a_warm_start_splits_nothing():
    clf = fit(TABLE, warm_start=True)
    before = [expert[0].weight.clone() for expert in clf.module_.experts]
    clf.set_params(max_iter=1, learning_rate_init=1e-12, router__learning_rate=0).fit(*TABLE)
    for old, expert in zip(before, clf.module_.experts, strict=True):
        torch.testing.assert_close(old, expert[0].weight, rtol=1e-4, atol=1e-6)


def test_what_would_change_the_output_is_refused():
    for router in ("soft", "random", "merge", "relu", {"noise": None}, {"gate": "softmax"}):
        raises(ValueError, r"upcycle=0\.5", fit, TABLE, router)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_single_expert_that_learns_nothing_more_does_not_end_the_fit():
    """On the paper's problem its loss is flat: the mixture is to come."""
    X, y = make_cluster_patches(1000, random_state=0)
    options = {"router__gate": "relative", "router__upcycle": 0.4, "max_iter": 200}
    model = MoEClassifier(4, random_state=0).set_params(**options).fit(X, y)
    assert model.n_iter_ > 80
    assert not are_copies(model.module_.experts)
    early = {"early_stopping": True, "tol": 0.5, "n_iter_no_change": 1, "max_iter": 300}
    clf = fit(TABLE, **early)
    assert clf.n_iter_ > 150
    assert not are_copies(clf.module_.experts)
