"""The paper's protocols."""

from contextlib import nullcontext
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import raises
from sklearn.base import clone
from skorch.history import History

from sklearn_moe._training import StopTraining
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.nn import Route
from sklearn_moe.paper import NotebookStopping, paper_classifier
from sklearn_moe.paper._protocols import FIGURE_3, FixedNoise, NotebookBalance
from sklearn_moe.paper._run import seeded

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")

# predict_proba(X[:4])[:, 1] of the fits below, by protocol, nonlinear and n_experts, from the
# version that computed docs/results. In float64, so that machines agree. To make them anew, print
# what the test compares: after a change of the protocols only, which outdates docs/results, too.
STORED = {
    ("paper", True, 1): [0.49999255, 0.48561648, 0.50001036, 0.53071563],
    ("paper", True, 8): [0.49997919, 0.49964055, 0.50000003, 0.50266338],
    ("paper", False, 1): [0.42706891, 0.27374057, 0.60257544, 0.64922399],
    ("paper", False, 8): [0.49777785, 0.45875336, 0.52055295, 0.5240813],
    ("code", True, 1): [0.99574316, 0.99976393, 1.0, 2.5057219e-07],
    ("code", True, 8): [0.49979559, 0.49845316, 0.50000005, 0.50475914],
    ("code", False, 1): [0.99748529, 0.020769617, 0.99990971, 0.0099464747],
    ("code", False, 8): [0.43050432, 0.034464061, 0.5324542, 0.44305977],
}


@pytest.mark.parametrize("protocol", ["paper", "code"])
def test_protocols_give_stored_numbers(protocol):
    X, y = make_cluster_patches(200, random_state=0, **PAPER_SETTINGS[1])
    X = X.astype(np.float64)
    for nonlinear, n_experts in product((True, False), (1, 8)):
        key = protocol, nonlinear, n_experts
        clf = clone(paper_classifier(*key, max_iter=20, random_state=0, device="cpu")).fit(X, y)
        assert len(clf.module_.experts) == n_experts
        assert clf.activation == ("cubic" if nonlinear else "linear")
        found = clf.predict_proba(X[:4])[:, 1]
        np.testing.assert_allclose(found, STORED[key], rtol=1e-5, err_msg=str(key))
    raises(ValueError, "protocol must be 'paper' or 'code', got 'text'", paper_classifier, "text")


def test_notebook_stopping():
    for losses, stops in (
        ([0.69, 0.60, 0.61], False),  # a little worse, still high
        ([0.69, 0.60, 0.63], True),  # much worse
        ([0.69, 0.3135, 0.3136], True),  # any worse, and low
        ([0.69, 0.3136, 0.3135], False),
    ):
        net = SimpleNamespace(history=History())
        for loss in losses:
            net.history.new_epoch()
            net.history.record("train_loss", loss)
        NotebookStopping(patience=3).on_epoch_end(net)
        with pytest.raises(StopTraining) if stops else nullcontext():
            NotebookStopping(patience=2).on_epoch_end(net)


def test_the_notebook_of_figure_3():
    """Every tensor of an expert makes a step of one length, and noise is drawn once."""
    options = PAPER_SETTINGS[1] | {"random_state": 0}
    X, y = make_cluster_patches(200, **options)
    options = FIGURE_3 | {"n_experts": 2, "random_state": 0}
    steps = [paper_classifier("code", max_iter=n, **options).fit(X, y) for n in (1, 2)]
    first, second = (list(clf.module_.experts[0].parameters()) for clf in steps)
    for before, after in zip(first, second, strict=True):
        assert (after - before).norm().item() == pytest.approx(0.001, rel=1e-3)
    x, scores = torch.as_tensor(X), torch.zeros(200, 8)
    noise = FixedNoise(3)(x, scores, None)
    torch.testing.assert_close(FixedNoise(3)(x[7:9], scores[7:9], None), noise[7:9])
    assert (0 <= noise).all()
    assert (noise <= 1).all()
    assert 0.27 < noise.std() < 0.31  # 1 / sqrt(12)
    assert not torch.allclose(FixedNoise(4)(x, scores, None), noise)
    assert seeded(paper_classifier("code", **FIGURE_3), 5).router.noise.random_state == 5


def test_the_notebooks_balance_by_hand():
    """M^2 mean_m(mean_i(noisy score) load_m), as in their code."""
    scores = torch.zeros(4, 2)
    noisy = torch.tensor([[0.5, 0.1], [0.3, 0.2], [0.1, 0.9], [0.7, 0.4]])
    route = Route(scores, noisy, torch.tensor([[0], [0], [1], [0]]), torch.ones(4, 1))
    loss = NotebookBalance(2, weight=0.5)(None, route, torch.ones(4))
    assert loss.item() == pytest.approx(0.5 * 4 * (0.4 * 0.75 + 0.4 * 0.25) / 2)
