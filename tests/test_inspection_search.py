"""The picture of a search over the number of experts."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_moe import MoERegressor
from sklearn_moe.inspection import ExpertCountDisplay, expert_colors

matplotlib.use("Agg")


def legend_texts(ax):
    legends = ax.findobj(matplotlib.legend.Legend)
    return [text.get_text() for legend in legends for text in legend.get_texts()]


class Counted(ClassifierMixin, BaseEstimator):
    """A classifier whose accuracy depends on its parameters only."""

    def __init__(self, n_experts=8, activation="cubic", top_k=1):
        self.n_experts = n_experts
        self.activation = activation
        self.top_k = top_k

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        linear = self.activation == "linear"
        good = np.arange(len(X)) % 10 < np.log2(self.n_experts) + 5 - 2 * linear - 0.5 * self.top_k
        return np.where(good, X[:, 0], 1 - X[:, 0])


@pytest.fixture(scope="module")
def data():
    y = np.arange(90) % 2
    return y[:, np.newaxis], y


COUNTS = [1, 2, 4, 8]


@pytest.fixture(scope="module")
def search(data):
    return GridSearchCV(Counted(), {"n_experts": COUNTS}, cv=3, refit=False).fit(*data)


def split_scores(search):
    return np.stack([search.cv_results_[f"split{i}_test_score"] for i in range(3)], axis=1)


def test_curve_is_the_mean_score_with_its_standard_error(pyplot, search):
    display = ExpertCountDisplay.from_search(search)
    scores = split_scores(search)
    assert_array_equal(display.n_experts, COUNTS)
    assert_array_equal(display.scores, scores[np.newaxis])
    (container,) = display.lines_
    line, _, (bars,) = container
    assert_array_equal(line.get_xdata(), COUNTS)
    assert_allclose(line.get_ydata(), search.cv_results_["mean_test_score"])
    half = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
    assert_allclose(half, scores.std(axis=1, ddof=1) / np.sqrt(3), atol=1e-12)
    assert display.folds_ == []


def test_axis_is_logarithmic_with_the_counts_as_labels(pyplot, search):
    ax = ExpertCountDisplay.from_search(search).ax_
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4", "8"]
    assert ax.get_ylabel() == "Cross-validated score"
    many = ExpertCountDisplay(range(1, 65), np.ones((64, 2))).plot().ax_
    labels = [label.get_text() for label in many.get_xticklabels()]
    assert labels == ["1", "2", "4", "8", "16", "32", "64"]
    assert len(many.get_xticks(minor=True)) > 40


def test_the_best_is_marked(pyplot, search):
    display = ExpertCountDisplay.from_search(search)
    ((x, y),) = display.best_.get_xydata()
    assert (x, y) == (8, search.cv_results_["mean_test_score"].max())
    assert legend_texts(display.ax_) == ["best: 8 experts"]
    one = ExpertCountDisplay([1, 2], [[0.9, 0.8], [0.5, 0.5]]).plot()
    assert legend_texts(one.ax_) == ["best: 1 expert"]


def test_folds_take_the_place_of_error_bars(pyplot, search):
    display = ExpertCountDisplay.from_search(search, show_folds=True, fold_kw={"alpha": 1})
    (folds,) = display.folds_
    assert_array_equal(folds.get_xdata(), np.repeat(COUNTS, 3))
    assert_array_equal(folds.get_ydata(), split_scores(search).ravel())
    assert folds.get_alpha() == 1
    assert not display.lines_[0].has_yerr


def test_other_parameters_have_curves_of_their_own(pyplot, data):
    grid = {"n_experts": COUNTS, "activation": ["linear", "cubic"], "top_k": [1]}
    search = GridSearchCV(Counted(), grid, cv=3).fit(*data)
    display = ExpertCountDisplay.from_search(search)
    assert sorted(display.names) == ["activation=cubic", "activation=linear"]  # not top_k
    for name, scores in zip(display.names, display.scores, strict=True):
        rows = [f"activation={p['activation']}" == name for p in search.cv_results_["params"]]
        assert_array_equal(scores, split_scores(search)[rows])
    assert legend_texts(display.ax_) == [*display.names, "best: 8 experts"]
    assert_allclose([to_rgb(line[0].get_color()) for line in display.lines_], expert_colors(2))
    first, second = (line[0].get_xdata() for line in display.lines_)
    assert (first < second).all()
    assert_allclose(np.sqrt(first * second), COUNTS)


def test_many_combinations_become_the_best_of_them(pyplot, data):
    grid = {"n_experts": COUNTS, "top_k": range(1, 10)}
    search = GridSearchCV(Counted(), grid, cv=3).fit(*data)
    display = ExpertCountDisplay.from_search(search)
    assert display.names == ["best of 9 combinations"]
    results = search.cv_results_
    for count, scores in zip(COUNTS, display.scores[0], strict=True):
        rows = np.array([params["n_experts"] == count for params in results["params"]])
        assert scores.mean() == results["mean_test_score"][rows].max()
    assert len(ExpertCountDisplay.from_search(search, max_curves=9).lines_) == 9


def test_counts_that_a_curve_does_not_have_are_left_out(pyplot, data):
    grid = [{"n_experts": [1, 2, 4]}, {"activation": ["linear"]}]
    search = GridSearchCV(Counted(), grid, cv=3).fit(*data)
    display = ExpertCountDisplay.from_search(search)
    assert_array_equal(display.n_experts, [1, 2, 4, 8])  # 8 is the estimator's own
    assert [len(line[0].get_xdata()) for line in display.lines_] == [3, 1]


def test_finds_the_parameter_of_a_pipeline(pyplot, data):
    pipeline = make_pipeline(FunctionTransformer(), Counted())
    search = RandomizedSearchCV(
        pipeline, {"counted__n_experts": COUNTS}, n_iter=4, cv=3, random_state=0
    ).fit(*data)
    for param in (None, "counted__n_experts"):
        display = ExpertCountDisplay.from_search(search, param)
        assert_array_equal(display.n_experts, COUNTS)


@pytest.mark.parametrize("scoring", [None, "r2", "neg_mean_squared_error"])
def test_scores_of_numbers_are_called_by_their_names(pyplot, scoring):
    X = np.random.RandomState(0).uniform(-1, 1, size=(60, 2))
    pipeline = make_pipeline(FunctionTransformer(), MoERegressor(max_iter=2, random_state=0))
    grid = {"moeregressor__n_experts": [1, 2]}
    search = GridSearchCV(pipeline, grid, cv=3, scoring=scoring).fit(X, np.abs(X[:, 0]))
    display = ExpertCountDisplay.from_search(search)
    assert_allclose(display.scores[0], split_scores(search))
    name = "neg mean squared error" if scoring and scoring != "r2" else "R²"
    assert display.ax_.get_ylabel() == f"Cross-validated {name}"


def test_the_last_score_of_a_halving_search_counts(pyplot, data):
    search = HalvingGridSearchCV(
        Counted(), {"n_experts": COUNTS}, cv=3, factor=2, min_resources=30, random_state=0
    ).fit(*data)
    results = search.cv_results_
    display = ExpertCountDisplay.from_search(search)
    for count, scores in zip(COUNTS, display.scores[0], strict=True):
        rows = [params["n_experts"] == count for params in results["params"]]
        assert scores.mean() == pytest.approx(results["mean_test_score"][rows][-1])


def test_several_scores(pyplot, data):
    search = GridSearchCV(
        Counted(),
        {"n_experts": COUNTS},
        scoring=["accuracy", "balanced_accuracy"],
        refit=False,
        cv=3,
    ).fit(*data)
    display = ExpertCountDisplay.from_search(search, metric="balanced_accuracy")
    assert display.ax_.get_ylabel() == "Cross-validated balanced accuracy"
    with pytest.raises(ValueError, match=r"\['accuracy', 'balanced_accuracy'\].*metric=None"):
        ExpertCountDisplay.from_search(search)
    search.set_params(refit="accuracy").fit(*data)
    display = ExpertCountDisplay.from_search(search)
    assert display.score_name == "accuracy"


def test_searches_without_the_number_of_experts_are_refused(pyplot, data, search):
    other = GridSearchCV(Counted(), {"top_k": [1, 2]}, cv=3).fit(*data)
    with pytest.raises(ValueError, match=r"n_experts.*0 of them among \['top_k'\]"):
        ExpertCountDisplay.from_search(other)
    with pytest.raises(ValueError, match=r"'experts'.*0 of them"):
        ExpertCountDisplay.from_search(search, "experts")
    with pytest.raises(TypeError, match="fit first"):
        ExpertCountDisplay.from_search(GridSearchCV(Counted(), {"n_experts": COUNTS}))
    assert pyplot.get_fignums() == []


def test_malformed_scores_are_refused(pyplot):
    with pytest.raises(ValueError, match=r"for 3 numbers of experts, got shape \(2, 5\)"):
        ExpertCountDisplay([1, 2, 4], np.ones((2, 5))).plot()
    with pytest.raises(ValueError, match="2 curves, got 1 names"):
        ExpertCountDisplay([1, 2], np.ones((2, 2, 5)), names=["a"]).plot()
    assert pyplot.get_fignums() == []


def test_style_of_the_curves_reaches_matplotlib(pyplot, search):
    display = ExpertCountDisplay.from_search(search, line_kw={"color": "red", "linewidth": 3})
    line = display.lines_[0][0]
    assert (line.get_color(), line.get_linewidth()) == ("red", 3)


def test_a_single_split_has_no_error_bar(pyplot):
    display = ExpertCountDisplay([1, 2], [[0.5], [0.6]]).plot()
    assert not display.lines_[0].has_yerr
