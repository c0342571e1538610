"""Our own callbacks, and the bar over the epochs."""

import copy
import pickle
import re
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import hook, raises
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier, MoERegressor, RouterParams
from sklearn_moe.callbacks import FreezeRouter, RoutingTrace
from sklearn_moe.datasets import make_cluster_patches
from sklearn_moe.metrics import dispatch_entropy
from sklearn_moe.nn import ROUTERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
# Without the best epoch, to which a fit would return in the end.
BRIEF = {"n_experts": 3, "max_iter": 4, "tol": None, "random_state": 0, "early_stopping": False}


def classifier(**options):
    return MoEClassifier(**BRIEF | options)


@pytest.fixture(scope="module")
def table():
    X = np.random.default_rng(0).normal(size=(120, 4))
    return X, np.where(X[:, 0] > 0, "yes", "no")


# -- FreezeRouter -------------------------------------------------------------------------


def test_a_frozen_router_stays_as_it_is(table):
    states = []
    look = hook("on_epoch_end", lambda net: states.append(copy.deepcopy(net.module_.state_dict())))
    callbacks = [FreezeRouter(after=2), look]
    clf = classifier(expert="mlp", router="top1", balance="bias", callbacks=callbacks).fit(*table)
    moved = [{k for k in a if not torch.equal(a[k], b[k])} for a, b in pairwise(states)]
    router = {k for k in states[0] if k.startswith("router.")}
    assert [keys & router for keys in moved] == [router, set(), set()]
    assert all(keys - router for keys in moved)
    assert all(p.requires_grad for p in clf.module_.parameters())  # another fit may train it
    never = classifier(expert="mlp", callbacks=[FreezeRouter()]).fit(*table)
    assert not never.module_.router.network.weight.any()
    assert clone(never).callbacks[0].after == 0


# -- RoutingTrace: it says what the model would say at that epoch ---------------------------


@pytest.fixture(scope="module")
def problem():
    return make_cluster_patches(600, random_state=0, return_clusters=True, return_dictionary=True)


def traced(X, y, *callbacks, **options):
    options = {"max_iter": 12, "tol": None, "n_experts": 5, "random_state": 0} | options
    estimator = MoEClassifier if y.dtype.kind == "i" else MoERegressor
    return estimator(callbacks=list(callbacks), **options).fit(X, y)


KINDS = {  # of targets, of classes and clusters
    "classes": lambda y, clusters: y,
    "labels": lambda y, clusters: np.stack([y, clusters % 2], axis=1),
    "numbers": lambda y, clusters: clusters + 0.1 * y,
    "several numbers": lambda y, clusters: np.stack([y, clusters], axis=1) + 0.5,
}


@pytest.mark.parametrize(
    ("router", "kind"), [*zip(("top1", "soft", "topk", "topk"), KINDS, strict=True)]
)
def test_records_are_what_the_model_says(problem, router, kind):
    X, y, clusters, dictionary = problem
    y = KINDS[kind](y, clusters)
    options = {"router": router, "top_k": 2 if router == "topk" else 1, "expert_width": 4}
    trace = RoutingTrace(X, clusters, dictionary=dictionary, every=4)
    clf = traced(X, y, trace, **options)
    np.testing.assert_array_equal(trace.epochs_, [0, 4, 8, 12])
    experts = clf.apply(X).reshape(len(X), -1)[:, 0]
    assert trace.dispatch_entropy_[-1] == dispatch_entropy(clusters, experts)
    np.testing.assert_allclose(trace.load_[-1], clf.expert_load_, rtol=1e-5)
    np.testing.assert_allclose(trace.load_.sum(1), 1)
    theta = clf.module_.router.network.weight.detach().numpy()
    np.testing.assert_allclose(trace.router_centers_[-1], theta @ dictionary[1].T, rtol=1e-5)
    np.testing.assert_allclose(trace.router_features_[-1], theta @ dictionary[0].T, rtol=1e-5)
    filters = np.stack([e.weight.detach().numpy().reshape(-1, 50) for e in clf.module_.experts])
    assert trace.expert_features_.shape == trace.expert_centers_.shape
    assert trace.expert_features_.shape == (4, 5, 4 * (1 if kind == "numbers" else 2), 4)
    np.testing.assert_allclose(trace.expert_features_[-1], filters @ dictionary[0].T, rtol=1e-4)


def test_training_samples_are_traced_without_clusters_and_only_watched(problem):
    X, y, *_ = problem
    trace = RoutingTrace()
    clf, twin = traced(X, y, trace, max_iter=6), traced(X, y, max_iter=6)
    np.testing.assert_allclose(trace.load_[-1], clf.expert_load_, rtol=1e-5)
    assert np.isnan(trace.dispatch_entropy_).all()
    np.testing.assert_array_equal(clf.predict_proba(X), twin.predict_proba(X))


def test_a_trace_goes_on_with_the_training_and_starts_anew_with_a_new_one(problem):
    X, y, *_ = problem
    trace = RoutingTrace(X[:50], every=5)
    clf = traced(X, y, trace, warm_start=True).fit(X, y)
    assert trace.epochs_.tolist() == [0, 5, 10, 15, 20]
    clf.set_params(warm_start=False).fit(X, y)
    assert trace.epochs_.tolist() == [0, 5, 10]


def test_every_copy_of_a_trace_has_records_of_its_own(problem):
    X, y, clusters, _ = problem
    trace = RoutingTrace(X[:50], clusters[:50])
    search = GridSearchCV(classifier(max_iter=3, callbacks=[trace]), {"n_experts": [1, 3]}, cv=2)
    best = search.fit(X, y).best_estimator_
    assert not hasattr(trace, "epochs_")
    assert best.callbacks[0].load_.shape == (4, best.n_experts)
    unused = pickle.loads(pickle.dumps(trace))
    traced(X, y, trace)
    for other in (pickle.loads(pickle.dumps(trace)), copy.deepcopy(trace)):
        np.testing.assert_array_equal(other.load_, trace.load_)
    for fresh in (clone(trace), unused):
        assert fresh.X is trace.X or fresh is unused
        assert len(traced(X, y, fresh, max_iter=1).callbacks[0].load_) == 2


def test_what_a_trace_cannot_do_is_explained(problem):
    X, y, _, dictionary = problem
    raises(ValueError, "got every=0", traced, X, y, RoutingTrace(every=0))
    table = X.reshape(600, -1)
    trace = RoutingTrace(dictionary=dictionary)
    own = RouterParams(
        network=lambda shape, n: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(200, n))
    )
    refused = "patch experts on patches of size 50, got "
    raises(ValueError, refused + "MLPExpert", traced, table, y, trace)
    raises(ValueError, refused + ".* and KindRouter", traced, table, y, trace, n_experts="auto")
    raises(ValueError, refused + ".* and _ModuleScores", traced, X, y, trace, router=own)
    raises(ValueError, refused + ".* and NoneType", traced, X, y, trace, n_experts=1)


def test_noise_of_a_trace_is_that_of_training(problem):
    X, y, clusters, _ = problem
    quiet, noisy = RoutingTrace(X, clusters), RoutingTrace(X, clusters, noise=True)
    router = ROUTERS["top1"].with_options(noise_at_predict=True)
    for trace in (quiet, noisy):
        traced(X, y, trace, router=router, n_experts=8, max_iter=1)
    # At the start all scores are equal: the noise decides, and the load is even.
    assert quiet.load_[0].max() == 1
    assert 0.05 < noisy.load_[0].min() <= noisy.load_[0].max() < 0.2
    assert clone(noisy).noise


# -- a bar ------------------------------------------------------------------------------


def test_a_terminal_gets_a_bar_and_a_file_none(table, capsys, monkeypatch):
    classifier(expert="mlp", verbose=1).fit(*table)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True, raising=False)
    classifier(expert="mlp", verbose=1).fit(*table)
    assert re.search(r"MoEClassifier: 100%.*4/4 .*loss=0\.\d{4}\]\n$", capsys.readouterr().err)
    # Each kind of a pool says which one it is.
    classifier(n_experts=2, expert=["mlp", "deep"], verbose=1).fit(*table)
    seen = re.findall(r"MoEClassifier, (\w+, \d of \d): 100%", capsys.readouterr().err)
    assert [*dict.fromkeys(seen)] == ["mlp, 1 of 2", "deep, 2 of 2"]
