"""MoEClassifier as its users meet it."""

import inspect
import pickle
import re
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pandas
import polars
import pytest
import scipy
import torch
from helpers import SKLEARN_1_6, as_kind, is_deep, narrow
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._data.validation import Samples, hold_out
from sklearn_moe._training import Callback
from sklearn_moe.callbacks import FreezeRouter
from sklearn_moe.exceptions import ExpertCollapseWarning
from sklearn_moe.metrics import dispatch_entropy
from sklearn_moe.nn import ACTIVATIONS, EXPERTS, LOSSES, NOISES, ROUTERS
from sklearn_moe.optim import NormalizedSGD, SolverSpec

# Three epochs are enough to see that something works, not for a router to learn.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
BRIEF = {"max_iter": 3, "tol": None, "random_state": 0}
SMALL = [expert for expert in EXPERTS if not is_deep(expert)]


def fit_on(X, y, sample_weight=None, **parameters):
    return MoEClassifier().set_params(**BRIEF | parameters).fit(X, y, sample_weight)


# -- it learns ----------------------------------------------------------------------------


def test_solves_what_a_single_expert_cannot(patches):
    (X, y, _), (X_test, y_test, clusters) = patches
    mixture = MoEClassifier(random_state=0).fit(X, y)
    single = MoEClassifier(n_experts=1, random_state=0).fit(X, y)
    assert mixture.score(X_test, y_test) > 0.995
    assert single.score(X_test, y_test) < 0.85
    assert dispatch_entropy(clusters, mixture.apply(X_test)) < 0.02


@pytest.mark.parametrize("factor", [1e-3, 1, 1e3])
def test_the_scale_of_patches_does_not_matter(patches, factor):
    (X, y, _), (X_test, y_test, _) = patches
    clf = MoEClassifier(random_state=0).fit(factor * X, y)
    assert clf.score(factor * X_test, y_test) > 0.995


def test_standardized_flat_patches(patches):
    (X, y, _), (X_test, y_test, _) = patches
    flat, flat_test = (a.reshape(len(a), -1) for a in (X, X_test))
    model = make_pipeline(StandardScaler(), MoEClassifier(sample_shape=(4, -1), random_state=0))
    assert model.fit(flat, y).score(flat_test, y_test) > 0.98
    assert model[-1].input_shape_ == (4, 50)
    assert model[-1].n_features_in_ == 200


def test_images_are_learned(images):
    X, y = images
    clf = MoEClassifier(4, max_iter=40, tol=None, random_state=0).fit(X, y)
    assert clf.score(X, y) > 0.9
    assert clf.input_shape_ == (3, 8, 8)


def test_bytes_are_pictures(images):
    X, y = images
    X = np.clip(40 * X + 80, 0, 255).astype(np.uint8)
    in_bytes = fit_on(X, y, n_experts=2)
    in_floats = fit_on(X.astype(np.float32) / 255, y, n_experts=2)
    np.testing.assert_allclose(in_bytes.predict_proba(X), in_floats.predict_proba(X / 255.0), 1e-4)


def test_pictures_are_bytes_or_floats_throughout(images):
    X, y = images
    X = np.clip(40 * X + 80, 0, 255).astype(np.uint8)
    floats = X.astype(np.float32)
    in_bytes, in_floats = (fit_on(A, y, n_experts=2) for A in (X, floats))
    with pytest.raises(ValueError, match="float32, MoEClassifier was fitted on bytes"):
        in_bytes.predict(floats)
    with pytest.raises(ValueError, match="uint8, MoEClassifier was fitted on floats"):
        in_floats.predict(X)
    for integers in (X.astype(int), X.tolist()):
        with pytest.raises(ValueError, match=r"X holds pictures of type int64\. Pass bytes"):
            in_bytes.predict(integers)
        with pytest.raises(ValueError, match=r"X holds pictures of type int64\. Pass bytes"):
            fit_on(integers, y, n_experts=2)
    expected = in_bytes.predict_proba(X)
    np.testing.assert_array_equal(in_bytes.predict_proba(torch.from_numpy(X)), expected)
    np.testing.assert_array_equal(
        in_floats.predict_proba(floats.tolist()), in_floats.predict_proba(floats)
    )


# -- registries ---------------------------------------------------------------------------


@pytest.mark.parametrize("expert", [name for name in EXPERTS if EXPERTS[name].takes("activation")])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_expert_and_activation(patches, expert, activation):
    (X, y, _), _ = patches
    X = as_kind(X[:60], expert) / 10
    max_iter = 1 if is_deep(expert) else 3
    options = {"n_experts": 2, "max_iter": max_iter} | narrow(expert, 5)
    options["standardize"] = False  # cubes of cubes: deep networks of these want a small X
    clf = fit_on(X, y[:60], activation=activation, **options)
    assert clf.predict_proba(X).shape == (60, 2)
    np.testing.assert_allclose(clf.predict_proba(X).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("loss", [name for name, spec in LOSSES.items() if spec.classes])
@pytest.mark.parametrize(
    ("router", "gate"), [(r, gate) for r, preset in ROUTERS.items() for gate in preset.gates]
)
def test_every_router_gate_and_loss(patches, router, gate, loss):
    (X, y, _), _ = patches
    top_k = 2 if gate == "renormalized" else 1
    clf = fit_on(X[:60], y[:60], router=router, top_k=top_k, router__gate=gate, loss=loss, n_experts=3)
    several = top_k > 1 and router != "patch_choice"
    assert clf.apply(X).shape == ((1500, top_k) if several else (1500,))
    np.testing.assert_allclose(clf.gate_proba(X).sum(1), 1, rtol=1e-5)
    proba = clf.predict_proba(X)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
    assert clf.expert_proba(X).shape == (1500, 3, 2)
    assert clf.expert_load_.sum() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("router", "expert"),
    [(r, e) for r in ROUTERS for e in SMALL if (r, e) != ("patch_choice", "cnn")],
)
def test_every_router_learns_from_every_kind_of_sample(patches, router, expert):
    (X, y, _), _ = patches
    X = as_kind(X[:200], expert) / 10
    # A vector is a single patch, and the softmax over it always 1.
    one_patch = {"top_k": 1, "router__gate": "sigmoid"} if router == "patch_choice" else {}
    options = {"n_experts": 3, "max_iter": 30} | one_patch | narrow(expert, 16)
    clf = fit_on(X, y[:200], router=router, **options)
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]


@pytest.mark.parametrize("noise", [*NOISES, None])
@pytest.mark.parametrize("top_k", [1, 2])
def test_every_noise(patches, noise, top_k):
    (X, y, _), _ = patches
    clf = fit_on(X[:60], y[:60], router="topk", top_k=top_k, router__noise=noise, n_experts=3)
    assert np.isfinite(clf.predict_proba(X)).all()


def test_callables(patches):
    (X, y, _), _ = patches

    def expert(input_shape, n_outputs):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(200, n_outputs))

    options = {
        "expert": expert,
        "router__gate": lambda scores, noisy, chosen: scores.sigmoid().gather(1, chosen),
        "router__noise": lambda x, scores, generator: torch.zeros_like(scores),
    }
    first, second = (fit_on(X, y, **options) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


# -- what it says -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(patches):
    (X, y, _), _ = patches
    return fit_on(X, y, max_iter=30)


def test_routes_and_answers_agree(fitted, patches):
    _, (X, _, _) = patches
    gate, proba, experts = fitted.gate_proba(X), fitted.predict_proba(X), fitted.apply(X)
    assert gate.shape == (1000, 8)
    assert experts.shape == (1000,)
    np.testing.assert_allclose(gate.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(experts, gate.argmax(1))
    each = fitted.expert_proba(X)
    assert each.shape == (1000, 8, 2)
    np.testing.assert_allclose(each[np.arange(1000), experts], proba, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[proba.argmax(1)])
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), proba, rtol=1e-5)


def test_fitted_attributes(fitted, patches):
    (X, _, _), _ = patches
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 30
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]
    expected = np.bincount(fitted.apply(X), minlength=8) / len(X)
    np.testing.assert_allclose(fitted.expert_load_, expected)
    assert fitted.input_shape_ == (4, 50)
    assert fitted.module_ is fitted.net_.module_
    assert len(fitted.module_.experts) == 8


def test_a_single_expert_is_only_that(patches):
    (X, y, _), _ = patches
    clf = fit_on(X, y, n_experts=1)
    assert clf.module_.router is None
    np.testing.assert_array_equal(clf.gate_proba(X), np.ones((1500, 1)))
    np.testing.assert_array_equal(clf.apply(X), 0)
    with torch.inference_mode():
        answer = clf.module_.experts[0](torch.from_numpy(X)).softmax(1).numpy()
    np.testing.assert_allclose(clf.predict_proba(X), answer, rtol=1e-5)


# -- the batch does not matter at prediction ----------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("expert", SMALL)
def test_answers_do_not_depend_on_the_batch(patches, expert, dtype):
    (X, y, _), (X_test, _, _) = patches
    X, X_test = (as_kind(a, expert).astype(dtype) for a in (X, X_test))
    clf = fit_on(X[:500], y[:500], max_iter=10, **narrow(expert, 16))
    proba, experts = clf.predict_proba(X_test), clf.apply(X_test)
    tolerance = {"rtol": 0, "atol": 1e-6 if dtype == np.float32 else 1e-12}

    @settings(max_examples=30, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.integers(0, len(X_test) - 1), min_size=1, max_size=40))
    def check(rows):
        np.testing.assert_array_equal(clf.apply(X_test[rows]), experts[rows])
        np.testing.assert_allclose(clf.predict_proba(X_test[rows]), proba[rows], **tolerance)

    check()


def test_noise_at_predict_is_asked_for(patches):
    (X, y, _), _ = patches
    routers = (replace(ROUTERS["top1"], noise_at_predict=on) for on in (False, True))
    quiet, noisy = (fit_on(X, y, router=router) for router in routers)
    assert (quiet.apply(X) != noisy.apply(X)).any()
    np.testing.assert_array_equal(noisy.apply(X), noisy.apply(X))


# -- seeds --------------------------------------------------------------------------------


def test_seeds_both_ways(patches):
    (X, y, _), _ = patches
    X, y = X[:1200], y[:1200]  # two batches: shuffled
    first, second = fit_on(X, y), fit_on(X, y)
    other = fit_on(X, y, random_state=1)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert first.loss_curve_ == second.loss_curve_
    assert first.loss_curve_ != other.loss_curve_


def test_random_state_instance_moves_on(patches):
    (X, y, _), _ = patches
    state = np.random.RandomState(0)
    assert fit_on(X, y, random_state=state).loss_curve_ != (
        fit_on(X, y, random_state=state).loss_curve_
    )


@pytest.mark.parametrize("expert", ["patch", "cnn"])
def test_threads_do_not_see_each_other(patches, expert):
    (X, y, _), _ = patches
    X, y = as_kind(X[:300], expert), y[:300]
    options = {"batch_size": 100} | narrow(expert, 16)
    expected = fit_on(X, y, **options).predict_proba(X)
    results = [None] * 6

    def work(i):
        results[i] = fit_on(X, y, **options).predict_proba(X)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_thread_count_is_left_alone(patches):
    (X, y, _), _ = patches
    before = torch.get_num_threads()
    fit_on(X, y).predict(X)
    assert torch.get_num_threads() == before


# -- weights ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"balance": "switch", "balance__weight": 1.0},
        {"router": "topk", "top_k": 2},
        {"solver": "normalized_sgd"},
        {"class_weight": {0: 2.0, 1: 1.0}},
    ],
)
def test_weight_two_is_the_sample_twice(options):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(30, 6))
    y = generator.integers(2, size=30)
    weight = generator.integers(3, size=30)
    options = {"n_experts": 3, "max_iter": 20, "batch_size": None} | options
    weighted = MoEClassifier().set_params(**BRIEF | options).fit(X, y, sample_weight=weight)
    repeated = fit_on(X.repeat(weight, 0), y.repeat(weight), **options)
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-7)
    np.testing.assert_allclose(weighted.expert_load_, repeated.expert_load_)


def test_class_weight_is_a_sample_weight(patches):
    (X, y, _), _ = patches
    X, y = X[:200], y[:200]
    by_class = fit_on(X, y, class_weight={0: 3.0, 1: 1.0})
    by_sample = MoEClassifier().set_params(**BRIEF).fit(X, y, sample_weight=np.where(y == 0, 3.0, 1.0))
    np.testing.assert_array_equal(by_class.predict_proba(X), by_sample.predict_proba(X))


# -- the course of a fit ------------------------------------------------------------------


def test_early_stopping_ends_a_fit_that_has_learned(patches):
    (X, y, _), _ = patches
    clf = MoEClassifier(early_stopping=True, random_state=0).fit(X, y)
    assert clf.n_iter_ == len(clf.validation_scores_) < clf.resolved_params_["max_iter"]
    assert max(clf.validation_scores_) > 0.98


def test_early_stopping_returns_to_the_best_weights(patches):
    (X, y, _), _ = patches
    wrong = np.random.default_rng(0).random(len(y)) < 0.2  # experts learn these, too, in the end
    y = np.where(wrong, 1 - y, y)
    clf = MoEClassifier(early_stopping=True, random_state=0).fit(X, y)
    best = max(clf.validation_scores_)
    assert clf.validation_scores_[-1] < best
    # The split is drawn from random_state, so that the held-out samples can be had again.
    seed = np.random.RandomState(0).randint(2**31 - 1)
    _, held_out = hold_out(Samples(X, y, np.ones(len(y)), None), 0.1, seed, stratify=True)
    assert clf.score(held_out.X[:], held_out.y) == pytest.approx(best)


def test_warm_start_goes_on(patches):
    (X, y, _), _ = patches
    clf = MoEClassifier().set_params(**BRIEF, warm_start=True).fit(X, y)
    first = clf.loss_curve_
    clf.fit(X, y)
    assert clf.loss_curve_[:3] == first
    assert clf.n_iter_ == 6
    clf.set_params(n_experts=4)
    with pytest.raises(ValueError, match=r"further with other \['n_experts'\]"):
        clf.fit(X, y)
    clf.set_params(n_experts=8)
    with pytest.raises(ValueError, match=r"labels \[2\] that are not among the classes \[0, 1\]"):
        clf.fit(X[:3], [0, 1, 2])


@pytest.mark.parametrize(("first", "second"), [("normalized_sgd", "adam"), ("adam", "sgd")])
@pytest.mark.parametrize("router", ["top1", "soft"])
def test_warm_start_goes_on_with_another_solver(patches, router, first, second):
    (X, y, _), _ = patches
    clf = fit_on(X, y, router=router, solver=first, warm_start=True)
    before = clf.predict_proba(X)
    still = {"learning_rate_init": 1e-12, "router__learning_rate": 1e-12}
    clf.set_params(solver=second, max_iter=1, **still).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X), before, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver__momentum": 0.9, "solver__weight_decay": 1e-3, "balance": "switch"},
        {"expert": "patch_conv", "solver": partial(NormalizedSGD, norm="sum")},
        {"router": "relu", "n_experts": 12},
        {"router": "soft", "expert_loss_weight": 0.5},
        {"router": replace(ROUTERS["topk"], dense_gradient=True), "balance": "bias"},
        {"router__upcycle": 0.5, "router__gate": "relative", "solver__momentum": 0.9, "router__n_shared_experts": 1},
    ],
    ids=lambda options: "-".join(options),
)
def test_stacked_experts_learn_as_those_apart(patches, options):
    (X, y, _), _ = patches
    X, weight = X[:300].astype(np.float64), np.linspace(0.5, 2, 300)
    spec = SolverSpec.of(options.get("solver", NormalizedSGD))
    options = {"max_iter": 8, "batch_size": 75} | options
    stacked, apart = (
        fit_on(X, y[:300], weight, **options | {"solver": replace(spec, units=units)})
        for units in (True, False)
    )
    assert type(stacked.module_.experts) is not type(apart.module_.experts)
    for answers in ("predict_proba", "expert_proba"):
        first, second = (getattr(clf, answers)(X) for clf in (stacked, apart))
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-12)


def test_partial_fit_learns(patches):
    (X, y, _), (X_test, y_test, _) = patches
    clf = MoEClassifier(random_state=0)
    for epoch in range(120):
        clf.partial_fit(X, y, classes=[0, 1] if epoch == 0 else None)
    assert clf.n_iter_ == 120
    assert clf.score(X_test, y_test) > 0.95


def test_partial_fit_refuses_an_unseen_class(patches):
    (X, y, _), _ = patches
    clf = MoEClassifier().set_params(**BRIEF).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"labels \[2\] that are not among the classes \[0, 1\]"):
        clf.partial_fit(X, y + 1)


def test_convergence_warning(patches):
    (X, y, _), _ = patches
    with pytest.warns(ConvergenceWarning, match="still changing after max_iter=2 epochs"):
        MoEClassifier(max_iter=2, random_state=0).fit(X, y)


def test_collapse_warning_names_the_expert_and_the_remedies(patches):
    (X, y, _), _ = patches
    # No noise and a router at zero: every tie goes to expert 0.
    with pytest.warns(ExpertCollapseWarning, match=r"Expert 0 answers 100\.0% .*balance='switch'"):
        MoEClassifier().set_params(router__noise=lambda x, scores, generator: torch.zeros_like(scores), router__learning_rate=0, **BRIEF).fit(X, y)


def as_samples(kind, X):
    """Return patches, (n, 4, 50), as samples of other kinds."""
    return X.reshape(len(X), *{"table": (-1,), "patches": (4, 50), "pictures": (2, 10, 10)}[kind])


@pytest.mark.parametrize(
    ("kind", "router"),
    [
        (kind, router)
        for kind in ("table", "patches", "pictures")
        for router in ROUTERS
        if kind == "patches" or router != "patch_choice"
    ],
)
@pytest.mark.parametrize("standardize", ["auto", False])
def test_remedies_of_a_collapse_are_taken(monkeypatch, patches, kind, router, standardize):
    (X, y, _), _ = patches
    X, y = as_samples(kind, X[:40]), y[:40]
    monkeypatch.setattr("sklearn_moe._task._COLLAPSED", 0)  # every mixture counts as one
    options = {"router": router, "standardize": standardize, "expert_width": 2}
    with pytest.warns(ExpertCollapseWarning) as caught:
        MoEClassifier(3).set_params(**options, **BRIEF).fit(X, y)
    message = str(caught[-1].message)
    assert ("scaler" in message) == (kind == "patches")
    assert ("standardize=" in message) == (kind != "patches" and standardize is False)
    named = re.findall(r"(balance|router_noise|standardize)='(\w+)'", message)
    for name, value in named:
        with pytest.warns(ExpertCollapseWarning):
            MoEClassifier(3).set_params(**options | {name: value}, **BRIEF).fit(X, y)
    assert ("balance", "switch") in named or router in ("random", "kmeans")


def test_balance_loss_spreads_the_load(patches):
    (X, y, _), _ = patches
    loads = [
        fit_on(X, y, max_iter=40, balance=balance, balance__weight=5.0).expert_load_.std()
        for balance in (None, "switch")
    ]
    assert loads[1] < loads[0]


@pytest.mark.parametrize("standardize", [True, False])
def test_a_table_that_is_standardized_is_not_said_to_want_scaling(patches, standardize):
    (X, y, _), _ = patches
    with pytest.raises(ValueError, match="learning_rate_init") as failure:
        MoEClassifier(
            activation="linear",
            solver="sgd",
            learning_rate_init=1e30,
            standardize=standardize,
            random_state=0,
        ).fit(X.reshape(len(X), -1), y)
    for word in ("scaler", "standardize"):
        assert (word in str(failure.value)) == (not standardize)


def test_a_loss_that_explodes_is_named(patches):
    (X, y, _), _ = patches
    expert = EXPERTS["patch"].with_options(init_scale=1e3)
    with pytest.raises(ValueError, match=r"loss became (nan|inf) in epoch .*put a scaler"):
        fit_on(1e12 * X, y, expert=expert, learning_rate_init=1e3, max_iter=50)


def test_ctrl_c_comes_through_and_a_callback_may_stop(patches):
    from skorch.callbacks import Callback, EarlyStopping

    (X, y, _), _ = patches

    class Interrupted(Callback):
        def on_batch_begin(self, net, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_on(X, y, callbacks=[Interrupted()])
    stop = EarlyStopping(monitor="train_loss", patience=1, threshold=10.0, sink=lambda text: None)
    assert fit_on(X, y, callbacks=[stop], max_iter=50).n_iter_ == 2


def test_a_frozen_router_stays_as_it_is(patches):
    (X, y, _), _ = patches
    seen = []

    class Look(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append({k: v.clone() for k, v in net.module_.state_dict().items()})

    clf = fit_on(X, y, callbacks=[FreezeRouter(after=2), Look()], max_iter=5, balance="bias")
    moved = [{k for k in a if not torch.equal(a[k], b[k])} for a, b in pairwise(seen)]
    routers = [{k for k in keys if k.startswith("router.")} for keys in moved]
    assert routers[0] == {k for k in seen[0] if k.startswith("router.")}
    assert not any(routers[1:])
    assert all(keys - router for keys, router in zip(moved, routers, strict=True))
    assert all(p.requires_grad for p in clf.module_.parameters())


def test_callbacks_hear_every_step(patches):
    from skorch.callbacks import Callback

    (X, y, _), _ = patches
    heard = []

    class Listener(Callback):
        def on_grad_computed(self, net, named_parameters, training, **kwargs):
            assert training
            heard.append([name for name, p in named_parameters if p.grad is not None])

    fit_on(X, y, callbacks=[Listener()], batch_size=500)
    assert len(heard) == 9
    assert all("router.network.weight" in names for names in heard)


def test_train_transform_is_for_training_and_seeded(patches):
    (X, y, _), _ = patches
    batches = []

    def jitter(x):
        batches.append(len(x))
        return x + torch.randn(x.shape)

    first, second = (fit_on(X, y, train_transform=jitter, batch_size=750) for _ in range(2))
    assert batches == [750] * 12
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert batches == [750] * 12


@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("batch_size", [None, 400])
def test_a_transform_in_place_leaves_X_alone(patches, writeable, batch_size):
    (X, y, _), _ = patches
    X = X.copy()
    before = X.copy()
    X.flags.writeable = writeable
    fit_on(X, y, train_transform=lambda x: x.mul_(2), batch_size=batch_size)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("transform", "got"),
    [
        (lambda x: x.numpy(), "it returned ndarray"),
        (lambda x: None, "it returned NoneType"),
        (lambda x: x[:, :2], r"it returned \(1500, 2, 50\), torch.float32"),
        (lambda x: x.double(), r"it returned \(1500, 4, 50\), torch.float64"),
    ],
)
def test_a_transform_returns_what_it_is_given(patches, transform, got):
    (X, y, _), _ = patches
    with pytest.raises(
        (TypeError, ValueError), match=f"train_transform must return a tensor.*{got}"
    ):
        fit_on(X, y, train_transform=transform, batch_size=None)


def dropout_expert(input_shape, n_outputs):
    n_features = int(np.prod(input_shape))
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(n_features, n_outputs)
    )


class Noisy(torch.nn.Linear):
    """An expert that draws by itself."""

    def forward(self, x):
        return super().forward(x + torch.randn_like(x) * self.training)


def noisy_expert(input_shape, n_outputs):
    return torch.nn.Sequential(torch.nn.Flatten(), Noisy(int(np.prod(input_shape)), n_outputs))


@pytest.mark.parametrize("expert", [dropout_expert, noisy_expert])
def test_draws_of_an_expert_come_from_random_state(patches, expert):
    (X, y, _), _ = patches
    state = torch.get_rng_state()
    first, second, other = (
        fit_on(X, y, expert=expert, random_state=seed, max_iter=3).loss_curve_ for seed in (0, 0, 1)
    )
    assert first == second
    assert first != other
    torch.testing.assert_close(torch.get_rng_state(), state)


# -- inputs -------------------------------------------------------------------------------


def test_string_labels_and_frames():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(80, 3))
    y = np.where(X[:, 0] > 0, "yes", "no")
    columns = ["a", "b", "c"]
    for frame in (pandas.DataFrame(X, columns=columns), polars.DataFrame(X, schema=columns)):
        clf = fit_on(frame, y, n_experts=2, learning_rate_init=0.05, max_iter=30)
        assert list(clf.feature_names_in_) == columns
        assert set(clf.predict(frame)) == {"yes", "no"}
        assert clf.score(frame, y) > 0.95


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.uint8, np.float32, np.float64])
def test_dtypes(patches, dtype):
    (X, y, _), _ = patches
    X = np.abs(X[:50]).astype(dtype)
    clf = fit_on(X, y[:50])
    weight = next(clf.module_.parameters())
    assert weight.dtype == (torch.float64 if dtype == np.float64 else torch.float32)
    assert clf.predict_proba(X).dtype == (np.float64 if dtype == np.float64 else np.float32)


def test_memory_maps_and_strides(patches, tmp_path):
    (X, y, _), _ = patches
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected = fit_on(X, y).predict_proba(X)
    clf = fit_on(mapped, y)
    np.testing.assert_array_equal(clf.predict_proba(mapped), expected)
    np.testing.assert_allclose(clf.predict_proba(X[::-1]), expected[::-1], atol=1e-6)
    np.testing.assert_allclose(clf.predict_proba(np.asfortranarray(X)), expected, atol=1e-6)


def test_training_does_not_copy_X(patches):
    (X, y, _), _ = patches
    seen = []

    class Look(Callback):
        def on_batch_begin(self, net, batch, **kwargs):
            seen.append(batch[0].data_ptr())

    fit_on(X, y, callbacks=[Look()], batch_size=None)
    assert set(seen) == {X.ctypes.data}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"router": "top1", "top_k": 2}, "router='top1': one expert answers"),
        ({"router": "topk", "top_k": 9}, "top_k=9 experts cannot be chosen out of n_experts=8"),
        ({"expert": "nope"}, r"Unknown expert='nope': pass one of \['cnn'"),
        ({"activation": "nope"}, r"Unknown activation='nope': pass one of \['celu'"),
        ({"router__noise": "pink"}, "Unknown router_noise='pink'"),
        ({"sample_shape": (3, 50)}, r"sample_shape=\(3, 50\) cannot be read from X of shape"),
        ({"expert": "mlp"}, r"expert='mlp' takes samples of shape \(n_features,\)"),
        ({"solver": "adam", "solver__schedule": "residual"}, "made for solver='normalized_sgd'"),
        ({"n_experts": 0}, "The 'n_experts' parameter of MoEClassifier must be an int"),
        ({"router__gate": "nope"}, r"router='top1': Unknown gate='nope': pass one of \['logit'"),
        ({"router__gate": 3}, "The 'gate' parameter of MoEClassifier"),
        ({"router": "nope"}, r"Unknown router='nope': pass one of \['kmeans'"),
        ({"balance": "nope"}, r"Unknown balance='nope': pass one of \['bias'"),
        ({"router": "topk", "router__gate": "renormalized"}, "the router would get no gradient"),
        ({"solver": "adam", "solver__momentum": 0.9}, "momentum=0.9 would be ignored: solver='adam' takes"),
        (
            {"solver": torch.optim.Rprop, "solver__weight_decay": 0.1},
            "weight_decay=0.1 would be ignored: .* takes no weight_decay",
        ),
        ({"expert": dropout_expert, "expert_width": 5}, "expert_width=5 would be ignored"),
        ({"expert": dropout_expert, "activation": "relu"}, "Leave activation at 'auto'"),
    ],
)
def test_wrong_parameters(patches, parameters, message):
    (X, y, _), _ = patches
    with pytest.raises(ValueError, match=message):
        fit_on(X, y, **parameters)


def test_wrong_samples(patches, fitted):
    (X, y, _), _ = patches
    broken = X.copy()
    broken[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        fit_on(broken, y)
    with pytest.raises(ValueError, match="needs samples of at least 2 classes, got 1 class: 0"):
        fit_on(X, np.zeros(len(X), dtype=int))
    with pytest.raises(ValueError, match=r"samples of shape \(4, 49\).*of shape \(4, 50\)"):
        fitted.predict(X[:, :, :49])
    with pytest.raises(ValueError, match="X has 3 features, but MoEClassifier is expecting 4"):
        fitted.predict(X[:, :3])
    with pytest.raises(ValueError, match=r"got \(2, 1, 1, 1, 5\)"):
        fit_on(np.ones((2, 1, 1, 1, 5)), [0, 1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fit_on(X, y[:-1])
    with pytest.raises(ValueError, match="loss='margin' separates two classes"):
        fit_on(X[:6], [0, 1, 2, 0, 1, 2], loss="margin")


UNFITTED = [(MoEClassifier(), method) for method in ("predict_proba", "expert_proba", "module_")]
UNFITTED += [(MoEClassifier(), method) for method in ("predict", "predict_log_proba")]
UNFITTED += [(MoERegressor(), method) for method in ("predict", "expert_predict")]
UNFITTED += [(MoERegressor(), method) for method in ("apply", "gate_proba")]


@pytest.mark.parametrize(("estimator", "method"), UNFITTED)
def test_what_is_not_fitted_says_so(patches, estimator, method):
    (X, _, _), _ = patches
    with pytest.raises(NotFittedError):
        getattr(estimator, method)(X)


def test_wrong_weights(patches):
    (X, y, _), _ = patches
    with pytest.raises(ValueError, match=r"All samples have weight 0|at least one non-zero"):
        MoEClassifier().set_params(**BRIEF).fit(X, y, sample_weight=np.zeros(len(y)))
    with pytest.raises(ValueError, match=r"sample_weight must not be negative, got -1\.0"):
        MoEClassifier().set_params(**BRIEF).fit(X, y, sample_weight=np.full(len(y), -1.0))
    with pytest.raises(ValueError, match="got 1 class: 0"):
        MoEClassifier().set_params(**BRIEF).fit(X, y, sample_weight=y == 0)


# -- among other estimators ---------------------------------------------------------------


def test_grid_search_over_the_number_of_experts(patches):
    (X, y, _), _ = patches
    clf = MoEClassifier().set_params(**BRIEF | {"max_iter": 120})
    search = GridSearchCV(clf, {"n_experts": [1, 8]}, cv=3).fit(X, y)
    assert search.best_params_ == {"n_experts": 8}
    assert search.best_score_ > 0.98


@pytest.mark.skipif(SKLEARN_1_6, reason="pipelines of scikit-learn 1.6 hand weights to no score")
def test_metadata_routing_of_weights(patches):
    (X, y, _), _ = patches
    weight = np.where(y == 0, 5.0, 1.0)
    with config_context(enable_metadata_routing=True):
        clf = MoEClassifier().set_params(sample_shape=(4, 50), **BRIEF).set_fit_request(sample_weight=True)
        clf.set_score_request(sample_weight=True)
        model = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), clf)
        model.fit(X.reshape(len(X), -1), y, sample_weight=weight)
        result = cross_validate(
            model,
            X.reshape(len(X), -1),
            y,
            cv=2,
            params={"sample_weight": weight},
            return_estimator=True,
        )
    assert np.isfinite(result["test_score"]).all()
    scaled = model[0].transform(X.reshape(len(X), -1))
    direct = clone(clf).fit(scaled, y, sample_weight=weight)
    np.testing.assert_array_equal(direct.predict_proba(scaled), model[1].predict_proba(scaled))


def test_parallel_cross_validation_equals_serial(patches):
    (X, y, _), _ = patches
    clf = MoEClassifier().set_params(**BRIEF)
    serial = cross_val_score(clf, X, y, cv=2)
    np.testing.assert_array_equal(serial, cross_val_score(clf, X, y, cv=2, n_jobs=2))


def test_pickle_in_another_process(fitted, patches, tmp_path):
    _, (X, _, _) = patches
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(fitted))
    np.save(tmp_path / "X.npy", X)
    code = (
        "import pathlib, pickle, sys, numpy as np, torch; torch.set_num_threads(1)\n"
        "clf = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()); X = np.load(sys.argv[2])\n"
        "np.save(sys.argv[3], clf.predict_proba(X)); clf.partial_fit(X, clf.predict(X))"
    )
    files = [tmp_path / name for name in ("model.pkl", "X.npy", "proba.npy")]
    subprocess.run([sys.executable, "-W", "error", "-c", code, *files], check=True)
    np.testing.assert_array_equal(np.load(files[2]), fitted.predict_proba(X))


def test_pickle_is_small(fitted):
    weights = sum(p.numel() * p.element_size() for p in fitted.module_.parameters())
    assert len(pickle.dumps(fitted)) < 3 * weights + 20_000


def test_clone_and_repr(fitted):
    again = clone(fitted)
    assert not hasattr(again, "net_")
    assert repr(again) == "MoEClassifier(max_iter=30, random_state=0, tol=None)"


def test_no_warnings_by_default(patches):
    (X, y, _), _ = patches
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MoEClassifier(random_state=0).fit(X, y).predict(X)


def test_a_transform_of_torchvision_is_cloned_and_draws_from_the_seed(images):
    from torchvision.transforms import v2

    X, y = images
    crop = v2.RandomCrop(8, padding=2)  # it has a get_params of another kind
    clf = MoEClassifier().set_params(n_experts=2, train_transform=crop, **BRIEF)
    assert clf.get_params()["train_transform"] is crop
    assert clone(clf).train_transform is not crop
    first, second = (clone(clf).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    noisy = fit_on(X, y, n_experts=2, train_transform=v2.GaussianNoise())
    assert np.isfinite(noisy.loss_curve_).all()
    search = GridSearchCV(clf, {"n_experts": [1, 2]}, cv=2).fit(X, y)
    assert search.best_estimator_.train_transform.size == (8, 8)


# -- what it tells ------------------------------------------------------------------------


def test_warnings_point_at_the_line_of_the_caller(patches):
    (X, y, _), _ = patches
    clf = MoEClassifier(max_iter=1, random_state=0)
    search = GridSearchCV(clf, {"n_experts": [2]}, cv=2)
    for fit in (clf.fit, make_pipeline(clf).fit, search.fit):
        with pytest.warns(ConvergenceWarning) as caught:
            fit(X[:100], y[:100])
        assert {warning.filename for warning in caught} == {__file__}


def test_what_auto_became(patches):
    (X, y, _), _ = patches
    clf = fit_on(X, y, learning_rate_init=0.01)
    assert {"expert": "patch", "activation": "cubic", "top_k": 1, "router__gate": "softmax"}.items() <= (
        clf.resolved_params_.items()
    )
    assert clf.resolved_params_["solver"] == "normalized_sgd"
    assert "learning_rate_init" not in clf.resolved_params_  # it was not "auto"
    first = dict(clf.resolved_params_)
    clf.partial_fit(10 * X, y)  # keeps the rates of the first call
    assert clf.resolved_params_ == first


@pytest.mark.parametrize("estimator", [MoEClassifier, MoERegressor])
def test_the_signature_is_that_of_the_class(estimator):
    names = list(inspect.signature(estimator).parameters)
    assert names == list(inspect.signature(estimator.__init__).parameters)[1:]
    assert len(names) <= 40
    with pytest.raises(TypeError, match=f"{estimator.__name__}.__init__"):
        estimator(n_expert=2)


# -- several labels -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def labels():
    X = np.random.default_rng(0).normal(size=(300, 5))
    return X, np.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 0] * X[:, 1] > 0], 1).astype(int)


@pytest.mark.parametrize("router", ROUTERS)
def test_several_labels(labels, router):
    X, Y = labels
    needs = {"router__gate": "sigmoid", "top_k": 1} if router == "patch_choice" else {}
    clf = MoEClassifier(3).set_params(router=router, max_iter=40, tol=None, random_state=0, **needs).fit(X, Y)
    proba = clf.predict_proba(X)
    assert proba.shape == (300, 3)
    np.testing.assert_array_equal(clf.predict(X), proba > 0.5)
    np.testing.assert_allclose(scipy.special.expit(clf.decision_function(X)), proba, atol=1e-6)
    assert clf.expert_proba(X).shape == (300, 3, 3)
    assert clf.classes_.tolist() == [0, 1, 2]
    assert (clf.predict(X) == Y).mean() > 0.7


def test_labels_are_held_out_weighted_and_taken_in_parts(labels):
    X, Y = labels
    clf = fit_on(X, Y, early_stopping=True, class_weight="balanced")
    assert 0 < clf.validation_scores_[-1] <= 1
    assert (clf.predict(X) == Y).all(1).mean() == clf.score(X, Y)
    clf = MoEClassifier().set_params(**BRIEF)
    for _ in range(3):
        clf.partial_fit(X, Y, classes=[0, 1, 2])
    assert clf.n_iter_ == 3
    with pytest.raises(ValueError, match=r"must have shape \(n_samples, 3\), a column per label"):
        clf.partial_fit(X, Y[:, :2])
    with pytest.raises(ValueError, match=r"must hold zeros and ones.*MultiOutputClassifier"):
        clf.fit(X, Y + np.arange(3))


def test_weights_of_classes_label_by_label(labels):
    X, Y = labels
    weight = np.where(Y[:, 0] == 1, 3.0, 1.0) * np.where(Y[:, 2] == 1, 0.5, 1.0)
    by_label = [{0: 1, 1: 3}, {0: 1, 1: 1}, {0: 1, 1: 0.5}]
    found = fit_on(X, Y, class_weight=by_label).predict_proba(X)
    expected = MoEClassifier().set_params(**BRIEF).fit(X, Y, sample_weight=weight).predict_proba(X)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for wrong, y in ((by_label[:2], Y), (by_label, Y[:, 0])):
        with pytest.raises(ValueError, match=r"class_weight.*one dict per column"):
            fit_on(X, y, class_weight=wrong)


def test_the_loss_says_whether_there_may_be_several_labels(labels):
    X, Y = labels
    assert get_tags(MoEClassifier()).classifier_tags.multi_label
    for loss in ("probabilities", "margin", LOSSES["margin"].classes):
        clf = MoEClassifier(loss=loss)
        assert not get_tags(clf).classifier_tags.multi_label
        with pytest.raises(ValueError, match=r"is not made for labels|predicts classes|labels"):
            clf.fit(X, Y)
