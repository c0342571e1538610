"""Parts of one's own, written as an outside package would: one definition, one registration."""

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from helpers import brief, refuses
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier, nn
from sklearn_moe._validation import Registry
from sklearn_moe.optim import SOLVERS, SolverSpec

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")


def make(model=MoEClassifier, **parameters):
    """Return an estimator for a brief fit."""
    defaults = {"expert": "mlp"} if "activation" in parameters else {}
    return brief(model, **defaults | parameters)


# -- the parts ----------------------------------------------------------------------------


class Quadratic(torch.nn.Module):
    """An expert: the squares of a few projections."""

    def __init__(self, input_shape, n_outputs, width=4):
        super().__init__()
        self.project = torch.nn.Linear(input_shape[0], width)
        self.read = torch.nn.Linear(width, n_outputs)

    def forward(self, x):
        return self.read(self.project(x).square())


class RunnerUp(nn.TopKRouter):
    """A router: the second best expert answers."""

    def forward(self, x, generator=None):
        route = super().forward(x, generator)
        second = route.noisy.detach().topk(2).indices[:, 1:]
        return route._replace(chosen=second, gate=self.gate(route.scores, route.noisy, second))


class Squares(nn.Balance):
    """A balance: the sum of the squared mean gates, least if they are equal."""

    def loss(self, router, route, weight):
        return (weight.to(route.scores.dtype) @ route.scores.softmax(1)).square().sum()


def swish(z):
    """Return an activation."""
    return z * z.sigmoid()


class BareHead(nn.Head):
    """A head of classes without anything that only some routers and settings need."""

    kind = "classes"

    def loss(self, output, y):
        return torch.nn.functional.cross_entropy(output, y, reduction="none")

    def predict(self, output):
        return output.softmax(1)


class BrierHead(BareHead):
    """A loss of classes: the squared error of the probabilities."""

    score_name = "acc"

    def loss(self, output, y):
        right = torch.nn.functional.one_hot(y, self.n_targets)
        return (self.predict(output) - right).square().sum(1)

    def error(self, output, y):
        return 1 - self.predict(output).gather(1, y[:, None])[:, 0]

    def score(self, output, y):
        return (output.argmax(1) == y).to(output.dtype)


class SignSGD(torch.optim.SGD):
    """A solver: steps of one length in every coordinate."""

    def step(self, closure=None):
        for p in (p for group in self.param_groups for p in group["params"]):
            p.grad = p.grad if p.grad is None else p.grad.sign()
        super().step(closure)


class Hinges(torch.nn.Linear):
    """A score network or a trunk: what is positive of a linear layer."""

    def __init__(self, input_shape, n_outputs=9):
        super().__init__(input_shape[0], n_outputs)

    def forward(self, x):
        return super().forward(x).relu()


def of_scores(network):
    """Return a score network without what normalizes its samples behind a trunk."""
    return getattr(getattr(network, "network", network), "module", None)


def activation_of(model):
    return getattr(model.module_.experts[0][1], "activation", None)


VECTORS_ONLY = nn.ExpertSpec(Quadratic, ndim=2)


class Plugin(NamedTuple):
    """A registry, the part, what a model has of it, and its entry if that is another thing."""

    registry: Registry
    part: Any
    found: Callable
    entry: Any = None


PLUGINS = {
    "trunk": Plugin(nn.TRUNKS, Hinges, lambda m: m.module_.trunk),
    "expert": Plugin(nn.EXPERTS, Quadratic, lambda m: m.module_.experts[0], VECTORS_ONLY),
    "router": Plugin(nn.ROUTERS, RunnerUp, lambda m: m.module_.router, nn.RouterSpec(RunnerUp)),
    "balance": Plugin(nn.BALANCES, Squares, lambda m: m.module_.router.balance),
    "activation": Plugin(nn.ACTIVATIONS, swish, activation_of),
    "loss": Plugin(nn.LOSSES, BrierHead, lambda m: m.net_.criterion_, nn.LossSpec(BrierHead)),
    "solver": Plugin(SOLVERS, SignSGD, lambda m: m.net_.optimizer_, SolverSpec(SignSGD)),
    "router__network": Plugin(nn.NETWORKS, Hinges, lambda m: of_scores(m.module_.router.network)),
}


@pytest.fixture
def registered():
    """Register every part as "mine" for the time of a test."""
    for plugin in PLUGINS.values():
        plugin.registry.register("mine", plugin.entry or plugin.part)
    yield
    for plugin in PLUGINS.values():
        del plugin.registry["mine"]


# -- in use -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vectors():
    """80 vectors of six features in three classes."""
    options = {"n_features": 6, "n_informative": 4, "n_classes": 3, "random_state": 0}
    return make_classification(80, **options)


def is_used(model, parameter):
    """Tell whether a fitted model holds the part."""
    part, found = PLUGINS[parameter].part, PLUGINS[parameter].found(model)
    return isinstance(found, part) if isinstance(part, type) else found is part


def assert_same(first, second, X):
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("parameter", PLUGINS)
def test_a_name_the_part_itself_and_its_entry_are_the_same(vectors, parameter):
    X, y = vectors
    plugin = PLUGINS[parameter]
    choices = ["mine", plugin.part, plugin.entry or plugin.part]
    models = [make(**{parameter: choice}).fit(X, y) for choice in choices]
    assert not is_used(make().fit(X, y), parameter)
    expected = models[0].predict_proba(X)
    np.testing.assert_allclose(expected.sum(1), 1)
    for choice, model in zip(choices, models, strict=True):
        assert is_used(model, parameter)
        np.testing.assert_array_equal(model.predict_proba(X), expected)
        twin = clone(model)
        assert twin.get_params()[parameter] == choice
        again = pickle.loads(pickle.dumps(model))
        assert is_used(again, parameter)
        assert_same(model.partial_fit(X, y), again.partial_fit(X, y), X)
    np.testing.assert_array_equal(twin.fit(X, y).predict_proba(X), expected)


@pytest.mark.usefixtures("registered")
def test_all_of_them_together_and_in_a_search(vectors):
    X, y = vectors
    options = dict.fromkeys(PLUGINS, "mine") | {"activation": "auto"}  # Quadratic has its own
    clf = make(**options, expert_width=2, solver__weight_decay=0.5).fit(X, y)
    assert all(is_used(clf, parameter) for parameter in PLUGINS if parameter != "activation")
    assert clf.module_.experts[0].project.out_features == 2
    assert clf.net_.optimizer_.defaults["weight_decay"] == 0.5
    grid = [{name: ["mine", plugin.part]} for name, plugin in PLUGINS.items()]
    search = GridSearchCV(make(router="top1"), grid, cv=2, error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    resolved = make(n_experts="auto").fit(X, y).resolved_params_  # new names change no default
    assert "mine" not in resolved.values()
    assert resolved["expert"] == ["deep", "piecewise", "linear"]


@pytest.mark.parametrize(
    ("expert", "shape", "solver"),
    [("mlp", (4,), "adam"), ("patch", (2, 2), "normalized_sgd"), ("cnn", (3, 8, 8), "adam")],
)
def test_an_activation_that_learns_does_so_in_each_expert(expert, shape, solver):
    X = np.random.default_rng(0).normal(size=(60, *shape))
    given = torch.nn.PReLU(init=0.25)
    clf = make(expert=expert, activation=given, solver=solver, trunk=None)
    clf.fit(X, np.arange(60) % 2)
    assert (given.weight.item(), given.weight.dtype) == (0.25, torch.float32)
    first = [next(p for p in e.parameters() if p.numel() == 1) for e in clf.module_.experts]
    assert len({weight.item() for weight in first} | {0.25}) == 4
    assert_same(clf, pickle.loads(pickle.dumps(clf)), X)


def test_a_batch_of_one_sample_cannot_be_normalized(vectors):
    def normalized(input_shape):
        return torch.nn.BatchNorm1d(*input_shape)

    message = "BatchNorm.* batch of one sample, got batch_size=1. Raise batch_size"
    refuses("one", message, make(trunk=normalized, batch_size=1).fit, *vectors)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ({"forward": lambda self, x: x}, "takes 2 positional arguments but 3"),
        ({"forward": lambda self, x, generator=None: x}, "no attribute 'gate'"),
        ({"combine": lambda self, experts, x: x}, "takes 3 positional arguments but 4"),
        ({"__init__": lambda self, network: None}, "unexpected keyword argument 'mix'"),
    ],
)
def test_a_method_of_a_router_that_does_not_fit_is_named(vectors, method, reason):
    router = type("Wrong", (nn.Router,), method)
    refuses(method, rf"^router=.*Wrong.*{reason}", make(router=router).fit, *vectors)


def test_a_head_needs_little_and_has_a_decision_without_writing_one(vectors):
    X, y = vectors
    for head in (BareHead, BrierHead):
        clf = make(loss=head).fit(X, y)
        proba = clf.predict_proba(X)
        np.testing.assert_allclose(proba.sum(1), 1)
        np.testing.assert_allclose(softmax(clf.decision_function(X), axis=1), proba, rtol=1e-9)


def test_a_method_that_a_head_lacks_is_named(vectors):
    X, y = vectors
    for method, reason, options in (
        ("mix", "soft", {"router": "soft"}),
        ("score", "early_stopping=True", {"early_stopping": True}),
        ("error", "solver__schedule='residual'", {"solver": "normalized_sgd"}),
    ):
        for loss in (BareHead, lambda n: BareHead(n), nn.LossSpec(classes=BareHead)):
            model = make(loss=loss, train_transform=pytest.fail, **options)
            refuses(options, f"BareHead has no method '{method}'.*{reason}", model.fit, X, y)
