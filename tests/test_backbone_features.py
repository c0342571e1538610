"""BackboneFeatures: what a network answers before its classifier, whoever's network it is."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import seeded
from joblib import Memory
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn

from sklearn_moe import MoEClassifier
from sklearn_moe._persistence import StoredModule
from sklearn_moe.nn.seeding import OwnGenerator
from sklearn_moe.preprocessing import BackboneFeatures

# Of each family of torchvision the smallest that is quickly drawn.
FAMILIES = {
    "resnet18": ("fc", 512),
    "mobilenet_v2": ("classifier.1", 1280),
    "mobilenet_v3_small": ("classifier.3", 1024),
    "efficientnet_b0": ("classifier.1", 1280),
    "shufflenet_v2_x0_5": ("fc", 1024),
    "mnasnet0_5": ("classifier.1", 1280),
    "regnet_x_400mf": ("fc", 400),
    "densenet121": ("classifier", 1024),
    "convnext_tiny": ("classifier.2", 768),
    "swin_t": ("head", 768),
}


def pictures(n_samples=5, n_channels=3, height=9, width=8, dtype=np.uint8, seed=0):
    X = np.random.default_rng(seed).integers(256, size=(n_samples, n_channels, height, width))
    return X.astype(dtype) if dtype == np.uint8 else (X / 255).astype(dtype)


def make_network(n_channels=3, n_classes=4, *, seed=0):
    with OwnGenerator(seeded(seed)):
        return nn.Sequential(
            nn.Conv2d(n_channels, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Sequential(nn.Dropout(), nn.Linear(24, 10), nn.ReLU(), nn.Linear(10, n_classes)),
        )


class Tokens(nn.Module):
    """A small transformer of torch, with a class token."""

    def __init__(self, n_classes=4):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 2, stride=2)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, n_classes)
        self.spare = nn.Linear(8, 8)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        return self.head(self.encoder(x)[:, 0])


def make_tokens(seed=0):
    with OwnGenerator(seeded(seed)):
        return Tokens()


@torch.no_grad()
def features_of(network, X):
    """Return what `make_network` gives to its last layer, for pictures one by one."""
    network = copy.deepcopy(network).double().eval()
    network[5][3] = nn.Identity()
    X = torch.from_numpy(X.astype(np.float64) / (255 if X.dtype == np.uint8 else 1))
    return torch.cat([network(x[None]) for x in X]).numpy()


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


# -- a network of one's own ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_features_are_what_the_classifier_is_given(dtype):
    X, network = pictures(dtype=dtype), make_network()
    fitted = BackboneFeatures(network, device="cpu").fit(X)
    X_new = fitted.transform(X)
    assert fitted.layer_ == "5.3"
    assert X_new.dtype == np.float32
    assert X_new.shape == (5, 10)
    np.testing.assert_allclose(X_new, features_of(network, X), rtol=1e-4, atol=1e-5)
    for batch_size in (1, 2, 100):
        chunked = fitted.set_params(batch_size=batch_size).transform(X)
        np.testing.assert_allclose(chunked, X_new, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_stays_as_it_is(training):
    network = make_network().train(training)
    network[0].weight.requires_grad_(False)
    before, layers = state_of(network), [*network.modules()]
    transformer = BackboneFeatures(network).fit(pictures())
    transformer.transform(pictures())
    assert transformer.backbone is network
    assert all(a is b for a, b in zip(layers, network.modules(), strict=True))
    assert {m.training for m in network.modules()} == {training}
    assert [p.requires_grad for p in network.parameters()][:2] == [False, True]
    assert not any(p.grad is not None or m._forward_hooks for m in layers for p in m.parameters())
    assert_same(before, state_of(network))
    assert not transformer.network_.training
    with torch.no_grad():
        network[0].weight.zero_()
    assert np.ptp(transformer.transform(pictures())) > 0  # it has a network of its own


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_other_types(dtype):
    network = make_network()
    X_new = BackboneFeatures(copy.deepcopy(network).to(dtype)).fit_transform(pictures())
    assert X_new.dtype == np.float32
    tolerance = 1e-5 if dtype == torch.float64 else 0.1
    np.testing.assert_allclose(X_new, features_of(network, pictures()), atol=tolerance)


@pytest.mark.parametrize(
    ("layer", "n_features"), [("0", 6), ("2", 6), ("4", 24), ("5.0", 24), ("5", 4), ("", 4)]
)
def test_layers_by_name(layer, n_features):
    network, X = make_network(), pictures()
    X_new = BackboneFeatures(network, layer=layer).fit_transform(X)
    assert X_new.shape == (5, n_features)
    x = torch.from_numpy(X / 255).double()
    stop = {"0": 1, "2": 3, "4": 5, "5.0": 5}.get(layer, 6)
    with torch.no_grad():
        expected = copy.deepcopy(network).double().eval()[:stop](x)
    expected = expected.mean(dim=(2, 3)) if expected.ndim == 4 else expected
    np.testing.assert_allclose(X_new, expected, rtol=1e-4, atol=1e-5)


def test_tokens_are_averaged():
    network, X = make_tokens().eval(), pictures(height=8)
    x = torch.from_numpy(X / 255).float()
    with torch.no_grad():
        x = network.embed(x).flatten(2).transpose(1, 2)
        expected = network.encoder(torch.cat([network.token.expand(5, -1, -1), x], dim=1))
    found = BackboneFeatures(network, layer="encoder", random_state=0).fit_transform(X)
    np.testing.assert_allclose(found, expected.mean(dim=1), rtol=1e-4, atol=1e-5)
    of_token = BackboneFeatures(network, random_state=0).fit_transform(X)
    np.testing.assert_allclose(of_token, expected[:, 0], rtol=1e-4, atol=1e-5)


def test_what_follows_the_layer_is_not_computed():
    network = make_network()
    network[5] = nn.Unflatten(1, (7, 7))  # it does not fit
    assert BackboneFeatures(network, layer="4").fit_transform(pictures()).shape == (5, 24)


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x) + torch.rand(x.shape)


def test_layers_that_draw_do_not_use_the_global_generator():
    network = nn.Sequential(Noisy(), *make_network())
    first, again, other = (
        BackboneFeatures(network, random_state=s).fit_transform(pictures()) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("size", [16, (12, 20)])
def test_pictures_are_resized(size):
    network, X = make_network(), pictures()
    pair = [size] * 2 if isinstance(size, int) else list(size)
    expected = F.interpolate(
        torch.from_numpy(X / 255), pair, mode="bilinear", antialias=True
    ).numpy()
    found = BackboneFeatures(network, size=size).fit_transform(X)
    np.testing.assert_allclose(found, features_of(network, expected), rtol=1e-4, atol=1e-5)


# -- torchvision --------------------------------------------------------------------------


def test_weights_are_drawn_from_random_state():
    X = pictures(2, height=32, width=32)
    first, again, other = (
        BackboneFeatures("shufflenet_v2_x0_5", random_state=s).fit(X) for s in (0, 0, 1)
    )
    assert_same(first.network_.state_dict(), again.network_.state_dict())
    np.testing.assert_array_equal(first.transform(X), again.transform(X))
    assert not np.allclose(first.transform(X), other.transform(X))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_classifier_is_found(name):
    X = pictures(2, height=40, width=40)
    transformer = BackboneFeatures(name, random_state=0).fit(X)
    layer, n_features = FAMILIES[name]
    assert transformer.layer_ == layer
    assert transformer.transform(X).shape == (2, n_features)


def test_the_classifier_of_a_vision_transformer():
    from torchvision.models import VisionTransformer

    with OwnGenerator(seeded()):
        network = VisionTransformer(8, 4, 1, 2, 16, 32, num_classes=5)
    with torch.no_grad():
        nn.init.constant_(network.heads.head.weight, 1.0)
    transformer = BackboneFeatures(network, size=8)
    assert transformer.fit_transform(pictures()).shape == (5, 16)
    assert transformer.layer_ == "heads.head"
    with pytest.raises(ValueError, match=r"\(3, 9, 8\): Wrong image height! .* a size to resize"):
        BackboneFeatures(network).fit(pictures())


@pytest.fixture
def hub(monkeypatch):
    """Instead of torch.hub: the weights that resnet18 has with the seed 5, and what was asked."""
    from torchvision.models import _api, get_model

    with OwnGenerator(seeded(5)):
        state = get_model("resnet18").state_dict()
    asked = []

    def load(url, *args, **kwargs):
        asked.append(url)
        return state

    monkeypatch.setattr(_api, "load_state_dict_from_url", load)
    return state, asked


def by_member(name):
    from torchvision.models import ResNet18_Weights

    return ResNet18_Weights[name]


@pytest.mark.parametrize(
    "weights",
    ["DEFAULT", "IMAGENET1K_V1", "ResNet18_Weights.IMAGENET1K_V1", by_member("IMAGENET1K_V1")],
)
def test_weights_by_name_come_with_their_transforms(hub, weights):
    from torchvision.models import ResNet18_Weights, get_model

    state, asked = hub
    X = pictures(2, height=20, width=26)
    transformer = clone(BackboneFeatures("resnet18", weights=weights)).fit(X)
    assert asked == [ResNet18_Weights.IMAGENET1K_V1.url]
    with OwnGenerator(seeded()):
        network = get_model("resnet18").eval()
    network.load_state_dict(state)
    network.fc = nn.Identity()
    with torch.no_grad():
        x = ResNet18_Weights.IMAGENET1K_V1.transforms()(torch.from_numpy(X))
        expected = network(x)
    assert x.shape == (2, 3, 224, 224)
    X_new = transformer.transform(X)
    np.testing.assert_allclose(X_new, expected, rtol=1e-3, atol=1e-4)
    again = pickle.loads(pickle.dumps(transformer))
    np.testing.assert_array_equal(again.transform(X), X_new)


def test_size_replaces_the_size_of_the_weights_only(hub):
    from torchvision.transforms.v2 import functional

    state, _ = hub
    X = pictures(2, height=20, width=26)
    x = torch.from_numpy((X / 255).astype(np.float32))
    x = functional.resize(x, [32, 32], antialias=True)
    x = functional.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).numpy()
    with OwnGenerator(seeded(5)):
        from torchvision.models import get_model

        network = get_model("resnet18")
    network.load_state_dict(state)
    expected = BackboneFeatures(network).fit_transform(x)
    found = BackboneFeatures("resnet18", weights="DEFAULT", size=32).fit_transform(X)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_classes", [4, 7])
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_weights_of_a_file(tmp_path, n_classes, kind):
    learned = make_network(n_classes=n_classes, seed=1)
    path = tmp_path / "weights.pt"
    torch.save(learned.state_dict(), path)
    network, X = make_network(), pictures()
    found = BackboneFeatures(network, weights=kind(path)).fit_transform(X)
    np.testing.assert_allclose(found, features_of(learned, X), rtol=1e-4, atol=1e-5)
    assert_same(state_of(network), state_of(make_network()))


def test_weights_of_a_file_for_a_name(tmp_path):
    from torchvision.models import get_model

    with OwnGenerator(seeded(3)):
        learned = get_model("shufflenet_v2_x0_5", num_classes=10)
    torch.save(learned.state_dict(), tmp_path / "weights.pt")
    X = pictures(2, height=32, width=32)
    found = BackboneFeatures("shufflenet_v2_x0_5", weights=tmp_path / "weights.pt")
    expected = BackboneFeatures(learned).fit_transform(X)
    np.testing.assert_array_equal(found.fit_transform(X), expected)


def test_torchvision_is_imported_when_it_is_used():
    code = (
        "import sys, sklearn_moe.preprocessing as p; p.BackboneFeatures('resnet18'); "
        "assert 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- copies, pickles, hashes --------------------------------------------------------------


def test_clones_and_copies():
    X, network = pictures(), make_network()
    fitted = BackboneFeatures(network, random_state=0).fit(X)
    expected = fitted.transform(X)
    np.testing.assert_array_equal(clone(fitted).fit_transform(X), expected)
    for same in (copy.copy(fitted), copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        assert isinstance(same.backbone, nn.Module)
        np.testing.assert_array_equal(same.transform(X), expected)
        np.testing.assert_array_equal(clone(same).fit_transform(X), expected)
    assert copy.copy(fitted).network_ is fitted.network_


@pytest.mark.parametrize("make", [make_network, make_tokens])
def test_hashes_are_of_values(make):
    X = pictures(height=8)
    transformer = BackboneFeatures(make(), random_state=0)
    expected = joblib.hash(transformer)
    assert joblib.hash(BackboneFeatures(make(), random_state=0)) == expected
    assert joblib.hash(clone(transformer)) == expected
    assert joblib.hash(pickle.loads(pickle.dumps(transformer))) == expected
    assert joblib.hash(BackboneFeatures(make(seed=1), random_state=0)) != expected
    changed = make()
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1
    assert joblib.hash(BackboneFeatures(changed, random_state=0)) != expected
    fitted = joblib.hash(clone(transformer).fit(X))
    assert joblib.hash(clone(transformer).fit(X)) == fitted
    assert joblib.hash(transformer) == expected


def test_stored_modules_keep_everything():
    network = make_network()
    tied = copy.deepcopy(network[5][1])
    tied.weight = network[5][1].weight  # one parameter in two places
    network.append(tied)
    network.register_buffer("table", torch.arange(3), persistent=False)
    network.scalar = torch.tensor(2.5, dtype=torch.bfloat16)
    network[0].bias.requires_grad_(False)
    again = pickle.loads(pickle.dumps(StoredModule(network)))
    assert type(again) is nn.Sequential
    assert_same(state_of(network), state_of(again))
    assert again[6].weight is again[5][1].weight
    assert again.table.tolist() == [0, 1, 2]
    assert "table" not in again.state_dict()
    assert again.scalar == 2.5
    assert again.scalar.dtype == torch.bfloat16
    flags = [p.requires_grad for p in network.parameters()]
    assert [p.requires_grad for p in again.parameters()] == flags
    assert again.training


FITS = []  # how many pictures each fit of Counting was given


class Counting(BackboneFeatures):
    def fit(self, X, y=None):
        FITS.append(len(X))
        return super().fit(X, y)


@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
def test_features_are_found_once_in_a_search(tmp_path):
    X, y = pictures(60), np.arange(60) % 3
    model = Pipeline(
        [
            ("features", Counting(make_network(), random_state=0)),
            ("clf", MoEClassifier(max_iter=2, early_stopping=False, random_state=0, device="cpu")),
        ],
        memory=Memory(tmp_path, verbose=0),
    )
    FITS.clear()
    search = GridSearchCV(model, {"clf__n_experts": [1, 2, 3]}, cv=2).fit(X, y)
    assert FITS == [30, 30, 60]  # two folds and the refit
    assert search.predict(X).shape == (60,)
    again = clone(model).set_params(features__backbone=make_network()).fit(X, y)
    assert len(FITS) == 3
    assert again.predict(X).shape == (60,)
    clone(model).set_params(features__backbone=make_network(seed=1)).fit(X, y)
    assert len(FITS) == 4


def test_names_and_frames():
    pandas = pytest.importorskip("pandas")
    X = pictures()
    transformer = BackboneFeatures(make_network()).set_output(transform="pandas")
    frame = transformer.fit_transform(X)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame) == [f"backbonefeatures{i}" for i in range(10)]
    assert list(transformer.get_feature_names_out()) == list(frame)


def test_another_device_gives_the_same(device):
    X = pictures()
    fitted = BackboneFeatures(make_network(), device="cpu").fit(X)
    expected = fitted.transform(X)
    found = fitted.set_params(device=device).transform(X)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert {p.device.type for p in fitted.network_.parameters()} == {"cpu"}
    on_gpu = make_network().to(device)
    np.testing.assert_allclose(BackboneFeatures(on_gpu).fit_transform(X), expected, atol=1e-3)
    assert {p.device.type for p in on_gpu.parameters()} == {device}


# -- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (BackboneFeatures("resnet19"), r"Unknown backbone='resnet19': pass a name of .*'resnet18'"),
        (BackboneFeatures("qqq"), r"such as \['resnet18', 'vit_b_16'\], or a torch.nn.Module"),
        (BackboneFeatures(5), "'backbone' parameter of BackboneFeatures must be"),
        (BackboneFeatures(weights=5), "'weights' parameter"),
        (BackboneFeatures(size=0), "'size' parameter"),
        (BackboneFeatures(size=(1, 2, 3)), r"size must be a positive integer or a pair \(height"),
        (BackboneFeatures(layer=3), "'layer' parameter"),
        (BackboneFeatures(batch_size=0), "'batch_size' parameter"),
        (
            BackboneFeatures("resnet18", weights="IMAGENET1K_V9"),
            r"neither a file nor known for backbone='resnet18': pass one of \['IMAGENET1K_V1'",
        ),
        (
            BackboneFeatures("resnet50", weights=by_member("DEFAULT")),
            r"known for backbone='resnet50': pass one of \['IMAGENET1K_V1', 'IMAGENET1K_V2'",
        ),
        (
            BackboneFeatures(make_network(), weights="DEFAULT"),
            "weights='DEFAULT' is no file, and a backbone of your own has no weights",
        ),
        (
            BackboneFeatures(make_network(), layer="5.9"),
            r"Sequential has no layer='5\.9'\. Name the layer .* one of \['5\.",
        ),
        (BackboneFeatures(make_network(), layer="qqq"), r"one of \['0', '1', '2'"),
        (
            BackboneFeatures(make_network()[:4]),
            r"No fully connected layer answers for Sequential\. .* layer='' is the network itself",
        ),
        (
            BackboneFeatures(nn.Sequential(*make_network(), nn.Softmax(dim=1))),
            "No fully connected layer answers",
        ),
        (BackboneFeatures(make_network(1)), r"of shape \(3, 9, 8\): .*1 channels"),
        (
            BackboneFeatures(make_tokens(), layer="spare", random_state=0),
            "layer='spare' has no part in what",
        ),
        (BackboneFeatures(nn.Flatten(0), layer=""), r"Features of 1 pictures are a tensor \(1, "),
    ],
)
def test_what_does_not_fit_is_named(transformer, message):
    with pytest.raises(ValueError, match=message):
        transformer.fit(pictures())


def test_networks_without_a_fully_connected_layer():
    with pytest.raises(ValueError, match=r"answers for SqueezeNet.*\['features', 'classifier'\]"):
        BackboneFeatures("squeezenet1_1", random_state=0).fit(pictures(1, height=40, width=40))
    features = BackboneFeatures("squeezenet1_1", layer="features", random_state=0)
    assert features.fit_transform(pictures(2, height=40, width=40)).shape == (2, 512)


def test_grey_pictures_for_a_network_of_colored_ones():
    with pytest.raises(ValueError, match=r"Grey pictures become colored by np\.repeat\(X, 3"):
        BackboneFeatures(make_network()).fit(pictures(n_channels=1))


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"x": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"(?s)is no state dict of Sequential.*Missing key"):
        BackboneFeatures(make_network(), weights=path).fit(pictures())
    torch.save(torch.zeros(3), path)
    with pytest.raises(ValueError, match="holds no state dict but a Tensor"):
        BackboneFeatures(make_network(), weights=path).fit(pictures())


def test_it_must_be_fitted():
    with pytest.raises(NotFittedError, match="BackboneFeatures instance is not fitted"):
        BackboneFeatures(make_network()).transform(pictures())
