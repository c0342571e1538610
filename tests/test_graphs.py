"""Steps as CUDA graphs, without a GPU: recorded once, operation by operation, and run again.

What is recorded here is what a graph would hold: operations on fixed memory. A number that came
from the host, or memory that is new in every step, would show.
"""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from helpers import named
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from sklearn_moe import MoEClassifier
from sklearn_moe._engine import MoENet
from sklearn_moe._engine.graph import GraphedSteps, cuda_capture
from sklearn_moe.callbacks import FreezeRouter
from sklearn_moe.nn import ROUTERS

BRIEF = {"max_iter": 4, "batch_size": 100, "tol": None, "random_state": 0}


class Recorder(TorchDispatchMode):
    """Take note of operations, and refuse those that read a number on the host."""

    def __init__(self):
        super().__init__()
        self.tape = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket not in READS, f"{function} waits for the device"
        # Another view of the same memory: the shape of a tensor may be changed in place.
        given = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs or {}))
        results = function(*args, **(kwargs or {}))
        if not function.is_view and torch.Tag.inplace_view not in function.tags:
            made = tree_map_only(torch.Tensor, torch.Tensor.detach, results)
            self.tape.append((function, *given, tree_leaves(made)))
        return results

    @torch.no_grad()
    def run(self):
        """Run the operations again, in the same memory."""
        for function, args, kwargs, made in self.tape:
            for own, new in zip(made, tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(own, torch.Tensor):
                    own.copy_(new)


READS = {
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.bincount,
    torch.ops.aten.nonzero,
    torch.ops.aten.masked_select,
}


@pytest.fixture
def recorders(monkeypatch):
    """Let experts answer as on a GPU, and graphs be recorded; yield the recorders."""
    made, nets = [], []

    def capture(function, generator):
        net, recorder = nets[-1], Recorder()
        state = [*net.module_.state_dict().values(), *momenta(net.optimizer_)]
        before, drawn = [value.clone() for value in state], generator.get_state()
        with recorder:
            results = function()
        for value, old in zip(state, before, strict=True):  # a graph is recorded without being run
            value.copy_(old)
        generator.set_state(drawn)
        made.append(recorder)
        return results, recorder.run

    def begin(net, capture):
        nets.append(net)
        return GraphedSteps(net, capture)

    for place in ("sklearn_moe.nn.dispatch", "sklearn_moe._engine.graph"):
        monkeypatch.setattr(import_module(place), "answer_at_once", lambda experts, x: True)
    monkeypatch.setattr("sklearn_moe._engine.loop.GraphedSteps", begin)
    monkeypatch.setattr(MoENet, "capture", staticmethod(capture))
    return made


def momenta(optimizer):
    return [value for state in optimizer.state.values() for value in state.values()]


OPTIONS = [
    *({"router": router} for router in ROUTERS),
    *({"balance": balance} for balance in ("switch", "bias", "importance", "z_loss")),
    {"learning_rate": "constant", "loss": "margin", "early_stopping": True},
    {"router": "soft", "early_stopping": "out_of_bag", "expert_loss_weight": 0.5},
    {"momentum": 0.9, "weight_decay": 1e-3, "expert": "patch_conv"},
    {"router": replace(ROUTERS["topk"], dense_gradient=True), "top_k": 2},
    {"callbacks": [FreezeRouter(after=2)], "batch_size": 150},
    {"upcycle": 0.5, "gate": "relative", "momentum": 0.9},
]


@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
@pytest.mark.parametrize("options", OPTIONS, ids=named)
def test_recorded_steps_are_the_steps(patches, recorders, options, monkeypatch):
    X, y = patches[0][0][:450].astype(np.float64), patches[0][1][:450]
    clf = MoEClassifier(**BRIEF | options)
    recorded = clf.fit(X, y).predict_proba(X)
    assert not hasattr(clf.net_, "graphs_")  # it would be most of a pickle
    frozen = "callbacks" in options
    assert len(recorders) == 1 + frozen  # all batches are of one size here
    curves = clf.loss_curve_, clf.router_gradient_curve_
    monkeypatch.setattr(MoENet, "capture", None)
    clf.fit(X, y)
    np.testing.assert_allclose(recorded, clf.predict_proba(X), rtol=0, atol=1e-12)
    np.testing.assert_allclose(curves, (clf.loss_curve_, clf.router_gradient_curve_), atol=1e-12)


def test_batches_of_two_sizes_are_two_graphs(patches, recorders):
    (X, y, _), _ = patches
    MoEClassifier(**BRIEF).fit(X[:350], y[:350])  # 88, 88, 87, 87
    assert len(recorders) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"train_transform": lambda x: x + 1},
        {"learning_rate": "cosine"},
        {"solver": "adam"},
    ],
    ids="-".join,
)
@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
def test_what_needs_the_host_is_not_recorded(patches, recorders, options):
    (X, y, _), _ = patches
    MoEClassifier(**BRIEF | options).fit(X[:400], y[:400])
    assert not recorders


@pytest.mark.gpu
@pytest.mark.parametrize("options", OPTIONS, ids=named)
def test_graphs_on_cuda(patches, options, monkeypatch):
    (X, y, _), _ = patches
    clf = MoEClassifier(**BRIEF | options, device="cuda")
    expected = clf.fit(X, y).predict_proba(X)
    monkeypatch.setattr(MoENet, "capture", staticmethod(cuda_capture))
    np.testing.assert_allclose(clf.fit(X, y).predict_proba(X), expected, atol=1e-4)
