"""Data that are larger than memory: X is read where it lies."""

import math
import subprocess
import sys

import numpy as np
import pytest

from sklearn_moe import MoEClassifier
from sklearn_moe._data.rows import Rows, as_tensor
from sklearn_moe._data.tables import IndexedView
from sklearn_moe._data.validation import WeightsSeen, check_training_data, hold_out

SHAPES = {"table": (6,), "patches": (4, 6), "images": (3, 9, 8)}


def draw(kind, n=90):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, *SHAPES[kind]))
    X = rng.integers(256, size=X.shape, dtype=np.uint8) if kind == "images" else X.astype("f4")
    return X, rng.integers(2, size=n), rng.integers(3, size=n).astype(float)


@pytest.fixture
def mapped(tmp_path):
    """Return arrays as read-only memory maps."""

    def store(X):
        np.save(tmp_path / "X.npy", X)
        return np.load(tmp_path / "X.npy", mmap_mode="r")

    return store


def test_tensors_lie_where_their_arrays_do(mapped):
    X = np.arange(12.0).reshape(3, 4)
    for array in (X, X.T, X[::2], mapped(X), np.broadcast_to(X[0], (3, 4))):
        tensor = as_tensor(array)
        assert tensor.data_ptr() == array.ctypes.data
        np.testing.assert_array_equal(tensor, array)
    np.testing.assert_array_equal(as_tensor(X[::-1]), X[::-1])  # which torch cannot have


def is_view(rows, X):
    return isinstance(rows, IndexedView) and np.shares_memory(rows.X, X)


@pytest.mark.parametrize("kind", SHAPES)
def test_neither_weights_nor_held_out_rows_copy_x(kind, mapped):
    X, y, weight = draw(kind)
    X = mapped(X)
    samples, _, _ = check_training_data(MoEClassifier(), X, y, weight, check_y=np.asarray)
    assert is_view(samples.X, X)
    parts = hold_out(samples, 0.1, 0, stratify=True)
    assert len(parts) == 2
    for part in parts:
        assert is_view(part.X, X)
    seen = WeightsSeen().updated(samples.weight)
    rows = Rows.of(samples, seen, "float64", "cpu")
    assert rows.x.X.data_ptr() == X.ctypes.data
    np.testing.assert_array_equal(rows.x[:], X[weight > 0])


# Samples of each kind; a process that has loaded everything has a child for each.
IN_LITTLE_MEMORY = """
import os, resource, sys, warnings
import numpy as np
from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.metrics import specialization_report

MODELS = {"table": MoEClassifier(2, expert_width=8, batch_size=1000), "patches": MoERegressor(2)}


def use(kind, X, y, weight):
    model = MODELS[kind].set_params(max_iter=1, tol=None, early_stopping=True, random_state=0)
    model.fit(X, y, sample_weight=weight).predict(X)
    model.set_params(early_stopping=False).partial_fit(X, y).apply(X)
    specialization_report(model, X, y)


warnings.simplefilter("ignore")
for kind in MODELS:
    if os.fork():
        assert os.wait()[1] == 0, kind
        continue
    X = np.load(f"{sys.argv[1]}/{kind}.npy", mmap_mode="r")
    y = np.arange(len(X)) % 2
    weight = np.ones(len(X))
    weight[::7] = 0
    use(kind, X[:300].copy(), y[:300], weight[:300])  # what libraries load once
    data = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmData" in line)
    resource.setrlimit(resource.RLIMIT_DATA, (data * 1024 + X.nbytes * 3 // 4,) * 2)
    use(kind, X, y, weight)
    try:
        np.ones(1_000_000_000, np.uint8)
    except MemoryError:
        print(kind, "as limited", flush=True)
    os._exit(0)
"""
# The shape of a sample, and megabytes. The report of a table keeps a sample of fixed size.
LARGE = {
    "table": ((1024,), np.float32, 192),
    "patches": ((16, 128), np.float32, 96),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_data_are_read_with_less_memory_than_they_have(tmp_path):
    for kind, (shape, dtype, megabytes) in LARGE.items():
        size = megabytes * 2**20 // (math.prod(shape) * np.dtype(dtype).itemsize)
        X = np.lib.format.open_memmap(tmp_path / f"{kind}.npy", "w+", dtype, (size, *shape))
        some = np.random.default_rng(0).integers(256, size=(500, *shape))
        for start in range(0, size, 500):
            X[start : start + 500] = some[: size - start]
        X.flush()
    command = [sys.executable, "-c", IN_LITTLE_MEMORY, str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True)
    expected = "".join(f"{kind} as limited\n" for kind in LARGE)
    assert (shown.stderr, shown.stdout) == ("", expected)
