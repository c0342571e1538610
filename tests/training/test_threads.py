"""Small work takes one thread, whatever the process has, and the settings stay as they are."""

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers import hook
from sklearn.linear_model import LinearRegression
from threadpoolctl import threadpool_info, threadpool_limits

from sklearn_moe import MixtureRegressor, MoEClassifier, _threads
from sklearn_moe._threads import ignored_warnings, threads_for

BRIEF = {"n_experts": 2, "max_iter": 1, "tol": None, "random_state": 0}


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2):
        yield
        assert threads() == (2, 2)
    torch.set_num_threads(before)


def threads():
    """Return the numbers of threads of torch, and of all libraries of BLAS."""
    of_blas = {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}
    return torch.get_num_threads(), *of_blas


def test_only_steps_with_work_for_two_take_two(monkeypatch):
    def count_threads(net):  # of the thread that trains, and of another
        with ThreadPoolExecutor(1) as other:
            of_another = other.submit(torch.get_num_threads).result()
        counts.append((torch.get_num_threads(), of_another))

    def count(X):
        counts.clear()
        callbacks = [hook("on_epoch_end", count_threads)]
        MoEClassifier(**BRIEF, callbacks=callbacks).fit(X, np.arange(len(X)) % 2)
        return counts

    counts = []
    assert count(np.ones((40, 5))) == [(1, 2)]
    monkeypatch.setattr(_threads, "_WORTH_THREADS", 0)
    assert count(np.ones((40, 5))) == [(2, 2)]


class Watched(LinearRegression):
    counts = ()

    def fit(self, X, y, sample_weight=None):
        Watched.counts.append(threads()[1])
        if len(Watched.counts) == 30:
            raise ValueError("enough")
        return super().fit(X, y, sample_weight)


def test_mixtures_take_one_also_if_an_expert_fails(monkeypatch):
    X = np.random.default_rng(0).normal(size=(60, 2))
    model = MixtureRegressor(Watched(), n_init=9, random_state=0)
    for work, expected in ((1e9, 1), (0, 2)):
        monkeypatch.setattr(_threads, "_WORTH_THREADS", work)
        monkeypatch.setattr(Watched, "counts", [])
        with pytest.raises(ValueError, match="enough"):
            model.fit(X, X[:, 0])
        assert set(Watched.counts) == {expected}
        assert threads() == (2, 2)


def test_fits_of_several_threads_at_once():
    def run(own, other):
        with threads_for(0, "blas", "openmp"):
            own.set()
            other.wait()
            inside = threads()
            with threads_for(1e9, "blas", "openmp"):
                large = torch.get_num_threads()
        return inside, large

    for _ in range(20):
        events = threading.Event(), threading.Event()
        with ThreadPoolExecutor(2) as both:
            found = [*both.map(run, events, events[::-1])]
        assert threads() == (2, 2)
        assert found[0][1] == found[1][1] == 2
        assert {inside[0] for inside, _ in found} == {1}


def test_threads_that_ignore_warnings_leave_the_filters_as_they_were():
    before = warnings.filters[:]
    entered, second = threading.Event(), threading.Event()

    def run(is_first):
        if not is_first:
            entered.wait()
            second.set()
        with ignored_warnings("The first", "The second"):
            entered.set()
            second.wait()
            time.sleep(0.05 if is_first else 0.2)
            warnings.warn("The second of two", stacklevel=1)

    with ThreadPoolExecutor(2) as both:
        assert [*both.map(run, (True, False))] == [None, None]
    assert warnings.filters == before
