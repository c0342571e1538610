"""MixtureRegressor and MixtureClassifier as estimators: predictions, quantiles, pipelines."""

import copy
import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
from helpers import brief_fits, predictions, slow
from joblib import parallel_config
from made_up import counts, quadrants, three_rules, two_lines, two_rules_of_classes
from numpy.testing import assert_allclose
from scipy import stats
from scipy.sparse import csr_matrix, issparse
from scipy.special import expit
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, PoissonRegressor, Ridge
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_moe import MixtureClassifier, MixtureRegressor
from sklearn_moe._mixtures._weighted import last_step
from sklearn_moe.inspection import explain, region_rules
from sklearn_moe.metrics import specialization_report

TREE = DecisionTreeClassifier(max_leaf_nodes=4)
KINDS = {"numbers": MixtureRegressor, "classes": MixtureClassifier}


def data_of(kind, n=200):
    return three_rules(0, n)[:2] if kind == "numbers" else two_rules_of_classes(n)


def mixture_of(kind, **options):
    return KINDS[kind](**{"gate": TREE, "n_init": 2, "random_state": 0} | options)


@pytest.fixture(scope="module")
def lines():
    """A mixture of numbers behind a tree, and its samples."""
    X, y, _ = three_rules(0, 400)
    return MixtureRegressor(n_components=3, gate=TREE, n_init=2, random_state=0).fit(X, y), X, y


@pytest.fixture(scope="module")
def of_counts():
    """A mixture of counts, and its samples."""
    X, y = counts(400)
    return MixtureRegressor(PoissonRegressor(alpha=0), n_init=3, random_state=0).fit(X, y), X, y


@brief_fits
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_the_sum_of_gate_times_experts(kind):
    X, y = data_of(kind)
    mixture = mixture_of(kind).fit(X, y)
    shares = mixture.gate_.predict_proba(X)
    assert_allclose(mixture.gate_proba(X), shares, atol=1e-5)
    assert np.array_equal(mixture.apply(X), shares.argmax(axis=1))
    outputs = np.stack([predictions(expert, X).T for expert in mixture.experts_], axis=-1)
    expected = (shares * outputs).sum(axis=-1).T
    if kind == "numbers":
        assert mixture.expert_predict(X).shape == (200, 2)
    else:
        assert mixture.expert_proba(X).shape == (200, 2, 2)
        assert_allclose(mixture.predict_log_proba(X), np.log(mixture.predict_proba(X)))
        assert np.array_equal(mixture.predict(X), mixture.classes_[expected.argmax(axis=1)])
        proba = mixture.predict_proba(X)[np.arange(200), (y == "yes").astype(int)]
        assert_allclose(mixture.score_samples(X, y), np.log(proba), atol=1e-5)
    assert_allclose(predictions(mixture, X), expected, atol=1e-4)


def share_below(mixture, X, y, distribution):
    """Return the probability of at most y by the definition of a mixture."""
    gates, means = mixture.gate_proba(X).T[..., np.newaxis], mixture.expert_predict(X).T
    shares = [distribution(m[:, np.newaxis], k).cdf(y) for k, m in enumerate(means)]
    return (gates * shares).sum(axis=0)


def test_quantiles_are_the_inverse_of_the_distribution(lines):
    mixture, X, _ = lines
    q = np.array([0.01, 0.05, 0.3, 0.5, 0.95, 0.99])
    quantiles = mixture.predict_quantiles(X, q)
    assert (np.diff(quantiles, axis=1) > 0).all()
    found = share_below(mixture, X, quantiles, lambda m, k: stats.norm(m, mixture.scale_[k]))
    assert_allclose(found, np.tile(q, (len(X), 1)), atol=1e-9)
    assert_allclose(mixture.predict_quantiles(X, 0.5), quantiles[:, [3]])


def test_quantiles_of_counts_are_the_smallest_that_reach_them(of_counts):
    mixture, X, _ = of_counts
    q = np.array([0.001, 0.05, 0.5, 0.9, 0.999])
    quantiles = mixture.predict_quantiles(X, q)
    assert np.array_equal(quantiles, np.floor(quantiles))
    above, below = (
        share_below(mixture, X, quantiles - step, lambda m, k: stats.poisson(m)) for step in (0, 1)
    )
    assert (above >= q).all()
    assert (below < q).all()


def test_an_expert_without_a_share_of_a_row_does_not_move_it():
    X = np.random.default_rng(0).uniform(-2, 2, size=(300, 2))
    y = np.where(X[:, 0] > 0, 3 * X[:, 1], -X[:, 1])
    mixture = MixtureRegressor(gate=TREE, n_init=2, random_state=0).fit(X, y)
    for gate in (mixture.gate_, None):
        mixture.gate_, mixture.weights_ = gate, np.array([0.0, 1.0])
        expected = mixture.predict(X)
        ends = mixture.predict_interval(X, 0.8)
        without = mixture.gate_proba(X)[:, 0] == 0
        assert without.any()
        line = mixture.experts_[0]
        mixture.experts_[0] = copy.copy(line)
        mixture.experts_[0].predict = lambda X: np.full(len(X), 1e200)
        assert_allclose(mixture.predict(X)[without], expected[without])
        assert_allclose(mixture.predict_quantiles(X, [0.1, 0.9])[without], ends[without])
        mixture.experts_[0] = line


def test_draws_have_the_moments_of_the_mixture(lines, of_counts):
    mixture, X, _ = lines
    X = X[:20]
    drawn = mixture.sample_y(X, 4000, random_state=0)
    means, shares, mean = mixture.expert_predict(X), mixture.gate_proba(X), mixture.predict(X)
    variance = (shares * (means**2 + mixture.scale_**2)).sum(axis=1) - mean**2
    assert_allclose(drawn.mean(axis=1), mean, atol=0.05)
    assert_allclose(drawn.var(axis=1), variance, rtol=0.15)
    assert np.array_equal(drawn, mixture.sample_y(X, 4000, random_state=0))
    mixture, X = of_counts[0], of_counts[1][:20]
    drawn = mixture.sample_y(X, 4000, random_state=0)
    assert np.array_equal(drawn, np.floor(drawn))
    assert_allclose(drawn.mean(axis=1), mixture.predict(X), rtol=0.05)
    X, y = data_of("classes")
    mixture = mixture_of("classes").fit(X, y)
    drawn = mixture.sample_y(X, 4000, random_state=0)
    assert_allclose((drawn == "yes").mean(axis=1), mixture.predict_proba(X)[:, 1], atol=0.03)


def test_experts_may_be_pipelines_of_pipelines():
    X, y, _ = two_lines()
    expert = make_pipeline(StandardScaler(), make_pipeline(Ridge()))
    mixture = MixtureRegressor(expert, n_init=3, random_state=0).fit(X, y)
    Z = StandardScaler().fit_transform(X)
    for fitted, share in zip(mixture.experts_, mixture.responsibilities(X, y).T, strict=True):
        assert_allclose(fitted.predict(X), Ridge().fit(Z, y, share).predict(Z), atol=1e-3)
    assert not hasattr(expert[-1][-1], "coef_")  # clones are fitted


def shops(seed, n=400, missing=0.05):
    """Return a frame in which the kind of shop chooses one of three rules, y, and the rule."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.uniform(-2, 2, size=(n, 2)), columns=["heat", "area"])
    rule = rng.integers(3, size=n)
    frame["kind"] = np.array(["hotel", "office", "retail"])[rule]
    frame["town"] = rng.choice(["Bonn", "Oslo", "Rome"], size=n)
    frame["open"] = rng.uniform(size=n) < 0.5
    slopes = np.array([4.0, -4.0, 1.0])[rule]
    y = np.array([1, 3, -2])[rule] + slopes * frame["heat"] + 0.5 * frame["area"]
    hidden = rng.uniform(size=n) < missing
    frame["area"] = frame["area"].mask(hidden)
    frame["town"] = frame["town"].mask(hidden[::-1], None)
    return frame, y.to_numpy() + 0.2 * rng.normal(size=n), rule


@pytest.fixture(scope="module")
def of_shops():
    """A mixture of a frame by its default parts."""
    X, y, _ = shops(0)
    return MixtureRegressor(n_components=3, n_init=1, random_state=0).fit(X, y)


def test_the_default_parts_find_the_rules_of_a_frame_in_its_own_words(of_shops):
    X, y, rule = shops(1)
    assert adjusted_rand_score(rule, of_shops.apply(X)) == 1
    assert of_shops.score(X, y) > 0.98
    rules = region_rules(of_shops, X, y)
    assert {where for (where,) in rules.where} == {f"kind is {k}" for k in set(X["kind"])}
    heat = rules.coef[:, rules.terms.index("heat")]
    assert_allclose(np.sort(heat), [-4, 1, 4], atol=0.1)
    assert "town: missing instead of " in " ".join(rules.terms)
    constant = MixtureRegressor(n_components=3, gate=None, n_init=2, random_state=0).fit(X, y)
    assert (np.ptp(constant.apply(X)), constant.score(X, y) < 0.6) == (0, True)


def test_frames_of_other_kinds_and_weights_are_the_same_table(of_shops):
    X, y, _ = shops(0)
    polars = pytest.importorskip("polars")
    expected = of_shops.predict(X)
    assert_allclose(of_shops.predict(polars.from_pandas(X)), expected)
    assert_allclose(pickle.loads(pickle.dumps(of_shops)).predict(X), expected, rtol=0)
    typed = X.astype({"kind": "category", "open": "boolean", "town": "string"})
    for other in (typed, polars.from_pandas(X)):
        assert_allclose(clone(of_shops).fit(other, y).predict(other), expected)
    twice = clone(of_shops).fit(X, y, sample_weight=np.full(len(y), 2))
    assert_allclose(twice.predict(X), expected)


def test_values_that_fit_did_not_see_are_the_most_frequent_or_missing(of_shops):
    X, y, _ = shops(0, missing=0)
    other, missing, usual = X.copy(), X.copy(), X.copy()
    other.loc[:9, ["kind", "town"]] = "elsewhere"
    missing.loc[:9, ["kind", "town"]] = None
    usual.loc[:9, "kind"], usual.loc[:9, "town"] = X["kind"].mode()[0], None
    assert_allclose(of_shops.predict(other), of_shops.predict(missing))
    assert_allclose(of_shops.predict(other), of_shops.predict(usual))
    array = X[["heat", "area"]].mask(X["heat"] > 1.5).to_numpy()
    assert np.isfinite(clone(of_shops).fit(array, y).predict(array)).all()


@brief_fits
def test_classes_of_frames():
    X, _, rule = shops(0)
    y = np.where(np.array([4, -4, 0])[rule] * X["heat"] > 0.1, "up", "down")
    mixture = MixtureClassifier(n_init=1, max_iter=30, random_state=0)
    groups = 100 * rule + np.arange(400) // 6
    mixture.fit(X[:300], y[:300], groups=groups[:300])
    assert mixture.score(X[300:], y[300:]) > 0.95
    assert np.isfinite(mixture.bic(X, y))


@pytest.mark.parametrize("kind", slow(KINDS, "classes"))
def test_a_tree_of_lines_tells_how_many_rules_there_are(kind):
    X, y, rule = shops(0, n=500)
    new, expected, new_rule = shops(1)
    least = 0.98
    if kind == "classes":
        rng, least = np.random.default_rng(0), 0.8  # classes are drawn
        rule, new_rule = np.fmin(rule, 1), np.fmin(new_rule, 1)
        y, expected = (
            rng.uniform(size=len(r)) < expit(np.where(r, -4, 4) * f["heat"])
            for r, f in ((rule, X), (new_rule, new))
        )
    mixture = KINDS[kind](None, "auto").fit(X, y)
    assert adjusted_rand_score(new_rule, mixture.apply(new)) == 1
    assert mixture.score(new, expected) > least
    assert mixture.selection_["n_leaves"] == [1, 2, 3, 4, 5, 6]
    rules = region_rules(mixture, new, expected)
    assert rules.fidelity == 1
    assert_allclose([rules.words_score, rules.model_score], mixture.score(new, expected), atol=1e-4)
    words = " ".join(str(rules).split())
    assert f"{rules.total_name} {rules.words_score:.3f} by the printed rules" in words
    assert rules.verdict.startswith("Regimes")
    again = clone(mixture).set_params(random_state=5).fit(X, y)  # nothing is drawn
    assert_allclose(again.score_samples(new, expected), mixture.score_samples(new, expected))
    linear = X["heat"] + 0.5 * X["open"] + np.random.default_rng(0).normal(size=len(X))
    alone = clone(mixture).fit(X, linear > 0 if kind == "classes" else linear)
    assert (alone.n_components_, alone.gate_) == (1, None)


@pytest.mark.parametrize("by", ["number", "category", "both"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_regimes_are_found_by_numbers_and_groups_of_levels(by, seed):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(900, 7))).add_prefix("x")
    X["town"] = rng.choice(list("abcdef"), 900)
    is_north, is_late = X["town"].isin(["b", "d", "e"]), X["x0"] > 0.3
    rule = {"number": 1 * is_late, "category": 1 * is_north, "both": np.where(is_north, 2, is_late)}
    slopes = rng.normal(0, 2, size=(3, 3))
    y = (X[["x1", "x2", "x3"]] * slopes[rule[by]]).sum(axis=1) + rng.normal(size=900)
    auto = MixtureRegressor(n_components="auto").fit(X[:500], y[:500])
    assert auto.n_components_ == len(np.unique(rule[by]))
    assert adjusted_rand_score(rule[by][500:], auto.apply(X[500:])) > 0.9
    assert region_rules(auto, X[:500], y[:500]).verdict.startswith("Regimes")


@pytest.mark.parametrize("shape", ["bend", "jump", "product"])
def test_pieces_of_a_curve_are_no_regimes(shape):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4))
    parts = {"bend": X[:, 0] ** 2, "jump": 3 * (X[:, 0] > 0.3), "product": X[:, 0] * X[:, 1]}
    y = X[:, 1] + parts[shape] + 0.5 * rng.normal(size=500)
    auto = MixtureRegressor(n_components="auto").fit(X, y)
    assert auto.n_components_ > 1
    report = specialization_report(auto, X, y)
    assert report.verdict.startswith(f"A curve in {auto.n_components_} lines")
    assert report.regimes.max() == 0


@pytest.mark.parametrize("n_rows", [300, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seed", range(3))
def test_the_sides_of_a_jump_do_not_inherit_its_slope(seed, n_rows):
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n_rows, 1))
    level = np.where(X[:, 0] > 0.5, 5, -5)
    auto = MixtureRegressor(n_components="auto").fit(X, level + 0.1 * rng.normal(size=n_rows))
    # The rows of the other side that the split keeps are few, wherever it falls between two rows.
    is_away = np.abs(X[:, 0] - 0.5) > 0.05
    assert np.sqrt(np.mean((auto.predict(X) - level)[is_away] ** 2)) < 0.04


def test_regimes_that_the_rows_do_not_pay_for_are_not_said():
    verdicts, stump = [], DecisionTreeClassifier(max_leaf_nodes=2)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(80, 2))
        y = X[:, 0] + rng.normal(size=80)
        mixture = MixtureRegressor(gate=stump, n_init=2, random_state=0)
        verdicts.append(specialization_report(mixture.fit(X, y), X, y).verdict)
    assert sum(verdict.startswith("Regimes") for verdict in verdicts) <= 1
    assert any("by BIC: no regimes found" in verdict for verdict in verdicts)


@brief_fits
@pytest.mark.parametrize("gate", ["auto", TREE, DecisionTreeClassifier(max_leaf_nodes=8)])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_tree_of_lines_is_one_of_the_starts(gate, seed):
    X, y, quadrant = quadrants(seed, 800)
    mixture = MixtureRegressor(None, 4, gate=gate, n_init=1, random_state=seed).fit(X, y)
    assert adjusted_rand_score(quadrant, mixture.apply(X)) > 0.95


def test_the_number_of_rules_does_not_depend_on_the_order_of_columns():
    X, y, _ = shops(0, n=150)
    y = y + np.random.default_rng(0).normal(size=150)
    orders = [[*X], ["town", "kind", "area", "open", "heat"]]
    fits = [MixtureRegressor(None, "auto").fit(X[columns], y) for columns in orders]
    scores = [fit.selection_["held_out"] for fit in fits]
    assert_allclose(scores, [scores[0]] * 2)
    assert len({fit.n_components_ for fit in fits}) == 1


def test_many_categories_make_a_sparse_matrix_for_the_same_line():
    X, y, _ = shops(0, n=600, missing=0)
    X["street"] = [str(i // 2) for i in range(600)]
    mixture = MixtureRegressor(n_components=1, random_state=0).fit(X, y)
    encoder, ridge = mixture.experts_[0]
    Z = encoder.transform(X)
    assert issparse(Z)
    assert_allclose(mixture.predict(X), clone(ridge).fit(Z.toarray(), y).predict(Z), atol=1e-4)


def test_what_several_steps_warn_of_is_said_once():
    X, y, _ = shops(0, n=150, missing=0)
    mixture = MixtureRegressor(n_init=1, random_state=0).fit(X, y)
    new = X.assign(town="elsewhere")
    calls = [mixture.predict, mixture.expert_predict, lambda X: mixture.score_samples(X, y)]
    for call in (*calls, partial(region_rules, mixture), lambda X: explain(mixture, X, 0)):
        with pytest.warns(UserWarning, match="no categories of the fit") as warned:
            call(new)
        assert len(warned) == 1


GATES = {"step": "tree_", "oblique": "coef_", "none": None}


@pytest.mark.parametrize("border", GATES)
def test_the_gate_is_the_kind_that_the_regimes_need(border):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    score = {"step": X[:, 0] - 0.3, "oblique": X[:, 0] + X[:, 1], "none": rng.normal(size=600)}
    y = np.where(score[border] > 0, 3 + 2 * X[:, 2], -2 * X[:, 2]) + 0.3 * rng.normal(size=600)
    mixture = MixtureRegressor(n_init=3, random_state=0).fit(X, y)
    if GATES[border]:
        assert hasattr(last_step(mixture.gate_), GATES[border])
        known = MixtureRegressor(gate=mixture.gate_, n_init=3, random_state=0).fit(X, y)
        assert mixture.lower_bound_ > known.lower_bound_ - 1e-3
    else:
        assert mixture.gate_ is None


def test_frames_with_categories_and_other_columns_for_the_gate():
    frame = shops(0, missing=0)[0].assign(day=pd.Timestamp("2024-01-01"))  # no default part's
    y = np.where(frame["heat"] > 0.2, 2, -1) * frame["area"] + (frame["town"] == "Oslo")
    y += 0.05 * np.random.default_rng(0).normal(size=400)
    encoder = OneHotEncoder(drop="first")
    columns = make_column_transformer((encoder, ["town"]), ("passthrough", ["area"]))
    gate = make_pipeline(make_column_transformer(("passthrough", ["heat"])), TREE)
    expert = make_pipeline(columns, LinearRegression())
    mixture = MixtureRegressor(expert, gate=gate, n_init=2, random_state=0)
    weight = np.where(np.arange(400) < 300, 1.0, 0.0)
    mixture.fit(frame, y, sample_weight=weight)
    assert sorted(round(e[-1].coef_[-1], 1) for e in mixture.experts_) == [-1, 2]
    assert_allclose([e[-1].coef_[0] for e in mixture.experts_], 1, atol=0.05)
    assert_allclose(mixture.gate_[-1].tree_.threshold[0], 0.2, atol=0.05)
    assert list(mixture.feature_names_in_) == [*frame.columns]
    before = mixture.predict(frame)
    assert_allclose(mixture.fit(frame[:300], y[:300]).predict(frame), before, atol=1e-6)
    with pytest.raises(ValueError, match="same order"):
        mixture.predict(frame[[*frame.columns[::-1]]])


@brief_fits
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_samples_are_those_of_the_dense_array(kind):
    X, y = data_of(kind)
    X = np.where(np.abs(X) > 0.3, X, 0)
    mixture = mixture_of(kind, n_init=1, max_iter=20).fit(X, y)
    dense = mixture.score_samples(X, y)
    mixture.fit(csr_matrix(X), y)
    assert_allclose(mixture.score_samples(csr_matrix(X), y).mean(), dense.mean(), atol=0.05)
    assert_allclose(predictions(mixture, csr_matrix(X)), predictions(mixture, X))


@brief_fits
@pytest.mark.parametrize(
    ("kind", "backend"),
    [("numbers", "threading"), pytest.param("classes", "loky", marks=pytest.mark.slow)],
)
def test_jobs_do_not_matter(kind, backend):
    X, y = data_of(kind)
    mixture = mixture_of(kind, max_iter=20).fit(X, y)
    whole = predictions(mixture, X)
    with parallel_config(backend, n_jobs=2):
        assert np.array_equal(predictions(clone(mixture).fit(X, y), X), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_that_fails_leaves_the_model_as_it_was(kind):
    X, y = data_of(kind, 100)
    mixture = mixture_of(kind, max_iter=2, tol=1.0).fit(pd.DataFrame(X).add_prefix("x"), y)
    before = dict(vars(mixture))
    other = pd.DataFrame(np.full((100, 2), np.inf), columns=["a", "b"])
    with pytest.raises(ValueError, match="contains infinity"):
        mixture.fit(other, y if kind == "numbers" else np.repeat(["a", "b"], 50))
    assert vars(mixture).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(mixture).items())
