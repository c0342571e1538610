"""A model is the same whichever process trains it, and however that began."""

import multiprocessing
import os

import joblib
import numpy as np
import pytest
import torch
from helpers import brief
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


@pytest.mark.slow
def test_processes_of_a_search_score_as_one():
    def scores(backend, **options):
        search = GridSearchCV(brief(), {"n_experts": [1, 3]}, cv=3, error_score="raise")
        with joblib.parallel_config(backend, **options):
            search.set_params(scoring="neg_log_loss", refit=False).fit(*bags(90))
        return search.cv_results_["mean_test_score"]

    expected = scores("sequential")
    np.testing.assert_array_equal(scores("loky", n_jobs=2), expected)
