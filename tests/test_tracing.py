"""A trace says what the model would say at that epoch."""

import copy
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.callbacks import RoutingTrace
from sklearn_moe.datasets import make_cluster_patches
from sklearn_moe.metrics import dispatch_entropy
from sklearn_moe.nn import ROUTERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")


@pytest.fixture(scope="module")
def problem():
    return make_cluster_patches(600, random_state=0, return_clusters=True, return_dictionary=True)


def fit(X, y, trace=None, **options):
    callbacks = None if trace is None else [trace]
    options = {"max_iter": 12, "tol": None, "n_experts": 5, "random_state": 0} | options
    estimator = MoEClassifier if y.dtype.kind == "i" else MoERegressor
    return estimator(callbacks=callbacks, **options).fit(X, y)


TARGETS = {
    "classes": lambda y, clusters: y,
    "labels": lambda y, clusters: np.stack([y, clusters % 2], axis=1),
    "numbers": lambda y, clusters: clusters + 0.1 * y,
    "several numbers": lambda y, clusters: np.stack([y, clusters], axis=1) + 0.5,
}


@pytest.mark.parametrize("router", ["top1", "topk", "soft"])
@pytest.mark.parametrize("kind", TARGETS)
def test_records_are_what_the_model_says(problem, router, kind):
    X, y, clusters, dictionary = problem
    y = TARGETS[kind](y, clusters)
    options = {"router": router, "top_k": 2 if router == "topk" else 1, "expert_width": 4}
    trace = RoutingTrace(X, clusters, dictionary=dictionary, every=4)
    clf = fit(X, y, trace, **options)
    np.testing.assert_array_equal(trace.epochs_, [0, 4, 8, 12])
    experts = clf.apply(X).reshape(len(X), -1)[:, 0]
    assert trace.dispatch_entropy_[-1] == dispatch_entropy(clusters, experts)
    np.testing.assert_allclose(trace.load_[-1], clf.expert_load_, rtol=1e-5)
    np.testing.assert_allclose(trace.load_.sum(1), 1)
    assert np.isnan(trace.router_gradient_norm_[0])
    np.testing.assert_array_equal(
        trace.router_gradient_norm_[1:], np.array(clf.router_gradient_curve_)[[3, 7, 11]]
    )
    theta = clf.module_.router.network.weight.detach().numpy()
    np.testing.assert_allclose(trace.router_centers_[-1], theta @ dictionary[1].T, rtol=1e-5)
    np.testing.assert_allclose(trace.router_features_[-1], theta @ dictionary[0].T, rtol=1e-5)
    filters = np.stack([e.weight.detach().numpy().reshape(-1, 50) for e in clf.module_.experts])
    assert trace.expert_features_.shape == trace.expert_centers_.shape
    assert trace.expert_features_.shape == (4, 5, 4 * (1 if kind == "regression" else 2), 4)
    np.testing.assert_allclose(trace.expert_features_[-1], filters @ dictionary[0].T, rtol=1e-4)


def test_a_trace_changes_nothing(problem):
    X, y, clusters, _ = problem
    with_trace, without = fit(X, y, RoutingTrace(X, clusters)), fit(X, y)
    np.testing.assert_array_equal(with_trace.predict_proba(X), without.predict_proba(X))


def test_attributes_are_there_from_the_first_record_on(problem):
    X, y, clusters, _ = problem
    lengths = []

    class Reader(RoutingTrace):
        def on_epoch_end(self, net, **kwargs):
            super().on_epoch_end(net, **kwargs)
            lengths.append(len(self.load_))

    trace = Reader(X[:50], clusters[:50])
    assert not hasattr(trace, "load_")
    fit(X, y, trace, max_iter=3)
    assert lengths == [2, 3, 4]
    documented = re.findall(r"^    ((?:\w+_)(?:, \w+_)*) : ", RoutingTrace.__doc__, re.MULTILINE)
    names = {name for names in documented for name in names.split(", ")}
    assert len(names) == 10
    assert names <= set(vars(trace))
    assert trace.router_centers_ is trace.expert_features_ is None


def test_memory_is_bounded(problem):
    X, y, _, _ = problem
    trace = RoutingTrace(X[:50], max_records=4)
    fit(X, y, trace, max_iter=30)
    assert len(trace.epochs_) <= 4
    np.testing.assert_array_equal(np.diff(trace.epochs_), trace.epochs_[1])
    assert trace.epochs_[0] == 0
    assert trace.every == 1


def test_last_fluctuation_is_the_last_change(problem):
    X, y, _, _ = problem
    trace = RoutingTrace(X)
    fit(X, y, trace)
    last = np.zeros(len(X))
    previous = np.zeros(len(X), dtype=int)  # a router at zero sends everything to expert 0
    for epoch in range(1, 13):
        experts = fit(X, y, max_iter=epoch).apply(X)
        last[experts != previous] = epoch
        previous = experts
    np.testing.assert_array_equal(trace.last_fluctuation_, last)
    assert len(np.unique(last)) > 2


def test_training_samples_by_default_and_no_entropy_without_clusters(problem):
    X, y, _, _ = problem
    trace = RoutingTrace()
    clf = fit(X, y, trace)
    np.testing.assert_allclose(trace.load_[-1], clf.expert_load_, rtol=1e-5)
    assert np.isnan(trace.dispatch_entropy_).all()


def test_goes_on_with_the_training_and_starts_anew_with_a_new_one(problem):
    X, y, _, _ = problem
    trace = RoutingTrace(X[:50], every=5)
    clf = fit(X, y, trace, warm_start=True)
    clf.fit(X, y)
    np.testing.assert_array_equal(trace.epochs_, [0, 5, 10, 15, 20])
    clf.set_params(warm_start=False).fit(X, y)
    np.testing.assert_array_equal(trace.epochs_, [0, 5, 10])


def test_under_a_search_every_clone_has_its_own(problem):
    X, y, _, _ = problem
    trace = RoutingTrace(X[:50])
    assert clone(trace).X is trace.X
    estimator = MoEClassifier(max_iter=3, tol=None, callbacks=[trace], random_state=0)
    search = GridSearchCV(estimator, {"n_experts": [1, 3]}, cv=2, n_jobs=2).fit(X, y)
    assert not hasattr(trace, "epochs_")
    best = search.best_estimator_
    assert best.callbacks[0].load_.shape == (4, best.n_experts)


def test_pickles_and_copies(problem):
    X, y, clusters, _ = problem
    trace = RoutingTrace(X, clusters)
    fit(X, y, trace)
    for other in (pickle.loads(pickle.dumps(trace)), copy.deepcopy(trace)):
        np.testing.assert_array_equal(other.load_, trace.load_)
    for fresh in (clone(trace), pickle.loads(pickle.dumps(RoutingTrace(X)))):
        assert not hasattr(fresh, "load_")
        fit(X, y, fresh, max_iter=1)
        assert len(fresh.load_) == 2


def test_what_it_cannot_do_is_explained(problem):
    X, y, _, dictionary = problem
    with pytest.raises(AttributeError, match="'load_': nothing was recorded yet"):
        _ = RoutingTrace().load_
    trace = RoutingTrace(X[:50])
    fit(X, y, trace, max_iter=1)
    for name in ("loads_", "__array__", "load"):
        with pytest.raises(AttributeError, match=f"RoutingTrace has no '{name}'$"):
            getattr(trace, name)
    with pytest.raises(ValueError, match="got every=0"):
        fit(X, y, RoutingTrace(every=0))
    with pytest.raises(ValueError, match="patch experts on patches of size 50, got MLPExpert"):
        fit(X.reshape(600, -1), y, RoutingTrace(dictionary=dictionary))
    with pytest.raises(ValueError, match="and MLPScores"):
        fit(X, y, RoutingTrace(dictionary=dictionary), router_network="mlp")
    with pytest.raises(ValueError, match="and NoneType"):
        fit(X, y, RoutingTrace(dictionary=dictionary), n_experts=1)


def test_noise_is_that_of_training(problem):
    X, y, clusters, _ = problem
    quiet, noisy = RoutingTrace(X, clusters), RoutingTrace(X, clusters, noise=True)
    for trace in (quiet, noisy):
        fit(X, y, trace, router=replace(ROUTERS["top1"], noise_at_predict=True), n_experts=8)
    # At the start all scores are equal: the noise decides, and the load is even.
    assert quiet.load_[0].max() == 1
    assert 0.05 < noisy.load_[0].min() <= noisy.load_[0].max() < 0.2
    assert clone(noisy).noise
