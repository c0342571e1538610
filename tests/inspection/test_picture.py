"""Pictures of rules: the line of each expert with its words, and the rows in its color."""

import matplotlib
import numpy as np
import pandas as pd
from helpers import raises
from made_up import counts, shops, two_lines, two_rules_of_classes
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from sklearn_moe import MixtureClassifier, MixtureRegressor
from sklearn_moe.inspection import region_rules

STUMP = DecisionTreeClassifier(max_depth=1, random_state=0)


def drawn(ax):
    """Return the words of the legend, the lines of the experts and the colors of the points."""
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    return texts, ax.lines[-2:], ax.collections[0].get_facecolors()


def test_the_line_of_each_expert_along_the_column_that_matters_most(pyplot):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(-1, 1, (300, 3)), columns=["where", "little", "m$ch"])
    X["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(300) % 30, unit="D")
    slope = np.where(X["where"] > 0, 5, -3)
    y = (slope * X["m$ch"] + 0.1 * X["little"]).rename("gain")
    model = make_pipeline(
        FunctionTransformer(lambda frame: frame.iloc[:, :3]),
        MixtureRegressor(LinearRegression(), gate=STUMP, random_state=0),
    )
    rules = region_rules(model.fit(X, y), X, y)
    figure = rules.plot()
    texts, lines, colors = drawn(figure.axes[0])
    assert texts[-1] == "one line for all rows"
    for k in (0, 1):
        assert texts[k] == f"expert {k}: {rules.where[k][0].replace('<=', '≤')}"
        found = np.polyfit(*lines[k].get_data(), 1)[0]
        assert_allclose(found, 5 if ">" in rules.where[k][0] else -3, rtol=1e-3)
    assert figure.axes[0].get_xlabel() == r"m\$ch"
    assert figure.axes[0].get_ylabel() == "gain"
    # The points of an expert have one color, that of its line but lighter.
    experts = model[-1].apply(X.iloc[:, :3])
    assert all(len(np.unique(colors[experts == k], axis=0)) == 1 for k in (0, 1))
    ax = pyplot.figure().subplots()
    assert rules.plot(column="little", ax=ax) is ax.figure
    assert ax.get_xlabel() == "little"
    assert "2024" in str(matplotlib.dates.num2date(rules.plot(column="day").axes[0].get_xlim()[1]))
    raises(ValueError, "column names", rules.plot, column="none")


def test_probabilities_of_the_second_class_or_a_panel_for_each(pyplot):
    X, y = two_rules_of_classes()
    model = MixtureClassifier(gate=STUMP, n_init=2, random_state=0).fit(X, y)
    (ax,) = region_rules(model, X, y).plot().axes
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("probability of 'yes'", "x1")
    rising = [line.get_ydata()[-1] > 0.9 > 0.1 > line.get_ydata()[0] for line in ax.lines]
    assert sorted(rising) == [False, True]
    assert (ax.collections[0].get_offsets()[y == "yes", 1] > 0.5).all()
    y = np.where(X[:, 2] > 1, "maybe", y)
    rules = region_rules(model.fit(X, y), X, y)
    assert [ax.get_ylabel()[15:] for ax in rules.plot().axes] == ["'maybe'", "'no'", "'yes'"]
    raises(ValueError, "3 panels do not fit", rules.plot, ax=ax)


def test_what_has_no_words_or_no_numbers(pyplot):
    X, y, line = two_lines()
    model = MixtureRegressor(LinearRegression(), gate=None, n_init=2, random_state=0).fit(X, y)
    texts, _, colors = drawn(region_rules(model, X, y).plot().axes[0])
    assert all(text.endswith("of the weight, whatever the row") for text in texts[:2])
    # Rows are of the expert that predicts them better.
    assert np.mean((colors == colors[line == 1][0]).all(axis=1) == line) > 0.9
    X, y = counts()
    stack = MixtureRegressor([Ridge(), Ridge(9)], method="stack", gate=None, random_state=0)
    assert len(region_rules(stack.fit(X, y), X).plot().axes[0].lines) == 2 + 1
    X, y = shops()
    X = X[["kind"]]
    rules = region_rules(MixtureRegressor(n_init=1, random_state=0).fit(X, y), X, y)
    raises(ValueError, "X has none", rules.plot)
