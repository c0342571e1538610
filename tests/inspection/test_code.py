"""Rules as code: Python and SQL predict what the words do, for every kind of column."""

import ast
import math
import sqlite3
from contextlib import closing
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up import shops
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from sklearn_moe import MixtureClassifier, MixtureRegressor, __version__
from sklearn_moe.inspection import region_rules
from sklearn_moe.inspection._linear import open_table
from sklearn_moe.metrics._words import find_regions

N = 100
TEXTS = ["it's", 'say "no"', "back\\slash", "two\nlines", "missing", "None"]
NAMES = ["class", 'quo"te', "it's", "a b", "back\\slash", "row", "größe", "two\nlines", "1", ""]
NAMES += ["*/ --", "missing", "{0}", 7, ("a", 1)]


def with_gaps(values, gap=np.nan):
    values = pd.Series(values, dtype=object)
    values[::7] = gap
    return values


NUMBERS = {
    "float64": lambda rng: rng.normal(size=N),
    "float32": lambda rng: rng.normal(1e3, 1, N).astype(np.float32),
    "int8": lambda rng: rng.integers(0, 9, N).astype(np.int8),
    "far from zero": lambda rng: 1.6e9 + rng.integers(0, 99, N),
    "NaN": lambda rng: with_gaps(rng.normal(size=N)).astype(float),
    "None among integers": lambda rng: with_gaps(rng.integers(0, 9, N), None),
    "NA": lambda rng: with_gaps(rng.integers(0, 9, N), pd.NA).astype("Int64"),
    "decimals": lambda rng: [Decimal(int(value)) / 4 for value in rng.integers(0, 9, N)],
    "NA among bools": lambda rng: with_gaps(rng.random(N) < 0.4, pd.NA).astype("boolean"),
}
CATEGORIES = {
    "bools": lambda rng: rng.random(N) < 0.4,
    "None among bools": lambda rng: with_gaps(rng.random(N) < 0.4, None),
    "strings": lambda rng: rng.choice([*"abc"], N),
    "texts and None": lambda rng: with_gaps(rng.choice(TEXTS, N), None),
    "strings and NA": lambda rng: with_gaps(rng.choice(TEXTS, N), pd.NA).astype("string"),
    "categories of numbers": lambda rng: pd.Categorical(rng.integers(1, 4, N)),
    "categories of bools": lambda rng: pd.Categorical(rng.random(N) < 0.4),
    "categories and NaN": lambda rng: pd.Categorical(with_gaps(rng.choice([1.5, 2.0], N))),
    "intervals and NaN": lambda rng: pd.cut(rng.normal(size=N), [-1.5, 0.5, 9.5]),
    "types": lambda rng: rng.choice(np.array([1, True, "1", 2.5], object), N),
}
KINDS = NUMBERS | CATEGORIES
# By these steps each pair of 19 kinds is in one of 19 frames.
STEPS = np.array([0, 1, 2, 6, 9])


def encoder(X, kinds):
    """Return a function that reads rows as numbers: standardized, ones for categories and gaps."""

    def read(rows):
        blocks = []
        for name, kind in zip(X, kinds, strict=True):
            values, gone = rows[name], rows[name].isna()
            if kind in CATEGORIES:
                levels = sorted({*map(str, X[name])})
                blocks += [[str(value) == level for value in values] for level in levels]
                continue
            values = [0.0 if is_gone else float(v) for v, is_gone in zip(values, gone, strict=True)]
            blocks += [gone, values]
        return np.column_stack(blocks).astype(float)

    center, scale = read(X).mean(axis=0), read(X).std(axis=0) + 1e-9
    return lambda rows: (read(rows) - center) / scale


def mixture(encode, X, seed):
    """Return up to three linear experts of numbers, rates or classes, by a tree or a plane."""
    rng = np.random.default_rng(seed)
    Z = encode(X)
    slopes = rng.normal(size=(1 + seed % 3, Z.shape[1], 1 + (seed // 3) % 2))
    # As a lasso leaves them: some effects of a category are none, beside others that are not.
    slopes[rng.random(slopes.shape) < 0.4] = 0
    steps = rng.normal(size=(Z.shape[1], len(slopes)))
    tree = DecisionTreeClassifier(max_leaf_nodes=4, random_state=0)
    tree.fit(Z, (Z @ steps).argmax(axis=1))
    target = ["numbers", "classes", "rates"][seed // 2 % 3]

    def apply(rows):
        Z = encode(rows)
        return (Z @ steps).argmax(axis=1) if seed % 2 else tree.predict(Z)

    def outputs(rows):
        return np.einsum("np,kpo->nko", encode(rows), slopes) + 0.3

    def proba(rows):
        odds = np.exp(np.pad(outputs(rows), [(0, 0), (0, 0), (1, 0)]))
        return odds / odds.sum(axis=2, keepdims=True)

    if target == "classes":
        classes = np.array(["it's", 'say "no"', "yes"][: slopes.shape[2] + 1])
        return SimpleNamespace(apply=apply, predict=apply, expert_proba=proba, classes_=classes)
    link = np.exp if target == "rates" else np.asarray
    return SimpleNamespace(
        apply=apply, predict=apply, expert_predict=lambda rows: link(outputs(rows))[..., 0]
    )


def frame(seed):
    rng = np.random.default_rng(seed)
    kinds = [[*KINDS][place] for place in (STEPS + seed) % len(KINDS)]
    X = pd.DataFrame({kind: KINDS[kind](rng) for kind in kinds})
    names = np.array(NAMES, object)[rng.permutation(len(NAMES))[: len(kinds)]]
    X = X.set_axis(pd.Index(names, tupleize_cols=False), axis=1)
    return X, mixture(encoder(X, kinds), X, seed)


def by_words(model, X, is_exact):
    """Return what the expert predicts whose words hold; the largest one elsewhere.

    Where code says that it is the model, it is to be exact where words are not.
    """
    view, table = open_table(model, X)
    experts, n_experts = view.experts[:, 0], view.n_experts
    held = find_regions(table, experts, n_experts).held
    order = np.argsort(-np.bincount(experts, minlength=n_experts), kind="stable")
    # Where its words and those of others hold, one of these counts.
    order = np.roll(order, -1)
    held[:, order[-1]] = True
    chosen = experts if is_exact else order[held[:, order].argmax(axis=1)]
    if hasattr(model, "classes_"):
        return model.classes_[model.expert_proba(X)[np.arange(N), chosen].argmax(axis=1)]
    return model.expert_predict(X)[np.arange(N), chosen]


def by_python(text, rows):
    scope = {}
    exec(text, scope)
    return np.array([scope["predict"](row) for row in rows])


def by_sql(text, X):
    """Return what a database says of rows."""

    def stored(value):
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return None
        if isinstance(value, pd.Interval):
            return str(value)
        if isinstance(value, Decimal):
            return float(value)
        return value.item() if isinstance(value, np.generic) else value

    names = ['"' + str(name).replace('"', '""') + '"' for name in X]
    with closing(sqlite3.connect(":memory:")) as database:
        # Not every build has functions of mathematics.
        database.create_function("exp", 1, math.exp)
        database.execute(f"CREATE TABLE rows ({', '.join(names)})")
        marks = ", ".join("?" * len(names))
        # A column of several types is one of texts.
        X = X.apply(lambda c: c.map(str) if c.map(type).nunique() > 2 else c)
        rows = [[*map(stored, row)] for row in X.itertuples(index=False, name=None)]
        database.executemany(f"INSERT INTO rows VALUES ({marks})", rows)
        return np.array([row[0] for row in database.execute(f"SELECT {text} FROM rows")])


def assert_same(found, expected):
    if expected.dtype.kind == "f":
        assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.std())
    else:
        assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(20))
def test_code_predicts_what_the_words_do(seed):
    X, model = frame(seed)
    rules = region_rules(model, X)
    expected = by_words(model, X, "'y' as SimpleNamespace" in rules.to_python())
    assert_same(by_python(rules.to_python(), X.to_dict("records")), expected)
    assert_same(by_sql(rules.to_sql(), X), expected)
    # Rows of other combinations, as series.
    columns = [X.iloc[:, [k]].sample(frac=1, random_state=k) for k in range(X.shape[1])]
    X = pd.concat([column.reset_index(drop=True) for column in columns], axis=1)
    found = by_python(rules.to_python(), [row for _, row in X.iterrows()])
    assert_same(by_sql(rules.to_sql(), X), found)


def three_lines(read=np.asarray, slopes=((1.25, 0, 0.1), (0, -1, 0), (0, 0, 7))):
    """Return a mixture of linear functions of three columns; the first one says which holds."""

    def outputs(rows):
        return read(rows) @ np.array(slopes, float).T

    return SimpleNamespace(
        apply=lambda rows: np.digitize(read(rows)[:, 0], [-0.5, 0.5]),
        predict=lambda rows: outputs(rows)[:, 0],
        expert_predict=outputs,
    )


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(200, 3))


def test_rows_of_arrays_and_of_polars(X):
    polars = pytest.importorskip("polars")
    table = polars.DataFrame(dict(zip("abc", X.T, strict=True)))
    table = table.with_columns(kind=polars.Series(np.where(X[:, 2] > 0, "it's", None).tolist()))
    cases = [
        (X.astype(np.float32), X.astype(np.float32), np.asarray),
        (sparse.csr_array(X), X.tolist(), lambda rows: rows.toarray()),
        (table, table.to_dicts(), lambda rows: rows["a", "b", "c"].to_numpy()),
    ]
    for table, rows, read in cases:
        model = three_lines(read)
        expected = model.expert_predict(table)[np.arange(len(X)), model.apply(table)]
        rules = region_rules(model, table)
        assert rules.fidelity == 1
        assert_same(by_python(rules.to_python(), rows), expected)
    assert_same(by_python(rules.to_python(), [table])[0], expected)


def test_numbers_have_few_digits_and_no_formula_is_written_twice(X):
    X[:, 1] += 1e6
    exact = [(0.123456789, 0, 0), (1 / 3, 1e-9, 2 / 3), (1 / 3, 1e-9, 2 / 3)]
    text = region_rules(three_lines(slopes=exact), X).to_python()
    tree = ast.parse(text)
    numbers = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert max(len(repr(number)) for number in numbers if isinstance(number, float)) <= 10
    # The regions at the sides have one function, beside that of tables; 1e-9 is below all digits.
    rules = text.partition("def predict(")[2]
    assert [rules.count("return"), text.count("0.3333"), text.count("row[1]")] == [3, 1, 0]


def test_lines_of_code_have_a_length_that_can_be_read():
    rng = np.random.default_rng(0)
    model = three_lines(slopes=rng.normal(size=(3, 40)))
    rules = region_rules(model, rng.normal(size=(200, 40)))
    lines = rules.to_python().splitlines()
    assert max(map(len, lines)) <= 90
    assert len(lines) < 200
    assert "... 32 more" in str(rules)


def test_the_header_says_target_model_scores_and_version(X):
    y = pd.Series(X @ [1.0, 2.0, 3.0], name='a "price"')
    model = MixtureRegressor(LinearRegression(), 1, random_state=0).fit(X, y)
    rules = region_rules(model, X, y)
    scope = {}
    exec(rules.to_python(), scope)
    for text in (scope["predict"].__doc__, rules.to_sql().partition("*/")[0]):
        for word in ("'a 'price''", "MixtureRegressor", "R2 1.000", __version__):
            assert word in text
    assert "R2" not in region_rules(model, X).to_python()


@pytest.mark.parametrize("seed", range(4))
def test_code_of_a_fitted_mixture_predicts_what_it_does_or_refuses_by_name(seed):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"float": rng.normal(size=150), "int": rng.integers(0, 9, 150)})
    X["gap"] = np.where(rng.random(150) < 0.2, np.nan, rng.normal(size=150))
    X["bool"], X["kind"] = rng.random(150) < 0.4, pd.Categorical(rng.choice([*"abc"], 150))
    part = [X["float"] > 0, X["int"] > 4, X["kind"] == "a"][seed % 3]
    # What is constant in a regime moves in other rows.
    X.loc[part, "bool"] = True
    y = np.where(part, 3 * X["gap"].fillna(1) + X["bool"], X["int"] - 2 * (X["kind"] == "b"))
    y = y + 0.1 * rng.normal(size=150)
    model = MixtureRegressor(n_init=1, random_state=0)
    if seed > 2:
        model, y = MixtureClassifier(n_init=1, random_state=0), np.where(y > 1, "yes", "no")
    rules = region_rules(model.fit(X, y), X, y)
    text, n_refused = rules.to_python(), 0
    mixed = X.apply(lambda column: rng.permutation(column)).astype(X.dtypes)
    for name in (None, *X):
        rows = mixed if name is None else mixed.assign(**{name: None if name == "kind" else np.nan})
        by_base = by_sql(rules.to_sql(), rows)
        refused = np.array([value is None for value in by_base])
        n_refused += refused.any()
        assert refused.all() or not refused.any()
        if refused.any():
            with pytest.raises(ValueError, match=rf"columns \['{name}'\]"):
                by_python(text, [rows])
        else:
            assert_same(by_base, model.predict(rows))
            # A table is read row by row.
            assert_same(by_python(text, [rows])[0], model.predict(rows))
    assert n_refused == 4


def test_values_that_were_not_there_before_are_refused_by_name():
    X, y = shops()
    expert = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["kind"]), ("passthrough", ["size"])),
        LinearRegression(),
    )
    model = MixtureRegressor(expert, 1, random_state=0).fit(X, y)
    rules = region_rules(model, X)
    row = {"size": 50, "age": None, "kind": "flat"}
    assert np.isfinite(by_python(rules.to_python(), [row])).all()
    for odd in ({"kind": "hut"}, {"size": None}, {"size": np.nan}):
        with pytest.raises(ValueError, match=f"columns {[*odd]}".replace("[", r"\[")):
            by_python(rules.to_python(), [row | odd])
        assert by_sql(rules.to_sql(), pd.DataFrame([row | odd])).tolist() == [None]


def test_a_gate_that_mixes_experts_in_its_leaves_is_written_as_it_predicts(X):
    rng = np.random.default_rng(0)
    is_up = (X[:, 0] > 0) ^ (rng.random(200) < 0.2)
    y = np.where(is_up, X[:, 1], -X[:, 1]) + 0.1 * rng.normal(size=200)
    gate = DecisionTreeClassifier(max_leaf_nodes=2, random_state=0)
    model = MixtureRegressor(LinearRegression(), 2, gate=gate, random_state=0).fit(X, y)
    assert (np.abs(model.gate_proba(X) - 0.5) < 0.49).all()
    text = region_rules(model, X, y).to_python()
    assert_same(by_python(text, [X])[0], model.predict(X))
    assert "as MixtureRegressor does (R2" in text
    # A gate with as many values as rows is not: the words say which expert counts.
    gate = LogisticRegression()
    model = MixtureRegressor(LinearRegression(), 2, gate=gate, random_state=0).fit(X, y)
    text = region_rules(model, X, y).to_python()
    assert "nearly as MixtureRegressor does (R2" in text


def test_what_is_constant_in_the_rows_of_an_expert_may_move(X):
    """A flag is set in none of the rows of the first expert, and is a part of its line."""
    X[:, 1] = (X[:, 1] > 0) & (X[:, 0] > -0.5)
    model = three_lines(slopes=[(1, 5, 0), (0, -1, 0), (0, 2, 7)])
    text = region_rules(model, X).to_python()
    X[:, 1] = 1
    expected = model.expert_predict(X)[np.arange(len(X)), model.apply(X)]
    assert_same(by_python(text, X), expected)


def test_categories_are_equal_to_numbers_of_other_types(X):
    kind, flag = np.arange(200) % 2, np.arange(200) % 3 == 0
    table = pd.DataFrame({"kind": pd.Categorical(kind + 1), "flag": flag, "x": X[:, 0]})
    y = np.where(flag, X[:, 0], 3 * kind) + 0.1 * X[:, 1]
    model = MixtureRegressor(random_state=0).fit(table, y)
    text = region_rules(model, table).to_python()
    expected = by_python(text, table.to_dict("records"))
    # A row of such a frame may be a series of floats.
    assert_array_equal(by_python(text, table.astype(float).to_dict("records")), expected)
    assert np.corrcoef(expected, y)[0, 1] > 0.99


def test_several_numbers_are_a_list(X):
    rules = region_rules(
        SimpleNamespace(
            apply=lambda rows: np.zeros(len(rows), int),
            predict=lambda rows: rows[:, :2],
            expert_predict=lambda rows: rows[:, np.newaxis, :2] * 2,
        ),
        X,
    )
    assert_allclose(by_python(rules.to_python(), X), 2 * X[:, :2], atol=1e-5)
    with pytest.raises(ValueError, match="one number, but here are 2"):
        rules.to_sql()


def test_the_same_mixture_everywhere_is_one_function(X):
    y = X[:, 0] * np.random.default_rng(0).choice([-1, 2], len(X))
    options = {"gate": None, "n_init": 1, "random_state": 0}
    model = MixtureRegressor(LinearRegression(), 2, **options).fit(X, y)
    rules = region_rules(model, X)
    assert_same(by_python(rules.to_python(), X.tolist()), model.predict(X))
    assert rules.to_sql().count("when") == 1
    for model, what in (
        (MixtureRegressor(PoissonRegressor(), 2, **options), "exponential"),
        (MixtureClassifier(**options), "classes' probabilities"),
    ):
        with pytest.raises(ValueError, match=f"{what}.* of 2 experts"):
            region_rules(model.fit(X, (y > 0) * 1), X).to_python()


def test_what_code_cannot_say_is_refused_with_the_reason(X):
    curved = three_lines(lambda rows: np.asarray(rows) ** 2)
    with pytest.raises(ValueError, match=r"expert \d is not"):
        region_rules(curved, X).to_python()
    start = pd.Timestamp("2020-01-01")
    days = pd.DataFrame({"day": pd.date_range(start, periods=200), "x": X[:, 0]})
    since = days.assign(day=days["day"] - start)
    for table, limit, slope in (
        (since, pd.Timedelta("50D"), 0),
        (days, pd.Timestamp("2020-03-01"), 0),
        (days, pd.Timestamp("1999-01-01"), 1),
    ):
        model = SimpleNamespace(
            apply=lambda rows, limit=limit: (rows["day"] > limit).to_numpy().astype(int),
            predict=lambda rows: rows["x"].to_numpy(),
            expert_predict=lambda rows, slope=slope: np.stack(
                [rows["x"], slope * rows["day"].astype("int64") / 1e15 - rows["x"]], axis=1
            ),
        )
        with pytest.raises(ValueError, match="no dates and durations, which column 'day' holds"):
            region_rules(model, table).to_python()


def test_sql_has_no_comment_in_a_comment_and_computes_with_no_bools(X):
    flags = pd.array(np.where(X[:, 1] > 0, True, np.where(X[:, 1] < -1, None, False)), "boolean")
    table = pd.DataFrame({"i": flags, "x": X[:, 0]})
    y = pd.Series(X[:, 0] + 2 * (X[:, 1] > 0), name="a /* b")
    rules = region_rules(MixtureRegressor(n_components=1, random_state=0).fit(table, y), table, y)
    text = rules.to_sql()
    assert text.count("/*") == text.count("*/") == 1
    assert '(case when "i" then 1 when not "i" then 0 end)' in text


def test_categories_of_dates_are_refused(X):
    days = pd.Categorical(pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(200) % 3, "D"))
    table = pd.DataFrame({"day": days, "x": X[:, 0]})
    y = np.where(np.arange(200) % 3 == 0, 3 * X[:, 0], -X[:, 0])
    rules = region_rules(MixtureRegressor(random_state=0).fit(table, y), table)
    with pytest.raises(ValueError, match="no dates and durations, which column 'day' holds"):
        rules.to_python()
