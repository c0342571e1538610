"""Everything that a fit and a fitted model can do, on another device than the CPU.

A model without noise that is trained in one batch is that of the CPU; noise and the order of
batches come from generators of the device, which draw other numbers.
"""

import copy
import inspect
import pickle
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from helpers import is_deep, narrow
from scipy.sparse import csr_matrix
from sklearn_moe.checkpoints import FitCheckpoint
from skorch.callbacks import Callback

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._data import rows as _data
from sklearn_moe.callbacks import RoutingTrace
from sklearn_moe.nn import (
    ACTIVATIONS,
    BALANCES,
    EXPERTS,
    GATES,
    LOSSES,
    NETWORKS,
    NOISES,
    ROUTERS,
    TRUNKS,
)
from sklearn_moe.optim import SOLVERS

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_moe.exceptions.ExpertCollapseWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
SHAPES = {"table": (6,), "patches": (4, 6), "pictures": (3, 8, 8)}
BRIEF = {"n_experts": 3, "expert_width": 4, "max_iter": 3, "tol": None, "random_state": 0}
QUIET = BRIEF | {"router_noise": None, "batch_size": None, "early_stopping": False}


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch):
    """Convolutions of a GPU round to TF32 otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA asks for a fixed order


def samples(kind, n=48):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(n, *SHAPES[kind])).astype(np.float32)
    return X, X.reshape(n, -1)[:, :3].argmax(1)


def numbers(kind, n_outputs=1):
    X, _ = samples(kind)
    return X, X.reshape(len(X), -1)[:, : n_outputs + 1].cumsum(1)[:, 1:].squeeze()


def noise_of(router):
    """Return the parameters of noise for a router, none where it does without."""
    return {"router_noise": "auto" if router == "noisy_topk" else None}


def answers(model, X):
    """Return what every public method says that takes X alone, by its name."""
    methods = {
        name: getattr(model, name)
        for name in dir(type(model))
        if not name.startswith("_") and inspect.isfunction(getattr(type(model), name))
    }
    return {
        name: method(X)
        for name, method in methods.items()
        if name != "partial_fit"  # it trains
        and next(iter(inspect.signature(method).parameters), None) == "X"
        and all(
            p.default is not p.empty for p in [*inspect.signature(method).parameters.values()][1:]
        )
    }


def compare(device, model, X, y, *, exact=True, atol=1e-4):
    """Fit on the device, ask all there is to ask; without noise the CPU says the same."""
    there = copy.deepcopy(model).set_params(device=device).fit(X, y)
    assert {p.device.type for p in there.module_.parameters()} == {torch.device(device).type}
    said = answers(there, X)
    assert all(np.isfinite(said[name]).all() for name in said)
    if exact:
        here = model.set_params(device="cpu").fit(X, y)
        np.testing.assert_allclose(there.loss_curve_, here.loss_curve_, rtol=1e-3, atol=1e-5)
        for name, values in answers(here, X).items():
            np.testing.assert_allclose(said[name], values, atol=atol, rtol=1e-3, err_msg=name)
    assert np.isfinite(there.score(X, y))
    return there


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("router", ROUTERS)
def test_routers(device, router, kind):
    if router == "patch_choice" and kind != "patches":
        pytest.skip("chooses patches")
    whole = kind != "pictures" or router == "kmeans"  # centers are those of samples
    several = router in ("topk", "noisy_topk", "sampled", "random", "kmeans")
    options = {"trunk": None if whole else "cnn", "top_k": 2 if several else "auto"}
    model = MoEClassifier(router=router, **QUIET | options | noise_of(router))
    compare(device, model, *samples(kind), exact=router != "noisy_topk")


@pytest.mark.parametrize("router", [r for r in ROUTERS if ROUTERS[r].noise is not None])
@pytest.mark.parametrize("noise", NOISES)
def test_noise(device, router, noise):
    options = BRIEF | {"router": router, "router_noise": noise, "batch_size": 20}
    first, second = (
        compare(device, MoEClassifier(**options), *samples("patches"), exact=False)
        for _ in range(2)
    )
    assert first.loss_curve_ == second.loss_curve_


@pytest.mark.parametrize("kind", ["table", "patches"])
@pytest.mark.parametrize(
    ("router", "balance"), [*product(["top1", "noisy_topk", "soft"], BALANCES)]
)
def test_balances(device, router, balance, kind):
    if balance == "load" and router != "noisy_topk":
        pytest.skip("the smooth load is that of noise")
    if balance == "bias" and router == "soft":
        pytest.skip("a bias decides who is chosen")
    options = QUIET | noise_of(router) | {"balance": balance, "balance_weight": 0.1}
    model = MoEClassifier(router=router, **options)
    compare(device, model, *samples(kind), exact=router != "noisy_topk")


@pytest.mark.parametrize("expert", [e for e in EXPERTS if not is_deep(e)])
@pytest.mark.parametrize("n_experts", [1, 3])
def test_experts(device, expert, n_experts):
    kind = {2: "table", 3: "patches", 4: "pictures"}[EXPERTS[expert].ndim]
    options = QUIET | narrow(expert, 4) | {"n_experts": n_experts, "trunk": None}
    compare(device, MoEClassifier(**options), *samples(kind))


@pytest.mark.slow
@pytest.mark.parametrize("expert", [e for e in EXPERTS if is_deep(e)])
@pytest.mark.parametrize("router", ["top1", "sigmoid", "merge"])
def test_deep_experts(device, expert, router):
    if router == "merge" and not expert.endswith("_gn"):
        pytest.skip("merged experts cannot keep statistics of their batches")
    options = QUIET | narrow(expert, 8) | {"n_experts": 2, "trunk": None, "max_iter": 1}
    compare(device, MoEClassifier(router=router, **options), *samples("pictures"), atol=1e-2)


@pytest.mark.parametrize("trunk", [t for t in TRUNKS if t == "cnn"])
@pytest.mark.parametrize("router", ["top1", "soft"])
def test_trunks(device, trunk, router):
    compare(device, MoEClassifier(trunk=trunk, router=router, **QUIET), *samples("pictures"))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", SHAPES)
def test_solvers(device, solver, kind):
    compare(device, MoEClassifier(solver=solver, **QUIET), *samples(kind))


@pytest.mark.parametrize("gate", GATES)
def test_gates(device, gate):
    router = next(r for r in ("topk", *ROUTERS) if gate in ROUTERS[r].gates)
    top_k = 2 if router == "topk" else "auto"
    model = MoEClassifier(router=router, gate=gate, top_k=top_k, **QUIET)
    compare(device, model, *samples("patches"))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(device, activation):
    compare(device, MoEClassifier(activation=activation, **QUIET), *samples("patches"))


@pytest.mark.parametrize("network", [n for n in NETWORKS if n != "cnn"])
@pytest.mark.parametrize("kind", ["table", "patches"])
def test_router_networks(device, network, kind):
    model = MoEClassifier(router="topk", top_k=2, router_network=network, **QUIET)
    compare(device, model, *samples(kind))


@pytest.mark.parametrize("router", ["topk", "soft"])
@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.classes])
def test_losses_of_classes(device, loss, router):
    if loss != "log_loss" and router == "soft":
        router = "sigmoid"  # the others are no distributions to mix
    X, y = samples("table")
    compare(device, MoEClassifier(loss=loss, router=router, **QUIET), X, y.clip(max=1))


@pytest.mark.parametrize("router", ["topk", "soft"])
def test_losses_of_labels(device, router):
    X, _ = samples("table")
    y = (X[:, :3] > 0).astype(int)
    there = MoEClassifier(router=router, device=device, **QUIET).fit(X, y)
    here = MoEClassifier(router=router, device="cpu", **QUIET).fit(X, y)
    np.testing.assert_allclose(there.predict_proba(X), here.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("router", ["topk", "soft"])
@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.numbers])
def test_losses_of_numbers(device, loss, n_outputs, router):
    if loss not in ("squared_error", "gaussian") and router == "soft":
        router = "sigmoid"
    for kind in ("table", "patches"):
        there = compare(
            device, MoERegressor(loss=loss, router=router, **QUIET), *numbers(kind, n_outputs)
        )
        if loss == "gaussian":
            X, _ = numbers(kind, n_outputs)
            assert (there.predict(X, return_std=True)[1] > 0).all()


PARTS = {
    "shared experts": {"n_shared_experts": 1, "router": "topk"},
    "split from one": {"upcycle": 0.4, "router_noise": "auto"},
    "gradient of all gates": {"router": replace(ROUTERS["topk"], dense_gradient=True), "top_k": 2},
    "noise at prediction": {"router": replace(ROUTERS["top1"], noise_at_predict=True)},
    "own losses": {"router": "soft", "expert_loss_weight": 0.5},
    "out of bag": {"router": "soft", "early_stopping": "out_of_bag"},
    "held-out rows": {"early_stopping": True, "validation_fraction": 0.3},
    "batches": {"batch_size": 20},
    "no standardization": {"standardize": False},
    "class weights": {"class_weight": "balanced"},
    "momentum": {"momentum": 0.9, "solver": "normalized_sgd"},
    "decay": {"weight_decay": 0.1, "solver": "normalized_sgd"},
    "constant rates": {"learning_rate": "constant"},
    "a transform": {"train_transform": lambda x: x + torch.randn_like(x)},
    "mixed precision": {"precision": "bf16"},
}
DRAWN = {"split from one", "noise at prediction", "out of bag", "batches", "a transform"}
DRAWN |= {"mixed precision"}  # the CPU rounds elsewhere


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("part", PARTS)
def test_parts(device, part, kind):
    if part == "mixed precision" and kind != "pictures":
        pytest.skip("is for pictures")
    if part in ("own losses", "out of bag") and kind == "patches":
        pytest.skip("is for vectors")
    options = QUIET | PARTS[part]
    if part == "noise at prediction":
        options["router_noise"] = "uniform"
    compare(device, MoEClassifier(**options), *samples(kind), exact=part not in DRAWN)


@pytest.mark.parametrize("expert", ["patch", "patch_conv"])
def test_experts_that_choose_their_patches(device, expert):
    options = QUIET | {"router": "patch_choice", "expert": expert}
    compare(device, MoEClassifier(**options), *samples("patches"))


def test_tables_of_all_kinds(device):
    import pandas as pd

    X, y = samples("table")
    holes = X.copy()
    holes[::5, 1] = np.nan
    frame = pd.DataFrame(X, columns=[*"uvwxyz"]).assign(
        c=pd.Categorical(np.where(X[:, 0] > 0, "a", "b"))
    )
    for table in (holes, csr_matrix(X * (X > 0)), frame, X.astype(np.float64)):
        compare(device, MoEClassifier(**QUIET), table, y)


def test_bytes_of_pictures(device):
    X, y = samples("pictures")
    X = (X * 40 + 128).clip(0, 255).astype(np.uint8)
    compare(device, MoEClassifier(**QUIET), X, y)


def test_samples_on_the_host(device, monkeypatch):
    """Batches travel one by one if X is too large for the device."""
    monkeypatch.setattr(_data, "free_memory", lambda device: 0)
    for options in (QUIET, QUIET | {"batch_size": 20}, QUIET | {"early_stopping": True}):
        exact = options["batch_size"] is None
        compare(device, MoEClassifier(**options), *samples("patches"), exact=exact)


def moved(clf):
    """Move a model to the CPU where tensors that torch makes are for inference only."""
    with torch.inference_mode():
        return clf.to("cpu")


@pytest.mark.parametrize("kind", SHAPES)
def test_training_goes_on(device, kind):
    X, y = samples(kind)
    for steps in (
        lambda clf: clf.fit(X, y).set_params(warm_start=True, max_iter=2).fit(X, y),
        lambda clf: clf.partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y),
        lambda clf: pickle.loads(pickle.dumps(clf.fit(X, y))).partial_fit(X, y),
        lambda clf: moved(clf.partial_fit(X, y, classes=[0, 1, 2])).partial_fit(X, y),
    ):
        there, here = (steps(MoEClassifier(device=name, **QUIET)) for name in (device, "cpu"))
        np.testing.assert_allclose(there.predict_proba(X), here.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_pickle_says_the_same(device, kind):
    X, y = samples(kind)
    clf = MoEClassifier(device=device, **QUIET).fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    assert again.net_.device == clf.net_.device
    said, before = answers(again, X), answers(clf, X)
    assert all(np.array_equal(said[name], before[name]) for name in before)


def test_a_trace(device):
    X, y = samples("patches")
    for noise in (False, True):
        trace = RoutingTrace(X, noise=noise, clusters=y)
        clf = MoEClassifier(device=device, callbacks=[trace], **QUIET).fit(X, y)
        assert trace.load_.shape == (4, 3)
        if not noise:
            assert np.array_equal(trace.experts_, clf.apply(X))


def test_a_second_device(device):
    """Nothing is left on the first one."""
    if torch.get_device_module(device).device_count() < 2:
        pytest.skip("there is one only")
    for kind in SHAPES:
        clf = compare(f"{device}:1", MoEClassifier(**QUIET), *samples(kind))
        assert {str(p.device) for p in clf.module_.parameters()} == {f"{device}:1"}


class Noisy(torch.nn.Sequential):
    """An expert whose dropout draws from the global generator of its device."""

    def __init__(self, input_shape, n_outputs):
        super().__init__(torch.nn.Dropout(), torch.nn.Linear(*input_shape, n_outputs))


@pytest.mark.parametrize("fit_on", ["the device", "the second one", "the CPU"])
def test_generators_of_the_devices_stay_as_they_are(device, fit_on):
    module = torch.get_device_module(device)
    names = [f"{device}:{index}" for index in range(module.device_count())]
    if fit_on == "the second one" and len(names) < 2:
        pytest.skip("there is one only")
    states = [module.get_rng_state(name).clone() for name in names]
    name = {"the device": names[0], "the second one": names[-1], "the CPU": "cpu"}[fit_on]
    X, y = samples("table")
    options = BRIEF | {"expert": Noisy, "expert_width": None, "device": name}
    first, second = (MoEClassifier(**options).fit(X, y) for _ in range(2))
    assert first.loss_curve_ == second.loss_curve_
    for name, state in zip(names, states, strict=True):
        assert torch.equal(module.get_rng_state(name), state)


@pytest.mark.parametrize("kind", SHAPES)
def test_samples_that_lie_on_the_device(device, kind):
    X, y = samples(kind)
    clf = MoEClassifier(device=device, **QUIET).fit(X, y)
    X = torch.from_numpy(X).to(device)
    with pytest.raises(ValueError, match=rf"X is a tensor on {device}:0.* pass X.cpu\(\)"):
        clf.predict(X)
    with pytest.raises(ValueError, match=r"pass X.cpu\(\)"):
        clf.fit(X, y)


def test_equal_fits_where_sums_have_a_fixed_order(device):
    torch.use_deterministic_algorithms(True)
    try:
        for kind in SHAPES:
            first, second = (
                compare(device, MoEClassifier(**QUIET), *samples(kind)) for _ in range(2)
            )
            assert first.loss_curve_ == second.loss_curve_
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("solver", ["adam", "normalized_sgd"])
def test_a_model_moves_and_is_trained_further(device, kind, solver):
    X, y = samples(kind)
    options = QUIET | {"solver": solver, "momentum": 0.9 * (solver == "normalized_sgd")}
    stays, goes = (MoEClassifier(**options).partial_fit(X, y, classes=[0, 1, 2]) for _ in range(2))
    for where in (device, "cpu", device):
        goes.to(where).partial_fit(X, y)
        stays.partial_fit(X, y)
        assert {p.device.type for p in goes.module_.parameters()} == {torch.device(where).type}
        np.testing.assert_allclose(goes.predict_proba(X), stays.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_model_outlives_its_device(device, kind, monkeypatch):
    X, y = samples(kind)
    clf = MoEClassifier(device=device, **QUIET).fit(X, y)
    expected, stored = clf.predict_proba(X), pickle.dumps(clf)
    monkeypatch.setattr(torch.get_device_module(device), "is_available", lambda: False)
    again = pickle.loads(stored)
    assert again.net_.device == "cpu"
    np.testing.assert_allclose(again.predict_proba(X), expected, atol=1e-5)
    again.partial_fit(X, y)
    with pytest.raises(ValueError, match=f"device='{device}' is not there"):
        again.fit(X, y)


class PowerCut(Callback):
    def on_batch_end(self, net, **kwargs):
        if len(net.history) == 3:
            raise OSError("no power")


@pytest.mark.parametrize("kind", SHAPES)
def test_a_fit_is_resumed(device, kind, tmp_path):
    X, y = samples(kind)
    options = BRIEF | {"device": device, "batch_size": 20, "max_iter": 4, "early_stopping": False}
    whole = MoEClassifier(**options).fit(X, y)
    options["checkpoint"] = FitCheckpoint(tmp_path, every=0)
    parts = MoEClassifier(**options, callbacks=[PowerCut()])
    with pytest.raises(OSError, match="no power"):
        parts.fit(X, y)
    parts.set_params(callbacks=None).fit(X, y)
    assert parts.loss_curve_ == whole.loss_curve_
    assert np.array_equal(parts.predict_proba(X), whole.predict_proba(X))


def test_a_fit_is_resumed_elsewhere(device, tmp_path):
    X, y = samples("patches")
    options = BRIEF | {"batch_size": 20, "early_stopping": False, "checkpoint": tmp_path}
    clf = MoEClassifier(device=device, **options).fit(X, y)
    begun = clf.loss_curve_
    clf.set_params(device="cpu", max_iter=5).fit(X, y)
    assert clf.net_.device == "cpu"
    assert clf.n_iter_ == 5
    assert clf.loss_curve_[:3] == begun  # bit by bit: these epochs are not run again
