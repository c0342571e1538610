"""The report of the specialization against the metrics and against loops."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import raises
from made_up import two_lines
from sklearn import metrics as sk
from sklearn.preprocessing import StandardScaler

from sklearn_moe import MixtureRegressor, MoEClassifier, MoERegressor, metrics
from sklearn_moe._data.experts import view_of
from sklearn_moe.inspection import explain, region_rules
from sklearn_moe.metrics import specialization_report


@pytest.fixture(scope="module")
def fitted(patches):
    (X, y, _), _ = patches
    return MoEClassifier(max_iter=100, tol=None, random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def report(fitted, patches):
    _, (X, y, _) = patches
    return specialization_report(fitted, X, y)


def test_report_repeats_the_metrics(report, fitted, patches):
    """What the outputs of the experts score is compared with loops, below."""
    _, (X, y, clusters) = patches
    load = np.bincount(fitted.apply(X), minlength=8) / 1000
    for name, expected in {
        "n_samples": 1000,
        "n_experts": 8,
        "score": fitted.score(X, y),
        "load": load,
        "dead_experts": np.flatnonzero(load == 0),
    }.items():
        np.testing.assert_array_equal(getattr(report, name), expected, err_msg=name)
    assert report.score > 0.97
    assert report.verdict == "Regimes: four."
    assert metrics.dispatch_entropy(clusters, fitted.apply(X)) < 0.05
    assert str(specialization_report(fitted, X, y)) == str(report)


# -- special cases ------------------------------------------------------------------------


def test_wrong_input_is_explained(fitted, patches):
    _, (X, y, _) = patches
    with pytest.raises(TypeError, match=r"StandardScaler does not have apply, gate_proba"):
        specialization_report(StandardScaler(), X, y)
    router = SimpleNamespace(apply=abs, gate_proba=abs, predict=abs)
    with pytest.raises(TypeError, match=r"SimpleNamespace does not have expert_proba"):
        specialization_report(router, X, y)
    with pytest.raises(ValueError, match=r"X and y.*\[1000, 999\]"):
        specialization_report(fitted, X, y[1:])
    raises(ValueError, "y has no label in common", specialization_report, fitted, X, y + 9)
    labels = fit_kind("labels", *piecewise("labels"), max_iter=1)
    with pytest.raises(ValueError, match="y must hold 3 columns"):
        specialization_report(labels, X[:, 0, :2], np.c_[y, y])


# -- verdict ------------------------------------------------------------------------------


class Rules:
    """A mixture of another library: a rule for each range of the temperature, and its gate."""

    def __init__(self, outputs, gate):
        self.outputs, self.gate = np.asarray(outputs), np.asarray(gate)

    def gate_proba(self, X):
        return np.where(np.arange(len(self.outputs)) == self.apply(X)[:, None], 0.8, 0.1)

    def apply(self, X):
        return self.gate[np.digitize(X["temperature"], [10, 20])]

    def expert_predict(self, X):
        return self.outputs[:, np.digitize(X["temperature"], [10, 20])].T + X[["noise"]].to_numpy()

    def predict(self, X):
        return self.expert_predict(X)[np.arange(len(X)), self.apply(X)]


def weather():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "day": pd.date_range("2024-01-01", periods=600),
            "city": rng.choice(["Bonn", "Oslo", None], 600),
            "temperature": rng.uniform(0, 30, 600),
            "load": np.where(rng.uniform(size=600) < 0.1, np.nan, rng.normal(size=600)),
            "noise": rng.normal(0, 0.5, 600),
        }
    )
    return frame, np.digitize(frame["temperature"], [10, 20]) * 3.0


# Of each rule the output in three ranges of the temperature; y is 0, 3 and 6.
RIGHT, LOW, MIDDLE, HIGH = [0, 3, 6], [0, 0, 0], [3, 3, 3], [6, 6, 6]
SAME = "An ensemble: the experts are interchangeable (R2 of "


@pytest.mark.parametrize(
    ("outputs", "gate", "expected", "regimes"),
    [
        ([LOW, MIDDLE, HIGH], [0, 1, 2], "Regimes: three.", [0, 1, 2]),
        ([LOW, RIGHT, HIGH], [0, 1, 2], "Experts differ by region; some", [0, 0, 0]),
        ([LOW, RIGHT, RIGHT], [0, 1, 2], "Experts differ by region; some", [0, 0, 0]),
        ([RIGHT, RIGHT, RIGHT], [0, 1, 2], SAME, [0, 0, 0]),
        ([RIGHT] * 3, [0, 0, 0], "One expert handles nearly everything", [0, -1, -1]),
        ([[0, 3, 0], HIGH, LOW], [0, 0, 1], "Regimes: two.", [0, 1, -1]),
        ([LOW, [0, 3, 0], HIGH], [0, 1, 2], "Regimes: two.", [0, 0, 1]),
        ([HIGH, HIGH, HIGH], [0, 1, 2], "The model is no better than the mean of y", [0, 0, 0]),
    ],
)
def test_the_verdict_on_known_rules(outputs, gate, expected, regimes):
    X, y = weather()
    model = Rules(outputs, gate)
    report = specialization_report(model, X, y)
    assert report.verdict.startswith(expected)
    assert region_rules(model, X, y).verdict == report.verdict
    assert str(report).startswith(report.verdict)
    np.testing.assert_array_equal(report.regimes, regimes)
    assert report.specialized == (len({*map(tuple, outputs)}) > 1)


def test_gates_that_do_not_depend_on_the_sample_are_no_collapse():
    """Two regimes that no gate can tell from X: the score is that of the mean of y."""
    X, y, _ = two_lines()
    model = MixtureRegressor(n_components=2, gate=None, random_state=0).fit(X, y)
    report, gates = specialization_report(model, X, y), model.gate_proba(X)[0]
    assert (report.ensemble, len(report.dead_experts)) == (True, 0)
    np.testing.assert_allclose(report.load, gates)
    assert report.verdict.startswith("An ensemble: weights do not depend on the row (")
    assert report.gate_share == 0
    assert "cannot tell whether the data have regimes" in report.verdict
    assert "no regimes" not in str(report)
    assert set(report.regimes) == {-1}
    scores = [sk.r2_score(y, output) for output in model.expert_predict(X).T]
    figures = f"  R2, one expert alone{np.mean(scores):>8.3f}{report.score:>10.3f}  their mean"
    assert figures in str(report)
    assert "due to weights that depend on the row" in str(report)
    assert "(same weights for all rows)" in str(explain(model, X, rows=[0]))


class Pool:
    """A bag of networks, which are right, and two lines, each right on its side of 0, by gates."""

    def __init__(self, how):
        self.how = how

    def _experts_view(self, X):
        return view_of(self, X, ["mlp(n_layers=2)", "up", "down"])

    def gate_proba(self, X):
        right = (X[:, 0] > 0) + 0.0
        gates = {
            "constant": (0.7, 0.2, 0.1),
            "little": (0.68 + 0.04 * right, 0.2, 0.12 - 0.04 * right),
            "alone": (0, 0.02 * right, 1 - 0.02 * right),
            "region": (0.9 * right, 0.9 - 0.9 * right, 0.1),
            "regimes": (0.2, 0.8 - 0.8 * right, 0.8 * right),
        }[self.how]
        return np.column_stack([np.broadcast_to(gate, len(X)) for gate in gates])

    def apply(self, X):
        return self.gate_proba(X).argmax(axis=1)

    def expert_predict(self, X):
        return 3 * X[:, 1:] * np.c_[np.where(X[:, 0] > 0, 1, -1), -np.ones(len(X)), np.ones(len(X))]

    def predict(self, X):
        return np.sum(self.gate_proba(X) * self.expert_predict(X), axis=1)


@pytest.mark.parametrize(
    ("how", "verdict", "load"),
    [
        ("constant", "An ensemble: weights do not depend on the row (mlp .70, up .20, down", 0.7),
        ("little", "An ensemble: weights depend on the row for 0.", 0.7),
        ("region", "Experts differ by region; some", 0.55),
        ("regimes", "Regimes: two.", 0),
    ],
)
def test_kinds_of_experts_are_named(how, verdict, load):
    X = np.random.default_rng(0).uniform(-1, 1, (600, 2))
    pool, y = Pool(how), 3 * np.where(X[:, 0] > 0, 1, -1) * X[:, 1]
    report = specialization_report(pool, X, y)
    rules = region_rules(pool, X, y)
    assert str(report).startswith(report.verdict)
    assert report.verdict.startswith(verdict)
    assert rules.verdict == report.verdict
    assert rules.expert_names == report.expert_names == ("mlp", "up", "down")
    assert "3 kinds of experts (mlp, up, down)" in str(report)
    assert report.load[0] == pytest.approx(load, abs=0.03)
    by_mean = pool.expert_predict(X) @ pool.gate_proba(X).mean(axis=0)
    change = np.mean((pool.predict(X) - by_mean) ** 2)
    assert report.gate_share == pytest.approx(change / (change + by_mean.var()))
    assert report.ensemble == verdict.startswith("An ensemble") == (report.gate_share < 0.05)
    if report.ensemble:
        assert len(report.dead_experts) == 0
    else:
        assert rules.where[2 if how == "regimes" else 0][0].startswith("x0 > ")


def test_one_expert_with_nearly_all_weight_is_no_ensemble():
    X = np.random.default_rng(0).uniform(-1, 1, (600, 2))
    pool = Pool("alone")
    methods = "apply", "gate_proba", "predict", "expert_predict"
    unnamed = SimpleNamespace(**{method: getattr(pool, method) for method in methods})
    for model in (pool, unnamed):
        report = specialization_report(model, X, 3 * X[:, 1])
        assert report.gate_share < 0.01
        # A kind of a pool is a bag.
        assert report.ensemble == (model is pool)


def test_differences_that_are_small_or_uncertain_are_no_regimes():
    X, y = weather()
    # Others are worse by a 20th of what the mixture is better than the mean, at any certainty.
    slightly = [np.array(RIGHT) + 0.6 * (np.arange(3) != expert) for expert in range(3)]
    report = specialization_report(Rules(slightly, [0, 1, 2]), X, y)
    assert report.verdict.startswith(SAME)
    assert report.other_score < report.first_score - 0.01
    few = X.iloc[np.concatenate([np.flatnonzero(y == value)[:2] for value in (0, 3, 6)])]
    few = few.assign(noise=[-4, 0, -4, 0, 0, 4])
    mixture = Rules([LOW, MIDDLE, HIGH], [0, 1, 2])
    report = specialization_report(mixture, few, np.array([0, 4, 3, 7, 6, 2]))
    assert report.regimes.tolist() == [0, 0, 0]


# -- labels and regression ----------------------------------------------------------------


def piecewise(kind):
    """Return samples in four regions, each with its own function, and y."""
    rng = np.random.RandomState(0)
    X = rng.uniform(-1, 1, size=(400, 2))
    regions = 2 * (X[:, 0] > 0) + (X[:, 1] > 0)
    slopes = rng.normal(size=(4, 2, 3))
    Y = 1000 + np.einsum("ni,nio->no", X, slopes[regions]) * [1, 10, 100]
    if kind == "classes":
        return X, np.array(["no", "yes"])[(Y[:, 0] > 1000).astype(int)]
    if kind == "labels":
        return X, (Y > 1000).astype(int)
    return X, Y[:, 0] if kind == "numbers" else Y


def fit_kind(kind, X, y, **params):
    estimator = MoEClassifier if kind in ("classes", "labels") else MoERegressor
    params = {"n_experts": 5, "expert": "mlp", "max_iter": 10, "tol": None} | params
    params["random_state"] = 0
    return estimator(**params).fit(X, y)


@pytest.mark.parametrize(
    ("kind", "router"),
    [("classes", "topk"), ("labels", "soft"), ("numbers", "top1"), ("several numbers", "topk")],
)
def test_any_target_matches_loops(kind, router):
    X, y = piecewise(kind)
    moe = fit_kind(kind, X, y, router=router)
    report = specialization_report(moe, X, y)
    first = moe.apply(X).reshape(len(X), -1)[:, 0]
    rows, predicted = np.arange(len(X)), moe.predict(X)[:, np.newaxis]
    if kind == "classes":
        output, chance = moe.classes_[moe.expert_proba(X).argmax(axis=2)], np.mean(y == "yes")
        scores, own = (given == y[:, np.newaxis] for given in (output, predicted))
        chance = max(chance, 1 - chance)
    elif kind == "labels":
        output, chance = moe.expert_proba(X) > 0.5, np.mean(y == np.median(y, axis=0))
        scores, own = ((a == y[:, np.newaxis]).mean(axis=2) for a in (output, predicted))
    else:
        chance, shape = 0, (len(X), -1, np.size(y[0]))
        output, predicted = (a.reshape(shape) for a in (moe.expert_predict(X), predicted))
        errors = [(a - y.reshape(shape)) ** 2 for a in (output, predicted)]
        scores, own = ((1 - error / np.var(y, axis=0)).mean(axis=2) for error in errors)
    assert report.score == pytest.approx(own.mean())
    assert report.chance_score == pytest.approx(chance)
    assert report.first_score == pytest.approx(np.mean(scores[rows, first]))
    others = [scores[i, j] for i in rows for j in range(5) if j != first[i]]
    assert report.other_score == pytest.approx(np.mean(others))
    # Scores are called by their names.
    name = {"classes": "accuracy", "labels": "right labels"}.get(kind, "R2")
    crossed = "one expert alone" if router == "soft" else "other expert"
    assert f"\n  {name}  " in str(report)
    assert f"\n  {name}, {crossed} " in str(report)
    assert report.score_name == name
    column, plain = (
        specialization_report(moe, X, given) for given in (np.reshape(y, (400, -1)), y.tolist())
    )
    assert str(column) == str(plain)


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_a_single_expert(kind):
    X, y = piecewise(kind)
    moe = fit_kind(kind, X, y, n_experts=1, max_iter=2)
    report = specialization_report(moe, X, y)
    assert np.isnan(report.other_score)
    assert report.first_score == pytest.approx(report.score)
    assert report.verdict.endswith("no regimes found.")


def test_a_constant_output_has_no_unit():
    X, y = piecewise("several numbers")
    y[:, 2] = 7
    moe = fit_kind("several numbers", X, y)
    report = specialization_report(moe, X, y)
    assert report.score == pytest.approx(sk.r2_score(y[:, :2], moe.predict(X)[:, :2]))
    raises(ValueError, r"y is constant", specialization_report, moe, X, np.ones((len(X), 3)))
    with pytest.raises(ValueError, match=r"y must have as many outputs .* 3, got 1"):
        specialization_report(moe, X, y[:, 0])
