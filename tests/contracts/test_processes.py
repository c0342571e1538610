"""A model is the same whichever process trains it, and however that began."""

import multiprocessing
import os

import joblib
import numpy as np
import pytest
import torch
from helpers import brief_fits
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches


def bags(n=300):
    return make_cluster_patches(n, random_state=0, **PAPER_SETTINGS[1])


def answers():
    X, y = bags()
    return MoEClassifier(max_iter=5, tol=None, random_state=0).fit(X, y).predict_proba(X)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_every_kind_of_process_makes_the_same_model(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} here")
    other_device = torch.accelerator.is_available() or "SKLEARN_MOE_PRETEND_DEVICE" in os.environ
    if method == "fork" and other_device:
        pytest.skip("autograd has a thread for each device, and no thread survives a fork")
    expected = answers()
    with multiprocessing.get_context(method).Pool(1) as pool:
        for found in pool.starmap(answers, [()] * 2):
            np.testing.assert_array_equal(found, expected)


NOTEBOOK = """
import torch
from sklearn_moe import MoEClassifier
from sklearn_moe.nn import Balance, SoftRouter

class Mine(torch.nn.Linear):
    def __init__(self, input_shape, n_outputs):
        super().__init__(*input_shape, n_outputs)

class Even(Balance):
    def loss(self, router, route, weight):
        return route.scores.square().mean()

class Mixed(SoftRouter):
    pass

parts = {"expert": Mine, "balance": Even, "router": Mixed}
clf = MoEClassifier(2, **parts, max_iter=2, tol=None, random_state=0)
"""


@brief_fits
@pytest.mark.slow
def test_processes_of_a_search_score_as_one_also_with_parts_of_a_notebook():
    names = {"__name__": "__main__"}
    exec(NOTEBOOK, names)
    X, y = bags(60)
    X, clf = X[:, 0], names["clf"]
    fitted = clone(clf).fit(X, y)

    def answers(backend, **options):
        search = GridSearchCV(clf, {"n_experts": [2, 3]}, cv=2, error_score="raise")
        with joblib.parallel_config(backend, **options):
            search.set_params(scoring="neg_log_loss", refit=False).fit(X, y)
            proba = joblib.Parallel()([joblib.delayed(fitted.predict_proba)(X)] * 2)
        return [search.cv_results_["mean_test_score"], *proba]

    assert joblib.hash(answers("loky", n_jobs=2)) == joblib.hash(answers("sequential"))
