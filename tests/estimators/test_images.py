"""Images by default: standardized inside, a shared trunk, experts behind it."""

from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from helpers import at, brief, raises, refuses, seeded, throw
from sklearn.datasets import load_digits
from torch import nn

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.nn import TRUNKS
from sklearn_moe.nn.router_parts import NormalizedScores
from sklearn_moe.nn.seeding import use_generator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
make = partial(brief, n_experts=2)


@pytest.fixture(scope="module")
def pictures():
    """Bytes in which a bright square says the class by its place, and little else does."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 240)
    X = rng.integers(60, 120, (240, 3, 12, 12))
    for x, place in zip(X, y, strict=True):
        x[:, 4 * place : 4 * place + 4, 4:8] += 80
    return X.astype(np.uint8), y


def small(input_shape):
    """Return a trunk of one convolution."""
    return nn.Sequential(nn.Conv2d(input_shape[0], 6, 3, stride=2), nn.ReLU(), nn.Flatten())


# -- defaults -----------------------------------------------------------------------------


def test_defaults_learn_images_with_all_experts(pictures):
    X, y = pictures
    clf = make(n_experts=4, max_iter=30).fit(X[:160], y[:160])
    assert clf.score(X[160:], y[160:]) > 0.95
    assert clf.expert_load_.min() > 0.1
    assert make(expert="cnn", expert_width=4).fit(X, y).module_.trunk is None
    assert make(MoERegressor, max_iter=20).fit(X, y.astype(float)).score(X, y) > 0.8


# -- standardization ----------------------------------------------------------------------


def test_channels_are_standardized_by_the_training_set(pictures):
    X, y = pictures
    for dtype in (np.uint8, np.float32, np.float64):
        clf = make(trunk=None, expert="cnn", expert_width=2).fit(X.astype(dtype), y)
        z = clf.net_.map_batches(clf.module_.encode, X.astype(dtype))
        np.testing.assert_allclose(z.mean((0, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(z.std((0, 2, 3)), 1, rtol=1e-5)
    assert make(trunk=small, standardize=False).fit(X, y).module_.encoder is None
    X = X.astype(float)
    X[:, 1] = 0.1  # a constant channel, with a mean that is rounded
    clf = make(trunk=None, expert="cnn", expert_width=2).fit(X, y)
    np.testing.assert_allclose(clf.net_.map_batches(clf.module_.encode, X)[:, 1], 0, atol=1e-9)


# -- trunks -------------------------------------------------------------------------------


@pytest.mark.parametrize("trunk", TRUNKS)
def test_every_trunk(pictures, trunk):
    X, y = pictures[0][:16], pictures[1][:16]
    clf = make(trunk=trunk, max_iter=1).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X).sum(1), 1, rtol=1e-5)
    before = {k: v.clone() for k, v in clf.module_.trunk.state_dict().items()}
    after = clf.partial_fit(X, y).module_.trunk.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_router_and_experts_see_the_same_features(pictures):
    X, y = pictures
    clf = make(n_experts=3, trunk=small).fit(X, y)
    module = clf.module_
    x = torch.from_numpy(X[:9] / 255).float()
    features = module.trunk(module.encoder(x))
    outputs = torch.stack([expert(features) for expert in module.experts], 1).softmax(2)
    assert isinstance(module.router.network, NormalizedScores)
    z = features.double() - features.double().mean(1, keepdim=True)
    z = z / z.norm(dim=1, keepdim=True)
    linear = module.router.network.network
    gate = (z @ linear.weight.double().T + linear.bias[:, 0].double()).softmax(1)
    expected = (gate.unsqueeze(2) * outputs).sum(1)
    np.testing.assert_allclose(clf.predict_proba(X[:9]), expected.detach(), atol=1e-5)
    np.testing.assert_allclose(clf.gate_proba(X[:9]), gate.detach(), atol=1e-5)


def test_a_module_is_copied_and_trained(pictures):
    with use_generator(seeded()):
        module = small((3,))
    before = deepcopy(module.state_dict())
    clf = make(trunk=module, warm_start=True).fit(*pictures)
    assert all(map(torch.equal, before.values(), module.state_dict().values()))
    assert not torch.equal(clf.module_.trunk.state_dict()["0.weight"], before["0.weight"])
    with pytest.raises(ValueError, match=r"cannot be trained further with other .*trunk"):
        clf.set_params(trunk="cnn").fit(*pictures)


def test_a_trunk_of_maps_or_patches_takes_experts_for_these(pictures):
    class Patches(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).flatten(2).mT

    def maps(input_shape):
        return nn.Conv2d(input_shape[0], 5, 3, padding=1)

    clf = make(trunk=maps, expert="cnn", expert_width=3).fit(*pictures)
    assert clf.module_.experts[0][0].in_channels == 5
    raises(ValueError, "expert='mlp' takes samples of shape", make(trunk=maps).fit, *pictures)
    patches = make(trunk=lambda shape: Patches(shape[0], 5, 4, stride=4), expert="patch")
    assert patches.fit(*pictures).module_.experts[0].weight.shape[-1] == 5


def test_what_does_not_fit_images_is_refused(pictures):
    low = np.zeros((20, 1, 3, 8), np.uint8), np.arange(20) % 2
    flat = make(trunk=lambda _: nn.Flatten(0))
    refuses("flat", "trunk must map .* of one sample it made", flat.fit, *pictures)
    refuses("low", "trunk='cnn' halves height and width twice", make().fit, *low)


# -- whole networks -----------------------------------------------------------------------


def test_networks_that_see_a_part_of_the_images_are_not_worse_than_one_of_all():
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 1, 8, 8).astype(np.float32) / 16
    scores = []
    for n_experts in (1, 4):
        clf = MoEClassifier(n_experts, expert="cnn", router="top1", max_iter=10, random_state=0)
        scores.append(clf.fit(X[:300], y[:300]).score(X[300:], y[300:]))
    assert scores[0] > 0.7
    assert scores[1] > scores[0] - 0.02
    np.testing.assert_allclose(clf.gate_proba(X[:9]).sum(1), 1)
    # Copies have been trained further: by their own images, and not far.
    first, *others = (nn.utils.parameters_to_vector(e.parameters()) for e in clf.module_.experts)
    assert all(0 < (first - other).norm() < 0.3 * first.norm() for other in others)


def test_the_others_begin_as_copies_of_the_first_network(pictures):
    clf = make(n_experts=3, expert="cnn", router__upcycling=0.8, max_iter=10)
    ends = at(6, partial(throw, KeyboardInterrupt), "on_epoch_end")
    clf.set_params(callbacks=[ends]).fit(*pictures)
    assert clf.n_iter_ == 6
    first, *others = (e.state_dict() for e in clf.module_.experts)
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)
    # Each is the model, whose router has not yet learned.
    for proba in clf.expert_proba(pictures[0]).transpose(1, 0, 2):
        assert (proba.argmax(1) == clf.predict(pictures[0])).all()
    refuses("router__upcycling=0.8", "images", make(router__upcycling=0.8).fit, *pictures)


# -- shared experts -----------------------------------------------------------------------


def test_shared_experts_are_added_to_the_chosen_ones(pictures):
    X, y = pictures
    clf = make(n_experts=3, trunk=small, router__n_shared_experts=2).fit(X, y)
    module = clf.module_
    assert (len(module.experts), len(module.shared)) == (3, 2)
    features = module.encode(torch.from_numpy(X[:9] / 255).float())
    rows = torch.arange(9)
    chosen = torch.from_numpy(clf.apply(X[:9]))
    gate = torch.from_numpy(clf.gate_proba(X[:9]))[rows, chosen].unsqueeze(1)
    routed = torch.stack([expert(features) for expert in module.experts], 1)[rows, chosen]
    output = gate * routed + sum(expert(features) for expert in module.shared)
    np.testing.assert_allclose(clf.predict_proba(X[:9]), output.softmax(1).detach(), atol=1e-5)
    of_chosen = clf.expert_proba(X[:9])[rows, chosen]
    np.testing.assert_allclose(of_chosen, clf.predict_proba(X[:9]), atol=1e-5)
