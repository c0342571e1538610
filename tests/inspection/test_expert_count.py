"""The plot of a search over the number of experts."""

import numpy as np
import pytest
from helpers import legend_texts, raises
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_moe.inspection import ExpertCountDisplay, expert_colors

COUNTS = [1, 2, 4, 8]


class Counted(ClassifierMixin, BaseEstimator):
    """A classifier whose accuracy depends on its parameters only."""

    def __init__(self, n_experts=8, activation="cubic", top_k=1):
        self.n_experts, self.activation, self.top_k = n_experts, activation, top_k

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        linear = self.activation == "linear"
        good = np.arange(len(X)) % 10 < np.log2(self.n_experts) + 5 - 2 * linear - 0.5 * self.top_k
        return np.where(good, X[:, 0], 1 - X[:, 0])


def fit_search(grid, search=GridSearchCV, estimator=None, **options):
    y = np.arange(90) % 2
    estimator = Counted() if estimator is None else estimator
    return search(estimator, grid, cv=3, **options).fit(y[:, np.newaxis], y)


@pytest.fixture(scope="module")
def search():
    return fit_search({"n_experts": COUNTS}, refit=False)


def split_scores(search):
    return np.stack([search.cv_results_[f"split{i}_test_score"] for i in range(3)], axis=1)


def test_curve_is_the_mean_score_with_its_standard_error(pyplot, search):
    display = ExpertCountDisplay.from_search(search)
    scores, means = split_scores(search), search.cv_results_["mean_test_score"]
    assert_array_equal(display.n_experts, COUNTS)
    assert_array_equal(display.scores, scores[np.newaxis])
    ((line, _, (bars,)),) = display.lines_
    assert_array_equal(line.get_xdata(), COUNTS)
    assert_allclose(line.get_ydata(), means)
    half = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
    assert_allclose(half, scores.std(axis=1, ddof=1) / np.sqrt(3), atol=1e-12)
    assert (display.folds_, display.best_.get_xydata().tolist()) == ([], [[8, means.max()]])
    assert legend_texts(display.ax_) == ["best: 8 experts"]
    assert display.ax_.get_ylabel() == "Cross-validated score"
    folds = ExpertCountDisplay.from_search(search, show_folds=True)
    assert_array_equal(folds.folds_[0].get_xdata(), np.repeat(COUNTS, 3))
    assert_array_equal(folds.folds_[0].get_ydata(), scores.ravel())
    assert not folds.lines_[0].has_yerr


def test_axis_and_small_cases(pyplot, search):
    ax = ExpertCountDisplay.from_search(search).ax_
    many = ExpertCountDisplay(range(1, 65), np.ones((64, 2))).plot().ax_
    far = ExpertCountDisplay([1, 2, 3, 4096], np.ones((4, 2))).plot().ax_
    for shown, last in ((ax, 3), (many, 6), (far, 12)):
        labels = [label.get_text() for label in shown.get_xticklabels()]
        assert (shown.get_xscale(), labels) == ("log", [str(2**i) for i in range(last + 1)])
    assert len(many.get_xticks(minor=True)) > 40
    one = ExpertCountDisplay([1, 2], [[0.9, 0.8], [0.5, 0.5]]).plot()
    assert legend_texts(one.ax_) == ["best: 1 expert"]
    assert not ExpertCountDisplay([1, 2], [[0.5], [0.6]]).plot().lines_[0].has_yerr


def test_other_parameters_have_their_own_curves(pyplot):
    search = fit_search({"n_experts": COUNTS, "activation": ["linear", "cubic"], "top_k": [1]})
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


def test_many_combinations_become_the_best_of_them(pyplot):
    search = fit_search({"n_experts": COUNTS, "top_k": range(1, 10)})
    display, results = ExpertCountDisplay.from_search(search), search.cv_results_
    assert display.names == ["best of 9 combinations"]
    for count, scores in zip(COUNTS, display.scores[0], strict=True):
        rows = np.array([params["n_experts"] == count for params in results["params"]])
        assert scores.mean() == results["mean_test_score"][rows].max()
    assert len(ExpertCountDisplay.from_search(search, max_curves=9).lines_) == 9


def test_missing_counts_pipelines_and_halving(pyplot):
    search = fit_search([{"n_experts": [1, 2, 4]}, {"activation": ["linear"]}])
    display = ExpertCountDisplay.from_search(search)
    assert_array_equal(display.n_experts, [1, 2, 4, 8])  # 8 is the estimator's own
    assert [len(line[0].get_xdata()) for line in display.lines_] == [3, 1]
    pipeline = make_pipeline(FunctionTransformer(), Counted())
    options = {"estimator": pipeline, "n_iter": 4, "random_state": 0}
    search = fit_search({"counted__n_experts": COUNTS}, RandomizedSearchCV, **options)
    for param in (None, "counted__n_experts"):
        assert_array_equal(ExpertCountDisplay.from_search(search, param).n_experts, COUNTS)
    options = {"factor": 2, "min_resources": 30, "random_state": 0}
    search = fit_search({"n_experts": COUNTS}, HalvingGridSearchCV, **options)
    results = search.cv_results_
    for count, scores in zip(COUNTS, ExpertCountDisplay.from_search(search).scores[0], strict=True):
        rows = [params["n_experts"] == count for params in results["params"]]
        assert scores.mean() == pytest.approx(results["mean_test_score"][rows][-1])


def test_names_of_scores(pyplot):
    of_numbers = make_pipeline(FunctionTransformer(), DummyRegressor(strategy="constant"))
    grid = {"dummyregressor__constant": [1, 2]}  # any number will do
    for scoring, name in {
        None: "R²",
        "r2": "R²",
        "neg_mean_squared_error": "neg mean squared error",
    }.items():
        search = fit_search(grid, estimator=of_numbers, scoring=scoring)
        display = ExpertCountDisplay.from_search(search, "dummyregressor__constant")
        assert display.ax_.get_ylabel() == f"Cross-validated {name}"
    scoring = ["accuracy", "balanced_accuracy"]
    search = fit_search({"n_experts": COUNTS}, scoring=scoring, refit=False)
    display = ExpertCountDisplay.from_search(search, metric="balanced_accuracy")
    assert display.ax_.get_ylabel() == "Cross-validated balanced accuracy"
    with pytest.raises(ValueError, match=r"\['accuracy', 'balanced_accuracy'\].*metric=None"):
        ExpertCountDisplay.from_search(search)
    search = fit_search({"n_experts": COUNTS}, scoring=scoring, refit="accuracy")
    assert ExpertCountDisplay.from_search(search).score_name == "accuracy"


def test_wrong_searches_and_scores_are_refused(pyplot, search):
    for args, match in (
        ([fit_search({"top_k": [1, 2]})], r"n_experts.*0 of them among \['top_k'\]"),
        ([search, "experts"], "'experts'.*0 of them"),
        ([GridSearchCV(Counted(), {"n_experts": COUNTS})], "fit first"),
    ):
        raises((TypeError, ValueError), match, ExpertCountDisplay.from_search, *args)
    for args, names, match in (
        (([1, 2, 4], np.ones((2, 5))), None, "scores .* for 3 numbers"),
        (([1, 2], np.ones((2, 2, 5))), ["a"], "names .* 2 curves, got 1"),
    ):
        raises(ValueError, match, ExpertCountDisplay(*args, names=names).plot)
    assert pyplot.get_fignums() == []
