"""What is true of CUDA alone. Figures are shown when all has run: `make test-gpu`.

No other test knows of times or of the rounding of a GPU. Every part of a fit runs there by
`SKLEARN_MOE_DEVICE=cuda`, see devices.py.
"""

import statistics
from contextlib import contextmanager
from itertools import pairwise
from time import perf_counter

import numpy as np
import pytest
import torch

from sklearn_moe import MoEClassifier
from sklearn_moe._data import rows as _data
from sklearn_moe._training import Callback
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning"),
]
BRIEF = {"tol": None, "early_stopping": False, "random_state": 0}
WHOLE = {"trunk": None, "router": "top1"}  # every expert a network of its own


def pictures(n, side=32):
    generator = np.random.default_rng(0)
    y = generator.integers(3, size=n)
    X = generator.normal(size=(n, 3, side, side)) + y[:, None, None, None]
    return X.astype(np.float32), y


def patches(n):
    return make_cluster_patches(n, random_state=0, **PAPER_SETTINGS[1])


def table(n):
    X, y = patches(n)
    return X.reshape(n, -1), y


class Clock(Callback):
    """Times of epochs, in seconds; the loss at its end waits for the GPU."""

    def on_train_begin(self, net, **kwargs):
        self.ends = [perf_counter()]

    def on_epoch_end(self, net, **kwargs):
        self.ends.append(perf_counter())

    @property
    def epochs(self):
        return [end - start for start, end in pairwise(self.ends)]


def clocked(X, y, *, epochs=6, **options):
    """Return a fitted model and the times of its epochs."""
    clf = MoEClassifier(max_iter=epochs, callbacks=[Clock()], **BRIEF | options).fit(X, y)
    return clf, clf.callbacks[0].epochs


def step_time(X, y, **options):
    """Return the median time of a step in milliseconds, without the first epochs."""
    clf, epochs = clocked(X, y, **options)
    n_steps = -(-len(y) // clf.net_.batch_size)
    return 1e3 * statistics.median(epochs[2:]) / n_steps


@contextmanager
def fixed_order(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


# -- speed --------------------------------------------------------------------------------

SMALL = {
    "patches, default, batch 1024": (patches, {"batch_size": 1024}),
    "patches, soft, batch 1024": (patches, {"batch_size": 1024, "router": "soft"}),
    "table, default, batch 200": (table, {"batch_size": 200}),
    "pictures, default, batch 200": (pictures, {"batch_size": 200}),
    "pictures, cnn experts, batch 200": (pictures, {"expert": "cnn", "batch_size": 200, **WHOLE}),
}


@pytest.mark.parametrize("name", SMALL)
def test_where_auto_computes(name, figure):
    """No target: the figures tell whether "auto" chooses well."""
    make, options = SMALL[name]
    X, y = make(4096 if make is not pictures else 1000)
    times = {device: step_time(X, y, device=device, **options) for device in ("cuda", "cpu")}
    auto = MoEClassifier(max_iter=1, **BRIEF | options).fit(X, y).resolved_params_["device"]
    figure(f"step of {name}", f"cuda {times['cuda']:.2f} ms, cpu {times['cpu']:.2f}, auto {auto}")


@pytest.mark.parametrize("expert", ["cnn", "resnet18"])
@pytest.mark.parametrize("n_per_expert", [25, 100, 400])
def test_where_mixed_precision_pays(expert, n_per_expert, figure):
    batch = 4 * n_per_expert
    X, y = pictures(3 * batch)
    options = {"expert": expert, "n_experts": 4, "batch_size": batch, "device": "cuda", **WHOLE}
    times = {p: step_time(X, y, precision=p, **options) for p in ("float32", "bf16")}
    shown = ", ".join(f"{p} {time:.2f} ms" for p, time in times.items())
    figure(f"step of {expert}, {n_per_expert} pictures per expert", shown)


def test_what_new_group_sizes_cost(figure):
    """Of cuDNN, which plans every convolution anew for each number of pictures."""
    X, y = pictures(2000)
    options = {"expert": "cnn", "batch_size": 200, "device": "cuda", **WHOLE}
    _, epochs = clocked(X, y, epochs=12, **options)
    shown = ", ".join(f"{1e3 * seconds:.0f}" for seconds in epochs)
    figure("epochs of cnn experts from the first on, ms", shown)


# -- numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [patches, table, pictures])
def test_numbers_are_those_of_the_cpu(make, figure, monkeypatch):
    X, y = make(500)
    options = {"batch_size": None, "router_noise": None, "max_iter": 5, "precision": "float32"}
    cpu = MoEClassifier(device="cpu", **BRIEF | options).fit(X, y).predict_proba(X)
    for tf32, tolerance in ((False, 1e-3), (True, 5e-2)):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
        gpu = MoEClassifier(device="cuda", **BRIEF | options).fit(X, y).predict_proba(X)
        difference = np.abs(gpu - cpu).max()
        figure(f"{make.__name__}: cuda beside cpu, tf32 {tf32}", f"{difference:.1e}")
        assert difference < tolerance


@pytest.mark.parametrize("precision", ["auto", "float32", "bf16"])
def test_precision(images, precision):
    X, y = images
    options = {"n_experts": 2, "max_iter": 5, "precision": precision, "device": "cuda"}
    clf = MoEClassifier(**BRIEF | options).fit(X, y)
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]


ORDERED = {
    "patches, 3 of 8 experts": (patches, {"router": "topk", "top_k": 3, "balance": "switch"}),
    "table, default": (table, {}),
    "table, relu": (table, {"router": "relu"}),
    "pictures, default": (pictures, {}),
    "pictures, cnn experts": (pictures, {"expert": "cnn", **WHOLE}),
    "pictures, resnet18_gn experts": (pictures, {"expert": "resnet18_gn", "n_experts": 2, **WHOLE}),
}


@pytest.mark.parametrize("name", ORDERED)
def test_equal_fits_in_a_fixed_order(name, monkeypatch, figure):
    make, options = ORDERED[name]
    X, y = make(400)
    options = BRIEF | {"max_iter": 3, "batch_size": 100, "device": "cuda"} | options
    with fixed_order(monkeypatch):
        first, second = (MoEClassifier(**options).fit(X, y) for _ in range(2))
        assert first.loss_curve_ == second.loss_curve_
        assert np.array_equal(first.predict_proba(X), second.predict_proba(X))
    third, fourth = (MoEClassifier(**options).fit(X, y).predict_proba(X) for _ in range(2))
    figure(f"two fits without a fixed order: {name}", f"{np.abs(third - fourth).max():.1e}")


# -- memory -------------------------------------------------------------------------------


def test_a_fit_leaves_the_model_and_no_more(figure):
    X, y = pictures(1000)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    clf = MoEClassifier(expert="resnet18", n_experts=2, max_iter=1, device="cuda", **BRIEF, **WHOLE)
    clf.fit(X, y)
    peak, after = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
    weights = sum(p.numel() * p.element_size() for p in clf.module_.parameters())
    figure("fit of 2 resnet18: weights, kept, peak", mebibytes(weights, after - before, peak))
    assert after - before < 3.5 * weights  # with the two moments of an optimizer that goes on
    torch.cuda.reset_peak_memory_stats()
    clf.expert_proba(X)
    figure("expert_proba of 2 resnet18: peak", mebibytes(torch.cuda.max_memory_allocated()))
    assert torch.cuda.memory_allocated() - after < weights


def test_the_second_fit_finds_the_memory_of_the_first(monkeypatch):
    limit = torch.cuda.memory_reserved() + 1015 * 2**20

    def mem_get_info(index=None):
        return limit - torch.cuda.memory_reserved(), limit

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    X = np.zeros((800_000, 100), np.float32)  # 305 MiB, and 64 more are taken by cuBLAS
    devices = []

    class Look(Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            devices.append(X.device.type)

    options = BRIEF | {"max_iter": 1, "callbacks": [Look()], "batch_size": 10_000}
    for _ in range(3):
        MoEClassifier(device="cuda", **options).fit(X, np.arange(len(X)) % 2)
    assert devices == ["cuda"] * 3


def test_samples_that_do_not_fit_stay_on_the_host(images, monkeypatch):
    X, y = images
    options = BRIEF | {"n_experts": 2, "max_iter": 5, "device": "cuda", "batch_size": 50}
    monkeypatch.setattr(_data, "free_memory", lambda device: 0)
    clf = MoEClassifier(**options).fit(X, y)
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]


def mebibytes(*sizes):
    return ", ".join(f"{size / 2**20:.0f} MiB" for size in sizes)
