"""MoEClassifier as its users meet it."""

import re
import warnings
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
import scipy
import torch
from helpers import brief, raises
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from sklearn_moe import MoEClassifier
from sklearn_moe._data.validation import Samples, hold_out
from sklearn_moe.exceptions import ExpertCollapseWarning
from sklearn_moe.metrics import dispatch_entropy
from sklearn_moe.nn import EXPERTS, LOSSES, ROUTERS, TopKRouter
from sklearn_moe.optim import SOLVERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
# Three epochs are enough to see that something works, not for a router to learn.
make = partial(brief, n_experts=8)


def fit_on(X, y, sample_weight=None, **parameters):
    return make(**parameters).fit(X, y, sample_weight)


# -- it learns ----------------------------------------------------------------------------


def test_solves_what_a_single_expert_cannot(patches):
    (X, y, _), (X_test, y_test, clusters) = patches
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixture = MoEClassifier(random_state=0).fit(X, y)
    single = MoEClassifier(n_experts=1, max_iter=100, random_state=0).fit(X, y)
    assert single.module_.router is None
    np.testing.assert_array_equal(single.gate_proba(X), np.ones((1500, 1)))
    assert mixture.score(X_test, y_test) > 0.995
    assert single.score(X_test, y_test) < 0.85
    assert dispatch_entropy(clusters, mixture.apply(X_test)) < 0.02
    of_units, scaled = (fit_on(unit * X, y).predict_proba(unit * X) for unit in (1, 1024))
    np.testing.assert_allclose(scaled, of_units, atol=1e-6)  # the scale does not matter


def test_uint8_images_are_floats_of_0_to_1_and_not_mixed_with_others(images):
    X, y = images
    X = np.clip(40 * X + 80, 0, 255).astype(np.uint8)
    floats = X.astype(np.float32)
    in_bytes, of_unit, in_floats = (fit_on(A, y, n_experts=2) for A in (X, floats / 255, floats))
    expected = in_bytes.predict_proba(X)
    np.testing.assert_allclose(expected, of_unit.predict_proba(floats / 255), 1e-4)
    np.testing.assert_array_equal(in_bytes.predict_proba(torch.from_numpy(X)), expected)
    lists = in_floats.predict_proba(floats.tolist())
    np.testing.assert_array_equal(lists, in_floats.predict_proba(floats))
    for given, dtype in ((floats, "float32"), (X.astype(int), "int64"), (X.tolist(), "int64")):
        raises(ValueError, rf"^X .*{dtype}", in_bytes.predict, given)


# -- what it says -------------------------------------------------------------------------


def test_routes_answers_and_fitted_attributes_agree(patches):
    (X_fit, y_fit, _), (X, _, _) = patches
    fitted = fit_on(X_fit, y_fit, max_iter=30)
    gate, proba, experts = fitted.gate_proba(X), fitted.predict_proba(X), fitted.apply(X)
    assert gate.shape == (1000, 8)
    np.testing.assert_allclose(gate.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(experts, gate.argmax(1))
    each = fitted.expert_proba(X)
    assert each.shape == (1000, 8, 2)
    np.testing.assert_allclose(each[np.arange(1000), experts], proba, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[proba.argmax(1)])
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), proba, rtol=1e-5)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 30
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]
    expected = np.bincount(fitted.apply(X_fit), minlength=8) / len(X_fit)
    np.testing.assert_allclose(fitted.expert_load_, expected)
    assert fitted.module_ is fitted.net_.module_


# -- seeds --------------------------------------------------------------------------------


class Noisy(torch.nn.Flatten):
    """A layer that draws by itself."""

    def forward(self, x):
        return super().forward(x + torch.randn_like(x) * self.training)


def noisy_expert(input_shape, n_outputs):
    linear = torch.nn.Linear(int(np.prod(input_shape)), n_outputs)
    return torch.nn.Sequential(torch.nn.Dropout(0.5), Noisy(), linear)


def test_draws_of_parts_and_transforms_come_from_random_state(patches):
    (X, y, _), _ = patches
    state, batches = np.random.RandomState(0), []

    def jitter(x):
        batches.append(len(x))
        return x + torch.randn(x.shape)

    seeds = (0, 0, 1, state, state)
    curves = [fit_on(X, y, expert=noisy_expert, random_state=s).loss_curve_ for s in seeds]
    assert curves[0] == curves[1] != curves[2]
    assert curves[3] != curves[4]
    first, second = (fit_on(X, y, train_transform=jitter, batch_size=750) for _ in range(2))
    assert batches == [750] * 12
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert batches == [750] * 12  # none at prediction


# -- the course of a fit ------------------------------------------------------------------


def test_early_stopping_returns_to_the_best_weights(patches):
    (X, y, _), _ = patches
    wrong = np.random.default_rng(0).random(len(y)) < 0.2  # experts learn these, too, in the end
    y = np.where(wrong, 1 - y, y)
    clf = MoEClassifier(early_stopping=True, random_state=0).fit(X, y)
    assert clf.n_iter_ == len(clf.validation_scores_) < clf.resolved_params_["max_iter"]
    best = max(clf.validation_scores_)
    assert clf.validation_scores_[-1] < best
    # The split is drawn from random_state, so that the held-out samples can be had again.
    seed = np.random.RandomState(0).randint(2**31 - 1)
    _, held_out = hold_out(Samples(X, y, np.ones(len(y)), None), 0.1, seed, stratify=True)
    assert clf.score(held_out.X[:], held_out.y) == pytest.approx(best)


@pytest.mark.parametrize(("first", "second"), [("normalized_sgd", "adam"), ("adam", "sgd")])
def test_warm_start_goes_on_with_another_solver(patches, first, second):
    X, y = patches[0][0][:300], patches[0][1][:300]
    for router in ("top1", "soft"):
        clf = fit_on(X, y, router=router, solver=first, warm_start=True)
        before = clf.predict_proba(X)
        still = {"learning_rate_init": 1e-12, "router__learning_rate": 1e-12}
        clf.set_params(solver=second, max_iter=1, **still).fit(X, y)
        np.testing.assert_allclose(clf.predict_proba(X), before, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"solver__weight_decay": 1e-3, "balance": "switch"},
        {"expert": "patch_conv", "solver": SOLVERS["normalized_sgd"].with_options(norm="sum")},
        {"router": "sigmoid", "n_experts": 12},
        {"router": "soft", "expert_loss_weight": 0.5},
        {"router": "topk", "balance": "bias"},
        {"router__gate": "relative", "router__n_shared_experts": 1},
    ],
    ids="-".join,
)
def test_stacked_experts_learn_as_unstacked_ones(patches, options):
    (X, y, _), _ = patches
    X, weight = X[:300].astype(np.float64), np.linspace(0.5, 2, 300)
    spec = options.get("solver", SOLVERS["normalized_sgd"])
    options = {"max_iter": 8, "batch_size": 75} | options
    stacked, unstacked = (
        fit_on(X, y[:300], weight, **options | {"solver": replace(spec, units=units)})
        for units in (True, False)
    )
    assert type(stacked.module_.experts) is not type(unstacked.module_.experts)
    for answers in ("predict_proba", "expert_proba"):
        first, second = (getattr(clf, answers)(X) for clf in (stacked, unstacked))
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-12)


def test_warnings_point_at_the_line_of_the_caller(patches):
    (X, y, _), _ = patches
    clf = MoEClassifier(max_iter=2, random_state=0)
    search = GridSearchCV(clf, {"n_experts": [2]}, cv=2)
    for fit in (clf.fit, make_pipeline(clf).fit, search.fit):
        with pytest.warns(ConvergenceWarning, match="changing after max_iter=2 ep") as caught:
            fit(X[:100], y[:100])
        assert {warning.filename for warning in caught} == {__file__}


def test_collapse_warning_names_the_expert_and_the_remedies(patches):
    (X, y, _), _ = patches

    class Still(TopKRouter):
        """No noise and a router at zero: every tie goes to expert 0."""

        def forward(self, x, generator=None):
            return super().forward(x)

    with pytest.warns(ExpertCollapseWarning, match=r"Expert 0 .*100\.0% .*balance='switch'"):
        fit_on(X, y, router__learning_rate=0, router=Still)


SHAPES = {"table": (200,), "patches": (4, 50), "images": (2, 10, 10)}


@pytest.mark.parametrize("kind", SHAPES)
def test_remedies_of_a_collapse_are_taken(monkeypatch, patches, kind):
    (X, y, _), _ = patches
    X, y = X[:40].reshape(40, *SHAPES[kind]), y[:40]
    monkeypatch.setattr("sklearn_moe._training.finish._COLLAPSED", 0)  # all count as one
    for router, standardize in product(ROUTERS, ("auto", False)):
        if standardize and router != "top1":
            continue
        options = {"router": router, "standardize": standardize, "expert_width": 2, "n_experts": 3}
        options |= {"expert": "mlp"} if kind == "table" else {"max_iter": 1}
        with pytest.warns(ExpertCollapseWarning) as caught:
            fit_on(X, y, **options)
        message = str(caught[-1].message)
        assert ("scaler" in message) == (kind == "patches")
        assert ("standardize=" in message) == (kind != "patches" and standardize is False)
        named = re.findall(r"(balance|router__noise|standardize)='(\w+)'", message)
        for name, value in named:
            with pytest.warns(ExpertCollapseWarning):
                fit_on(X, y, **options | {name: value})
        assert ("balance", "switch") in named or router == "random"


def test_a_loss_that_explodes_is_named(patches):
    (X, y, _), _ = patches
    expert = EXPERTS["patch"].with_options(init_scale=1e3)
    with pytest.raises(ValueError, match=r"loss became (nan|inf) in epoch .*scale patches"):
        fit_on(1e12 * X, y, expert=expert, learning_rate_init=1e3, max_iter=50)
    for standardize in (True, False):  # what is standardized needs no scales
        options = {"activation": "linear", "solver": "sgd", "learning_rate_init": 1e30}
        with pytest.raises(ValueError, match="learning_rate_init") as failure:
            fit_on(X.reshape(len(X), -1), y, standardize=standardize, **options)
        assert ("standardize" in str(failure.value)) == (not standardize)


def test_a_transform_in_place_leaves_X_alone(patches):
    (X, y, _), _ = patches
    for batch_size, writeable in ((None, True), (400, False), (None, False)):
        given = X.copy()
        given.flags.writeable = writeable
        fit_on(given, y, train_transform=lambda x: x.mul_(2), batch_size=batch_size)
        np.testing.assert_array_equal(given, X)


def test_a_transform_of_torchvision_is_cloned_and_draws_from_the_seed(images):
    from torchvision.transforms import v2

    X, y = images
    crop = v2.RandomCrop(8, padding=2)  # it has a get_params of another kind
    clf = make(n_experts=2, train_transform=crop)
    assert clf.get_params()["train_transform"] is crop
    first, second = (clone(clf).fit(X, y) for _ in range(2))
    assert first.train_transform is not crop
    assert first.train_transform.size == (8, 8)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


# -- several labels -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def labels():
    X = np.random.default_rng(0).normal(size=(300, 5))
    return X, np.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 0] * X[:, 1] > 0], 1).astype(int)


@pytest.mark.parametrize("router", ["soft", "top1", "sigmoid"])
def test_several_labels(labels, router):
    X, Y = labels
    clf = fit_on(X, Y, n_experts=3, router=router, max_iter=40)
    proba = clf.predict_proba(X)
    np.testing.assert_array_equal(clf.predict(X), proba > 0.5)
    np.testing.assert_allclose(scipy.special.expit(clf.decision_function(X)), proba, atol=1e-6)
    assert clf.expert_proba(X).shape == (300, 3, 3)
    assert clf.classes_.tolist() == [0, 1, 2]
    assert (clf.predict(X) == Y).mean() > 0.7


def test_labels_are_held_out_and_taken_in_parts(labels):
    X, Y = labels
    clf = fit_on(X, Y, early_stopping=True, class_weight="balanced")
    assert 0 < clf.validation_scores_[-1] <= 1
    assert (clf.predict(X) == Y).all(1).mean() == clf.score(X, Y)
    clf = make().partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y, classes=[0, 1, 2])
    assert clf.n_iter_ == 2
    raises(ValueError, r"\(n_samples, 3\), a column per label", clf.partial_fit, X, Y[:, :2])
    raises(ValueError, r"zeros and ones.*MultiOutputClassifier", clf.fit, X, Y + np.arange(3))


def test_the_loss_says_whether_there_may_be_several_labels_or_classes(labels):
    X, Y = labels
    assert get_tags(MoEClassifier()).classifier_tags.multi_label
    for loss in ("probabilities", LOSSES["log_loss"].classes):
        clf = MoEClassifier(loss=loss)
        assert not get_tags(clf).classifier_tags.multi_label
        raises(ValueError, r"not made for|predicts classes|labels", clf.fit, X, Y)
