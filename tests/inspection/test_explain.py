"""Why a row is predicted as it is: parts that add up, in the units of the columns."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_up import shops
from numpy.testing import assert_allclose
from scipy.sparse import csr_array
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, PoissonRegressor, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from sklearn_moe import MixtureClassifier, MixtureRegressor, MoEClassifier, MoERegressor
from sklearn_moe.inspection import explain, region_rules

STUMP = DecisionTreeClassifier(max_depth=1, random_state=0)
BRIEF = {"max_iter": 3, "tol": None, "random_state": 0}


def numbers(n=400, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, size=(n, 3))
    return X, np.where(X[:, 0] > 0, 1 + 2 * X[:, 1], -3 * X[:, 2]) + 0.1 * rng.normal(size=n)


def classes(y):
    return np.where(y > np.median(y), "b", "a")


def three_classes(y):
    return np.array(["a", "b", "c"])[np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))]


def both(y):
    return np.c_[y, -2 * y]


def mixture(model=MixtureRegressor, *args, **options):
    return model(*args, random_state=0, **options)


MODELS = {
    "tree": (mixture(estimator=LinearRegression(), gate=STUMP), numbers, np.array),
    "stack": (mixture(estimator=[Ridge(), Ridge(100)], method="stack"), numbers, np.array),
    "frame": (mixture(n_components=2, n_init=1), shops, np.array),
    "several": (MoERegressor(2, expert="linear", **BRIEF), numbers, both),
    "classes": (mixture(MixtureClassifier, gate=STUMP, n_init=1), numbers, classes),
    "three classes": (mixture(MixtureClassifier, n_components=1), numbers, three_classes),
    "pool": (MoERegressor(**BRIEF), numbers, np.array),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", MODELS)
def test_parts_add_up_to_the_prediction(name):
    model, draw, change = MODELS[name]
    X, y = draw()
    y = change(y)
    model.fit(X, y)
    rows = [3, 17, -1]
    explained = explain(model, X, rows, output=1 if name == "several" else None)
    total = explained.base + explained.contribution.sum(axis=1)
    assert_allclose(total, explained.prediction, rtol=1e-9, atol=1e-9)
    some = X.iloc[rows] if hasattr(X, "iloc") else X[rows]
    if hasattr(model, "predict_proba"):
        proba = model.predict_proba(some).astype(float)
        proba = proba[:, 1] if proba.shape[1] == 2 else proba
        assert_allclose(explained.prediction, np.log(proba / (1 - proba)), rtol=1e-4, atol=1e-9)
        assert_allclose(explained.probability, proba, rtol=1e-4)
    else:
        expected = model.predict(some).reshape(3, -1)[:, int(name == "several")]
        assert_allclose(explained.prediction, expected)
    assert explained.n_background == 100
    assert (explained.standard_error == 0).all()  # of few columns all subsets are computed
    assert (np.abs(explained.contribution).max(axis=1) > 0.01).all()


def test_parts_of_a_linear_function_are_slopes_times_differences():
    X, y = numbers(100)
    model = MixtureRegressor(LinearRegression(), 1, random_state=0).fit(X, y)
    explained = explain(model, X, background=X)
    expected = (X - X.mean(axis=0)) * model.experts_[0].coef_
    assert_allclose(explained.contribution, expected, atol=1e-9)
    assert explained.columns == ("x0", "x1", "x2")
    model = MixtureRegressor(LinearRegression(), gate=STUMP, random_state=0).fit(X, y)
    explained, rules = explain(model, X), region_rules(model, X)
    for row in range(20):
        assert explained.condition[row] in rules.where[model.apply(X)[row]]
    of_sparse = explain(model, csr_array(X), [5])
    assert_allclose(of_sparse.contribution[0], explained.contribution[5], atol=1e-9)


def test_outputs_of_experts_are_computed_of_some_rows_only(monkeypatch):
    X, y = numbers(3000)
    model = MixtureRegressor(Ridge(), gate=STUMP, random_state=0).fit(X, y)
    seen, predict = [], MixtureRegressor.expert_predict
    monkeypatch.setattr(
        MixtureRegressor, "expert_predict", lambda self, X: seen.append(len(X)) or predict(self, X)
    )
    explain(model, X, 0)
    assert 0 < max(seen) <= 1000


def test_of_rates_the_logarithm_is_explained():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 3))
    y = rng.poisson(np.exp(0.5 + X @ [0.6, -0.3, 0]))
    one = MixtureRegressor(PoissonRegressor(), 1, random_state=0)
    two = MixtureRegressor(PoissonRegressor(), 2, gate=None, n_init=1, random_state=0)
    reg = MoERegressor(1, expert="linear", loss="poisson", max_iter=3, random_state=0)
    # The experts need not be linear in anything.
    trees = MixtureRegressor(
        HistGradientBoostingRegressor(loss="poisson", max_iter=9, random_state=0),
        n_components=1,
        family="poisson",
        random_state=0,
    )
    for model in (one, two, reg, trees):
        explained = explain(model.fit(X, y), X, [0, 1, 2], background=X[:20])
        assert explained.outcome == "the logarithm of the prediction"
        assert_allclose(np.exp(explained.prediction), model.predict(X[:3]), rtol=1e-6)
        if model in (one, reg):
            slopes = explained.contribution / (X[:3] - X[:20].mean(axis=0))
            factors = model.predict(X[:3] + np.eye(3)) / model.predict(X[:3])
            assert_allclose(np.exp(np.diag(slopes)), factors, rtol=1e-3)


def test_categories_missing_values_and_names_that_are_taken():
    frame, price = shops()
    model = MixtureRegressor(n_components=2, n_init=1, random_state=0).fit(frame, price)
    explained = explain(model, frame, [0, 17])
    assert explained.values[1].tolist()[1] == "missing"
    assert explained.condition[0] == f"kind is {frame['kind'][0]}"
    table = explained.to_frame()
    assert table.columns.tolist() == ["base", "size", "age", "kind", "prediction"]
    names = {"size": "base", "age": "prediction"}
    renamed = explain(model.fit(frame.rename(columns=names), price), frame.rename(columns=names), 0)
    columns = ["base", "base (column)", "prediction (column)", "kind", "prediction"]
    assert renamed.to_frame().columns.tolist() == columns
    assert table.index.tolist() == [0, 17]


def test_what_no_expert_receives_has_no_part():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(300, 3)), columns=["a", "b", "day"])
    X["kind"] = (X["a"] > 0).astype(float)
    X["day"] = 20230131 + rng.integers(28, size=300)
    y = np.where(X["a"] > 0, 50 + X["b"], -X["b"]) + 0.1 * rng.normal(size=300)
    expert = make_pipeline(
        make_column_transformer(("passthrough", ["b", "kind"])), LinearRegression()
    )
    model = MixtureRegressor(expert, 2, gate=STUMP, random_state=0).fit(X, y)
    explained = explain(model, X, range(20))
    assert (np.abs(explained.contribution[:, 2]) < 1e-9).all()
    assert (np.abs(explained.contribution[:, 1]) > 1e-3).any()
    # A number that is a date is shown to its last digit.
    assert explained.values[:, 2].tolist() == X["day"][:20].astype(str).tolist()


def test_text_and_picture():
    frame, price = shops()
    model = MixtureRegressor(n_components=2, n_init=1, random_state=0).fit(frame, price)
    explained = explain(model, frame, range(12))
    text = str(explained)
    assert "Row 0: expert" in text
    assert f"size = {frame['size'][0]:.6g}" in text
    assert text.endswith("... 2 more rows")
    assert "&lt;" not in explained._repr_html_()
    assert "Row 1" in explained._repr_html_()
    (ax,) = explained.plot(1).axes
    bars = [bar.get_width() for bar in ax.patches]
    assert_allclose(explained.base[1] + sum(bars), explained.prediction[1], rtol=1e-6)
    assert ax.get_xlabel().startswith("effect on the prediction")
    ends = ax.get_xlabel().partition("from ")[2].split(" to ")
    assert_allclose([*map(float, ends)], [explained.base[1], explained.prediction[1]], rtol=1e-2)
    assert explain(model, frame, [1]).plot(ax=ax) is ax.figure
    plt.close("all")


def test_rows_of_both_classes_have_the_signs_of_one():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(200, 2)), columns=["up", "down"])
    y = np.where(X["up"] - X["down"] + rng.normal(size=200) > 0, "yes", "no")
    model = MixtureClassifier(n_components=1, random_state=0).fit(X, y)
    explained = explain(model, X, range(30), background=X)
    assert {*model.predict(X[:30])} == {"no", "yes"}
    assert explained.classes == ("yes",)
    assert explained.outcome == region_rules(model, X, y).outcome == "the log odds of 'yes'"
    for name, sign in (("up", 1), ("down", -1)):
        part = explained.to_frame()[name]
        assert (np.sign(part) == sign * np.sign(X[name][:30] - X[name].mean())).all()
    proba = model.predict_proba(X[:1])[0, 1]
    assert str(explained).split("\n")[5].split() == ["its", "probability", f"{proba:.3g}"]
    label = explained.plot().axes[0].get_xlabel()
    assert label.startswith("effect on the log odds of 'yes'\nfrom ")
    assert label.endswith(f"(probability {proba:.3g})")
    other = explain(model, X, range(30), output="no", background=X)
    assert_allclose(other.contribution, -explained.contribution, atol=1e-9)
    plt.close("all")


def test_each_of_several_classes_has_a_column_a_line_and_a_panel():
    X, y = numbers()
    y = three_classes(y)
    model = MixtureClassifier(n_components=1, random_state=0).fit(X, y)
    explained = explain(model, X, [0, 9])
    assert str(explained).split("\n")[1].split() == ["a", "b", "c"]
    axes = explained.plot(1).axes
    frame = explained.to_frame()
    assert frame.index.names == ["row", "class"]
    for k, label in enumerate("abc"):
        alone = explain(model, X, [0, 9], output=label)
        assert_allclose(frame.xs(label, level="class"), alone.to_frame(), atol=1e-9)
        assert axes[k].get_xlabel().startswith(f"effect on the log odds of '{label}'")
        assert len(axes[k].patches) == 3
    mean = np.abs(explained.contribution).mean(axis=(0, 2))
    assert_allclose(explained.importance()["importance"], np.sort(mean)[::-1])
    with pytest.raises(ValueError, match="3 panels"):
        explained.plot(ax=axes[0])
    plt.close("all")


def test_whether_weights_depend_on_the_row_is_asked_of_the_model():
    X, y = numbers()
    model = MixtureRegressor(LinearRegression(), gate=STUMP, random_state=0).fit(X, y)
    row = X[:1]
    assert explain(model, row).condition == ("as all rows that were given",)
    assert explain(model, row, background=X).condition == explain(model, X, 0).condition
    model.set_params(gate=None).fit(X, y)
    assert explain(model, row).condition == ("same weights for all rows",)


def test_progress(capsys, monkeypatch):
    X, y = numbers()
    model = MixtureRegressor(Ridge(), 1, random_state=0).fit(X, y)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    explain(model, X, [0, 1])
    assert capsys.readouterr().err == ""
    explain(model, X, [0, 1], verbose=1)
    assert "2/2" in capsys.readouterr().err


def test_bad_input():
    X, y = numbers()
    model = MixtureRegressor(LinearRegression(), gate=STUMP, random_state=0).fit(X, y)
    for rows in (400, [0.5], [-401]):
        with pytest.raises(ValueError, match="rows must be places in X"):
            explain(model, X, rows)
    with pytest.raises(ValueError, match=r"output must be one of \[0\], got 1"):
        explain(model, X, output=1)
    labels = MoEClassifier(2, expert="mlp", **BRIEF | {"max_iter": 1}).fit(X, np.c_[y > 0, y > 1])
    with pytest.raises(ValueError, match="2 labels"):
        explain(labels, X)
    tree = DecisionTreeRegressor(random_state=0).fit(X, y)
    with pytest.raises(TypeError, match="expert_predict"):
        explain(tree, X)
