"""A model is the same whichever way the process began that trains it."""

import multiprocessing
import os

import numpy as np
import pytest
import torch

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches


def answers():
    X, y = make_cluster_patches(300, random_state=0, **PAPER_SETTINGS[1])
    return MoEClassifier(max_iter=5, tol=None, random_state=0).fit(X, y).predict_proba(X)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_kind_of_process_makes_the_same_model(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} here")
    other_device = torch.accelerator.is_available() or "SKLEARN_MOE_PRETEND_DEVICE" in os.environ
    if method == "fork" and other_device:
        pytest.skip("autograd has a thread for each device, and no thread survives a fork")
    expected = answers()
    with multiprocessing.get_context(method).Pool(2) as pool:
        for found in pool.starmap(answers, [()] * 4):
            np.testing.assert_array_equal(found, expected)
