"""A pool on a table: kinds of experts in a row, estimators among them, and their router."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import brief_fits, raises, refuses
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import (
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, normalize
from sklearn.svm import LinearSVC

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._data.router import fit_router
from sklearn_moe.inspection import explain
from sklearn_moe.nn import EXPERTS, LOSSES
from sklearn_moe.nn.heads import SquaredErrorHead, choose_head

pytestmark = brief_fits
DEEP = EXPERTS["mlp"].with_options(n_layers=2, width=20)
KINDS = ["linear", DEEP, EXPERTS["piecewise"].with_options(width=20)]
NAMES = ["linear", "deep(width=20)", "piecewise(width=20)"]
FOREST = RandomForestRegressor(10, max_depth=6)
FOREST_OF_CLASSES = RandomForestClassifier(10, max_depth=6)
make = partial(MoERegressor, expert=KINDS, max_iter=5, random_state=0)
make_classifier = partial(MoEClassifier, expert=KINDS, max_iter=5, random_state=0)


def wave(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 2))
    return X, np.sin(20 * X[:, 0]) + 0.1 * rng.normal(size=n)


def heavy_tails(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_cauchy((n, 4))
    return X, X @ [1.0, -2.0, 0.5, 3.0]


def stairs(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, np.floor(2 * X[:, 0]) * np.sign(X[:, 1]) + 0.1 * rng.normal(size=n)


def parts_of(model, X):
    """Return the gates and the predictions of the kinds."""
    is_regressor = isinstance(model, MoERegressor)
    return model.gate_proba(X), (model.expert_predict if is_regressor else model.expert_proba)(X)


# -- kinds in a row -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind", "best"),
    [(wave, KINDS[2], 2), (heavy_tails, KINDS[2], 0), (stairs, FOREST, 2)],
)
def test_the_router_finds_the_kind_that_is_right(data, kind, best):
    X, y = data(1000)
    model = make(expert=[*KINDS[:2], kind], max_iter=60).fit(X[:500], y[:500])
    gate, each = parts_of(model, X[500:])
    assert model.score(X[500:], y[500:]) > 0.75
    assert gate.mean(axis=0).argmax() == best
    assert gate[:, best].mean() > 0.9
    errors = np.mean((each - y[500:, np.newaxis]) ** 2, axis=0)
    assert errors.argmin() == best
    np.testing.assert_array_equal(model.apply(X[500:]), best)
    assert model.expert_load_ == pytest.approx(model.gate_proba(X[:500]).mean(axis=0), abs=1e-6)


def test_what_is_said_of_experts_is_of_kinds():
    X, y = heavy_tails(300)
    model = make(expert=[*KINDS, "linear"]).fit(X, y)
    assert model.expert_kinds_.tolist() == ["linear 1", *NAMES[1:], "linear 2"]
    assert model.resolved_params_["n_experts"] == 4
    assert model.gate_proba(X).shape == model.expert_predict(X).shape == (300, 4)
    assert model.expert_load_.sum() == pytest.approx(1)
    # Epochs of the kinds that are trained in steps, one after the other.
    kinds = model.net_.history[:, "kind"]
    assert kinds == sorted(kinds, key=NAMES.index)
    assert {*kinds} == {*NAMES[1:]}
    assert model.n_iter_ == len(model.loss_curve_) == len(kinds)


def test_predictions_are_those_of_the_kinds_by_their_gates():
    X, y = load_breast_cancer(return_X_y=True)
    model = make_classifier().fit(X[:300], y[:300])
    gate, each = parts_of(model, X)
    mixed = np.einsum("nk,nkc->nc", gate, each)
    mixed = normalize(mixed ** float(model.module_.sharpness), "l1")
    assert model.predict_proba(X) == pytest.approx(mixed, abs=1e-6)
    assert model.to_torch()(torch.from_numpy(X)).detach().numpy() == pytest.approx(mixed, abs=1e-5)
    # A kind is the mean of its members.
    x = torch.from_numpy(X)
    members = (
        model.module_.outputs_of(1, x, model.module_.encode(x)).softmax(2).mean(1).detach().numpy()
    )
    assert each[:, 1] == pytest.approx(members, abs=1e-6)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_a_pool_is_trained_further():
    X, y = load_breast_cancer(return_X_y=True)
    model = make_classifier(warm_start=True).fit(X[:300], y[:300])
    n_epochs = model.n_iter_
    assert model.fit(X[:300], y[:300]).n_iter_ == 2 * n_epochs
    before = parts_of(model, X)
    model.partial_fit(X[300:400], y[300:400])
    assert model.n_iter_ == 2 * n_epochs + 3  # an epoch of each kind, the linear one, too
    for name, old, new in zip(("gates", "experts"), before, parts_of(model, X), strict=True):
        assert (name != "gates") == (0 < np.abs(new - old).mean() < 0.1)
    assert model.score(X[400:], y[400:]) > 0.9
    first = make_classifier().partial_fit(X[:300], y[:300], classes=[0, 1])
    assert first.gate_proba(X[:1]) == pytest.approx(1 / 3)


def test_groups_are_hidden_together():
    X, y = wave(60)
    groups = np.arange(60) // 2
    oob = make(max_iter=8).fit(X[groups], y[groups], groups=groups).oob_prediction_
    assert oob[::2] == pytest.approx(oob[1::2])


@pytest.mark.parametrize("expert", [KINDS, ["linear", FOREST]])
def test_held_out_rows_or_none_that_are_hidden(expert):
    X, y = wave(300)
    held_out = make(expert=expert, early_stopping=True).fit(X, y)
    assert not hasattr(held_out, "oob_prediction_")
    assert hasattr(held_out, "validation_scores_") == (expert is KINDS)
    # All epochs are trained, and the router still knows what is worth more.
    fixed = make(expert=expert, early_stopping=False).fit(X, y)
    assert fixed.n_iter_ == 5 * len(expert[1:]) * (expert is KINDS)
    for model in (held_out, fixed):
        assert model.gate_proba(X)[0] != pytest.approx(1 / len(expert), abs=0.1)


ALONE = {"balance": "switch", "router": "top1", "router__learning_rate": 0.3}
ALONE |= {
    "router__network": lambda shape, n: torch.nn.Linear(*shape, n),
    "router__n_shared_experts": 1,
    "expert_loss_weight": 0.5,
}
ALONE |= {"standardize": False, "trunk": torch.nn.Identity(), "activation": "linear"}
ALONE |= {"solver": "normalized_sgd", "n_experts": 4, "expert": []}


@pytest.mark.parametrize("name", ALONE)
def test_what_does_not_go_together_is_refused(name):
    X, y = wave(40)
    message = f"(?i){name}.*(leave|use)"
    refuses(name, message, make().set_params(**{name: ALONE[name]}).fit, X, y)


def test_the_number_of_experts():
    X, y = load_breast_cancer(return_X_y=True)
    for n_experts in (1, 2, 3):
        kinds = make_classifier(n_experts).fit(X[:100], y[:100]).expert_kinds_
        assert kinds.tolist() == NAMES[:n_experts]
    single = make_classifier(1, expert=[FOREST_OF_CLASSES, "linear"]).fit(X[:100], y[:100])
    assert single.expert_kinds_.tolist() == ["RandomForestClassifier"]
    search = GridSearchCV(make_classifier(expert="auto"), {"n_experts": [1, 2, 4, 8]}, cv=2)
    losses = search.set_params(scoring="neg_log_loss").fit(X[:100], y[:100]).cv_results_
    assert len({*losses["mean_test_score"]}) == 4
    assert {*search.best_estimator_.expert_kinds_} == {"mlp"}


# -- estimators as kinds ------------------------------------------------------------------

REGRESSORS = [
    FOREST,
    KNeighborsRegressor(),
    HistGradientBoostingRegressor(max_iter=5),
    make_pipeline(PolynomialFeatures(3), Ridge()),
]


@pytest.mark.parametrize("estimator", REGRESSORS, ids=lambda e: type(e).__name__)
def test_an_estimator_is_a_kind(estimator):
    X, y = stairs(300)
    model = make(expert=["linear", estimator]).fit(X, y)
    gate, each = parts_of(model, X)
    assert gate[:, 1].mean() > 0.5
    assert model.predict(X) == pytest.approx((gate * each).sum(axis=1), rel=1e-6, abs=1e-6)
    assert model.expert_kinds_.tolist() == ["linear", type(estimator).__name__]
    members = [member.estimator for member in model.module_.experts[1].members]
    assert len(members) == 5
    Z = model.net_.map_batches(model.module_.encode, X)[:, model.module_.columns_of[1]]
    assert each[:, 1] == pytest.approx(
        np.mean([m.predict(Z) for m in members], axis=0) * y.std() + y.mean(), abs=1e-6
    )
    assert np.corrcoef(model.oob_prediction_, y)[0, 1] > 0.5
    for same in (pickle.loads(pickle.dumps(model)), clone(model).fit(X, y)):
        np.testing.assert_array_equal(same.predict(X), model.predict(X))
    # What an estimator draws comes from random_state; bags depend on the rows alone.
    other = clone(model).set_params(random_state=1).fit(X, y)
    assert np.array_equal(other.predict(X), model.predict(X)) == (estimator is not FOREST)
    raises(ValueError, type(estimator).__name__, model.to_torch)


def test_estimators_are_searched_and_explained():
    X, y = stairs(200)
    search = GridSearchCV(make(), {"expert": [["linear"], [FOREST], ["linear", FOREST]]}, cv=2)
    search.fit(X, y)
    model = search.best_estimator_
    assert "RandomForestRegressor" in model.expert_kinds_
    explanation = explain(model, X[:5], background=X[:20])
    total = explanation.base + explanation.contribution.sum(axis=1)
    assert total == pytest.approx(model.predict(X[:5]), abs=1e-4)


@pytest.mark.parametrize("loss", ["absolute_error", "gaussian", "poisson"])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_estimators_predict_what_a_loss_is_about(loss, n_outputs):
    X, y = stairs(300)
    y = np.abs(np.stack([y, X[:, 2] ** 2], axis=1)[:, :n_outputs]).squeeze()
    model = make(expert=["linear", FOREST], loss=loss).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert model.score(X, y) > 0.5


@pytest.mark.parametrize(
    ("early_stopping", "low", "high"), [("auto", 0.8, 1.6), (True, 0.8, 1.6), (False, 0.1, 0.8)]
)
def test_the_scale_of_an_estimator_is_that_of_rows_it_has_not_seen(early_stopping, low, high):
    X, y = stairs(600)
    y = np.stack([y, 100 * X[:, 2]], axis=1)
    noise = np.random.default_rng(0).normal(size=y.shape) * [2, 100]
    model = make(expert=[FOREST], loss="gaussian", early_stopping=early_stopping)
    _, std = model.fit(X[:300], (y + noise)[:300]).predict(X, return_std=True)
    errors = (y + noise - model.predict(X))[300:]
    ratio = std[300:].mean(axis=0) / np.sqrt(np.mean(errors**2, axis=0))
    assert low < ratio.min() < ratio.max() < high


@pytest.mark.parametrize("what", ["two", "three", "margin", "labels", "rare"])
def test_estimators_tell_classes(what):
    X, y = stairs(300)
    y = {"three": np.digitize(y, [-1, 1]), "rare": np.arange(300) == 7}.get(what, y > 0)
    y = np.stack([y, X[:, 2] > 0], axis=1).astype(int) if what == "labels" else y
    loss = "margin" if what == "margin" else "log_loss"
    for estimator in (FOREST_OF_CLASSES, KNeighborsClassifier(), LogisticRegression()):
        model = make_classifier(expert=[estimator, "linear"], loss=loss).fit(X, y)
        assert np.isfinite(model.predict_proba(X)).all()
        assert model.score(X, y) > (0.8 if estimator is FOREST_OF_CLASSES else 0.5)


def test_weights_of_estimators():
    X, y = stairs(200)
    weight = np.where(X[:, 2] > 0, 1.0, 0.1)
    for estimator in (FOREST, REGRESSORS[3]):
        plain, weighted = (make(expert=[estimator]).fit(X, y, w) for w in (None, weight))
        assert not np.allclose(plain.predict(X), weighted.predict(X))
    nearest = make(expert=["linear", KNeighborsRegressor()])
    raises(ValueError, "KNeighborsRegressor.*sample_weight", nearest.fit, X, y, weight)
    same = clone(nearest).fit(X, y).predict(X)
    assert nearest.fit(X, y, np.full(200, 3.0)).predict(X) == pytest.approx(same, abs=1e-6)


def test_estimators_read_numbers_of_a_frame():
    X, y = stairs(300)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame["step"] = np.where(X[:, 0] > 0, "high", None)
    frame.loc[::9, "a"] = np.nan
    model = make(expert=["linear", FOREST]).fit(frame, y)
    assert model.score(frame, y) > 0.7
    # Three numbers, whether the first one is missing, and a category.
    assert model.module_.experts[1].members[0].estimator.n_features_in_ == 5


def test_estimators_stay_as_they_are_in_chunks():
    X, y = stairs(300)
    y = y > 0
    for kind in (FOREST_OF_CLASSES, "trees"):
        model = make_classifier(expert=["linear", kind]).fit(X, y)
        before = model.expert_proba(X)
        with pytest.warns(UserWarning, match=r"\d% of the predictions, stay as `fit` has found"):
            after = model.partial_fit(X, y).expert_proba(X)
        np.testing.assert_array_equal(after[:, 1], before[:, 1])
        assert (after[:, 0] != before[:, 0]).any()
        first = clone(model).partial_fit
        raises(ValueError, "not trained chunk by chunk", first, X, y, classes=[False, True])
    alone = make_classifier(expert="trees").fit(X, y)
    raises(ValueError, "not trained chunk by chunk", alone.partial_fit, X, y)


def test_estimators_that_do_not_suit_are_refused():
    X, y = stairs(60)
    for model, estimator, message in (
        (make_classifier, LinearSVC(), "LinearSVC.*CalibratedClassifierCV"),
        (make_classifier, FOREST, "RandomForestRegressor.*must be a classifier"),
        (make, FOREST_OF_CLASSES, "RandomForestClassifier.*is no regressor"),
    ):
        refuses(message, message, model(expert=["linear", estimator]).fit, X, y > 0)


# -- the router ---------------------------------------------------------------------------
@pytest.mark.parametrize("loss", [name for name, spec in LOSSES.items() if spec.regression])
def test_weights_are_by_the_loss_of_the_mixture(loss):
    """Against a search over a grid, with the loss as it is computed for a mixture."""
    rng = np.random.default_rng(0)
    head = choose_head(loss, "regression")(1)
    y = torch.from_numpy(rng.normal(size=(200, 1)))
    y = y.exp() if head.is_rate else y
    noise = torch.from_numpy(rng.normal(size=(200, 2, head.n_outputs)))
    outputs = torch.zeros(200, 2, head.n_outputs, dtype=torch.double)
    outputs[..., :1] = y[:, None].log() if head.is_rate else y[:, None]
    outputs += noise * torch.tensor([[0.5], [0.7]])
    values, losses = head.mixing_parts(outputs, y)
    found = fit_router(values, losses, np.ones(200), np.empty((200, 0)), np.arange(200))

    def loss_of(share):
        gate = torch.tensor([share, 1 - share], dtype=torch.double).expand(200, 2)
        mixed = head.mix(gate.log(), outputs)
        mixed = mixed if head.has_scale else head.predict(mixed)
        mixed = mixed.log() if head.is_rate else mixed
        return head.loss(mixed, y).mean().item()

    shares = np.linspace(0.001, 0.999, 999)
    best = min(shares, key=loss_of)
    share = found.gates(np.empty((1, 0)))[0, 0]
    assert share == pytest.approx(best, abs=0.003)
    assert loss_of(share) == pytest.approx(loss_of(best), abs=1e-5)


def test_a_gate_reads_the_columns_only_where_that_helps():
    rng = np.random.default_rng(0)
    X, n = rng.normal(size=(600, 3)), 600
    y = torch.from_numpy(np.where(X[:, 0] > 0, X[:, 1], -X[:, 1]))[:, None]
    outputs = torch.from_numpy(np.stack([X[:, 1], -X[:, 1]], 1))[..., None]
    values, losses = SquaredErrorHead(1).mixing_parts(outputs, y)
    folds = np.arange(n) % 8
    gates = fit_router(values, losses, np.ones(n), X, folds).gates(X)
    assert np.mean(gates.argmax(axis=1) == (X[:, 0] < 0)) > 0.98
    either = outputs + torch.from_numpy(rng.normal(size=outputs.shape))
    values, losses = SquaredErrorHead(1).mixing_parts(either, outputs[:, 0])
    assert not fit_router(values, losses, np.ones(n), X, folds).slopes.any()


@pytest.mark.parametrize(("bend", "alone"), [(0.0, True), (0.3, False)])
def test_a_line_has_all_the_weight_where_a_mixture_is_no_better(bend, alone):
    rng = np.random.default_rng(0)
    x, n = rng.normal(size=600), 600
    y = torch.from_numpy(x + bend * x**2 + rng.normal(scale=0.5, size=n))[:, None]
    curve = x + bend * x**2 + rng.normal(scale=0.05, size=n)
    outputs = torch.from_numpy(np.stack([curve, x], 1))[..., None]
    values, losses = SquaredErrorHead(1).mixing_parts(outputs, y)
    for lines in [], [1]:
        weights = fit_router(values, losses, np.ones(n), x[:, None], np.arange(n) % 5, lines)
        share = weights.gates(x[:, None])[:, 1]
        assert (share.min() > 1 - 1e-9) == (alone and bool(lines))
