"""Parts of one's own, written as an outside package would: one definition, one registration."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._registry import Registry
from sklearn_moe.nn import (
    ACTIVATIONS,
    BALANCES,
    EXPERTS,
    GATES,
    LOSSES,
    NETWORKS,
    NOISES,
    ROUTERS,
    TRUNKS,
    Balance,
    ExpertSpec,
    Head,
    LossSpec,
    RegressionHead,
    RouterSpec,
    TopKRouter,
)
from sklearn_moe.optim import SOLVERS, SolverSpec

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
BRIEF = {"n_experts": 3, "max_iter": 3, "tol": None, "random_state": 0}


# -- the parts ----------------------------------------------------------------------------


class Quadratic(torch.nn.Module):
    """An expert: the squares of a few projections."""

    def __init__(self, input_shape, n_outputs, width=4):
        super().__init__()
        self.project = torch.nn.Linear(input_shape[0], width)
        self.read = torch.nn.Linear(width, n_outputs)

    def forward(self, x):
        return self.read(self.project(x).square())


class Layer(torch.nn.Sequential):
    """A trunk: one layer."""

    def __init__(self, input_shape, activation="relu"):
        super().__init__(torch.nn.Linear(input_shape[0], 9), torch.nn.ReLU())
        self.activation = activation


class RunnerUp(TopKRouter):
    """A rule: the second best expert answers."""

    def forward(self, x, generator=None):
        route = super().forward(x, generator)
        second = route.noisy.detach().topk(2).indices[:, 1:]
        return route._replace(chosen=second, gate=self.gate(route.scores, route.noisy, second))


class Squares(Balance):
    """A balance: the sum of the squared mean gates, least if they are equal."""

    def loss(self, router, route, weight):
        return (weight.to(route.scores.dtype) @ route.scores.softmax(1)).square().sum()


def swish(z):
    """Return an activation."""
    return z * z.sigmoid()


class BrierHead(Head):
    """A loss of classes: the squared error of the probabilities."""

    kind = "classes"
    score_name = "acc"

    def loss(self, output, y):
        right = torch.nn.functional.one_hot(y, self.n_targets)
        return (self.predict(output) - right).square().sum(1)

    def predict(self, output):
        return output.softmax(1)

    def error(self, output, y):
        return 1 - self.predict(output).gather(1, y[:, None])[:, 0]

    def score(self, output, y):
        return (output.argmax(1) == y).to(output.dtype)


class LogCoshHead(RegressionHead):
    """A loss of numbers."""

    def density_loss(self, answers, y):
        return (y - answers).cosh().log().sum(-1)


class SignSGD(torch.optim.Optimizer):
    """A solver: steps of one length in every coordinate."""

    def __init__(self, params, lr=1e-3, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "solver__weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(group["lr"] * (p.grad.sign() + group["weight_decay"] * p))


class Hinges(torch.nn.Sequential):
    """A score network: one hidden layer."""

    def __init__(self, input_shape, n_experts):
        layers = torch.nn.Linear(input_shape[0], 8), torch.nn.ReLU(), torch.nn.Linear(8, n_experts)
        super().__init__(*layers)


def coin(x, scores, generator):
    """Return a noise: 0 or 1."""
    return torch.randint(2, (len(x), scores.shape[1]), generator=generator).to(scores)


def timid(scores, noisy, chosen):
    """Return a gate: half a sigmoid."""
    weights = scores.sigmoid() / 2
    return weights if chosen is None else weights.gather(1, chosen)


def of_scores(network):
    """Return a score network without what normalizes its samples behind a trunk."""
    return getattr(network, "network", network)


@dataclass
class Plugin:
    """A part, the entry of its registry, and what a fitted model has in its place."""

    registry: Registry
    entry: Any
    part: Any
    found: Callable


PLUGINS = {
    "trunk": Plugin(TRUNKS, Layer, Layer, lambda model: model.module_.trunk),
    "expert": Plugin(
        EXPERTS, ExpertSpec(Quadratic, ndim=2), Quadratic, lambda model: model.module_.experts[0]
    ),
    "router": Plugin(ROUTERS, RouterSpec(RunnerUp), RunnerUp, lambda model: model.module_.router),
    "balance": Plugin(BALANCES, Squares, Squares, lambda model: model.module_.router.balance),
    "activation": Plugin(
        ACTIVATIONS,
        swish,
        swish,
        lambda model: getattr(model.module_.experts[0][1], "function", None),
    ),
    "loss": Plugin(
        LOSSES,
        LossSpec(classes=BrierHead, regression=LogCoshHead),
        BrierHead,
        lambda model: model.net_.criterion_,
    ),
    "router__network": Plugin(
        NETWORKS,
        Hinges,
        Hinges,
        lambda model: getattr(of_scores(model.module_.router.network), "module", None),
    ),
    "router__noise": Plugin(NOISES, coin, coin, lambda model: model.module_.router.noise),
    "router__gate": Plugin(GATES, timid, timid, lambda model: model.module_.router.gate),
    "solver": Plugin(SOLVERS, SolverSpec(SignSGD), SignSGD, lambda model: model.net_.optimizer_),
}


@pytest.fixture
def registered():
    """Register every part as "mine" for the time of a test."""
    for plugin in PLUGINS.values():
        plugin.registry.register("mine", plugin.entry)
    yield
    for plugin in PLUGINS.values():
        del plugin.registry._entries["mine"]


def brief(parameter):
    """Return options of a brief fit in which the parameter has a meaning."""
    return BRIEF | ({"router": "top1"} if parameter == "router__noise" else {})


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


@pytest.mark.parametrize("parameter", PLUGINS)
def test_a_name_is_all_it_takes(registered, vectors, parameter):
    X, y = vectors
    clf = MoEClassifier().set_params(**brief(parameter), **{parameter: "mine"}).fit(X, y)
    assert is_used(clf, parameter)
    assert not is_used(MoEClassifier().set_params(**BRIEF).fit(X, y), parameter)
    np.testing.assert_allclose(clf.predict_proba(X).sum(1), 1)


@pytest.mark.parametrize("parameter", PLUGINS)
def test_the_part_itself_does_the_same_without_a_name(vectors, request, parameter):
    X, y = vectors
    part = PLUGINS[parameter].part
    by_itself = MoEClassifier().set_params(**brief(parameter), **{parameter: part}).fit(X, y)
    assert is_used(by_itself, parameter)
    request.getfixturevalue("registered")
    assert_same(by_itself, MoEClassifier().set_params(**brief(parameter), **{parameter: "mine"}).fit(X, y), X)


@pytest.mark.parametrize("parameter", PLUGINS)
def test_the_entry_of_a_registry_may_be_passed_as_it_is(vectors, parameter):
    X, y = vectors
    plugin = PLUGINS[parameter]
    of_entry, of_part = (
        MoEClassifier().set_params(**brief(parameter), **{parameter: choice}).fit(X, y)
        for choice in (plugin.entry, plugin.part)
    )
    assert_same(of_entry, of_part, X)


REGISTRIES = {parameter: plugin.registry for parameter, plugin in PLUGINS.items()}


@pytest.mark.parametrize(
    ("parameter", "name"),
    [(parameter, name) for parameter, registry in REGISTRIES.items() for name in registry],
)
def test_what_comes_with_the_library_may_be_passed_by_name_or_as_it_is(vectors, parameter, name):
    X, y = vectors
    results = []
    for choice in (name, REGISTRIES[parameter][name]):
        clf = MoEClassifier().set_params(**brief(parameter), **{parameter: choice})
        try:
            results.append(clf.fit(X, y).predict_proba(X))
        except ValueError:  # what is made for other samples
            results.append("refused")
    np.testing.assert_array_equal(*results)


def test_all_of_them_together(registered, vectors):
    X, y = vectors
    options = dict.fromkeys(PLUGINS, "mine") | {"activation": "auto"}  # Quadratic has its own
    clf = MoEClassifier().set_params(**BRIEF, **options, expert_width=2, solver__weight_decay=0.5).fit(X, y)
    assert all(is_used(clf, parameter) for parameter in PLUGINS if parameter != "activation")
    assert clf.module_.experts[0].project.out_features == 2
    assert clf.net_.optimizer_.defaults["weight_decay"] == 0.5


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("parameter", PLUGINS)
def test_searches_clones_and_pickles(registered, vectors, parameter, by_name):
    X, y = vectors
    default = MoEClassifier().get_params()[parameter]
    choice = "mine" if by_name else PLUGINS[parameter].part
    grid = {parameter: [default, choice]}
    clf = MoEClassifier().set_params(**brief(parameter))
    search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    clf = MoEClassifier().set_params(**brief(parameter), **{parameter: choice}).fit(X, y)
    twin = clone(clf)
    assert twin.get_params()[parameter] is choice
    assert_same(clf, twin.fit(X, y), X)
    again = pickle.loads(pickle.dumps(clf))
    assert is_used(again, parameter)
    assert_same(clf, again, X)
    assert_same(clf.partial_fit(X, y), again.partial_fit(X, y), X)


@pytest.mark.parametrize("solver", ["adam", "normalized_sgd"])
@pytest.mark.parametrize(
    ("expert", "shape"), [("mlp", (4,)), ("patch", (2, 2)), ("cnn", (3, 8, 8))]
)
def test_an_activation_that_learns_does_so_in_each_expert(expert, shape, solver):
    X = np.random.default_rng(0).normal(size=(60, *shape))
    given = torch.nn.PReLU(init=0.25)
    clf = MoEClassifier().set_params(expert=expert, activation=given, solver=solver, trunk=None, **BRIEF)
    clf.fit(X, np.arange(60) % 2)
    assert given.weight.item() == 0.25
    assert given.weight.dtype == torch.float32
    first = [next(p for p in e.parameters() if p.numel() == 1) for e in clf.module_.experts]
    assert len({weight.item() for weight in first} | {0.25}) == 4
    assert_same(clf, pickle.loads(pickle.dumps(clf)), X)


@pytest.mark.parametrize("loss", ["mine", LogCoshHead])
def test_a_loss_of_numbers(registered, vectors, loss):
    X, _ = vectors
    reg = MoERegressor().set_params(**BRIEF | {"max_iter": 20}, loss=loss).fit(X, X[:, 0])
    assert isinstance(reg.net_.criterion_, LogCoshHead)
    assert reg.loss_curve_[-1] < reg.loss_curve_[0]


def test_new_names_change_no_default(registered, vectors):
    X, y = vectors
    resolved = MoEClassifier().set_params(**BRIEF).fit(X, y).resolved_params_
    assert "mine" not in resolved.values()
    assert resolved["expert"] == "mlp"


def test_a_head_has_a_decision_without_writing_one(vectors):
    X, y = vectors
    clf = MoEClassifier().set_params(**BRIEF, loss=BrierHead).fit(X, y)
    proba = softmax(clf.decision_function(X), axis=1)
    np.testing.assert_allclose(proba, clf.predict_proba(X), rtol=1e-9)


# -- what is refused ----------------------------------------------------------------------


class BareHead(Head):
    """A head of classes without anything that only some routers and settings need."""

    kind = "classes"

    def loss(self, output, y):
        return torch.nn.functional.cross_entropy(output, y, reduction="none")

    def predict(self, output):
        return output.softmax(1)


def test_a_bare_head_is_enough_where_nothing_asks_for_more(vectors):
    X, y = vectors
    clf = MoEClassifier().set_params(**BRIEF, loss=BareHead).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X).sum(1), 1)


@pytest.mark.parametrize(
    ("parameters", "method", "reason"),
    [
        ({"router": "soft"}, "mix", "router='soft'"),
        ({"early_stopping": True}, "score", "early_stopping=True"),
        ({"solver": "normalized_sgd"}, "error", "learning_rate='residual'"),
    ],
)
@pytest.mark.parametrize("loss", [BareHead, lambda n: BareHead(n), LossSpec(classes=BareHead)])
def test_a_method_that_a_head_lacks_is_named(vectors, loss, parameters, method, reason):
    X, y = vectors
    message = f"BareHead has no method '{method}', which {reason} needs"
    with pytest.raises(TypeError, match=message):
        MoEClassifier().set_params(**BRIEF, loss=loss, train_transform=pytest.fail, **parameters).fit(X, y)


@pytest.mark.parametrize(
    ("estimator", "parameters", "error", "message"),
    [
        (MoEClassifier, {"loss": LogCoshHead}, ValueError, "not made for classes: its kind is 'nu"),
        (MoERegressor, {"loss": BrierHead}, ValueError, "not made for numbers: its kind is 'clas"),
        (
            MoEClassifier,
            {"loss": lambda n: n},
            TypeError,
            "Head; it returned int",
        ),
        (MoEClassifier, {"solver": lambda p, lr: 3}, TypeError, "Optimizer; it returned int"),
        (MoEClassifier, {"router__noise": dict}, TypeError, "router_noise=<class 'dict'> must be"),
        (
            MoEClassifier,
            {"router__network": lambda shape, n: n},
            TypeError,
            "Module; it returned in",
        ),
    ],
)
def test_what_is_none_of_its_kind_is_named(vectors, estimator, parameters, error, message):
    X, y = vectors
    with pytest.raises(error, match=message):
        estimator(**BRIEF, train_transform=pytest.fail, **parameters).fit(X, y)


@pytest.mark.parametrize(
    "shape",
    [
        (-5, -1),
        (2.0, 3.0),
        (2, 3.0),
        ("2", "3"),
        (0, 6),
        (-1, -1),
        (1, 2, 3, 1),
        (4, -1),
        (6,),
    ],
)
def test_sample_shapes_that_do_not_fit_are_refused(vectors, shape):
    X, y = vectors
    message = r"cannot be read from X of shape \(80, 6\)\. It is \(n_patches, patch_size\) or"
    with pytest.raises(ValueError, match=message) as refused:
        MoEClassifier().set_params(**BRIEF, sample_shape=shape).fit(X, y)
    assert str(refused.value).startswith(f"sample_shape={shape!r} ")


@pytest.mark.parametrize("shape", [(2, 3), [2, -1], np.array([-1, 3])])
def test_sample_shapes_that_fit(vectors, shape):
    X, y = vectors
    assert MoEClassifier().set_params(**BRIEF, sample_shape=shape).fit(X, y).input_shape_ == (2, 3)
