"""Mixed precision and compiled experts change the speed, not the model."""

import pickle

import numpy as np
import pytest
import torch

from sklearn_moe import MoEClassifier
from sklearn_moe._engine import Callback
from sklearn_moe.nn import EXPERTS

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
            perturb = net.module_.router.perturb

            def look(*args):
                noisy, scale = perturb(*args)
                if scale is not None:  # in training
                    kinds.update([noisy.dtype, scale.dtype])
                return noisy, scale

            net.module_.router.perturb = look

    options = BRIEF | {"router": "noisy_topk", "precision": "bf16", "callbacks": [Look()]}
    MoEClassifier(**options).fit(X, y)
    assert kinds == {torch.float32}


def compiled_mlp(input_shape, n_outputs):
    expert = EXPERTS["mlp"].build(input_shape, n_outputs, width=8)
    expert.compile(dynamic=True)
    return expert


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # compilers talk
def test_compiled_experts_train_the_same_model(images):
    X, y = images
    X = X.reshape(len(X), -1)
    options = BRIEF | {"solver": "adamw"}  # what suits an expert that is known
    plain = MoEClassifier(**options).fit(X, y)
    compiled = MoEClassifier(**options | {"expert": compiled_mlp, "expert_width": None}).fit(X, y)
    assert compiled.module_.experts[0]._compiled_call_impl is not None
    np.testing.assert_allclose(compiled.loss_curve_, plain.loss_curve_, rtol=1e-3)
    again = pickle.loads(pickle.dumps(compiled))
    np.testing.assert_allclose(again.predict_proba(X), compiled.predict_proba(X), atol=1e-6)
