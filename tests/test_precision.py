"""Mixed precision and compiled experts change the speed, not the model."""

import pickle

import numpy as np
import pytest
import torch

from sklearn_moe import MoEClassifier
from sklearn_moe._engine import Callback

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
