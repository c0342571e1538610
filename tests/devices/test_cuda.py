"""What is true of CUDA alone. Figures are shown when all has run: `make test-gpu`.

No other test knows of times or of the rounding of a GPU. Every part of a fit runs there by
`SKLEARN_MOE_DEVICE=cuda`, see devices.py.
"""

import statistics
from itertools import pairwise
from time import perf_counter

import numpy as np
import pytest
import torch

from sklearn_moe import MoEClassifier, RouterParams, _devices
from sklearn_moe._training import Callback, MoENet
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning"),
]
BRIEF = {"tol": None, "early_stopping": False, "random_state": 0}
WHOLE = {"trunk": None, "router": "top1"}  # every expert a network of its own


def images(n, side=32):
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
    """Times of the ends of epochs, in seconds; the loss there waits for the GPU."""

    def on_train_begin(self, net, **kwargs):
        self.ends = [perf_counter()]

    def on_epoch_end(self, net, **kwargs):
        self.ends.append(perf_counter())


def epoch_times(X, y, *, epochs=6, **options):
    """Return the times of epochs, in milliseconds, and the size of a batch."""
    clf = MoEClassifier(max_iter=epochs, callbacks=[Clock()], **BRIEF | options).fit(X, y)
    times = [1e3 * (end - start) for start, end in pairwise(clf.callbacks[0].ends)]
    return times, clf.net_.batch_size


def step_time(X, y, **options):
    """Return the median time of a step in milliseconds, without the first epochs."""
    times, batch_size = epoch_times(X, y, **options)
    return statistics.median(times[2:]) / -(-len(y) // batch_size)


def test_where_auto_computes(figure):
    """No target: the figures tell whether "auto" chooses well."""
    for make, options in (
        (patches, {"batch_size": 1024}),
        (patches, {"batch_size": 1024, "router": "soft"}),
        (table, {"batch_size": 200}),
        (images, {"batch_size": 200}),
        (images, {"expert": "cnn", "batch_size": 200, **WHOLE}),
    ):
        X, y = make(4096 if make is not images else 1000)
        times = {device: step_time(X, y, device=device, **options) for device in ("cuda", "cpu")}
        auto = MoEClassifier(max_iter=1, **BRIEF | options).fit(X, y).resolved_params_["device"]
        shown = f"cuda {times['cuda']:.2f} ms, cpu {times['cpu']:.2f}, auto {auto}"
        figure(f"step of {make.__name__}, {options}", shown)


def test_where_mixed_precision_pays(figure, monkeypatch):
    for expert in ("cnn", "resnet18"):
        for n_per_expert in (100, 400):
            X, y = images(12 * n_per_expert)
            options = {"expert": expert, "n_experts": 4, "batch_size": 4 * n_per_expert}
            mixed = step_time(X, y, device="cuda", **options, **WHOLE)
            with monkeypatch.context() as patch:
                patch.setattr(_devices, "is_fast_in_bf16", lambda device: False)
                exact = step_time(X, y, device="cuda", **options, **WHOLE)
            shown = f"float32 {exact:.2f} ms, bf16 {mixed:.2f}"
            figure(f"step of {expert}, {n_per_expert} images per expert", shown)


def test_what_new_group_sizes_cost(figure):
    """Of cuDNN, which plans every convolution anew for each number of images."""
    options = {"expert": "cnn", "batch_size": 200, "device": "cuda", **WHOLE}
    times, _ = epoch_times(*images(2000), epochs=12, **options)
    shown = ", ".join(f"{time:.0f}" for time in times)
    figure("epochs of cnn experts from the first on, ms", shown)


@pytest.mark.parametrize("make", [patches, table, images])
def test_numbers_are_those_of_the_cpu(make, figure, monkeypatch):
    X, y = make(500)
    monkeypatch.setattr(_devices, "is_fast_in_bf16", lambda device: False)
    options = {"batch_size": None, "router": RouterParams(noise=None), "max_iter": 5}
    cpu = MoEClassifier(device="cpu", **BRIEF | options).fit(X, y).predict_proba(X)
    for tf32, tolerance in ((False, 1e-3), (True, 5e-2)):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
        gpu = MoEClassifier(device="cuda", **BRIEF | options).fit(X, y).predict_proba(X)
        difference = np.abs(gpu - cpu).max()
        figure(f"{make.__name__}: cuda beside cpu, tf32 {tf32}", f"{difference:.1e}")
        assert difference < tolerance


ROUTING = [
    *({"router": router} for router in ("top1", "noisy_topk", "soft", "merge", "relu", "kmeans")),
    {"router": "topk", "top_k": 3, "balance": "switch"},
]


def test_cuda_agrees_that_no_step_waits(monkeypatch):
    train_step = MoENet.train_step

    def strict(net, batch, **params):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return train_step(net, batch, **params)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(MoENet, "train_step", strict)
    for options in (*ROUTING, {"router": "patch_choice"}, {"expert": "patch_conv"}):
        options = BRIEF | options | {"max_iter": 2, "batch_size": 1024, "device": "cuda"}
        MoEClassifier(**options).fit(*patches(3072))


@pytest.mark.parametrize(
    ("make", "options"),
    [
        *((patches, options) for options in ROUTING),
        *((table, {}), (table, {"router": "relu"}), (images, {})),
        *((images, {"expert": expert, **WHOLE}) for expert in ("cnn", "resnet18_gn")),
    ],
)
def test_equal_fits_in_a_fixed_order(make, options, monkeypatch, figure):
    X, y = make(400)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    clf = MoEClassifier(max_iter=3, batch_size=100, device="cuda", **BRIEF | options)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (clf.fit(X, y).predict_proba(X) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    np.testing.assert_array_equal(first, second)
    first, second = (clf.fit(X, y).predict_proba(X) for _ in range(2))
    difference = f"{np.abs(first - second).max():.1e}"
    figure(f"two fits without a fixed order: {make.__name__}, {options}", difference)


def mebibytes(*sizes):
    return ", ".join(f"{size / 2**20:.0f} MiB" for size in sizes)


def test_a_fit_leaves_the_model_and_no_more(figure):
    X, y = images(1000)
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
