"""Rules in words: where experts hold, their coefficients and intervals."""

from dataclasses import replace
from time import process_time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import raises
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import is_classifier
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from sklearn_moe import MixtureClassifier, MixtureRegressor, MoEClassifier, MoERegressor
from sklearn_moe._data.tables import Table
from sklearn_moe.inspection import RegionRules, region_rules
from sklearn_moe.metrics import specialization_report
from sklearn_moe.metrics._words import Conditions

STUMP = DecisionTreeClassifier(max_depth=1, random_state=0)
COEF = np.array([[0, 1, 2, 0, 0], [1, -1, 0, 3, 0], [2, 0, -2, -2, 1.0]])  # the intercept first


def mixture_of(experts, gate):
    """Return a mixture of fitted experts and a gate, as those of the library look from outside."""

    def of_all(method):
        return lambda X: np.stack([getattr(expert, method)(X) for expert in experts], axis=1)

    mixture = SimpleNamespace(experts_=experts, gate_=gate, gate_proba=gate.predict_proba)
    mixture.apply = lambda X: gate.predict(X).astype(int)
    mixture.predict = lambda X: experts[0].predict(X)  # the rules need the experts only
    if is_classifier(experts[0]):
        mixture.classes_, mixture.expert_proba = experts[0].classes_, of_all("predict_proba")
    else:
        mixture.expert_predict = of_all("predict")
    return mixture


def three_rules(seed, n_samples=1500, noise=0.2):
    """Return samples of three rules in two of four columns, and the rule of each."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n_samples, 4))
    regime = np.where(X[:, 0] <= 0.1, 0, np.where(X[:, 1] <= -0.3, 1, 2))
    y = np.sum(np.c_[np.ones(n_samples), X] * COEF[regime], axis=1)
    return X, y + noise * rng.normal(size=n_samples), regime


def fit(X, y, regime, gate=None, make=LinearRegression):
    """Return the mixture whose experts are fitted to the true regimes."""
    gate = DecisionTreeClassifier(max_leaf_nodes=8, random_state=0) if gate is None else gate
    experts = [make().fit(X[regime == k], y[regime == k]) for k in np.unique(regime)]
    return mixture_of(experts, gate.fit(X, regime))


def thresholds(rules, name):
    """Return the numbers that a column is compared with."""
    words = " and ".join(part for parts in rules.where for part in parts).split(" and ")
    return sorted({float(word.split()[-1]) for word in words if word.split()[0] == name})


@pytest.mark.parametrize("seed", range(3))
def test_three_rules_are_told_with_their_thresholds(seed):
    X, y, regime = three_rules(seed)
    rules = region_rules(fit(X, y, regime), X, y)
    assert [len(parts) for parts in rules.where] == [1, 1, 1]
    assert_allclose(thresholds(rules, "x0"), [0.1], atol=0.01)
    assert_allclose(thresholds(rules, "x1"), [-0.3], atol=0.02)
    assert rules.fidelity > 0.998
    assert_allclose(rules.share, np.bincount(regime) / len(y))


def test_text_frame_and_html_show_the_same():
    X, y, regime = three_rules(0)
    X = pd.DataFrame(X, columns=["<heat>", "load", "age", "dose"])
    rules = region_rules(fit(X, y, regime), X, y)
    text, html, frame = str(rules), rules._repr_html_(), rules.to_frame()
    assert isinstance(rules, RegionRules)
    assert text.count("Expert") == 3
    assert "for none" not in text
    assert rules.where[0][0].startswith("<heat> <= 0.")
    assert all(parts[0] in text for parts in rules.where)
    assert "<heat>" not in html
    assert "&lt;heat&gt; &lt;=" in html
    assert html.startswith('<pre style="overflow-x: auto">')  # a page does not scroll sideways
    assert "assign every row to the same" in text
    assert frame["where"].tolist() == [" or ".join(parts) for parts in rules.where]
    assert_array_equal(frame[list(rules.terms)], rules.coef)
    assert (frame["own RMSE"] < 0.25).all()
    assert (frame["other RMSE"] > 1).all()
    assert f"{rules.fidelity:.3f}" in repr(rules)
    # age has the coefficients 0, 3, -2, and comes first.
    assert rules.terms == ("age", "load", "<heat>", "dose", "intercept")
    assert text.index("  age ") < text.index("  load ")
    # What all experts have in common moves no term.
    assert region_rules(fit(X, y + 50 * X["dose"], regime), X).terms == rules.terms


def test_coefficients_are_exact_for_any_affine_expert():
    X, y, regime = three_rules(1)
    X = 1000 + 10 * X  # far from zero
    experts = [make_pipeline(StandardScaler(), LinearRegression()) for _ in range(2)]
    experts.append(make_pipeline(PolynomialFeatures(2), LinearRegression()))
    for k, expert in enumerate(experts):
        expert.fit(X[regime == k], y[regime == k] + (k == 2) * (X[regime == k, 0] - 1000) ** 2)
    gate = DecisionTreeClassifier(random_state=0).fit(X, regime)
    rules = region_rules(mixture_of(experts, gate), X)
    order = [rules.terms.index(name) for name in ("x0", "x1", "x2", "x3")]
    for k in (0, 1):
        scaler, line = experts[k]
        assert_allclose(rules.coef[k, order], line.coef_ / scaler.scale_, rtol=1e-9, atol=1e-12)
        assert_allclose(
            rules.coef[k, -1], line.intercept_ - line.coef_ @ (scaler.mean_ / scaler.scale_)
        )
    assert np.isnan(rules.coef[2]).all()
    assert "expert 2" not in str(rules).split("Change of")[1]
    assert np.isnan(rules.half_width).all()  # there is no y
    assert "±" not in str(rules)


def mixed_frame(n_samples=3000):
    """Return a frame of numbers, categories and missing values, its regimes and targets."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "heat": rng.normal(15, 8, n_samples).round(2),
            "maker": rng.choice(list("ABCDE"), n_samples, p=[0.4, 0.15, 0.15, 0.15, 0.15]),
            "line": pd.Categorical(rng.choice(["north", "south"], n_samples)),
            "night": rng.random(n_samples) < 0.3,
            "age": rng.integers(0, 12, n_samples),
        }
    )
    regime = np.where((X["heat"] <= 12.1) & X["maker"].isin(["A", "C"]), 1, 0)
    south, b = X["line"] == "south", X["maker"] == "B"
    y = np.where(regime == 1, 3 + 2 * X["heat"] + 5 * X["night"], 9 - X["age"] + 8 * south - 4 * b)
    return X, y.astype(float), regime


def encode(*numbers):
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (one_hot, ["maker", "line", "night"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), list(numbers)),
    )


def test_categories_are_called_by_their_names():
    X, y, regime = mixed_frame()

    def make():
        return make_pipeline(encode("heat", "age"), LinearRegression())

    gate = make_pipeline(
        encode("heat", "age"), DecisionTreeClassifier(max_leaf_nodes=6, random_state=0)
    )
    rules = region_rules(fit(X, y, regime, gate, make), X, y)
    assert rules.where[1] == ("heat <= 12.1 and maker is A or C",)
    assert set(rules.where[0]) == {"heat > 12.1", "maker is neither A nor C"}
    assert rules.fidelity == 1
    frequent = X["line"].value_counts().index[0]
    line = f"line: {'north' if frequent == 'south' else 'south'} instead of {frequent}"
    coef = dict(zip(rules.terms, np.nan_to_num(rules.coef).T, strict=True))
    assert_allclose(coef["heat"], [0, 2], atol=1e-9)
    assert_allclose(coef["age"], [-1, 0], atol=1e-9)
    assert_allclose(coef["night: True instead of False"], [0, 5], atol=1e-9)
    assert_allclose(coef["maker: B instead of A"][0], -4)
    assert_allclose(coef[line], [8 if frequent == "north" else -8, 0], atol=1e-9)
    # An outer pipeline is looked through: the words are about its input.
    mixture = fit(encode("heat", "age").fit_transform(X), y, regime)
    outer = make_pipeline(encode("heat", "age").fit(X), mixture)
    through = region_rules(outer, X, y)
    assert through.where == rules.where
    assert_allclose(np.nan_to_num(through.coef), np.nan_to_num(rules.coef), atol=1e-8)


@pytest.mark.parametrize("container", ["pandas", "objects", "polars"])
def test_missing_values_are_told(container):
    X, y, _ = mixed_frame()
    X = X[["heat", "maker"]].astype({"maker": object})
    X.loc[::5, "heat"] = np.nan
    X.loc[::7, "maker"] = None
    regime = np.where(X["heat"].isna(), 0, np.where(X["maker"].isna(), 1, 2))
    columns = ["heat", "maker"]
    if container == "objects":
        X, columns = X.to_numpy(), [0, 1]
    elif container == "polars":
        X = pytest.importorskip("polars").from_pandas(X)

    def make():
        one_hot = OneHotEncoder(sparse_output=False)
        parts = (one_hot, columns[1:]), (SimpleImputer(add_indicator=True), columns[:1])
        return make_pipeline(make_column_transformer(*parts), LinearRegression())

    gate = SimpleNamespace(predict=lambda X: regime, predict_proba=lambda X: np.eye(3)[regime])
    whole = [make().fit(X, y + k) for k in range(3)]
    rules = region_rules(mixture_of(whole, gate), X)
    heat, maker = ("x0", "x1") if container == "objects" else columns
    assert rules.where[0] == (f"{heat} is missing",)
    assert set(rules.where[1][0].split(" and ")) == {
        f"{heat} is not missing",
        f"{maker} is missing",
    }
    assert rules.fidelity == 1
    regime = np.arange(len(y)) % 3  # now each expert has rows with missing values, and others
    rules = region_rules(mixture_of(whole, gate), X)
    coef = dict(zip(rules.terms, rules.coef[0], strict=True))
    inner = whole[0][-1].coef_  # of A, B, C, D, E, missing, then heat and its indicator
    assert_allclose(coef[f"{heat}: missing instead of its mean"], inner[-1], atol=1e-9)
    assert_allclose(coef[f"{maker}: missing instead of A"], inner[-3] - inner[0], atol=1e-9)


def test_sparse_and_integer_columns():
    rng = np.random.default_rng(0)
    X = rng.poisson(1.0, (600, 30)).astype(float)
    regime = (X[:, 7] > 1).astype(int)
    y = np.where(regime, X[:, 2], -3 * X[:, 4]) + 0.0
    mixture = fit(X, y, regime)
    for given in (X, sparse.csr_array(X), sparse.csc_matrix(X)):
        rules = region_rules(mixture, given, y)
        assert rules.where == (("x7 <= 1",), ("x7 > 1",))
        assert rules.terms[:2] == ("x4", "x2")
        assert_allclose(rules.coef[:, :2], [[-3, 0], [0, 1]], atol=1e-9)


def test_the_union_of_two_ranges_has_what_lies_between():
    column = Conditions(Table(np.arange(10.0)[:, np.newaxis])[0], is_category=False)
    for ranges in (((2, 5), (7, 9)), ((7, 9), (2, 5)), ((2, 9), (3, 4))):
        assert column.union(*ranges) == (2, 9)
        assert np.flatnonzero(column.holds(column.union(*ranges))).tolist() == [*range(3, 10)]


def test_words_have_few_conditions_and_say_how_right_they_are():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (2000, 6))
    regime = ((X > -0.6).all(axis=1)).astype(int)  # needs six conditions
    mixture = fit(X, X[:, 0], regime, DecisionTreeClassifier(random_state=0))
    fidelity = []
    for max_conditions in (1, 3, 6):
        rules = region_rules(mixture, X, max_conditions=max_conditions)
        parts = [part for parts in rules.where for part in parts]
        assert max(part.count(" and ") for part in parts) < max_conditions
        fidelity.append(rules.fidelity)
        assert_allclose(rules.fidelity, rules.share @ rules.expert_fidelity)
    assert fidelity[0] < fidelity[1] < fidelity[2]
    assert fidelity[2] > 0.97
    # What the words give is what they say.
    frame, held = pd.DataFrame(X, columns=[f"x{j}" for j in range(6)]), np.zeros((2, 2000), bool)
    for k, parts in enumerate(rules.where):
        for part in parts:
            held[k] |= frame.eval(part)
    right = held[regime, np.arange(2000)] & (held.sum(axis=0) == 1)
    assert rules.fidelity == right.mean()


def test_log_odds_of_classes():
    X, _, regime = three_rules(2, 3000)
    rng = np.random.default_rng(0)
    logits = np.sum(np.c_[np.ones(len(X)), X] * COEF[regime], axis=1)
    y = np.where(rng.random(len(X)) < 1 / (1 + np.exp(-logits)), "yes", "no")
    mixture = fit(X, y, regime, make=lambda: LogisticRegression(C=1e6))
    rules = region_rules(mixture, X, y)
    assert (rules.outcome, rules.score_name) == ("the log odds of 'yes'", "accuracy")
    order = [rules.terms.index(f"x{j}") for j in range(4)]
    for k, expert in enumerate(mixture.experts_):
        assert_allclose(rules.coef[k, order], expert.coef_[0], rtol=1e-6)
        assert_allclose(rules.coef[k, -1], expert.intercept_[0], rtol=1e-6)
        assert rules.own_score[k] == expert.score(X[regime == k], y[regime == k])
        assert rules.other_score[k] == expert.score(X[regime != k], y[regime != k])
    # The intervals cover most of the truth: five in a hundred are missed.
    assert np.mean(np.abs(rules.coef[:, order] - COEF[:, 1:]) < rules.half_width[:, order]) > 0.8

    y = rng.integers(3, size=len(X))
    mixture = fit(X, y, regime, make=LogisticRegression)
    rules = region_rules(mixture, X, y)
    assert len(rules.terms) == 10
    expert, place = mixture.experts_[1], rules.terms.index("x2, 2 against 0")
    assert_allclose(rules.coef[1, place], expert.coef_[2, 2] - expert.coef_[0, 2], rtol=1e-6)


@pytest.mark.parametrize("distance", [None, 3, 1])
def test_intervals_cover_the_truth(distance):
    """Of regimes with a gate, and of two that overlap, known by their responsibilities."""
    covered = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X, part = rng.normal(size=(400, 2)), rng.integers(2, size=400)
        truth, deviation = np.array([[1, 0, 0], [-1, 0.5, distance]], float), np.array([0.5, 1])
        if distance is None:  # a gate, and unequal variances
            part, truth[1, 2] = (X[:, 1] > 0).astype(int), 1
            deviation = deviation * np.exp(0.5 * X[:, :1])
        design = np.c_[X, np.ones(400)]
        y = np.sum(design * truth[part], axis=1)
        noise = np.broadcast_to(deviation, (400, 2))[np.arange(400), part]
        y += noise * rng.normal(size=400)
        weight = np.eye(2)[part]
        for _ in range(1 if distance is None else 100):
            normal = np.einsum("nk,na,nb->kab", weight, design, design)
            coef = np.linalg.solve(normal, (weight.T * y @ design)[..., np.newaxis])[..., 0]
            if distance is not None:
                error = y - coef @ design.T
                scale = np.sqrt(np.average(error**2, axis=1, weights=weight.T))
                density = weight.mean(axis=0) / scale * np.exp(-0.5 * (error.T / scale) ** 2)
                weight = density / density.sum(axis=1, keepdims=True)
        experts = [LinearRegression().fit(X, design @ line) for line in coef]
        gate = DecisionTreeClassifier(max_depth=1, random_state=0).fit(X, part)
        mixture = mixture_of(experts, gate)
        mixture.responsibilities = lambda X, y, weight=weight: weight
        rules = region_rules(mixture, X, y)
        order = [rules.terms.index(name) for name in ("x0", "x1", "intercept")]
        covered.append(np.abs(rules.coef - truth[:, np.argsort(order)]) < rules.half_width)
    assert 0.89 < np.mean(covered) < 0.985  # of 200 seeds .94


def test_gates_and_experts_of_other_kinds():
    X, y, regime = three_rules(3)
    mixture = fit(X, y, regime)
    mixture.gate_proba = lambda X: np.tile([0.5, 0.3, 0.2], (len(X), 1))  # constant priors
    mixture.apply = lambda X: np.zeros(len(X), int)
    mixture.predict = lambda X: mixture.expert_predict(X) @ [0.5, 0.3, 0.2]
    mixture.responsibilities = lambda X, y: np.eye(3)[regime]
    rules = region_rules(mixture, X, y)
    assert_allclose(rules.share, [0.5, 0.3, 0.2])
    # Rows are of the experts that the gate gives them, not of those that y is nearest to.
    assert np.isnan([rules.fidelity, *rules.own_score, *rules.other_score]).all()
    assert "RMSE" not in str(rules)
    weights = "expert 0 .50, expert 1 .30, expert 2 .20"
    assert str(rules).startswith(f"An ensemble: weights do not depend on the row ({weights})")
    assert "expert 2" in str(rules).split("Change of")[1]

    two = np.c_[regime, 2 - regime]  # experts are selected, the first counts
    rules = region_rules(SimpleNamespace(apply=lambda X: two, predict=None), X, y)
    assert [len(parts) for parts in rules.where] == [1, 1, 1]
    assert_allclose(rules.share, np.bincount(regime) / len(y))
    assert rules.terms == ("intercept",)
    assert "no expert is linear" in str(rules)

    mixture = fit(X, y, regime)  # a gate that depends on X, but always prefers the same expert
    mixture.apply, mixture.gate_ = lambda X: np.ones(len(X), int), None
    assert region_rules(mixture, X).where == ((), ("everywhere",), ())

    few = LogisticRegression().fit(X, np.where(regime == 2, 3, 0))  # experts 1 and 2 have no rows
    experts = [LinearRegression().fit(X, y), *[LinearRegression().fit(X, -y)] * 3]
    mixture = mixture_of(experts, few)
    mixture.gate_proba = lambda X: np.eye(4)[few.predict(X)]
    rules = region_rules(mixture, X, y)
    assert rules.where[1] == ()
    assert rules.share[1] == 0
    assert "0.0% of the rows" in str(rules)

    both = LinearRegression().fit(X, np.c_[y, -2 * y])
    half = make_pipeline(PolynomialFeatures(2), LinearRegression()).fit(X, X[:, :2] ** [1, 2])
    gate = fit(X, y, regime % 2).gate_
    rules = region_rules(mixture_of([both, half], gate), X, np.c_[y, -2 * y])
    assert np.isnan(rules.coef).all(axis=1).tolist() == [False, True]  # one output is not linear
    first, second = (rules.terms.index(f"x1, output {k}") for k in range(2))
    assert_allclose(rules.coef[:, second], -2 * rules.coef[:, first])


def test_mixtures_of_the_library():
    X, y, _ = three_rules(4, 400)
    codes = np.c_[np.arange(400) % 4, X]
    options = {"max_iter": 5, "tol": None, "random_state": 0, "categorical_features": [0]}
    model = MoEClassifier(2, **options).fit(codes, y > 0)
    for given in (y > 0, (y > 0)[:, np.newaxis]):
        rules = region_rules(model, codes, given)
        assert (rules.n_experts, rules.score_name) == (2, "accuracy")


def test_bad_arguments_are_named():
    X, y, regime = three_rules(0, 60)
    mixture = fit(X, y, regime)
    raises(ValueError, "y", region_rules, mixture, X, y[:-1])
    raises(ValueError, "max_conditions", region_rules, mixture, X, max_conditions=0)
    raises(ValueError, "X", region_rules, mixture, X[:, :, np.newaxis])
    raises(TypeError, "apply", region_rules, LinearRegression().fit(X, y), X)


def test_columns_of_one_value_and_several_labels():
    ones, numbers = np.ones((20, 2)), np.arange(20.0)
    model = MoERegressor(1, max_iter=2, random_state=0).fit(ones, numbers)
    rules = region_rules(model, ones)
    assert rules.terms == ("intercept",)
    assert_allclose(rules.coef[0], model.predict(ones[:1]), rtol=1e-5)  # not its logarithm
    X, y, _ = three_rules(0, 60)
    labels = np.column_stack([y > 0, X[:, 0] > 0, X[:, 1] > 0]).astype(int)
    mixture = MoEClassifier(2, expert="mlp", router="top1", max_iter=5, random_state=0)
    rules = region_rules(mixture.fit(X, labels), X, labels)
    assert rules.score_name == "right labels"
    right = (mixture.expert_proba(X) > 0.5) == labels[:, np.newaxis]
    own = np.eye(2, dtype=bool)[mixture.apply(X)]
    assert_allclose(rules.own_score, [right[own[:, k], k].mean() for k in range(2)])


def columns():
    """Yield columns of all scales and types, and thresholds that part them."""
    rng = np.random.default_rng(0)
    u, n, day = rng.random(600), rng.normal(size=600), np.datetime64("2020-01-01")
    yield from ((scale * u, 0.37 * scale) for scale in (1e-320, 1e-12, 1e-6, 1e300))
    yield np.float32(1) + np.float32(1.2e-7) * rng.integers(9, size=600), 1.0000004
    yield 1e10 + rng.permutation(600), 1e10 + 371.3
    yield 1.7e12 + np.floor(60000 * u), 1.7e12 + 22222  # milliseconds of a minute
    yield np.exp(4 * n), 0.3
    yield np.append(np.floor(99 * u[1:]), -999999), 37
    yield np.append(n[1:], -9999999), 0.3
    yield from ((np.where(u > 0.9, -np.inf, n), threshold) for threshold in (0.3, -1e300))
    yield np.where(u > 0.9, np.inf, np.where(u < 0.1, np.nan, n)), 1e300
    yield day + (900 * u).astype(int), day + 400
    yield day + (8e13 * (u - 0.3)).astype("m8[us]"), np.datetime64("2019-12-31T05:00")


@pytest.mark.parametrize(("values", "threshold"), [*columns()])
def test_the_printed_thresholds_part_the_rows_as_the_gate_does(values, threshold):
    expert, missing = (values > threshold).astype(int), values != values
    gate = SimpleNamespace(apply=lambda X: expert, predict=None)
    rules = region_rules(gate, pd.DataFrame({"a": values}))
    read = np.datetime64 if values.dtype.kind == "M" else float
    held = np.zeros((2, len(values)), bool)
    for k, parts in enumerate(rules.where):
        for part in parts:
            if "missing" in part:
                held[k] |= missing
            if part != "a is missing":
                _, sign, text = part.removesuffix(" (or missing)").split(maxsplit=2)
                assert len(text) < 18
                number = read(text)
                held[k] |= values <= number if sign == "<=" else values > number
    assert_array_equal(held, [expert == 0, expert == 1])
    assert rules.fidelity == 1


def test_times_have_few_digits_and_durations_are_days():
    start = np.datetime64("2020-01-01T00", "s")
    for low, high, name, text in (
        (start + 46800, start + 90000, "a", "2020-01-02"),
        (start + 3600, start + 18000, "a", "2020-01-01 03:00"),
        (np.timedelta64(-3, "D"), np.timedelta64(13, "h"), "a (days)", "0"),
    ):
        gate = SimpleNamespace(apply=lambda X: np.arange(20) % 2, predict=None)
        frame = pd.DataFrame({"a": np.array([low, high] * 10)})
        assert region_rules(gate, frame).where[0] == (f"{name} <= {text}",)


@pytest.mark.parametrize("container", ["objects", "zones", "polars"])
def test_dates_are_no_categories_and_a_label_is_not_missing(container):
    days = pd.Series(pd.date_range("2020-01-01", periods=200))
    X = pd.DataFrame({"day": days, "label": ["missing", None, "b", "c"] * 50})
    if container == "objects":
        X = X.assign(day=days.dt.date).to_numpy()
    elif container == "zones":
        X["day"] = days.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    else:
        X = pytest.importorskip("polars").from_pandas(X)
    name, label = ("x0", "x1") if container == "objects" else ("day", "label")
    regime = np.where(np.arange(200) < 60, 0, 1 + np.arange(200) % 4)
    gate = SimpleNamespace(apply=lambda X: regime, predict=None)
    where = region_rules(gate, X).where
    assert where[0] == (f"{name} <= 2020-02-29",)
    assert set(where[1][0].split(" and ")) == {f"{name} > 2020-02-29", f"{label} is 'missing'"}
    assert set(where[2][0].split(" and ")) == {f"{name} > 2020-02-29", f"{label} is missing"}


def test_coefficients_of_what_is_constant_are_left_out():
    """Whatever the scale. That of a column that the experts do not receive is 0."""
    rng = np.random.default_rng(0)
    X = 1e10 * np.c_[rng.normal(size=(400, 3)), rng.integers(2, size=400)]
    regime = ((X[:, 3] > 0) & (X[:, 0] > 0)).astype(int)  # expert 1 sees one value of x3
    y = 1e-9 * X[:, 0] + np.where(regime, X[:, 3], X[:, 1]) * 1e-9 + rng.normal(size=400)
    X, y = pd.DataFrame(X, columns=list("abcd")), 1e-10 * y

    def make():
        parts = ("passthrough", ["a", "b", "d"])
        return make_pipeline(make_column_transformer(parts), LinearRegression())

    rules = region_rules(fit(X, y, regime, make=make), X, y)
    known = [(1, 1), (1, 1), (1, 1), (1, 0), (1, 1)]
    order = [rules.terms.index(name) for name in ("a", "b", "c", "d", "intercept")]
    for numbers in (rules.coef, rules.half_width):
        assert_array_equal(~np.isnan(numbers[:, order]), np.transpose(known))
    assert_allclose(rules.coef[:, order[-1]], [0, 1e-9], atol=5e-11)  # with what is constant
    assert (rules.half_width[:, order[-1]] < 1e-10).all()
    lines = {line.split()[0]: line.split()[1:] for line in str(rules).splitlines()[-6:]}
    assert (rules.coef[:, order[2]].tolist(), lines["d"][-1]) == ([0, 0], "-")
    assert_allclose([float(lines["a"][place]) for place in (0, 3)], 1e-19, rtol=0.2)


def test_a_coefficient_below_rounding_is_zero_with_its_interval():
    """Whether the outputs differ at all for a coefficient of 8e-17 depends on the processor."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = 1 + X[:, 0] + rng.normal(size=300)
    regime = (X[:, 1] > 0).astype(int)
    widths = []
    for tiny in (0, 8e-17, -4e-16):
        mixture = fit(X, y, regime)
        for line in mixture.experts_:
            line.coef_, line.intercept_ = np.array([1.0, tiny, tiny]), 1.0
        rules = region_rules(mixture, X, y)
        order = [rules.terms.index(name) for name in ("x0", "x1", "x2", "intercept")]
        assert_allclose(rules.coef[:, order], [[1, 0, 0, 1]] * 2, rtol=1e-12, atol=0)
        widths.append(rules.half_width[:, order])
        assert (widths[-1] > 0).all()
        assert_allclose(widths[-1], widths[0], rtol=1e-6)
    assert "0.00 ± 0." in str(rules)


def test_columns_of_a_frame_that_are_called_as_others():
    X, y, regime = three_rules(0, 200)
    names = ["share", "where", "fidelity", "own RMSE"]
    X = pd.DataFrame(X, columns=names)
    frame = region_rules(fit(X, y, regime), X, y).to_frame()
    assert frame.columns.is_unique
    assert_allclose(frame["share"], np.bincount(regime) / 200)
    assert {f"{name} (column)" for name in names} < {*frame.columns}


def test_figures_of_a_stack_are_of_rows_that_nothing_has_seen():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)), rng.normal(size=200)
    trees = [DecisionTreeRegressor(max_depth=depth, random_state=0) for depth in (3, None)]
    model = MixtureRegressor(trees, method="stack", gate=STUMP, random_state=0).fit(X, y)
    rules, report = region_rules(model, X, y), specialization_report(model, X, y)
    gates, outputs = model.out_of_fold(X)
    mixed = (gates * outputs).sum(axis=1)
    assert np.isnan(rules.words_score)
    assert "words alone" not in str(rules)
    assert report.score == pytest.approx(r2_score(y, mixed))
    assert rules.model_score == pytest.approx(report.score)
    assert report.score < 0.1
    own = outputs[np.arange(200), gates.argmax(axis=1)]
    assert report.first_score == pytest.approx(r2_score(y, own))
    models = [DecisionTreeClassifier(random_state=0), LogisticRegression()]
    classes = MixtureClassifier(models, method="stack", random_state=0).fit(X, y > 0)
    report = specialization_report(classes, X, y > 0)
    gates, proba = classes.out_of_fold(X)
    mixed = np.einsum("nk,nkc->nc", gates, proba)
    assert report.score == np.mean((mixed[:, 1] > 0.5) == (y > 0)) < 0.65


def test_words_about_a_gate_of_any_size_are_few():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    tree = DecisionTreeClassifier(random_state=0).fit(X, rng.integers(4, size=600))
    start = process_time()
    rules = region_rules(fit(X, X[:, 0], tree.predict(X), tree), X)
    assert process_time() - start < 5
    assert tree.get_n_leaves() > 250
    assert len(str(rules).splitlines()) < 50
    many = replace(rules, where=(tuple(f"x0 > {k}" for k in range(9)),) * 4)
    assert str(many).count("in 4 smaller parts") == 4
