"""The report of the specialization against the metrics and against loops."""

import sys
from contextlib import nullcontext
from dataclasses import replace
from html import escape
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from helpers import make_table, raises
from made_up import two_lines
from scipy.stats import entropy
from sklearn import metrics as sk
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler, scale

from sklearn_moe import MixtureRegressor, MoEClassifier, MoERegressor, metrics
from sklearn_moe._data.statistics import find_centers
from sklearn_moe.exceptions import WorseThanNullWarning
from sklearn_moe.inspection import RoutingDisplay, region_rules
from sklearn_moe.metrics import specialization_report
from sklearn_moe.metrics._report import _format
from sklearn_moe.metrics._specialization import _kmeans_routes

# Most fits here are too short to learn much.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.WorseThanNullWarning")


@pytest.fixture(scope="module")
def fitted(patches):
    (X, y, _), _ = patches
    return MoEClassifier(random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def report(fitted, patches):
    _, (X, y, clusters) = patches
    return specialization_report(fitted, X, y, clusters, random_state=0)


def test_report_repeats_the_metrics(report, fitted, patches):
    """What the outputs of the experts score is compared with loops, below."""
    _, (X, y, clusters) = patches
    experts = fitted.apply(X)
    load = metrics.expert_load(experts, n_experts=8)
    matrix = metrics.routing_matrix(clusters, experts, n_experts=8)
    own, other = metrics.own_other_error(report.error_matrix, matrix)
    for name, expected in {
        "n_samples": 1000,
        "n_experts": 8,
        "score": fitted.score(X, y),
        "load": load,
        "load_cv": metrics.load_cv(load),
        "usage_entropy": metrics.usage_entropy(load),
        "dead_experts": metrics.dead_experts(load),
        "router_margin": metrics.router_margin(fitted.gate_proba(X)).mean(),
        "cluster_labels": range(4),
        "routing_matrix": matrix,
        "own_error": own,
        "other_error": other,
    }.items():
        np.testing.assert_array_equal(getattr(report, name), expected, err_msg=name)
    assert report.entropy_test.entropy == metrics.dispatch_entropy(clusters, experts)
    assert vars(report.agreement) == {
        "entropy": metrics.dispatch_entropy(clusters, experts),
        "normalized_entropy": metrics.dispatch_entropy(clusters, experts, normalize=True),
        "mutual_information": metrics.mutual_information(clusters, experts),
        "nmi": sk.normalized_mutual_info_score(clusters, experts),
        "ari": sk.adjusted_rand_score(clusters, experts),
        "ami": sk.adjusted_mutual_info_score(clusters, experts),
        "purity": metrics.purity(clusters, experts),
    }


def test_report_finds_specialization(report, fitted, patches):
    assert report.score > 0.97
    assert report.entropy_test.p_value < 0.01
    assert report.agreement.entropy < 0.2 < report.kmeans_agreement.entropy
    assert report.agreement.nmi > report.kmeans_agreement.nmi
    assert report.agreement.purity > report.null_agreement.purity + 0.5
    alive = report.load > 0.05
    assert (report.own_error[alive] + 0.2 < report.other_error[alive]).all()
    again = specialization_report(fitted, *patches[1], random_state=0)
    assert str(again) == str(report)


def test_null_is_the_mean_over_shuffles(fitted, patches):
    _, (X, y, clusters) = patches
    clusters = clusters // 2  # their entropy is about half of that of the experts
    report = specialization_report(fitted, X, y, clusters, random_state=0)
    experts, rng = fitted.apply(X), np.random.RandomState(0)
    shuffled = [rng.permutation(clusters) for _ in range(200)]
    for name, metric in {
        "mutual_information": metrics.mutual_information,
        "nmi": sk.normalized_mutual_info_score,
        "purity": metrics.purity,
        "ari": sk.adjusted_rand_score,
    }.items():
        expected = np.mean([metric(labels, experts) for labels in shuffled])
        close = {"purity": 0.003, "ari": 0.001}.get(name, 0.15 * expected)
        assert getattr(report.null_agreement, name) == pytest.approx(expected, abs=close), name
    of_clusters = entropy(np.bincount(clusters))
    expected = report.entropy_test.null_mean / of_clusters
    assert report.null_agreement.normalized_entropy == pytest.approx(expected)


# -- text, table and HTML -----------------------------------------------------------------


def test_text(report):
    text = str(report)
    lines = text.splitlines()
    assert lines[:2] == [report.verdict, ""]
    assert lines[2] == "Specialization: 8 experts, 1000 samples, 4 clusters"
    assert lines[3].split() == ["value", "baseline", "k-means"]
    assert max(map(len, lines)) <= 100
    assert "baseline: clusters shuffled" in text
    assert f"p = {report.entropy_test.p_value:.2g}" in text
    (values,) = [line for line in lines if line.startswith("  dispatch entropy  ")]
    columns = (report.agreement, report.null_agreement, report.kmeans_agreement)
    assert values.split()[2:5] == [f"{agreement.entropy:.3f}" for agreement in columns]
    assert lines[3].index("k-means") + 7 == values.index("  0: ")  # in columns
    matrix = [[int(cell) for cell in line.split()[1:]] for line in lines[-4:]]
    np.testing.assert_array_equal(matrix, report.routing_matrix)
    assert repr(report).startswith("SpecializationReport(n_samples=1000, n_experts=8, score=")
    assert "dispatch_entropy=" in repr(report)
    eight = ": 0, 1, 2, 3, 4, 5, 6, 7"
    for n, named in ((0, ""), (2, ": 0, 1"), (8, eight), (9, f"{eight}, ...")):
        assert f"no sample{named}\n" in str(replace(report, dead_experts=np.arange(n)))


def test_frame(report, monkeypatch):
    frame = report.to_frame()
    assert list(frame.columns) == ["group", "value", "baseline", "reading", "kmeans"]
    assert frame.loc["purity", "value"] == report.agreement.purity
    assert frame.loc["purity", "baseline"] == report.null_agreement.purity
    assert frame.loc["purity", "kmeans"] == report.kmeans_agreement.purity
    assert frame.loc["accuracy", "baseline"] == report.chance_score
    # Of even loads, or of random routes.
    nulls = frame.loc[["usage entropy", "dead experts", "load CV"], "baseline"]
    assert nulls.tolist() == [1, 0, pytest.approx((7 / 1000) ** 0.5)]
    removed, other = (frame.loc[f"accuracy, {name}"] for name in ("expert removed", "other expert"))
    assert removed["value"] == report.ablation_scores.min()
    assert f"without expert {report.ablation_scores.argmin()};" in removed["reading"]
    assert "all experts" not in removed["reading"]
    assert other["value"] == report.other_score
    assert removed["baseline"] == other["baseline"] == report.first_score
    alive = ~np.isnan(report.own_error)
    errors = (report.own_error, report.other_error)
    means = [np.average(error[alive], weights=report.load[alive]) for error in errors]
    assert frame.loc["error on own cluster", ["value", "baseline"]].tolist() == pytest.approx(means)
    assert all(name in str(report) for name in frame.index)
    monkeypatch.setitem(sys.modules, "pandas", None)
    raises(ImportError, r"to_frame needs pandas. Install it with `pip install", report.to_frame)


def test_html(report):
    html = report._repr_html_()
    cells = {"".join(c.itertext()) for c in ElementTree.fromstring(f"<a>{html}</a>").iter("td")}
    for name, value in report.to_frame()["value"].items():
        assert name in cells
        assert f"{value:.3f}" in cells or str(int(value)) in cells
    assert {str(int(count)) for count in report.routing_matrix.ravel()} <= cells
    # A cluster without samples is white, and labels are escaped.
    matrix = report.routing_matrix.copy()
    matrix[1] = 0
    labels = np.array([f"<b>{label}" for label in report.cluster_labels])
    html = replace(report, routing_matrix=matrix, cluster_labels=labels)._repr_html_()
    assert html.count("178, 0.00)") >= report.n_experts
    assert "178, 0.60)" in html
    assert "nan" not in html
    assert "<td>&lt;b&gt;0</td>" in html


def test_scores_far_below_zero_keep_the_columns():
    values = [0.5, -12.3456, -1234.5678, -1.5e7, -1e300, 7, np.nan]
    shown = [_format(value) for value in values]
    assert shown == ["0.500", "-12.346", "-1235", "-2e+07", "-1e+300", "7", "-"]


# -- special cases ------------------------------------------------------------------------


def test_without_clusters_or_with_many(fitted, report, patches):
    _, (X, y, _) = patches
    without = specialization_report(fitted, X, y)
    assert without.score == report.score
    assert without.agreement is without.routing_matrix is without.entropy_test is None
    groups = {"All samples", "Load", "Ablation and cross-evaluation"}
    assert set(without.to_frame()["group"]) == groups
    assert "clusters" not in str(without).lower()
    assert "k-means" not in str(without) + without._repr_html_()
    assert "entropy" not in repr(without)
    options = {"n_permutations": 10, "random_state": 0}
    for n_clusters, has_matrix in ((20, True), (25, False)):
        clusters = np.arange(1000) % n_clusters + 0.5  # of which scikit-learn would warn
        many = specialization_report(fitted, X, y, clusters, **options)
        assert many.routing_matrix.shape == (n_clusters, 8)
        assert ("Routing matrix" in str(many)) == has_matrix
    one = specialization_report(fitted, X, y, np.zeros(1000), **options)
    assert one.agreement == one.null_agreement
    assert np.isnan(one.other_error).all()


def test_wrong_input_is_explained(fitted, patches):
    _, (X, y, clusters) = patches
    with pytest.raises(TypeError, match=r"StandardScaler does not have apply, gate_proba"):
        specialization_report(StandardScaler(), X, y)
    router = SimpleNamespace(apply=abs, gate_proba=abs, predict=abs)
    with pytest.raises(TypeError, match=r"SimpleNamespace does not have expert_proba"):
        specialization_report(router, X, y)
    with pytest.raises(ValueError, match=r"clusters.*\[1000, 1000, 999\]"):
        specialization_report(fitted, X, y, clusters[1:])
    with pytest.raises(TypeError, match=r"stability must be .* got dict"):
        specialization_report(fitted, X, y, stability={})
    for name in ("n_permutations", "random_state"):
        raises(ValueError, f"'{name}'", specialization_report, fitted, X, y, **{name: -1})


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
        ([LOW, MIDDLE, HIGH], [0, 1, 2], "Regimes: three, split by temperature.", [0, 1, 2]),
        ([LOW, RIGHT, HIGH], [0, 1, 2], "Experts differ by region: expert 1 where ", [0, 0, 0]),
        ([LOW, RIGHT, RIGHT], [0, 1, 2], "Experts differ by region: expert 1 where ", [0, 0, 0]),
        ([RIGHT, RIGHT, RIGHT], [0, 1, 2], SAME, [0, 0, 0]),
        ([RIGHT] * 3, [0, 0, 0], "One expert handles nearly everything", [0, -1, -1]),
        ([[0, 3, 0], HIGH, LOW], [0, 0, 1], "Regimes: two, split by temperature.", [0, 1, -1]),
        ([LOW, [0, 3, 0], HIGH], [0, 1, 2], "Regimes: two, split by temperature.", [0, 0, 1]),
        ([HIGH, HIGH, HIGH], [0, 1, 2], "The model is no better than the mean of y", [0, 0, 0]),
    ],
)
def test_the_verdict_on_known_rules(outputs, gate, expected, regimes):
    X, y = weather()
    worse = pytest.warns(WorseThanNullWarning) if outputs[0] == HIGH else nullcontext()
    with worse:
        known = X["city"].eq("Bonn")
        report = specialization_report(Rules(outputs, gate), X, y, known, random_state=0)
    assert report.verdict.startswith(expected)
    assert f"<b>{escape(report.verdict)}</b>" in report._repr_html_()
    np.testing.assert_array_equal(report.regimes, regimes)
    assert report.specialized == (len({*map(tuple, outputs)}) > 1)
    stability = SimpleNamespace(scores=np.ones(20), n_agree=19)
    trusted = replace(report, stability=stability).verdict
    assert ("; trust: 19 of 20 refits agree." in trusted) == (max(regimes) > 0)


@pytest.mark.parametrize("kind", ["classes", "lines"])
def test_gates_that_do_not_depend_on_the_sample_are_no_collapse(kind):
    if kind == "classes":
        X, y = load_iris(return_X_y=True)
        model = MoEClassifier(4, expert="mlp", max_iter=20, random_state=0)
        outputs = model.fit(X, y).expert_proba(X).argmax(axis=2)
    else:  # two regimes that no gate can tell from X: the score is that of the mean of y
        X, y, _ = two_lines()
        model = MixtureRegressor(n_components=2, gate=None, random_state=0)
        outputs = model.fit(X, y).expert_predict(X)
    report, gates = specialization_report(model, X, y, random_state=0), model.gate_proba(X)[0]
    assert (report.ensemble, report.top_k, len(report.dead_experts)) == (True, len(gates), 0)
    np.testing.assert_allclose(report.load, gates)
    assert report.verdict.startswith("An ensemble: weights do not depend on the row (")
    assert report.gate_share == 0
    assert "cannot tell whether the data have regimes" in report.verdict
    assert "no regimes" not in str(report)
    assert set(report.regimes) == {-1}
    frame = report.to_frame()
    assert frame.loc["load CV", "baseline"] == 0
    alone = frame.loc[f"{report.score_name}, one expert alone"]
    assert alone["baseline"] == report.score
    one = (outputs == y[:, np.newaxis]).mean()
    if kind == "lines":
        one = np.mean([sk.r2_score(y, output) for output in outputs.T])
    assert alone["value"] == pytest.approx(one)


class Pool:
    """Two networks, which are right, and two lines, each right on its side of 0, by their gates."""

    expert_kinds_ = np.array(["mlp(n_layers=2)", "linear"] * 2, dtype=object)

    def __init__(self, how):
        self.how = how

    def gate_proba(self, X):
        right = (X[:, :1] > 0) + 0.0
        network, lines = {
            "constant": (0.35 + 0 * right, 0.15 + 0 * right),
            "little": (0.34 + 0.02 * right, 0.16 - 0.02 * right),
            "region": (0.45 * right, np.c_[0.9 - 0.9 * right, 0.1 + 0 * right]),
            "regimes": (0.1 + 0 * right, 0.8 * np.c_[1 - right, right]),
        }[self.how]
        first, second = np.broadcast_to(lines, (len(X), 2)).T
        return np.c_[network, first, network, second]

    def apply(self, X):
        return self.gate_proba(X).argmax(axis=1)

    def expert_predict(self, X):
        line, network = 3 * X[:, 1], 3 * np.where(X[:, 0] > 0, 1, -1) * X[:, 1]
        return np.c_[network + 0.1, -line, network - 0.1, line]

    def predict(self, X):
        return np.sum(self.gate_proba(X) * self.expert_predict(X), axis=1)


@pytest.mark.parametrize(
    ("how", "verdict", "names", "load"),
    [
        ("constant", "An ensemble: weights do not depend on the row (mlp .70, linear .30)", 2, 0.7),
        ("little", "An ensemble: weights depend on the row for 0.1% of the pred", 2, 0.7),
        ("region", "Experts differ by region: mlp where x0 > ", 3, 0.55),
        ("regimes", "Regimes: two, split by x0.", 3, 0),
    ],
)
def test_experts_of_a_kind_with_equal_gates_are_one(how, verdict, names, load, pyplot):
    X = np.random.default_rng(0).uniform(-1, 1, (600, 2))
    pool, y = Pool(how), 3 * np.where(X[:, 0] > 0, 1, -1) * X[:, 1]
    clusters = (X[:, 0] > 0).astype(int)
    report = specialization_report(pool, X, y, clusters, random_state=0)
    rules = region_rules(pool, X, y)
    assert report.verdict.startswith(verdict)
    assert str(report).startswith(report.verdict)
    start = verdict.split(",")[0] if how == "regimes" else verdict.split(":")[0]
    assert str(rules).startswith(start)
    linear = ("linear",) if names == 2 else ("linear 1", "linear 3")
    assert rules.expert_names == report.expert_names == ("mlp", *linear)
    assert report.load[0] == pytest.approx(load, abs=0.03)
    by_mean = pool.expert_predict(X) @ pool.gate_proba(X).mean(axis=0)
    change = np.mean((pool.predict(X) - by_mean) ** 2)
    assert report.gate_share == pytest.approx(change / (change + by_mean.var()))
    assert report.ensemble == (how in ("constant", "little")) == (report.gate_share < 0.05)
    if report.ensemble:
        assert len(report.dead_experts) == 0
        assert metrics.neg_dead_experts_scorer(pool, X, y) == 0
        shown = RoutingDisplay.from_estimator(pool, X, clusters)
        np.testing.assert_allclose(shown.routing_matrix, [report.load] * 2)
        assert [label.get_text() for label in shown.ax_.get_xticklabels()] == ["mlp", "linear"]
    else:
        assert rules.where[2 if how == "regimes" else 0][0].startswith("x0 > ")


def test_differences_that_are_small_or_uncertain_are_no_regimes():
    X, y = weather()
    # Others are worse by a 20th of what the mixture is better than the mean, at any certainty.
    slightly = [np.array(RIGHT) + 0.6 * (np.arange(3) != expert) for expert in range(3)]
    report = specialization_report(Rules(slightly, [0, 1, 2]), X, y, random_state=0)
    assert report.verdict.startswith(SAME)
    assert report.other_score < report.first_score - 0.01
    few = X.iloc[np.concatenate([np.flatnonzero(y == value)[:2] for value in (0, 3, 6)])]
    few = few.assign(noise=[-4, 0, -4, 0, 0, 4])
    mixture = Rules([LOW, MIDDLE, HIGH], [0, 1, 2])
    report = specialization_report(mixture, few, np.array([0, 4, 3, 7, 6, 2]), random_state=0)
    assert report.regimes.tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_what_is_worse_than_its_null_is_said(kind):
    rng = np.random.RandomState(0)
    X, labels = rng.normal(size=(200, 3)), (rng.uniform(size=(200, 2)) < 0.3).astype(int)
    y = labels[:, 0] if kind == "classes" else labels
    clf = MoEClassifier(2, expert_loss_weight=0, early_stopping=False, max_iter=200, random_state=0)
    clf.fit(X[:100], y[:100])
    with pytest.warns(WorseThanNullWarning) as caught:
        report = specialization_report(clf, X[100:], y[100:], random_state=0)
    proba, shares = clf.predict_proba(X[100:]), np.broadcast_to(y[100:].mean(axis=0), y[100:].shape)
    given = proba[:, 1] if kind == "classes" else proba
    for value, p in ((report.log_loss, given), (report.chance_log_loss, shares)):
        assert value == pytest.approx(sk.log_loss(y[100:].ravel(), np.ravel(p)))
    assert report.warnings == tuple(str(warning.message) for warning in caught)
    assert (
        f"The log loss of {report.log_loss:.3f} is worse than {report.chance_log_loss:.3f}"
        in (report.warnings[-1])
    )
    assert all(f"Warning: {sentence}" in str(report) for sentence in report.warnings)
    assert report.to_frame().loc["log loss", "value"] == report.log_loss
    assert replace(report, log_loss=0.1, score=1.0).warnings == ()


# -- labels and regression ----------------------------------------------------------------

KINDS = ["classes", "labels", "numbers", "several numbers"]


def piecewise(kind):
    """Return samples in four regions, each with its own function, y and the regions."""
    rng = np.random.RandomState(0)
    X = rng.uniform(-1, 1, size=(400, 2))
    regions = 2 * (X[:, 0] > 0) + (X[:, 1] > 0)
    slopes = rng.normal(size=(4, 2, 3))
    Y = 1000 + np.einsum("ni,nio->no", X, slopes[regions]) * [1, 10, 100]
    if kind == "classes":
        return X, np.array(["no", "yes"])[(Y[:, 0] > 1000).astype(int)], regions
    if kind == "labels":
        return X, (Y > 1000).astype(int), regions
    return X, Y[:, 0] if kind == "numbers" else Y, regions


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
    X, y, regions = piecewise(kind)
    moe = fit_kind(kind, X, y, router=router)
    report = specialization_report(moe, X, y, regions, n_permutations=10, random_state=0)
    first, gates = moe.apply(X).reshape(len(X), -1)[:, 0], moe.gate_proba(X)
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
    for expert in range(5):
        without = gates.copy()
        without[:, expert] = -1
        used = np.where(first == expert, without.argmax(axis=1), first)
        assert report.ablation_scores[expert] == pytest.approx(scores[rows, used].mean())
        for cluster in range(4):
            error = 1 - scores[regions == cluster, expert].mean()
            assert report.error_matrix[expert, cluster] == pytest.approx(error)
        if (first == expert).any():
            expected = scores[first == expert].mean(axis=0)
            np.testing.assert_allclose(report.cross_evaluation_scores[expert], expected)
    others = [scores[i, j] for i in rows for j in range(5) if j != first[i]]
    assert report.other_score == pytest.approx(np.mean(others))
    assert report.agreement.entropy == metrics.dispatch_entropy(regions, moe.apply(X))
    assert report.agreement.purity == metrics.purity(regions, moe.apply(X))
    assert report.agreement.nmi == sk.normalized_mutual_info_score(regions, first)
    # Scores are called by their names.
    names = {"classes": "accuracy", "labels": "right labels"}
    text, frame, name = str(report), report.to_frame(), names.get(kind, "R2")
    assert (report.score_name, "accuracy" in text) == (name, kind == "classes")
    assert ("in variances of y" in text) == (name == "R2")
    crossed = ["one expert alone"] if router == "soft" else ["expert removed", "other expert"]
    for row in (name, *(f"{name}, {what}" for what in crossed)):
        assert row in frame.index
        assert f"  {row} " in text
    column, plain = (
        specialization_report(moe, X, given, random_state=0)
        for given in (np.reshape(y, (400, -1)), y.tolist())
    )
    assert str(column) == str(plain)


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_a_single_expert(kind):
    X, y, regions = piecewise(kind)
    moe = fit_kind(kind, X, y, n_experts=1, max_iter=2)
    report = specialization_report(moe, X, y, regions, n_permutations=10, random_state=0)
    assert np.isnan(report.ablation_scores).all()
    assert np.isnan(report.other_score)
    assert report.first_score == pytest.approx(report.score)
    assert "there is no other expert" in str(report)
    assert (report.load_cv, report.usage_entropy, report.router_margin) == (0, 1, 1)
    assert report.entropy_test.p_value == 1
    assert report.agreement == report.null_agreement == report.kmeans_agreement
    assert report.verdict.endswith("no regimes found.")


def test_samples_of_a_single_class_have_a_log_loss_of_zero_by_chance():
    X, y, _ = piecewise("classes")
    one = y == y[0]
    report = specialization_report(fit_kind("classes", X, y), X[one], y[one], random_state=0)
    assert "-0.000" not in str(report)


def test_a_constant_output_has_no_unit():
    X, y, _ = piecewise("several numbers")
    y[:, 2] = 7
    moe = fit_kind("several numbers", X, y)
    report = specialization_report(moe, X, y, random_state=0)
    assert report.score == pytest.approx(sk.r2_score(y[:, :2], moe.predict(X)[:, :2]))
    raises(ValueError, r"y is constant", specialization_report, moe, X, np.ones((len(X), 3)))
    with pytest.raises(ValueError, match=r"y must have as many outputs .* 3, got 1"):
        specialization_report(moe, X, y[:, 0])


# -- k-means in place of the router -------------------------------------------------------


def test_kmeans_of_mixtures_of_other_libraries(patches, monkeypatch):
    monkeypatch.setattr("sklearn_moe.metrics._specialization._VALUES_AT_ONCE", 70)  # of a few rows
    bags, (frame, _, _) = patches[0][0][:100, :2], make_table("frame")
    numbers = frame[list("abcd")].apply(lambda column: column.fillna(column.median()))
    cities = frame["city"].to_numpy()[:, None] == np.unique(frame["city"])
    sparse = make_table("sparse")[0]
    for given, encoded in (
        (frame, np.hstack([scale(numbers), cities])),
        (frame.to_numpy(), np.hstack([scale(numbers), cities])),  # of objects
        (sparse, sparse.toarray() / sparse.toarray().std(axis=0)),
        (bags, scale(bags.reshape(100, -1).astype(float))),
    ):
        centers, _ = find_centers(encoded, np.ones(len(encoded)), 4, 0)
        expected = sk.pairwise_distances_argmin(encoded, centers)
        np.testing.assert_array_equal(_kmeans_routes(object(), given, 4, 0), expected)


# -- centers ------------------------------------------------------------------------------


def test_centers_of_weighted_and_repeated_rows():
    rng = np.random.RandomState(0)
    Z, weight = rng.normal(size=(40, 3)), rng.randint(1, 4, size=40)
    repeated = np.repeat(Z, weight, axis=0)[rng.permutation(weight.sum())]
    centers, spread = find_centers(Z, weight, 5, 0)
    again, spread_again = find_centers(repeated, np.ones(len(repeated)), 5, 0)
    np.testing.assert_array_equal(centers, again)
    assert spread == spread_again
    for other in (1, np.nextafter(1, 2)):  # equal rows, or equal up to rounding
        centers, spread = find_centers(np.array([[1], [1], [other], [other]]), np.ones(4), 3, 0)
        np.testing.assert_allclose(centers, np.ones((3, 1)))
        assert spread > 0
