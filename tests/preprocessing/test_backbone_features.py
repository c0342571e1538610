"""BackboneFeatures: the input of the classifier of any network."""

import copy
import pickle
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import noise_images, raises, seeded
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn
from torchvision import models

from sklearn_moe.nn.seeding import use_generator
from sklearn_moe.preprocessing import BackboneFeatures
from sklearn_moe.preprocessing._backbone import _named_weights

images = partial(noise_images, n_samples=5, height=9, width=8)


def make_network(n_channels=3, n_classes=4, *, seed=0):
    with use_generator(seeded(seed)):
        return nn.Sequential(
            *(nn.Conv2d(n_channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten()),
            nn.Sequential(nn.Dropout(), nn.Linear(24, 10), nn.ReLU(), nn.Linear(10, n_classes)),
        )


def make_transformer():
    with use_generator(seeded()):
        return models.VisionTransformer(8, 4, 1, 2, 16, 32, num_classes=5).eval()


def get_model(name, seed=0, **options):
    with use_generator(seeded(seed)):
        return models.get_model(name, **options).eval()


@torch.no_grad()
def features_of(network, X):
    """Return what `make_network` passes to its last layer, for images one by one."""
    network = copy.deepcopy(network).double().eval()
    network[5][3] = nn.Identity()
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


def test_features_are_the_input_of_the_classifier():
    network = make_network()
    for dtype in (np.uint8, np.float32, np.float64):
        X = images(dtype=dtype)
        fitted = BackboneFeatures(network, device="cpu").fit(X)
        X_new = fitted.transform(X)
        assert fitted.layer_ == "5.3"
        assert X_new.shape == (5, 10)
        np.testing.assert_allclose(X_new, features_of(network, X), rtol=1e-4, atol=1e-5)
    for dtype, tolerance in [(torch.float64, 1e-5), (torch.bfloat16, 0.1)]:
        X_new = BackboneFeatures(copy.deepcopy(network).to(dtype)).fit_transform(X)
        assert X_new.dtype == np.float32
        np.testing.assert_allclose(X_new, features_of(network, X), atol=tolerance)


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


def test_layers_by_name():
    network, X = make_network(), images()
    double = copy.deepcopy(network).double().eval()
    for layer, stop in {"0": 1, "4": 5, "5.0": 5, "": 6}.items():
        X_new = BackboneFeatures(network, layer=layer).fit_transform(X)
        with torch.no_grad():
            expected = double[:stop](torch.from_numpy(X / 255))
        assert_close(X_new, expected.mean(dim=(2, 3)) if expected.ndim == 4 else expected)
    network[5] = nn.Unflatten(1, (7, 7))  # it does not fit, but is not computed either
    assert BackboneFeatures(network, layer="4").fit_transform(X).shape == (5, 24)


def test_tokens_are_averaged():
    network, X = make_transformer(), images(height=8)
    with torch.no_grad():
        nn.init.normal_(network.heads.head.weight, generator=seeded())  # it begins with zeros
        x = network._process_input(torch.from_numpy(X / 255).float())
        tokens = network.encoder(torch.cat([network.class_token.expand(5, -1, -1), x], dim=1))
    found = BackboneFeatures(network, layer="encoder").fit_transform(X)
    assert_close(found, tokens.mean(dim=1))
    transformer = BackboneFeatures(network).fit(X)
    assert transformer.layer_ == "heads.head"
    assert_close(transformer.transform(X), tokens[:, 0])
    with pytest.raises(ValueError, match=r"\(3, 9, 8\): Wrong image height! .* a size to"):
        BackboneFeatures(network).fit(images())


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x) + torch.rand(x.shape)


def test_layers_that_draw_do_not_use_the_global_generator():
    network = nn.Sequential(Noisy(), *make_network())
    first, again, other = (
        BackboneFeatures(network, random_state=s).fit_transform(images()) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_images_are_resized():
    network, X = make_network(), images()
    for size, pair in [(16, [16, 16]), ((12, 20), [12, 20])]:
        x = F.interpolate(torch.from_numpy(X / 255), pair, mode="bilinear", antialias=True)
        found = BackboneFeatures(network, size=size).fit_transform(X)
        assert_close(found, features_of(network, x.numpy()))


# -- torchvision --------------------------------------------------------------------------


def test_networks_of_torchvision():
    X = images(n_samples=2, height=40, width=40)
    for name, layer, n_features in [
        *(("mobilenet_v3_small", "classifier.3", 1024), ("shufflenet_v2_x0_5", "fc", 1024)),
        ("swin_t", "head", 768),
    ]:
        transformer = BackboneFeatures(name, random_state=0).fit(X)
        assert transformer.layer_ == layer
        assert transformer.transform(X).shape == (2, n_features)
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
    member = models.ResNet18_Weights.IMAGENET1K_V1
    X = images(n_samples=2, height=20, width=26)
    for weights in ("DEFAULT", "IMAGENET1K_V1", str(member), member):
        assert _named_weights("resnet18", weights) is member
    transformer = clone(BackboneFeatures("resnet18", weights=member)).fit(X)
    assert asked == [member.url]
    x, preset = torch.from_numpy(X), member.transforms()
    small = F.interpolate(x / 255, (32, 32), mode="bilinear", antialias=True)
    mean, std = torch.tensor([preset.mean, preset.std])[:, :, None, None]
    small = (small - mean) / std
    with torch.no_grad():
        expected, expected_small = network(preset(x)), network(small)
    assert_close(transformer.transform(X), expected)
    again = pickle.loads(pickle.dumps(transformer))
    np.testing.assert_array_equal(again.transform(X), transformer.transform(X))
    assert_close(transformer.set_params(size=32).fit_transform(X), expected_small)


def test_weights_of_a_file(tmp_path):
    path, X = tmp_path / "weights.pt", images()
    for n_classes, kind in [(4, str), (7, Path)]:
        learned, network = make_network(n_classes=n_classes, seed=1), make_network()
        torch.save(learned.state_dict(), path)
        found = BackboneFeatures(network, weights=kind(path)).fit_transform(X)
        assert_close(found, features_of(learned, X))
        assert_same(network, make_network())
    with pytest.raises(ValueError, match=r"(?s)weights=.* is no state dict .*size mismatch"):
        BackboneFeatures(network, weights=path, layer="4").fit(X)  # the classifier is kept
    for wrong, message in [
        ({"x": torch.zeros(3)}, "(?s)weights=.*is no state dict of Sequential.*Missing key"),
        (torch.zeros(3), "holds a Tensor, not a state dict"),
    ]:
        torch.save(wrong, path)
        raises(ValueError, message, BackboneFeatures(network, weights=path).fit, X)
    learned = get_model("shufflenet_v2_x0_5", seed=3, num_classes=10)
    torch.save(learned.state_dict(), path)
    X = images(n_samples=2, height=32, width=32)
    found = BackboneFeatures("shufflenet_v2_x0_5", weights=path).fit_transform(X)
    np.testing.assert_array_equal(found, BackboneFeatures(learned).fit_transform(X))


# -- copies, pickles, hashes --------------------------------------------------------------


def test_hashes_are_of_values():
    transformer, changed = BackboneFeatures(make_network(), random_state=0), make_network()
    expected = [joblib.hash(transformer), joblib.hash(clone(transformer).fit(images()))]
    for network in (make_network(), pickle.loads(pickle.dumps(transformer)).backbone):
        same = BackboneFeatures(network, random_state=0)
        assert [joblib.hash(same), joblib.hash(same.fit(images()))] == expected
    changed[0].weight.data.view(-1)[0] += 1
    assert joblib.hash(BackboneFeatures(changed, random_state=0)) != expected[0]


FITS = []  # how many images each fit of Counting was given


class Counting(BackboneFeatures):
    def fit(self, X, y=None):
        FITS.append(len(X))
        return super().fit(X, y)


def test_features_are_found_once_in_a_search(tmp_path):
    X, y = images(n_samples=60), np.arange(60) % 3
    steps = [("features", Counting(make_network(), random_state=0)), ("clf", LogisticRegression())]
    model = Pipeline(steps, memory=joblib.Memory(tmp_path, verbose=0))
    FITS.clear()
    GridSearchCV(model, {"clf__C": [0.1, 1, 10]}, cv=2).fit(X, y)
    assert FITS == [30, 30, 60]  # two folds and the refit


def test_another_device_gives_the_same(device):
    X = images()
    fitted = BackboneFeatures(make_network(), device="cpu").fit(X)
    expected = fitted.transform(X)
    assert_close(fitted.set_params(device=device).transform(X), expected)
    assert {p.device.type for p in fitted.network_.parameters()} == {"cpu"}
    on_gpu = make_network().to(device)
    np.testing.assert_allclose(BackboneFeatures(on_gpu).fit_transform(X), expected, atol=1e-3)
    assert {p.device.type for p in on_gpu.parameters()} == {device}


# -- what is refused ----------------------------------------------------------------------


UNUSED = make_transformer()
UNUSED.spare = nn.Identity()
NO_CLASSIFIER = "Sequential has nothing .* layer=None.* fully connected .* '' for the whole"
SQUEEZENET = {"backbone": "squeezenet1_1", "size": 40}
WRONG = [
    ({"backbone": "resnet19"}, "Unknown backbone='resnet19': .*'resnet18'"),
    ({"backbone": "qqq"}, r"such as \['resnet18', 'vit_b_16'\], or a torch.nn.Module"),
    ({"size": (1, 2, 3)}, r"size must be a positive integer or a pair \(height"),
    ({"size": (2.5, 3)}, "size must be a positive integer"),
    ({"size": (0, 3)}, "size must be a positive integer"),
    ({"backbone": "resnet18", "weights": "IMAGENET1K_V9"}, "IMAGENET1K_V9.*'IMAGENET1K_V1'"),
    ({"backbone": "resnet50", "weights": "ResNet18_Weights.DEFAULT"}, "ResNet18.*IMAGENET1K_V2"),
    ({"weights": "DEFAULT"}, "weights='DEFAULT' must be the path .* A torch.nn.Module has none"),
    ({"layer": "5.9"}, r"Sequential has .* layer='5\.9'.* such as \['5\."),
    ({"backbone": make_network()[:4]}, NO_CLASSIFIER),
    ({"backbone": nn.Sequential(*make_network(), nn.Softmax(dim=1))}, NO_CLASSIFIER),
    (SQUEEZENET, r"SqueezeNet.*\['features', 'classifier'\]"),
    ({"backbone": make_network(1)}, r"of shape \(3, 9, 8\): .*1 channels"),
    ({"backbone": UNUSED, "size": 8, "layer": "spare"}, "layer='spare' has no part in the output"),
    (
        {"backbone": nn.Flatten(0), "layer": ""},
        r"for 1 images must be a tensor \(1, n_f.*, got \(\d+,\)",
    ),
]


def test_what_does_not_fit_is_named():
    for parameters, message in WRONG:
        parameters = {"backbone": make_network(), "random_state": 0} | parameters
        raises(ValueError, message, BackboneFeatures(**parameters).fit, images())
    with pytest.raises(ValueError, match=r"gray images pass np\.repeat\(X, 3"):
        BackboneFeatures(make_network()).fit(images(channels=1))
    features = BackboneFeatures(**SQUEEZENET, layer="features", random_state=0)
    assert features.fit_transform(images()).shape == (5, 512)
