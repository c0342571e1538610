"""Pictures by default: standardized inside, a shared trunk, experts behind it."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from helpers import seeded
from torch import nn

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.nn import EXPERTS, TRUNKS, CNNExpert, CNNTrunk, LinearScores
from sklearn_moe.nn.routers.scores import CNNScores, NormalizedScores
from sklearn_moe.nn.seeding import OwnGenerator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")

OPTIONS = {"max_iter": 3, "random_state": 0, "device": "cpu"}


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


def test_defaults_learn_pictures_with_all_experts(pictures):
    X, y = pictures
    clf = MoEClassifier(4, max_iter=30, random_state=0, device="cpu").fit(X[:160], y[:160])
    assert clf.score(X[160:], y[160:]) > 0.95
    assert clf.expert_load_.min() > 0.1
    resolved = {"trunk": "cnn", "expert": "mlp", "router": "soft", "standardize": True}
    assert resolved.items() <= clf.resolved_params_.items()


def test_an_expert_that_is_named_is_a_whole_network(pictures):
    clf = MoEClassifier(2).set_params(expert="cnn", expert_width=4, **OPTIONS).fit(*pictures)
    assert clf.resolved_params_["trunk"] is None
    assert clf.resolved_params_["router"] == "top1"
    assert clf.module_.trunk is None


def test_one_expert_behind_the_trunk_is_the_small_cnn(pictures):
    clf = MoEClassifier(1).set_params(expert_width=256, **OPTIONS).fit(*pictures)
    module = clf.module_
    with OwnGenerator(seeded()):
        whole = CNNExpert((3, 12, 12), 3)
    layers = [module.trunk[0], module.trunk[3], module.experts[0][0], module.experts[0][2]]
    whole_layers = [layer for layer in whole if hasattr(layer, "weight")]
    assert [a.weight.shape for a in layers] == [b.weight.shape for b in whole_layers]
    for layer, of_whole in zip(layers, whole_layers, strict=True):
        of_whole.load_state_dict(layer.state_dict())
    x = torch.rand(5, 3, 12, 12, generator=seeded())
    torch.testing.assert_close(whole(module.encoder(x)), module(x).output)


# -- standardization ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_channels_are_standardized_by_the_training_set(pictures, kind):
    X, y = pictures
    X = X.astype(kind)
    clf = MoEClassifier(2).set_params(trunk=None, expert="cnn", expert_width=2, **OPTIONS).fit(X, y)
    z = clf.net_.map_batches(clf.module_.encode, X)
    np.testing.assert_allclose(z.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(z.std((0, 2, 3)), 1, rtol=1e-5)


def test_scale_and_offset_of_a_channel_do_not_matter(pictures):
    X, y = pictures
    X = X.astype(np.float64)
    other = X * np.array([1e-3, 1, 1e4])[:, None, None] + np.array([5, 0, -7e3])[:, None, None]
    first, second = (MoEClassifier(2).set_params(trunk=small, **OPTIONS).fit(A, y) for A in (X, other))
    np.testing.assert_allclose(first.predict_proba(X), second.predict_proba(other), rtol=1e-6)


def test_weights_of_samples_count_in_the_standardization(pictures):
    X, y = pictures
    weight = np.random.default_rng(1).integers(1, 4, len(X))
    weighted = MoEClassifier(1).set_params(trunk=small, **OPTIONS).fit(X, y, weight)
    repeated = MoEClassifier(1).set_params(trunk=small, **OPTIONS).fit(
        X.repeat(weight, axis=0), y.repeat(weight)
    )
    for name in ("mean", "scale"):
        a, b = (getattr(clf.module_.encoder, name) for clf in (weighted, repeated))
        torch.testing.assert_close(a, b)


def test_a_constant_channel_is_left_alone(pictures):
    X, y = pictures
    X = X.copy()
    X[:, 1] = 7
    clf = MoEClassifier(2).set_params(trunk=small, **OPTIONS).fit(X, y)
    assert np.isfinite(clf.predict_proba(X)).all()


def test_without_standardization_the_net_sees_zero_to_one(pictures):
    X, y = pictures
    clf = MoEClassifier(2).set_params(trunk=small, standardize=False, **OPTIONS).fit(X, y)
    assert clf.module_.encoder is None


def test_bags_of_patches_are_not_standardized():
    X, y = np.random.default_rng(0).normal(size=(40, 3, 5)), np.arange(40) % 2
    with pytest.raises(ValueError, match=r"standardize=True is for tables, .* and pictures"):
        MoEClassifier(standardize=True).fit(X, y)


# -- trunks -------------------------------------------------------------------------------


@pytest.mark.parametrize("trunk", TRUNKS)
def test_every_trunk(pictures, trunk):
    X, y = pictures
    clf = MoEClassifier(2).set_params(trunk=trunk, **OPTIONS | {"max_iter": 1}).fit(X[:40], y[:40])
    proba = clf.predict_proba(X)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
    before = clf.module_.trunk.state_dict()
    assert any(parameter.requires_grad for parameter in clf.module_.trunk.parameters())
    clf.partial_fit(X[:40], y[:40])
    after = clf.module_.trunk.state_dict()
    assert all(a.shape == b.shape for a, b in zip(before.values(), after.values(), strict=True))


def test_router_and_experts_see_the_same_features(pictures):
    X, y = pictures
    clf = MoEClassifier(3).set_params(trunk=small, **OPTIONS).fit(X, y)
    module = clf.module_
    x = torch.from_numpy(X[:9] / 255).float()
    features = module.trunk(module.encoder(x))
    answers = torch.stack([expert(features) for expert in module.experts], 1).softmax(2)
    network = module.router.network
    assert isinstance(network, NormalizedScores)
    z = features.double() - features.double().mean(1, keepdim=True)
    z = z / z.norm(dim=1, keepdim=True)
    linear = network.network
    gate = (z @ linear.weight.double().T + linear.bias[:, 0].double()).softmax(1)
    expected = (gate.unsqueeze(2) * answers).sum(1)
    np.testing.assert_allclose(clf.predict_proba(X[:9]), expected.detach(), atol=1e-5)
    np.testing.assert_allclose(clf.gate_proba(X[:9]), gate.detach(), atol=1e-5)


def test_a_module_is_copied_and_trained(pictures):
    with OwnGenerator(seeded()):
        module = small((3,))
    before = deepcopy(module.state_dict())
    clf = MoEClassifier(2).set_params(trunk=module, **OPTIONS).fit(*pictures)
    assert all(map(torch.equal, before.values(), module.state_dict().values()))
    trained = clf.module_.trunk.state_dict()
    assert not torch.equal(trained["0.weight"], before["0.weight"])


def test_a_trunk_of_feature_maps_takes_experts_for_these(pictures):
    X, y = pictures

    def maps(input_shape):
        return nn.Conv2d(input_shape[0], 5, 3, padding=1)

    clf = MoEClassifier(2).set_params(trunk=maps, expert="cnn", expert_width=3, **OPTIONS).fit(X, y)
    assert clf.module_.experts[0][0].in_channels == 5
    with pytest.raises(ValueError, match="expert='mlp' takes samples of shape"):
        MoEClassifier(2).set_params(trunk=maps, **OPTIONS).fit(X, y)


def test_a_trunk_of_patches_takes_experts_for_these(pictures):
    class Patches(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).flatten(2).mT

    def patches(input_shape):
        return Patches(input_shape[0], 5, 4, stride=4)

    clf = MoEClassifier(2).set_params(trunk=patches, expert="patch", tol=None, **OPTIONS).fit(*pictures)
    assert clf.module_.experts[0].weight.shape[-1] == 5


def test_a_table_may_have_a_trunk():
    X = np.random.default_rng(0).normal(size=(200, 4))
    y = X[:, 0] * X[:, 1] > 0

    def layer(input_shape):
        return nn.Sequential(nn.Linear(input_shape[0], 16), nn.ReLU())

    clf = MoEClassifier(2, trunk=layer, random_state=0, device="cpu").fit(X, y)
    assert clf.score(X, y) > 0.9


@pytest.mark.parametrize(
    ("trunk", "error", "message"),
    [
        ("cmm", ValueError, "Unknown trunk='cmm'"),
        (lambda shape: 3, TypeError, "trunk=.* must be a torch.nn.Module, or a callable"),
        (lambda shape: nn.Flatten(0), ValueError, "trunk must map .* of one sample it made"),
    ],
)
def test_what_is_no_trunk_is_refused(pictures, trunk, error, message):
    with pytest.raises(error, match=message):
        MoEClassifier(2).set_params(trunk=trunk, **OPTIONS).fit(*pictures)


def test_pictures_too_small_for_the_trunk():
    X, y = np.zeros((20, 1, 3, 8), np.uint8), np.arange(20) % 2
    with pytest.raises(ValueError, match="trunk='cnn' halves height and width twice"):
        MoEClassifier(2).set_params(**OPTIONS).fit(X, y)


def test_centers_of_samples_have_no_meaning_behind_a_trunk(pictures):
    with pytest.raises(ValueError, match="its centers are those of samples"):
        MoEClassifier(2).set_params(router="kmeans", trunk="cnn", **OPTIONS).fit(*pictures)


def test_another_trunk_cannot_go_on_with_the_weights(pictures):
    clf = MoEClassifier(2).set_params(trunk=small, warm_start=True, **OPTIONS).fit(*pictures)
    clf.trunk = "cnn"
    with pytest.raises(ValueError, match=r"cannot be trained further with other .*trunk"):
        clf.fit(*pictures)


def test_numbers_of_pictures(pictures):
    X, y = pictures
    reg = MoERegressor(2, random_state=0, max_iter=20, device="cpu").fit(X, y.astype(float))
    assert reg.score(X, y) > 0.8


def test_pooling_first_changes_nothing():
    with OwnGenerator(seeded()):
        whole = CNNExpert((3, 9, 10), 4, width=5)
    x = torch.randn(6, 3, 9, 10, generator=seeded())
    z = nn.functional.max_pool2d(whole[0](x).relu(), 2)
    z = nn.functional.max_pool2d(whole[3](z).relu(), 2)
    torch.testing.assert_close(whole(x), whole[9](whole[7](z.flatten(1)).relu()))
    # GELU falls before it rises: there the order is the published one.
    with OwnGenerator(seeded()):
        gelu = CNNTrunk((3, 9, 10), width=5, activation="gelu")
    assert isinstance(gelu[2], nn.MaxPool2d)


# -- shared experts -----------------------------------------------------------------------


def test_shared_experts_are_added_to_the_chosen_ones(pictures):
    X, y = pictures
    clf = MoEClassifier(3).set_params(trunk=small, router__n_shared_experts=2, **OPTIONS).fit(X, y)
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


def test_a_mixture_of_distributions_adds_nothing(pictures):
    with pytest.raises(ValueError, match="adds no answers of n_shared_experts=1"):
        MoEClassifier(2).set_params(router="soft", router__n_shared_experts=1, **OPTIONS).fit(*pictures)


@pytest.mark.parametrize("expert", ["patch", "mlp", "cnn"])
def test_shared_experts_of_every_shape(expert):
    shape = {"patch": (4, 6), "mlp": (6,), "cnn": (1, 4, 4)}[expert]
    X = np.random.default_rng(0).normal(size=(60, *shape))
    y = np.arange(60) % 2
    options = OPTIONS | {"tol": None}
    clf = MoEClassifier(2).set_params(expert=expert, router__n_shared_experts=1, router="top1", **options)
    assert clf.fit(X, y).predict_proba(X).shape == (60, 2)
    assert EXPERTS[expert].takes("width")


# -- routers that see ---------------------------------------------------------------------


def test_a_convolutional_router_in_float64_outside_training(pictures):
    X, y = pictures
    clf = MoEClassifier(3).set_params(expert="cnn", expert_width=2, router__network="cnn", **OPTIONS).fit(X, y)
    module = clf.module_
    assert isinstance(module.router.network.module, CNNScores)
    scores = module.router.score(module.encode(torch.from_numpy(X[:4] / 255).float()))
    assert scores.dtype == torch.float64
    assert scores.shape == (4, 3)


def test_the_layers_of_a_convolutional_router():
    with OwnGenerator(seeded()):
        scores = CNNScores((3, 9, 14), 4, init_std=1.0, width=2)
    first, bias, second, other_bias, readout = scores.parameters()
    assert (first.shape[2:], second.shape[2:]) == ((5, 5), (3, 3))
    x = torch.randn(6, 3, 9, 14, generator=seeded(1))
    z = torch.relu(nn.functional.conv2d(nn.functional.pad(x, [2] * 4), first, bias, stride=4))
    z = torch.relu(
        nn.functional.conv2d(nn.functional.pad(z, [1] * 4), second, other_bias, stride=2)
    )
    torch.testing.assert_close(scores(x), z.mean((2, 3)) @ readout.T)


def test_a_convolutional_router_needs_pictures():
    X, y = np.random.default_rng(0).normal(size=(40, 6)), np.arange(40) % 2
    with pytest.raises(ValueError, match="router_network='cnn' takes pictures"):
        MoEClassifier(2).set_params(router__network="cnn", **OPTIONS).fit(X, y)


def test_scores_of_normalized_features_know_no_scale():
    with OwnGenerator(seeded()):
        network = NormalizedScores(LinearScores((7,), 3, init_std=1.0))
    x = torch.randn(5, 7, dtype=torch.float64, generator=seeded())
    scores, scaled = network(x, x.dtype), network(30 * x + 4, x.dtype)
    torch.testing.assert_close(scores, scaled, rtol=1e-4, atol=1e-5)
