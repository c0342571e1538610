"""Where a model is trained, in which precision, and in how much memory."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import raises

from sklearn_moe import MoEClassifier, _devices
from sklearn_moe._data.rows import storage_device
from sklearn_moe._devices import OutOfMemoryError, as_device, free_memory
from sklearn_moe._parameters.plan import resolve
from sklearn_moe._training.net import place
from sklearn_moe.nn import EXPERTS
from sklearn_moe.nn.heads import choose_head

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
HEAD = partial(choose_head("log_loss", "classes"), 3)
BRIEF = {"n_experts": 2, "max_iter": 1, "tol": None, "early_stopping": False, "random_state": 0}
IMAGES = np.zeros((1000, 3, 32, 32), np.float32)
TABLE = np.zeros((1000, 20), np.float32)


@pytest.fixture
def table():
    X = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


# -- device and precision -----------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as far as one can tell without using it."""
    monkeypatch.setattr(_devices, "accelerator", lambda: "cuda")
    monkeypatch.setattr(_devices, "as_device", lambda device, **_: torch.device(device))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def placed(X, **options):
    """Return device and precision of a fit to X."""
    clf = MoEClassifier(**options)
    plan = resolve(clf, X, np.ones(len(X)), HEAD(), _devices.accelerator())
    shape = int(np.prod(X.shape[1:])), 64 * 8
    expert, mixture = torch.nn.utils.skip_init(torch.nn.Linear, *shape), torch.nn.Module()
    mixture.experts, mixture.shared = torch.nn.ModuleList([expert]), []
    mixture.router = mixture.trunk = None
    return place(plan, mixture, X.shape[1:])


def test_auto_is_the_cpu_where_there_is_nothing_else(table, monkeypatch):
    for found, precision in (({}, "float32"), ({"avx512_bf16": True}, "bf16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
        assert placed(IMAGES) == ("cpu", precision)
    for device in ("auto", "cpu"):
        model = MoEClassifier(**BRIEF, device=device).fit(*table)
        assert model.resolved_params_["device"] == "cpu"


def test_auto_takes_a_gpu_for_steps_that_are_work(gpu):
    assert placed(IMAGES)[0] == "cuda"
    assert placed(TABLE)[0] == "cpu"
    assert placed(np.zeros((1000, 4000), np.float32), batch_size=None)[0] == "cuda"
    assert placed(TABLE, device="cuda:1")[0] == "cuda:1"


def test_training_is_mixed_where_a_step_has_many_images_on_a_fast_gpu(gpu, monkeypatch):
    assert placed(TABLE, device="cuda")[1] == "float32"
    assert placed(IMAGES.astype(np.float64))[1] == "float32"
    for options, expected in (
        ({"batch_size": 99}, "float32"),
        ({"batch_size": 100}, "bf16"),
        *(({"batch_size": 128, "expert": "cnn", "n_experts": n}, "bf16") for n in (1, 4)),
    ):
        assert placed(IMAGES, **options)[1] == expected
    for capability, expected in (((7, 5), "float32"), ((8, 0), "bf16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert placed(IMAGES)[1] == expected


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:99", torch.device("cuda", 99), "meta", "mps"], ids=str
)
def test_a_device_that_is_not_there(table, device):
    message = f"device='{device}' cannot be used here, choose 'auto' or 'cpu'"
    clf = MoEClassifier(device=device, random_state=0)
    for train in (clf.fit, partial(clf.partial_fit, classes=[0, 1])):
        raises(ValueError, message, train, *table)
    assert not hasattr(clf, "net_")


# -- memory -------------------------------------------------------------------------------


def test_large_data_stay_on_the_host(monkeypatch):
    """Of 1000 free bytes, and 300 more that are kept for torch, 100 of these in use."""
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: asked.append(i) or (1000, 2000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda i: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda i: 100)
    assert free_memory(torch.device("cuda:1")) == 1200
    assert storage_device(np.zeros(599, np.uint8), "cuda").type == "cuda"
    assert storage_device(np.zeros(601, np.uint8), "cuda:1").type == "cpu"
    assert asked == [1, None, 1]
    monkeypatch.setattr(_devices, "free_memory", None)
    assert storage_device(np.zeros(3), "cpu") == as_device("cpu")


class Greedy(torch.nn.Module):
    """An expert that takes no more than so many samples at a time."""

    most, error, seen = 100, OutOfMemoryError("CUDA out of memory."), []

    def __init__(self, input_shape, n_outputs):
        super().__init__()
        self.expert = EXPERTS["mlp"].build(input_shape, n_outputs)

    def forward(self, x):
        if len(x) > self.most:
            raise self.error
        self.seen.append(len(x))
        return self.expert(x)


GREEDY = MoEClassifier(**BRIEF, expert=Greedy, router="sigmoid")


def test_training_says_what_to_lower(table, monkeypatch):
    clf = MoEClassifier(**BRIEF, expert=Greedy, router="sigmoid", batch_size=150)
    message = r"step of 150 samples ran out of memory on cpu. Lower batch_size, .* error of torch"
    allocator = "[enforce fail] DefaultCPUAllocator: can't allocate memory"
    for error, kind, expected in (
        (OutOfMemoryError("CUDA out of memory."), OutOfMemoryError, message),
        *((e, MemoryError, message) for e in (RuntimeError(allocator), MemoryError("Unable to"))),
        (RuntimeError("shapes"), RuntimeError, "^shapes$"),
    ):
        monkeypatch.setattr(Greedy, "error", error)
        with pytest.raises(kind, match=expected) as caught:
            clf.fit(*table)
        assert error in (caught.value, caught.value.__cause__)
        assert not hasattr(clf, "net_")


def test_gradients_do_not_stay(table):
    for method in ("fit", "partial_fit"):
        clf = getattr(MoEClassifier(**BRIEF, expert="mlp").fit(*table), method)(*table)
        assert all(parameter.grad is None for parameter in clf.module_.parameters())
