"""Searches by several threads, processes and machines."""

import re
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4, 6)).astype(np.float32)
    return X, (X[:, 0, 0] > 0).astype(int)


def scores(X, y):
    search = GridSearchCV(
        MoEClassifier(max_iter=5, tol=None, random_state=0),
        {"n_experts": [1, 3]},
        scoring="neg_log_loss",
        cv=3,
        refit=False,
        error_score="raise",
    )
    return search.fit(X, y).cv_results_["mean_test_score"]


def test_threads_score_as_one(problem):
    with joblib.parallel_config("threading", n_jobs=2):
        np.testing.assert_array_equal(scores(*problem), _alone(problem))


@pytest.mark.slow
def test_processes_score_as_one(problem):
    with joblib.parallel_config("loky", n_jobs=2):
        np.testing.assert_array_equal(scores(*problem), _alone(problem))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.filterwarnings("default")  # of sockets that dask closes late
def test_dask_scores_as_one(problem, processes):
    distributed = pytest.importorskip("distributed")
    workers = {"processes": processes, "n_workers": 2, "threads_per_worker": 1}
    with distributed.LocalCluster(**workers, dashboard_address=None) as cluster:
        with distributed.Client(cluster), joblib.parallel_config("dask"):
            np.testing.assert_array_equal(scores(*problem), _alone(problem))


def _alone(problem):
    with joblib.parallel_config("sequential"):
        return scores(*problem)


def _own_memory():
    """Return the megabytes of this process that are no files."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1000


def _watch(X, y):
    """Fit; return whether X is a memory map, and the megabytes that the process gained."""
    MoEClassifier(max_iter=1, tol=None, random_state=0).fit(X[:200], y[:200])  # imports
    before = _own_memory()
    MoEClassifier(n_experts=2, expert_width=4, max_iter=1, tol=None, random_state=0).fit(X, y)
    return isinstance(X, np.memmap) and X.filename is not None, _own_memory() - before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_workers_share_a_large_X():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60_000, 1000)).astype(np.float32)
    y = np.arange(len(X)) % 2
    both = joblib.Parallel(n_jobs=2)(joblib.delayed(_watch)(X, y) for _ in range(2))
    for is_mapped, gained in both:
        assert is_mapped
        assert gained < 0.75 * X.nbytes / 1e6
