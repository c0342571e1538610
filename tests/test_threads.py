"""Small steps take one thread, whatever the process has, and its settings stay."""

import threading

import numpy as np
import pytest
import torch
from helpers import make_mixture
from skorch.callbacks import Callback

from sklearn_moe import MoEClassifier
from sklearn_moe._training import placement as threads


class Count(Callback):
    def __init__(self, counts):
        self.counts = counts

    def on_epoch_end(self, net, **kwargs):
        self.counts.append(torch.get_num_threads())


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def count(X, **parameters):
    counts = []
    options = {"n_experts": 2, "max_iter": 2, "tol": None, "random_state": 0} | parameters
    MoEClassifier(callbacks=[Count(counts)], **options).fit(X, np.arange(len(X)) % 2)
    return set(counts)


@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
def test_only_steps_with_work_for_two_take_two(two_threads, monkeypatch):
    table, pictures = np.ones((40, 5)), np.ones((40, 3, 32, 32), np.float32)
    assert count(table) == {1}
    assert count(pictures) == {2}
    monkeypatch.setattr(threads, "LARGE", 0)
    assert count(table) == {2}
    assert torch.get_num_threads() == 2


def test_the_work_of_a_step_is_that_of_its_layers():
    def work(shape, **parts):
        mixture = make_mixture(shape=shape, **parts)
        n_weights = sum(p.numel() for p in mixture.experts[0].parameters())
        return threads.work_of_a_step(mixture, 10, shape), n_weights, mixture

    of_table, n_weights, _ = work((6,), expert="mlp", router="soft")
    assert of_table == 10 * 4 * n_weights
    of_two, n_weights, _ = work((5, 6), expert="patch", router="topk", router_options={"top_k": 2})
    assert of_two == 10 * 5 * 2 * n_weights
    behind_trunk, n_weights, mixture = work((3, 8, 8), expert="mlp", router="soft", trunk="cnn")
    n_weights_of_trunk = sum(p.numel() for p in mixture.trunk.parameters())
    assert behind_trunk == 10 * (8 * 8 * n_weights_of_trunk + 4 * n_weights)


@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
def test_other_threads_keep_theirs(two_threads):
    seen = []

    class Look(Callback):
        def on_epoch_end(self, net, **kwargs):
            other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            other.start()
            other.join()

    MoEClassifier(2, max_iter=1, tol=None, callbacks=[Look()], random_state=0).fit(
        np.ones((40, 5)), np.arange(40) % 2
    )
    assert seen == [2]
    assert torch.get_num_threads() == 2


def test_the_work_of_a_step_is_that_of_the_experts_that_answer():
    def work(X, **parameters):
        clf = MoEClassifier(4, max_iter=1, tol=None, random_state=0, **parameters)
        clf.fit(X, np.arange(len(X)) % 2)
        return threads.work_of_a_step(clf.module_, 10, X.shape[1:])

    X = np.random.default_rng(0).normal(size=(60, 4, 6))
    one = work(X)
    assert one == 10 * 4 * (2 * 8 * 6)  # samples, patches, weights of an expert
    assert work(X, router="topk", top_k=2) == 2 * one
    assert work(X, router="soft") == 4 * one
