"""Mixed precision and compiled experts change the speed, not the model."""

import pickle
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from helpers import make_mixture, seeded
from sklearn.base import clone

from sklearn_moe import MoEClassifier
from sklearn_moe._training import Callback
from sklearn_moe.model_selection import fit_together
from sklearn_moe.nn.seeding import OwnGenerator
from sklearn_moe.preprocessing import BackboneFeatures, PatchKMeansFeatures

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
BRIEF = {"n_experts": 2, "max_iter": 5, "tol": None, "random_state": 0, "expert_width": 8}


@pytest.mark.parametrize("router", ["top1", "topk", "soft", "relu"])
def test_mixed_precision_trains_nearly_the_same_model(images, router):
    X, y = images
    exact, mixed = (
        MoEClassifier(router=router, precision=precision, **BRIEF).fit(X, y)
        for precision in ("float32", "bf16")
    )
    assert exact.loss_curve_ != mixed.loss_curve_
    np.testing.assert_allclose(mixed.loss_curve_, exact.loss_curve_, rtol=0.1)
    assert all(p.dtype == torch.float32 for p in mixed.module_.parameters())
    assert mixed.predict_proba(X).dtype == np.float32


def test_merged_experts_stay_exact(images):
    X, y = images
    exact, mixed = (
        MoEClassifier(expert="cnn", router="merge", precision=precision, **BRIEF).fit(X, y)
        for precision in ("float32", "bf16")
    )
    np.testing.assert_allclose(mixed.loss_curve_, exact.loss_curve_, rtol=1e-5)


def test_auto_is_exact_on_a_cpu(images):
    X, y = images
    auto, exact = (
        MoEClassifier(precision=precision, device="cpu", **BRIEF).fit(X, y)
        for precision in ("auto", "float32")
    )
    assert auto.loss_curve_ == exact.loss_curve_


def test_mixed_precision_is_for_images(images):
    X, y = images
    for other in (X.reshape(len(X), -1), X.astype(np.float64)):
        with pytest.raises(ValueError, match="precision='bf16' is for images of float32 or uint8"):
            MoEClassifier(precision="bf16", **BRIEF).fit(other, y)


def test_routes_are_never_mixed(images):
    X, y = images
    kinds = set()

    class Look(Callback):
        def on_train_begin(self, net, **kwargs):
            perturb = net.module_.router.add_noise

            def look(*args):
                noisy, scale = perturb(*args)
                if scale is not None:  # in training
                    kinds.update([noisy.dtype, scale.dtype])
                return noisy, scale

            net.module_.router.add_noise = look

    options = BRIEF | {"router": "noisy_topk", "precision": "bf16", "callbacks": [Look()]}
    MoEClassifier(**options).fit(X, y)
    assert kinds == {torch.float32}


# -- modes of torch that a caller has set -------------------------------------------------

MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": partial(torch.autocast, "cpu", torch.bfloat16),
}
MODELS = {
    "table": {"early_stopping": True},
    "patches": {"router": "noisy_topk", "balance": "switch"},
    "pictures": {"max_iter": 2, "precision": "bf16", "expert_width": 4},
}


@pytest.fixture(scope="module")
def samples(images):
    X, y = images
    return {"table": X[:, 0, 0], "patches": X[:, :, 0], "pictures": X}, y


def model_of(kind):
    return MoEClassifier(
        **{"n_experts": 2, "max_iter": 3, "tol": None, "random_state": 0} | MODELS[kind]
    )


def answers(model, X):
    return [getattr(model, m)(X) for m in ("predict_proba", "gate_proba", "expert_proba", "apply")]


def weights(mixture):
    return {name: value.numpy() for name, value in mixture.state_dict().items()}


def look(model, X):
    return joblib.hash([weights(model.module_), model.loss_curve_, answers(model, X)])


def life(model, X, y):
    """Yield a hash of a model, and of its answers, in each state of its life."""
    yield look(model.fit(X, y), X)
    yield look(model.set_params(early_stopping="auto").partial_fit(X, y), X)
    model = pickle.loads(pickle.dumps(model)).partial_fit(X, y)
    yield look(model, X)
    yield look(model.set_params(warm_start=True).fit(X, y), X)
    if model.train_transform is None:
        models = [clone(model).set_params(random_state=seed) for seed in (0, 1)]
        yield [look(model, X) for model in fit_together(models, X, y)]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("mode", MODES)
def test_modes_of_the_caller_change_nothing(samples, kind, mode):
    X, y = samples[0][kind], samples[1]
    expected = list(life(model_of(kind), X, y))
    with MODES[mode]():
        assert list(life(model_of(kind), X, y)) == expected


@pytest.mark.parametrize("mode", MODES)
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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [BackboneFeatures, PatchKMeansFeatures])
def test_modes_of_the_caller_change_no_features(images, kind, mode):
    options = {"n_clusters": 4, "patch_size": 3} if kind is PatchKMeansFeatures else {}
    features = kind(random_state=0, **options)
    X = images[0][:6]
    expected = features.fit_transform(X)
    with MODES[mode]():
        np.testing.assert_array_equal(clone(features).fit(X).transform(X), expected)


# -- the default dtype of torch -----------------------------------------------------------


@pytest.fixture
def double_by_default():
    def switch():
        torch.set_default_dtype(torch.float64)

    yield switch
    torch.set_default_dtype(torch.float32)


class Own(torch.nn.Module):
    """An expert that makes tensors in many ways."""

    def __init__(self, input_shape, n_outputs):
        super().__init__()
        self.layer = torch.nn.Linear(*input_shape, n_outputs)
        self.factor = torch.nn.Parameter(torch.full((n_outputs,), 0.3) + torch.rand(n_outputs))
        self.register_buffer("shift", torch.tensor([0.1] * n_outputs) + torch.linspace(0, 1, 3))

    def forward(self, x):
        step = torch.arange(0, 0.5, 0.5) + torch.zeros(1) + torch.as_tensor(0.1)
        assert step.dtype == torch.float32
        return self.layer(x) * self.factor + self.shift + step


def jitter(x):
    assert torch.tensor([1, 2]).dtype == torch.int64
    assert torch.tensor(np.zeros(1)).dtype == torch.float64
    return x + 0.1 * torch.rand(len(x), 1) + torch.normal(0.0, 0.1, (1,))


OWN = {"expert": Own, "router": "topk", "top_k": 2, "train_transform": jitter}


@pytest.mark.parametrize("kind", [*MODELS, "own"])
def test_the_default_dtype_changes_nothing(samples, double_by_default, kind):
    class Watch(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.add(torch.get_default_dtype())  # other threads see it, too

    seen = set()
    model = model_of("table" if kind == "own" else kind)
    if kind == "own":
        model.set_params(**OWN)
    X, y = samples[0]["table" if kind == "own" else kind], samples[1]
    expected = list(life(clone(model), X, y))
    double_by_default()
    assert list(life(model, X, y)) == expected
    model.set_params(callbacks=[Watch()]).fit(X, y)
    assert seen == {torch.float64}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("expert", ["patch", "mlp", "cnn"])
def test_mixtures_of_a_seed_are_the_same_for_every_default_dtype(double_by_default, expert, dtype):
    options = {"dtype": dtype, "router": "relu", "balance": "switch"}
    expected = weights(make_mixture(expert, **options))
    double_by_default()
    assert joblib.hash(weights(make_mixture(expert, **options))) == joblib.hash(expected)


@pytest.mark.parametrize("numbers", [np.float32, np.float64])
def test_modules_of_users_may_be_of_another_dtype(samples, numbers):
    X, y = samples[0]["table"].astype(numbers), samples[1]
    with OwnGenerator(seeded()):
        trunk = torch.nn.Linear(X.shape[1], 5).double()
    activation = torch.nn.PReLU().double()

    def expert(input_shape, n_outputs):
        return torch.nn.Linear(*input_shape, n_outputs).double()

    for options in (
        {"trunk": trunk, "expert": expert},
        {"expert": "mlp", "activation": activation},
    ):
        model = model_of("table").set_params(**options)
        assert model.fit(X, y).predict_proba(X).dtype == numbers
    assert trunk.weight.dtype == activation.weight.dtype == torch.float64


@pytest.mark.parametrize("kind", [BackboneFeatures, PatchKMeansFeatures])
def test_the_default_dtype_changes_no_features(images, double_by_default, kind):
    options = {"n_clusters": 4, "patch_size": 3} if kind is PatchKMeansFeatures else {}
    features = kind(random_state=0, **options)
    expected = features.fit_transform(images[0][:6])
    double_by_default()
    np.testing.assert_array_equal(clone(features).fit_transform(images[0][:6]), expected)


# -- compiled experts ---------------------------------------------------------------------


class Small(torch.nn.Module):
    def __init__(self, input_shape, n_outputs):
        super().__init__()
        self.convolution = torch.nn.Conv2d(input_shape[0], 4, 3)
        self.readout = torch.nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.readout(self.convolution(x).relu().mean((2, 3)))


def compiled(input_shape, n_outputs):
    expert = Small(input_shape, n_outputs)
    expert.compile()
    return expert


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # compilers talk
def test_compiled_experts_train_the_same_model(images):
    from torch._dynamo.utils import counters

    X, y = images
    options = BRIEF | {"solver": "adamw", "router": "top1", "trunk": None, "expert_width": None}
    plain = MoEClassifier(expert=Small, **options).fit(X, y)
    counters.clear()
    clf = MoEClassifier(expert=compiled, **options).fit(X, y)
    assert counters["frames"]["ok"] > 0  # something was compiled
    np.testing.assert_allclose(clf.loss_curve_, plain.loss_curve_, rtol=1e-3)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_allclose(again.predict_proba(X), clf.predict_proba(X), atol=1e-6)
