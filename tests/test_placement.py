"""Where a model is trained, where its samples lie, and in which precision, if that is left open."""

from functools import partial

import numpy as np
import pytest
import torch

from sklearn_moe import MoEClassifier, _devices
from sklearn_moe._data.rows import Rows, storage_device
from sklearn_moe._defaults import resolve_settings
from sklearn_moe._devices import OutOfMemoryError, as_device, free_memory
from sklearn_moe._training import place
from sklearn_moe.nn.heads import choose_head

HEAD = partial(choose_head("log_loss", "classes"), 3)
BRIEF = {"max_iter": 1, "tol": None, "early_stopping": False, "random_state": 0}


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as far as one can tell without using it."""
    monkeypatch.setattr(_devices, "accelerator", lambda: "cuda")
    monkeypatch.setattr(_devices, "as_device", lambda device, **_: torch.device(device))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def placed(X, dtype=np.float32, **options):
    """Return device and precision of a fit to X, and what it would say that "auto" became."""
    clf = MoEClassifier(**options)
    clf.input_shape_ = X.shape[1:]
    settings = resolve_settings(clf, X, np.ones(len(X)), HEAD())
    shape = int(np.prod(X.shape[1:])), 64 * clf.n_experts
    expert, mixture = torch.nn.utils.skip_init(torch.nn.Linear, *shape), torch.nn.Module()
    mixture.experts, mixture.shared, mixture.router, mixture.trunk = [expert], [], None, None
    return *place(clf, settings, lambda: mixture, dtype), settings.resolved


PICTURES = np.zeros((1000, 3, 32, 32), np.float32)
TABLE = np.zeros((1000, 20), np.float32)


def test_auto_takes_a_gpu_for_steps_that_are_work(gpu):
    assert placed(PICTURES)[0] == "cuda"
    assert placed(TABLE)[0] == "cpu"
    assert placed(np.zeros((1000, 4000), np.float32), batch_size=None)[0] == "cuda"


def test_auto_is_the_cpu_where_there_is_nothing_else():
    assert placed(PICTURES)[::2] == ("cpu", placed(PICTURES)[2])
    assert placed(PICTURES)[2]["device"] == "cpu"


def test_a_named_device_is_taken_as_it_is(gpu):
    device, _, resolved = placed(TABLE, device="cuda:1")
    assert device == "cuda:1"
    assert "device" not in resolved


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bf16"), ((9, 0), "bf16")]
)
def test_auto_is_mixed_on_gpus_that_are_fast_in_it(gpu, monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert placed(PICTURES)[1] == expected
    assert placed(PICTURES)[2]["precision"] == expected
    assert placed(PICTURES, precision="float32")[1] == "float32"
    assert placed(TABLE, device="cuda")[1] == "float32"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_size": 50}, "float32"),
        ({"batch_size": 400}, "bf16"),
        ({"batch_size": 400, "expert": "cnn"}, "float32"),  # 50 for each of the experts
        ({"batch_size": 400, "expert": "cnn", "router": "topk", "top_k": 2}, "bf16"),
        ({"batch_size": 400, "expert": "cnn", "router": "sigmoid"}, "bf16"),
        ({"batch_size": 400, "expert": "cnn", "n_experts": 1}, "bf16"),
        ({"batch_size": 50, "precision": "bf16"}, "bf16"),
    ],
)
def test_auto_is_mixed_where_a_network_sees_many_samples(gpu, options, expected):
    assert placed(PICTURES, **options)[1] == expected


def test_float64_is_shown_as_such(gpu):
    X = PICTURES.astype(np.float64)
    _, precision, resolved = placed(X, X.dtype)
    assert (precision, resolved["precision"]) == ("float32", "float64")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device='gpu' is no device that torch knows. This machine has 'cpu'"),
        ("gpu7", "device='gpu7' is no device that torch knows. This machine has 'cpu'"),
        ("cuda:99", "device='cuda:99' is not there. This machine has 'cpu'"),
        (torch.device("cuda", 99), "device='cuda:99' is not there. This machine has 'cpu'"),
        ("cpu:1", "device='cpu:1' is not there"),
        ("meta", "device='meta' is not there"),
        ("mps", "device='mps' does not compute in float64"),
    ],
)
def test_a_device_that_is_not_there(device, message):
    X, y = np.zeros((20, 3), np.float32), np.arange(20) % 2
    clf = MoEClassifier(device=device, random_state=0)
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y)
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(X, y, classes=[0, 1])
    assert not hasattr(clf, "net_")


def test_a_model_goes_on_where_it_is(images):
    """Though the device it was fitted on may not be there any more."""
    X, y = images
    clf = MoEClassifier(**BRIEF).fit(X, y)
    clf.set_params(device="cuda:99")
    assert clf.partial_fit(X, y).n_iter_ == 2
    assert clf.net_.device == "cpu"
    with pytest.raises(ValueError, match="device='cuda:99' is not there"):
        clf.fit(X, y)
    assert clf.n_iter_ == 2


# -- memory -------------------------------------------------------------------------------


@pytest.fixture
def memory(monkeypatch):
    """A GPU of 1000 free bytes; 300 more are kept for torch, 100 of these in use."""
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: asked.append(i) or (1000, 2000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda i: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda i: 100)
    return asked


def test_what_torch_keeps_is_free(memory):
    assert free_memory(torch.device("cuda:1")) == 1200
    assert memory == [1]


def test_large_data_stay_on_the_host(memory):
    small, large = np.zeros(599, np.uint8), np.zeros(601, np.uint8)
    assert storage_device(small, "cuda").type == "cuda"
    assert storage_device(large, "cuda:1").type == "cpu"
    assert memory == [None, 1]


def test_samples_stay_on_the_host_if_others_took_its_memory(monkeypatch):
    def copy(tensor, device):
        if tensor.ndim == 1:  # y, the second column of three
            raise OutOfMemoryError("CUDA out of memory.")
        return torch.empty_like(tensor, device="meta")

    monkeypatch.setattr(torch.Tensor, "to", copy)
    rows = Rows.from_arrays(np.zeros((3, 2)), np.zeros(3), np.ones(3), torch.device("cuda"))
    assert {column.device.type for column in rows[:3]} == {"cpu"}


def test_the_cpu_needs_no_count_of_its_memory(monkeypatch):
    monkeypatch.setattr(_devices, "free_memory", None)
    assert storage_device(np.zeros(3), "cpu") == as_device("cpu")
