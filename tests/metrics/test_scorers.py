"""Scorers of routes inside scikit-learn's cross-validation and searches."""

import copy
import pickle

import numpy as np
import pytest
import sklearn
from helpers import raises
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import normalized_mutual_info_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_moe import metrics
from sklearn_moe.metrics import RoutingScorer, cluster_nmi_scorer, neg_dispatch_entropy_scorer

SCORERS = {name: getattr(metrics, name) for name in metrics.__all__ if name.endswith("_scorer")}


class SlicedMixture(ClassifierMixin, BaseEstimator):
    """Routes by the first feature, cut into equal slices from -1 to 1; learns nothing."""

    def __init__(self, n_experts=4):
        self.n_experts = n_experts

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.classes_[np.zeros(len(X), dtype=int)]

    def apply(self, X):
        slices = np.floor((np.asarray(X)[:, 0] + 1) / 2 * self.n_experts).astype(int)
        return slices.clip(0, self.n_experts - 1)


@pytest.fixture
def routed():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module")
def data():
    rng = np.random.RandomState(0)
    X = rng.uniform(-1, 1, size=(120, 2))
    return X, rng.randint(2, size=120), np.array(["left", "right"])[(X[:, 0] > 0).astype(int)]


def expected_scores(experts, clusters):
    return {
        "neg_dispatch_entropy_scorer": -metrics.dispatch_entropy(clusters, experts),
        "cluster_nmi_scorer": normalized_mutual_info_score(clusters, experts),
    }


def test_scorers_are_the_metrics_and_weights_repeat_samples(data):
    X, y, clusters = data
    clf = SlicedMixture(5).fit(X, y)
    scaled = make_pipeline(StandardScaler(), SlicedMixture(5)).fit(X, y)
    expected = expected_scores(clf.apply(X), clusters)
    of_scaled = expected_scores(scaled[-1].apply(scaled[0].transform(X)), clusters)
    for name, scorer in SCORERS.items():
        score = scorer(clf, X, y, clusters=clusters)
        assert type(score) is float
        assert (score, scorer(scaled, X, y, clusters=clusters)) == (expected[name], of_scaled[name])
    weight = np.arange(len(X)) % 3
    rows = np.repeat(np.arange(len(X)), weight)
    score = neg_dispatch_entropy_scorer(clf, X, y, sample_weight=weight, clusters=clusters)
    expected = neg_dispatch_entropy_scorer(clf, X[rows], y[rows], clusters=clusters[rows])
    assert score == pytest.approx(expected)


@pytest.mark.parametrize("estimator", [SlicedMixture(), make_pipeline(None, SlicedMixture())])
def test_clusters_are_routed_and_split(estimator, data, routed):
    X, y, clusters = data
    scoring = {name: s.set_score_request(clusters="species") for name, s in SCORERS.items()}
    options = {"cv": KFold(3), "params": {"species": clusters}, "error_score": "raise"}
    result = cross_validate(estimator, X, y, scoring=scoring | {"accuracy": "accuracy"}, **options)
    assert not np.isnan(result["test_accuracy"]).any()
    for fold, (_, test) in enumerate(KFold(3).split(X)):
        expected = expected_scores(SlicedMixture().apply(X[test]), clusters[test])
        assert {name: result[f"test_{name}"][fold] for name in SCORERS} == expected


@pytest.mark.parametrize("routing", [False, True])
def test_a_scorer_of_one_s_own_needs_no_clusters(routing, data):
    def largest_load(estimator, X, *, sample_weight=None):
        load = metrics.expert_load(estimator.apply(X), sample_weight=sample_weight)
        return -load.max()

    X, y, _ = data
    scorer = RoutingScorer("neg_largest_load", largest_load)
    search = GridSearchCV(SlicedMixture(), {"n_experts": [2, 4]}, scoring=scorer)
    with sklearn.config_context(enable_metadata_routing=routing):
        assert search.fit(X, y).best_params_ == {"n_experts": 4}
    # A scorer that does not accept weights would warn.
    search.fit(X, y, sample_weight=np.ones(len(X)))
    assert cluster_nmi_scorer._accept_sample_weight() is False


def test_missing_clusters_are_explained_in_three_steps(data):
    X, y, _ = data
    clf = SlicedMixture().fit(X, y)
    options = {"scoring": cluster_nmi_scorer, "error_score": "raise"}
    with pytest.raises(ValueError, match=r"`clusters`") as info:
        cross_validate(clf, X, y, **options)
    first, second, third = str(info.value).splitlines()[1:]
    assert "sklearn.set_config(enable_metadata_routing=True)" in first
    assert "cluster_nmi_scorer.set_score_request(clusters=True)" in second
    assert 'params={"clusters": clusters}' in third


def test_wrong_requests_are_explained(data, routed):
    X, y, clusters = data
    options = {"scoring": neg_dispatch_entropy_scorer, "params": {"clusters": clusters}}
    with pytest.raises(UnsetMetadataPassedError, match=r"neg_dispatch_entropy_scorer.score"):
        cross_validate(SlicedMixture(), X, y, **options)
    with pytest.raises(TypeError, match=r"groups\. It takes clusters"):
        cluster_nmi_scorer.set_score_request(groups=True)
    raises(ValueError, "`clusters`", cluster_nmi_scorer.set_score_request, clusters=3)
    with pytest.raises(TypeError, match=r"cluster_nmi_scorer does not know weight. It takes"):
        cluster_nmi_scorer(SlicedMixture().fit(X, y), X, y, clusters=clusters, weight=y)
    with pytest.raises(TypeError, match="clusters must hold labels of one type"):
        cluster_nmi_scorer(SlicedMixture().fit(X, y), X, clusters=np.resize(["a", None], len(X)))
    with pytest.raises(TypeError, match=r"StandardScaler does not have apply.*`best_estimator_`"):
        cluster_nmi_scorer(StandardScaler().fit(X), X, y, clusters=clusters)
    with (
        sklearn.config_context(enable_metadata_routing=False),
        pytest.raises(RuntimeError, match=r"set_config\(enable_metadata_routing=True\)"),
    ):
        cluster_nmi_scorer.set_score_request(clusters=True)


@pytest.mark.parametrize("name", SCORERS)
def test_requests_are_of_copies(name, data, routed):
    scorer, (X, y, clusters) = SCORERS[name], data
    asking = scorer.set_score_request(clusters=True)
    requests = [one.get_metadata_routing().score.requests["clusters"] for one in (scorer, asking)]
    assert requests == [None, True]
    assert (repr(scorer), repr(asking)) == (name, f"{name}.set_score_request(clusters=True)")
    clf = SlicedMixture().fit(X, y)
    for again in (pickle.loads(pickle.dumps(asking)), copy.deepcopy(asking)):
        assert repr(again) == repr(asking)
        assert again(clf, X, y, clusters=clusters) == scorer(clf, X, y, clusters=clusters)
