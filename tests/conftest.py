"""Data that many tests share."""

import numpy as np
import pytest
import torch
from devices import DEVICE, PRETEND
from sklearn.utils import check_random_state

from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

# Small networks gain nothing from a second thread, and on a busy machine lose a lot by it.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def global_generators_untouched():
    """No test of ours may move a global generator: the library promises not to."""
    global_numpy = check_random_state(None)  # NumPy's global generator
    torch_state, numpy_state = torch.get_rng_state(), global_numpy.get_state()
    yield
    assert torch.equal(torch_state, torch.get_rng_state())
    assert all(
        np.array_equal(a, b) for a, b in zip(numpy_state, global_numpy.get_state(), strict=True)
    )


@pytest.fixture
def store_every_epoch(monkeypatch):
    monkeypatch.setattr("sklearn_moe._training.checkpoint._SECONDS", 0)


@pytest.fixture(scope="session")
def device():
    """Name of the device of the device tests, see devices.py."""
    if DEVICE is None:
        pytest.skip("no device: set SKLEARN_MOE_PRETEND_DEVICE or SKLEARN_MOE_DEVICE")
    return DEVICE


@pytest.fixture(scope="session")
def pretend(device):
    """The module of the pretend device, which notes operations and waits."""
    if device != "pretend":
        pytest.skip("counts on the pretend device only: set SKLEARN_MOE_PRETEND_DEVICE")
    return PRETEND


@pytest.fixture(scope="session")
def patches():
    """1500 training and 1000 test samples of setting 1, with their clusters."""
    X, y, clusters = make_cluster_patches(
        2500, random_state=0, return_clusters=True, **PAPER_SETTINGS[1]
    )
    return (X[:1500], y[:1500], clusters[:1500]), (X[1500:], y[1500:], clusters[1500:])


@pytest.fixture(scope="session")
def images():
    """120 pictures of 3 x 8 x 8 in three classes of different brightness."""
    generator = np.random.default_rng(0)
    y = generator.integers(3, size=120)
    X = generator.normal(size=(120, 3, 8, 8)) + y[:, None, None, None]
    return X.astype(np.float32), y


@pytest.fixture
def pyplot():
    """Matplotlib's pyplot with its own defaults; figures are closed in the end."""
    import matplotlib
    from matplotlib import pyplot

    with matplotlib.rc_context(matplotlib.rcParamsDefault | {"backend": "agg"}):
        yield pyplot
    pyplot.close("all")


def pytest_collection_modifyitems(items):
    """Leave out what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
