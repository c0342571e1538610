"""Everything that a fit and a fitted model can do, on another device than the CPU.

A model without noise that is trained in one batch is that of the CPU; noise and the order of
batches come from generators of the device, which draw other numbers. On the pretend device, see
devices.py, the operations of a training step are counted, and the moments in which the host waits.
"""

import copy
import inspect
import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from devices import DEVICE, step_cost
from helpers import at, brief_fits, gates_of, hook, is_deep, narrow, raises, throw
from scipy.sparse import csr_matrix
from sklearn.naive_bayes import GaussianNB
from skorch.callbacks import EpochScoring, LRScheduler

from sklearn_moe import MoEClassifier, MoERegressor, RouterParams, SolverParams, nn
from sklearn_moe._data import rows as data_rows
from sklearn_moe.callbacks import RoutingTrace
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.nn import EXPERTS, LOSSES, ROUTERS
from sklearn_moe.nn.router_parts import NOISES
from sklearn_moe.optim import SOLVERS

pytestmark = brief_fits
QUIET = RouterParams("top1", noise=None)
SHAPES = {"table": (6,), "patches": (4, 6), "images": (3, 8, 8)}
BRIEF = {"n_experts": 3, "expert_width": 4, "max_iter": 3, "tol": None, "random_state": 0}
ONE_BATCH = BRIEF | {"batch_size": None, "early_stopping": False}
# What raises on CUDA under `torch.use_deterministic_algorithms(True)`, by its documentation.
UNORDERED = (
    *("bincount", "histc", "kthvalue", "median", "cumsum", "scatter_reduce", "put_", "ctc_loss"),
    *("adaptive_avg_pool", "adaptive_max_pool", "fractional_max_pool", "max_pool3d", "avg_pool3d"),
    *("max_unpool", "upsample", "reflection_pad", "replication_pad", "grid_sample", "nll_loss2d"),
    *("embedding_bag", "resize_"),
)


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch):
    """Convolutions of a GPU round to TF32 otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA asks for a fixed order


def samples(kind, n=48):
    X = np.random.default_rng(0).normal(size=(n, *SHAPES[kind])).astype(np.float32)
    return X, X.reshape(n, -1)[:, :3].argmax(1)


def numbers(kind, n_outputs=1):
    X, _ = samples(kind)
    return X, X.reshape(len(X), -1)[:, : n_outputs + 1].cumsum(1)[:, 1:].squeeze()


def answers(model, X):
    """Return what every public method returns that takes X alone, by its name."""
    found = {}
    for name, method in inspect.getmembers(type(model), inspect.isfunction):
        _, *parameters = inspect.signature(method).parameters.values()
        takes_x = [parameter.name for parameter in parameters[:1]] == ["X"]
        if name == "predict_interval" and found["predict"].ndim > 1:  # refused
            continue
        if takes_x and not name.startswith("_") and name != "partial_fit":  # which trains
            if all(parameter.default is not parameter.empty for parameter in parameters[1:]):
                draws = {p.name: 0 for p in parameters if p.name == "random_state"}
                found[name] = getattr(model, name)(X, **draws)
    return found


def compare(device, model, X, y, *, exact=True, atol=1e-4):
    """Fit on the device, ask all there is to ask; without draws the CPU says the same."""
    there = copy.deepcopy(model).set_params(device=device).fit(X, y)
    assert {p.device.type for p in there.module_.parameters()} == {torch.device(device).type}
    found = answers(there, X)
    assert all(np.isfinite(values).all() for values in found.values())
    if exact:
        here = model.set_params(device="cpu").fit(X, y)
        np.testing.assert_allclose(there.loss_curve_, here.loss_curve_, rtol=1e-3, atol=1e-5)
        for name, values in answers(here, X).items():
            np.testing.assert_allclose(found[name], values, atol=atol, rtol=1e-3, err_msg=name)
    assert np.isfinite(there.score(X, y))
    return there


def check_step(model, X, y, n_waits):
    """Let no step wait more often than that, nor use sums without a fixed order."""
    if DEVICE == "pretend":
        model = copy.deepcopy(model).set_params(batch_size=len(X) // 3, max_iter=1)
        operations, waits = step_cost(model, X, y)
        assert len(waits) <= n_waits, waits
        names = [op.removeprefix("aten::").removeprefix("_") for op in operations]
        assert not [name for name in names if name.startswith(UNORDERED)]


def chooses(router):
    """Tell whether some experts answer; the host asks which, but for patches."""
    return nn.RouterSpec.of(getattr(router, "kind", router)).router_class.sparse


def check(device, kinds, *, exact=True, atol=1e-4, n=48, **options):
    """Compare models of some kinds of samples, and the cost of their steps."""
    for kind in kinds:
        model = MoEClassifier().set_params(**ONE_BATCH | options)
        compare(device, model, *samples(kind, n), exact=exact, atol=atol)
        # A single line is found without steps.
        has_steps = (options.get("expert"), options.get("n_experts")) != ("linear", 1)
        if has_steps and options.get("early_stopping") is not True:
            n_waits = kind != "patches" and chooses(options.get("router", "soft"))
            check_step(model, *samples(kind, 2 * n), n_waits)


# -- parts of a model ---------------------------------------------------------------------


@pytest.mark.parametrize("router", ROUTERS)
def test_routers(device, router):
    several = router in ("topk", "sampled", "random")
    options = {"router": RouterParams(router, noise=None), "top_k": 2 if several else "auto"}
    for kind in SHAPES:
        trunk = "cnn" if kind == "images" else None
        check(device, [kind], trunk=trunk, **options)


# Trees are experts of pools alone.
EVERY_EXPERT = [
    pytest.param(expert, marks=[pytest.mark.slow] * is_deep(expert))
    for expert in EXPERTS
    if expert != "trees"
]


@pytest.mark.parametrize("expert", EVERY_EXPERT)
def test_experts(device, expert):
    kind = {2: "table", 3: "patches", 4: "images"}[EXPERTS[expert].ndim]
    deep = is_deep(expert)
    options = narrow(expert, 8 if deep else 4) | {"trunk": None}
    options |= {"n_experts": 2, "max_iter": 1, "n": 15} if deep else {}
    for router in ("top1", "sigmoid") if deep else ("top1",):
        quiet = RouterParams(router, noise=None)
        check(device, [kind], router=quiet, atol=1e-2 if deep else 1e-4, **options)
    check(device, [kind], atol=1e-2, **options | {"n_experts": 1})


TOP2 = {"router": RouterParams("topk", noise=None), "top_k": 2}
HEAVY = SolverParams("normalized_sgd", weight_decay=0.1)
PARTS = {
    **{f"balance {b}": TOP2 | {"balance": b, "balance__weight": 0.1} for b in nn.BALANCES},
    **{f"solver {solver}": {"router": QUIET, "solver": solver} for solver in SOLVERS},
    **{f"activation {a}": {"router": QUIET, "activation": a} for a in nn.ACTIVATIONS},
    "network": TOP2 | {"router__network": "linear"},
    **{f"gate {gate}": TOP2 | {"router__gate": gate} for gate in gates_of(ROUTERS["topk"])},
    **{f"noise {noise}": {"router": RouterParams("top1", noise=noise)} for noise in NOISES},
    "shared experts": {"router": RouterParams("topk", noise=None, n_shared_experts=1)},
    "noise at prediction": {"router": ROUTERS["top1"].with_options(noise_at_predict=True)},
    "own losses": {"router": "soft", "expert_loss_weight": 0.5},
    "out of bag": {"router": "soft", "early_stopping": "out_of_bag"},
    "held-out rows": {"router": QUIET, "early_stopping": True, "validation_fraction": 0.3},
    "batches": {"router": QUIET, "batch_size": 20},
    "no standardization": {"router": QUIET, "standardize": False},
    "class weights": {"router": QUIET, "class_weight": "balanced"},
    "decay": {"router": QUIET, "solver": HEAVY},
    "constant rates": {"router": QUIET, "solver": SolverParams(schedule="constant")},
    "a transform": {"router": QUIET, "train_transform": lambda x: x + torch.randn_like(x)},
    "the default": {},
    "a pool": {"n_experts": "auto"},
    "a pool with an estimator": {"n_experts": "auto", "expert": ["deep", GaussianNB(), "linear"]},
}
POOLS = {"a pool", "a pool with an estimator"}
DRAWN = {"noise at prediction", "out of bag", "batches", "a transform", "the default", *POOLS}
DRAWN |= {f"noise {noise}" for noise in NOISES}


@pytest.mark.parametrize("part", PARTS)
def test_parts(device, part):
    # A cubic activation diverges on others.
    kinds = ["patches"] if part.startswith("activation") else [*SHAPES]
    if part in ("own losses", "out of bag"):  # for vectors
        kinds.remove("patches")
    kinds = ["table"] if part in POOLS else kinds
    check(device, kinds, exact=part not in DRAWN, **copy.deepcopy(PARTS[part]))


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(device, loss):
    spec, (X, y) = LOSSES[loss], samples("table", 90)
    # Those that are no distributions to mix are added up.
    mixed = ("auto", "log_loss", "squared_error", "gaussian", "poisson")
    cases = [(MoEClassifier, X, y.clip(max=1))] * bool(spec.classes)
    cases += [(MoEClassifier, X, (X[:, :3] > 0).astype(int))] * bool(spec.multilabel)
    if spec.regression:
        pairs = numbers("patches", 2), numbers("table")
        pairs = [(x, np.rint(3 * np.abs(t)) if loss == "poisson" else t) for x, t in pairs]
        cases += [(MoERegressor, *pair) for pair in pairs]
    for router in (RouterParams("topk", noise=None), "soft" if loss in mixed else "sigmoid"):
        for model, x, target in cases:
            model = model(loss=loss, router=router, **ONE_BATCH)
            there = compare(device, model, x, target)
        if loss == "gaussian":
            assert (there.predict(x, return_std=True)[1] > 0).all()
    model, x, target = cases[0]
    if x.ndim == 2 or router != "soft":
        check_step(model(loss=loss, router=router, **ONE_BATCH), x, target, 0)


def test_samples_of_all_kinds(device, monkeypatch):
    X, y = samples("table")
    holes = np.where(np.arange(len(X))[:, None] % 5 == 0, np.nan, X)
    frame = pd.DataFrame(X, columns=[*"uvwxyz"]).assign(c=np.where(X[:, 0] > 0, "a", "b"))
    model = MoEClassifier(router="soft", **ONE_BATCH)
    images, y_of_images = samples("images")
    images = (images * 40 + 128).clip(0, 255).astype(np.uint8)
    for table in (holes, csr_matrix(X * (X > 0)), frame, X.astype(np.float64)):
        compare(device, model, table, y)
    compare(device, model, images, y_of_images)
    # Too large for the device: batches travel one by one.
    monkeypatch.setattr(data_rows, "free_memory", lambda device: 0)
    for options in ({}, {"batch_size": 20}, {"early_stopping": True}):
        model = MoEClassifier(**ONE_BATCH | {"router": QUIET} | options)
        compare(device, model, *samples("patches"), exact="batch_size" not in options)


# -- a model that moves -------------------------------------------------------------------


def moved(clf):
    """Move a model to the CPU where tensors that torch makes are for inference only."""
    with torch.inference_mode():
        return clf.to("cpu")


@pytest.mark.parametrize("kind", SHAPES)
def test_training_goes_on_here_and_there(device, kind):
    X, y = samples(kind)
    quiet = ONE_BATCH | {"router": QUIET}

    def begin(clf):
        return clf.partial_fit(X, y, classes=[0, 1, 2])

    for steps in (
        lambda clf: clf.fit(X, y).set_params(warm_start=True, max_iter=2).fit(X, y),
        lambda clf: begin(clf).partial_fit(X, y),
        lambda clf: pickle.loads(pickle.dumps(clf.fit(X, y))).partial_fit(X, y),
        lambda clf: moved(begin(clf)).partial_fit(X, y),
    ):
        there, here = (steps(MoEClassifier(device=name, **quiet)) for name in (device, "cpu"))
        np.testing.assert_allclose(there.predict_proba(X), here.predict_proba(X), atol=1e-4)
    for solver in ("adam", SolverParams("sgd", momentum=0.9)):
        stays, goes = (begin(MoEClassifier(solver=solver, **quiet)) for _ in range(2))
        for where in (device, "cpu", device):
            goes.to(where).partial_fit(X, y)
            stays.partial_fit(X, y)
            assert {p.device.type for p in goes.module_.parameters()} == {torch.device(where).type}
            np.testing.assert_allclose(goes.predict_proba(X), stays.predict_proba(X), atol=1e-4)
    stored, expected = pickle.dumps(goes), answers(goes, X)
    again = pickle.loads(stored)
    assert again.net_.device == goes.net_.device
    assert all(np.array_equal(values, expected[name]) for name, values in answers(again, X).items())


def test_a_second_device(device):
    """Nothing is left on the first one."""
    if torch.get_device_module(device).device_count() < 2:
        pytest.skip("there is one only")
    for kind in SHAPES:
        model = MoEClassifier(router=QUIET, **ONE_BATCH)
        clf = compare(f"{device}:1", model, *samples(kind))
        assert {str(p.device) for p in clf.module_.parameters()} == {f"{device}:1"}


class Noisy(torch.nn.Sequential):
    """An expert whose dropout draws from the global generator of its device."""

    def __init__(self, input_shape, n_outputs):
        super().__init__(torch.nn.Dropout(), torch.nn.Linear(*input_shape, n_outputs))


def test_generators_of_the_devices_stay_as_they_are(device):
    module = torch.get_device_module(device)
    names = [f"{device}:{index}" for index in range(module.device_count())]
    states = [module.get_rng_state(name).clone() for name in names]
    X, y = samples("table")
    for where in {names[0], names[-1], "cpu"}:
        options = BRIEF | {"expert": Noisy, "expert_width": None, "device": where}
        first, second = (MoEClassifier(**options).fit(X, y) for _ in range(2))
        assert first.loss_curve_ == second.loss_curve_
        for name, state in zip(names, states, strict=True):
            assert torch.equal(module.get_rng_state(name), state)


def test_samples_that_lie_on_the_device_are_refused(device):
    for kind in SHAPES:
        X, y = samples(kind)
        clf = MoEClassifier(device=device, **ONE_BATCH).fit(X, y)
        X = torch.from_numpy(X).to(device)
        for call in (clf.predict, partial(clf.fit, y=y)):
            raises(TypeError, r"^X: .*Use Tensor.cpu\(\)", call, X)


def test_equal_fits_where_sums_have_a_fixed_order(device):
    torch.use_deterministic_algorithms(True)
    try:
        for router in ROUTERS:
            for kind in SHAPES if router in ("top1", "soft", "sigmoid") else ["patches"]:
                clf = MoEClassifier(router=router, device=device, **BRIEF)
                first, second = (clf.fit(*samples(kind)).loss_curve_ for _ in range(2))
                assert first == second
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_fit_is_resumed_also_elsewhere(device, kind, tmp_path, store_every_epoch):
    X, y = samples(kind)
    options = BRIEF | {"device": device, "batch_size": 20, "max_iter": 4, "early_stopping": False}
    options |= {"solver": SolverParams("adam", schedule="constant")}
    whole = MoEClassifier(**options).fit(X, y)
    for place, n_equal in ((device, 4), ("cpu", 2)):
        parts = MoEClassifier(**options, checkpoint=tmp_path / str(n_equal))
        with pytest.raises(OSError, match="no power"):
            parts.set_params(callbacks=[at(3, partial(throw, OSError("no power")))]).fit(X, y)
        parts.set_params(callbacks=None, device=place).fit(X, y)
        assert (parts.net_.device, parts.n_iter_) == (str(place), 4)
        # Bit by bit: these are not run again.
        assert parts.loss_curve_[:n_equal] == whole.loss_curve_[:n_equal]


# -- what looks at a model ----------------------------------------------------------------


def test_callbacks(device):
    options = {**PAPER_SETTINGS[1], "return_clusters": True, "return_dictionary": True}
    X, y, clusters, dictionary = make_cluster_patches(200, random_state=0, **options)
    seen = []
    asked = hook("on_epoch_end", lambda net: seen.append(net.predict_proba(X)))
    traces = [RoutingTrace(X, clusters, dictionary=dictionary), RoutingTrace(X, noise=True)]
    accuracy = EpochScoring("accuracy", on_train=True)
    callbacks = [*traces, accuracy, LRScheduler("StepLR", step_size=1), asked]
    clf = MoEClassifier(device=device, callbacks=callbacks, **ONE_BATCH)
    clf.fit(X, y)
    np.testing.assert_allclose(seen[-1], clf.predict_proba(X), atol=1e-6)
    assert len(clf.net_.history[:, "accuracy"]) == 3
    assert traces[1].load_.shape == (4, 3)
    assert np.array_equal(traces[0].experts_, clf.apply(X))


# -- what a step costs --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_experts", "batch_size", "most", "n_waits"), [(8, 1024, 62, 0), (12, 2**14, 91, 1)]
)
def test_operations_and_waits_of_a_step(pretend, n_experts, batch_size, most, n_waits):
    """A large step computes what is asked for alone, for which the host waits once."""
    X, y = make_cluster_patches(3 * batch_size, random_state=0, **PAPER_SETTINGS[1])
    options = {"max_iter": 2, "tol": None, "early_stopping": False, "random_state": 0}
    model = MoEClassifier(n_experts, batch_size=batch_size, **options)
    operations, waits = step_cost(model, X, y)
    assert operations.total() <= most
    assert len(waits) == n_waits
