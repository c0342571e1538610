"""BackboneFeatures: what a network computes before its classifier."""

import copy
import pickle
from functools import partial

import numpy as np
import torch
from helpers import names, noise_images, raises, seeded
from sklearn.base import clone
from torch import nn
from torchvision import models

from sklearn_moe.nn.seeding import use_generator
from sklearn_moe.preprocessing import BackboneFeatures

images = partial(noise_images, n_samples=5, height=9, width=8)


def make_network(n_channels=3, n_classes=4, *, seed=0):
    with use_generator(seeded(seed)):
        return nn.Sequential(
            *(nn.Conv2d(n_channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten()),
            nn.Sequential(nn.Dropout(), nn.Linear(24, 10), nn.ReLU(), nn.Linear(10, n_classes)),
        )


def get_model(name, seed=0, **options):
    with use_generator(seeded(seed)):
        return models.get_model(name, **options).eval()


@torch.no_grad()
def features_of(network, X):
    """Return what a network computes of images one by one."""
    network = copy.deepcopy(network).double().eval()
    X = torch.from_numpy(X.astype(np.float64) / (255 if X.dtype == np.uint8 else 1))
    return torch.cat([network(x[None]) for x in X]).numpy()


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def assert_same(first, second):
    """Compare the parameters and buffers of two networks."""
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


# -- a network of one's own ---------------------------------------------------------------


def test_features_are_what_the_classifier_is_given_or_what_the_network_returns():
    network = make_network()
    before = copy.deepcopy(network)
    before[-1][-1] = nn.Identity()
    whole = nn.Sequential(network, nn.Identity())
    for dtype in (np.uint8, np.float32, np.float64):
        X = images(dtype=dtype)
        for taken, expected, n_features in ((network, before, 10), (whole, network, 4)):
            X_new = BackboneFeatures(taken, device="cpu").fit(X).transform(X)
            assert X_new.shape == (5, n_features)
            np.testing.assert_allclose(X_new, features_of(expected, X), rtol=1e-4, atol=1e-5)
    X_new = BackboneFeatures(copy.deepcopy(network).to(torch.bfloat16)).fit_transform(X)
    assert X_new.dtype == np.float32
    np.testing.assert_allclose(X_new, features_of(before, X), atol=0.1)


def test_the_network_stays_as_it_is():
    network = make_network()
    network[0].weight.requires_grad_(False)
    before, layers = copy.deepcopy(network), [*network.modules()]
    transformer = BackboneFeatures(network).fit(images())
    transformer.transform(images())
    assert transformer.backbone is network
    assert all(a is b for a, b in zip(layers, network.modules(), strict=True))
    assert {m.training for m in network.modules()} == {True}
    assert [p.requires_grad for p in network.parameters()][:2] == [False, True]
    assert not any(m._forward_hooks for m in layers)
    assert_same(before, network)
    assert not transformer.network_.training
    with torch.no_grad():
        network[0].weight.zero_()
    assert np.ptp(transformer.transform(images())) > 0  # it has a network of its own


def test_maps_and_tokens_are_averaged():
    network, X = make_network(), images()
    maps = BackboneFeatures(network[:1]).fit_transform(X)
    with torch.no_grad():
        expected = network[:1].double()(torch.from_numpy(X / 255))
    assert_close(maps, expected.mean(dim=(2, 3)))
    as_tokens = nn.Sequential(*network[:1].float(), nn.Flatten(2))  # channels are the second axis
    assert_close(BackboneFeatures(as_tokens).fit_transform(X), expected.mean(dim=1).flatten(1))


# -- torchvision --------------------------------------------------------------------------


def test_weights_are_drawn_from_the_random_state():
    name, X = "shufflenet_v2_x0_5", images(n_samples=2, height=32, width=32)
    first, again, other = (BackboneFeatures(name, random_state=s).fit(X) for s in (0, 0, 1))
    assert_same(first.network_, again.network_)
    np.testing.assert_array_equal(first.transform(X), again.transform(X))
    assert not np.allclose(first.transform(X), other.transform(X))


def test_weights_by_name_come_with_their_transforms(monkeypatch):
    network, asked = get_model("resnet18", seed=5), []
    state = network.state_dict()
    network.fc = nn.Identity()

    def load(url, *args, **kwargs):
        asked.append(url)
        return state

    monkeypatch.setattr(models._api, "load_state_dict_from_url", load)
    known = models.ResNet18_Weights.DEFAULT
    X = images(n_samples=2, height=20, width=26)
    transformer = clone(BackboneFeatures("resnet18", weights="DEFAULT")).fit(X)
    assert asked == [known.url]
    with torch.no_grad():
        expected = network(known.transforms()(torch.from_numpy(X)))
    assert_close(transformer.transform(X), expected)
    again = pickle.loads(pickle.dumps(transformer))
    np.testing.assert_array_equal(again.transform(X), transformer.transform(X))


# -- what is refused ----------------------------------------------------------------------


WRONG = [("backbone", {"backbone": name}) for name in ("resnet19", "squeezenet1_1")]
WRONG += [("weights", {"backbone": "resnet18", "weights": "IMAGENET1K_V9"})]
WRONG += [("weights", {"weights": "DEFAULT"}), ("backbone", {"backbone": nn.Flatten(0)})]


def test_what_does_not_fit_is_named():
    for name, parameters in WRONG:
        parameters = {"backbone": make_network(), "random_state": 0} | parameters
        names(name, parameters, BackboneFeatures(**parameters).fit, images())
    raises(
        RuntimeError, "to have 3 channels", BackboneFeatures(make_network()).fit, images(channels=1)
    )
