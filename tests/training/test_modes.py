"""Mixed precision, compiled experts and modes of torch change the speed, not the model."""

import pickle
from contextlib import ExitStack, contextmanager
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from helpers import hook, make_mixture, seeded, weights_of

from sklearn_moe import MoEClassifier, _devices
from sklearn_moe.nn.seeding import use_generator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
BRIEF = {"n_experts": 2, "max_iter": 5, "tol": None, "random_state": 0, "expert_width": 8}
BRIEF |= {"batch_size": None}


@pytest.fixture
def fit_both(images, monkeypatch):
    """Return a function that fits in float32, and as on a device that is fast in bf16."""

    def fit(**options):
        fitted = []
        for is_fast, precision in ((False, "float32"), (True, "bf16")):
            monkeypatch.setattr(_devices, "is_fast_in_bf16", lambda device, fast=is_fast: fast)
            fitted.append(MoEClassifier(**BRIEF | options).fit(*images))
            assert fitted[-1].net_.precision == precision
        return fitted

    return fit


@pytest.mark.parametrize("router", ["topk", "soft"])
def test_mixed_precision_trains_nearly_the_same_model(images, fit_both, router):
    exact, mixed = fit_both(router=router)
    assert exact.loss_curve_ != mixed.loss_curve_
    np.testing.assert_allclose(mixed.loss_curve_, exact.loss_curve_, rtol=0.1)
    assert all(p.dtype == torch.float32 for p in mixed.module_.parameters())
    assert mixed.predict_proba(images[0]).dtype == np.float32


def test_routes_are_never_mixed(fit_both):
    kinds = set()

    def watch(net):
        noise = net.module_.router.noise

        def look(x, scores, generator):
            kinds.add(scores.dtype)
            return noise(x, scores, generator)

        net.module_.router.noise = look

    fit_both(router="topk", callbacks=[hook("on_train_begin", watch)])
    assert kinds == {torch.float32}


# -- modes of torch and its default dtype, which a caller has set -------------------------


@contextmanager
def double_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


class Own(torch.nn.Linear):
    """An expert that makes tensors in many ways."""

    def __init__(self, input_shape, n_outputs):
        super().__init__(*input_shape, n_outputs)
        self.factor = torch.nn.Parameter(torch.full((n_outputs,), 0.3) + torch.rand(n_outputs))
        self.register_buffer("shift", torch.tensor([0.1] * n_outputs) + torch.linspace(0, 1, 3))

    def forward(self, x):
        step = torch.arange(0, 0.5, 0.5) + torch.zeros(1) + torch.as_tensor(0.1)
        return super().forward(x) * self.factor + self.shift + step


def jitter(x):
    assert torch.tensor([1, 2]).dtype == torch.int64
    return x + 0.1 * torch.rand(len(x), 1) + torch.normal(0.0, 0.1, (1,))


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": partial(torch.autocast, "cpu", torch.bfloat16),
    "double": double_by_default,
}
MODELS = {
    "table": {"early_stopping": True},
    "patches": {"router": "sampled", "balance": "switch"},
    "images": {"max_iter": 2, "expert_width": 4},
    "own": {"expert": Own, "router": "topk", "top_k": 2, "train_transform": jitter},
}


@pytest.fixture(scope="module")
def samples(images):
    X, y = images
    tables = dict.fromkeys(("table", "own"), X[:, 0, 0])
    return {**tables, "patches": X[:, :, 0], "images": X}, y


def model_of(kind):
    options = {"n_experts": 2, "max_iter": 3, "tol": None, "random_state": 0}
    return MoEClassifier(**options | MODELS[kind])


def look(model, X):
    methods = ("predict_proba", "gate_proba", "expert_proba", "apply")
    answers = [getattr(model, method)(X) for method in methods]
    return joblib.hash([weights_of(model).numpy(), model.loss_curve_, answers])


def life(model, X, y):
    """Return a hash of a model, and of its answers, in each state of its life."""
    hashes = [look(model.fit(X, y), X)]
    hashes.append(look(model.set_params(early_stopping="auto").partial_fit(X, y), X))
    model = pickle.loads(pickle.dumps(model)).partial_fit(X, y)
    hashes += [look(model, X), look(model.set_params(warm_start=True).fit(X, y), X)]
    return hashes


@pytest.mark.parametrize("kind", MODELS)
def test_modes_of_the_caller_change_nothing(samples, kind):
    X, y = samples[0][kind], samples[1]
    expected = life(model_of(kind), X, y)
    for modes in (["inference_mode"], MODES) if kind == "patches" else (MODES,):
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(MODES[mode]())
            assert life(model_of(kind), X, y) == expected


@pytest.mark.parametrize("mode", ["inference_mode", "double"])
def test_what_was_made_in_a_mode_is_trained_outside(samples, mode):
    X, y = samples[0]["patches"], samples[1]
    expected = model_of("patches").fit(X, y).partial_fit(X, y).predict_proba(X)
    stored = pickle.dumps(model_of("patches").fit(X, y))
    with MODES[mode]():
        loaded, fitted = pickle.loads(stored), model_of("patches").fit(X, y)
        module = fitted.to_torch()
        mixture = make_mixture()
    for model in (loaded, fitted):
        np.testing.assert_array_equal(model.partial_fit(X, y).predict_proba(X), expected)
    module(torch.from_numpy(X))[:, 0].sum().backward()
    assert any(parameter.grad.any() for parameter in module.parameters())
    assert not any(parameter.is_inference() for parameter in mixture.parameters())


def test_modules_of_users_may_be_of_another_dtype(samples):
    with use_generator(seeded()):
        trunk = torch.nn.Linear(8, 5).double()
    # From 100 rows on, tables are trained in float32.
    activation, y = torch.nn.PReLU().double(), samples[1][:99]
    for dtype in (np.float32, np.float64):
        for options in ({"trunk": trunk}, {"expert": "mlp", "activation": activation}):
            X = samples[0]["table"][:99].astype(dtype)
            model = model_of("table").set_params(**options)
            assert model.fit(X, y).predict_proba(X).dtype == dtype
    assert trunk.weight.dtype == activation.weight.dtype == torch.float64
