"""A model is the same whichever process trains it, and however that began."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import joblib
import pytest
import torch
from helpers import brief_fits
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

NOTEBOOK = """
import torch
from sklearn_moe import MoEClassifier
from sklearn_moe.nn import SoftRouter

class Mine(torch.nn.Linear):
    def __init__(self, input_shape, n_outputs):
        super().__init__(*input_shape, n_outputs)

class Mixed(SoftRouter):
    pass

clf = MoEClassifier(2, expert=Mine, router=Mixed, max_iter=2, tol=None, random_state=0)
"""


def answers(*models):
    X, y = make_cluster_patches(200, random_state=0, **PAPER_SETTINGS[1])
    default = MoEClassifier(max_iter=5, tol=None, random_state=0).fit(X, y).predict_proba(X)
    return default, *(clone(model).fit(X[:, 0], y).predict_proba(X[:, 0]) for model in models)


@brief_fits
@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "new"])
def test_every_kind_of_process_makes_the_same_model(method):
    """Also with parts of a notebook, which the processes of joblib are given."""
    models = []
    if method == "fork":
        if torch.accelerator.is_available() or "SKLEARN_MOE_PRETEND_DEVICE" in os.environ:
            pytest.skip("autograd has a thread for each device, and no thread survives a fork")
        pool = ProcessPoolExecutor(1, mp_context=get_context("fork"))
    else:
        names = {"__name__": "__main__"}
        exec(NOTEBOOK, names)
        models.append(names["clf"])
        pool = get_reusable_executor(1, timeout=1)
    expected = joblib.hash(answers(*models))
    assert [joblib.hash(pool.submit(answers, *models).result()) for _ in range(2)] == 2 * [expected]
    pool.shutdown()
