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
from sklearn_moe.metrics import (
    cluster_nmi_scorer,
    neg_dead_experts_scorer,
    neg_dispatch_entropy_scorer,
    neg_load_cv_scorer,
)

SCORERS = {name: getattr(metrics, name) for name in metrics.__all__ if name.endswith("_scorer")}
OF_CLUSTERS = ("neg_dispatch_entropy_scorer", "cluster_nmi_scorer")


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


def expected_scores(experts, clusters, n_experts):
    load = metrics.expert_load(experts, n_experts=n_experts)
    return {
        "neg_dispatch_entropy_scorer": -metrics.dispatch_entropy(clusters, experts),
        "cluster_nmi_scorer": normalized_mutual_info_score(clusters, experts),
        "neg_load_cv_scorer": -metrics.load_cv(load),
        "neg_dead_experts_scorer": -len(metrics.dead_experts(load)),
    }


def test_scorers_are_the_metrics(data):
    X, y, clusters = data
    clf = SlicedMixture(5).fit(X, y)
    scaled = make_pipeline(StandardScaler(), SlicedMixture(5)).fit(X, y)
    expected = expected_scores(clf.apply(X), clusters, 5)
    of_scaled = expected_scores(scaled[-1].apply(scaled[0].transform(X)), clusters, 5)
    for name, scorer in SCORERS.items():
        metadata = {"clusters": clusters} if name in OF_CLUSTERS else {}
        score = scorer(clf, X, y, **metadata)
        assert type(score) is float
        assert (score, scorer(scaled, X, y, **metadata)) == (expected[name], of_scaled[name])
    left = X[X[:, 0] < -0.5]  # experts at the end are dead
    assert neg_dead_experts_scorer(SlicedMixture(4).fit(X, y), left) == -3
    assert neg_load_cv_scorer(SlicedMixture(4).fit(X, y), left) == pytest.approx(-np.sqrt(3))


def test_weights_repeat_samples(data):
    X, y, clusters = data
    clf, weight = SlicedMixture().fit(X, y), np.arange(len(X)) % 3
    rows = np.repeat(np.arange(len(X)), weight)
    score = neg_load_cv_scorer(clf, X, y, sample_weight=weight)
    assert score == pytest.approx(neg_load_cv_scorer(clf, X[rows], y[rows]))
    score = neg_dispatch_entropy_scorer(clf, X, y, sample_weight=weight, clusters=clusters)
    expected = neg_dispatch_entropy_scorer(clf, X[rows], y[rows], clusters=clusters[rows])
    assert score == pytest.approx(expected)


@pytest.mark.parametrize("estimator", [SlicedMixture(), make_pipeline(None, SlicedMixture())])
def test_clusters_are_routed_and_split(estimator, data, routed):
    X, y, clusters = data
    scoring = {"accuracy": "accuracy", **SCORERS}
    for name in OF_CLUSTERS:
        scoring[name] = scoring[name].set_score_request(clusters="species")
    options = {"cv": KFold(3), "params": {"species": clusters}, "error_score": "raise"}
    result = cross_validate(estimator, X, y, scoring=scoring, **options)
    assert not np.isnan(result["test_accuracy"]).any()
    for fold, (_, test) in enumerate(KFold(3).split(X)):
        expected = expected_scores(SlicedMixture().apply(X[test]), clusters[test], 4)
        assert {name: result[f"test_{name}"][fold] for name in SCORERS} == expected


@pytest.mark.parametrize("routing", [False, True])
def test_load_needs_no_routing(routing, data):
    X, y, _ = data
    scoring = {"load": neg_load_cv_scorer, "dead": neg_dead_experts_scorer}
    search = GridSearchCV(SlicedMixture(), {"n_experts": [2, 4]}, scoring=neg_load_cv_scorer)
    with sklearn.config_context(enable_metadata_routing=routing):
        result = cross_validate(SlicedMixture(), X, y, scoring=scoring)
        assert search.fit(X, y).best_params_ == {"n_experts": 2}
    search.fit(X, y, sample_weight=np.ones(len(X)))  # a scorer without weights would warn
    assert cluster_nmi_scorer._accept_sample_weight() is False
    assert {"test_load", "test_dead"} < set(result)


@pytest.mark.parametrize("name", OF_CLUSTERS)
def test_missing_clusters_are_explained_in_three_steps(name, data):
    X, y, _ = data
    scorer, clf = SCORERS[name], SlicedMixture().fit(X, y)
    with pytest.raises(ValueError, match=r"`clusters`") as info:
        scorer(clf, X, y)
    first, second, third = str(info.value).splitlines()[1:]
    assert "sklearn.set_config(enable_metadata_routing=True)" in first
    assert f"{name}.set_score_request(clusters=True)" in second
    assert 'params={"clusters": clusters}' in third
    raises(ValueError, "`clusters`", cross_validate, clf, X, y, scoring=scorer, error_score="raise")


def test_wrong_requests_are_explained(data, routed):
    X, y, clusters = data
    options = {"scoring": neg_dispatch_entropy_scorer, "params": {"clusters": clusters}}
    with pytest.raises(UnsetMetadataPassedError, match=r"neg_dispatch_entropy_scorer.score"):
        cross_validate(SlicedMixture(), X, y, **options)
    with pytest.raises(TypeError, match=r"groups\. It takes clusters"):
        cluster_nmi_scorer.set_score_request(groups=True)
    raises(ValueError, "`clusters`", cluster_nmi_scorer.set_score_request, clusters=3)
    with pytest.raises(TypeError, match=r"neg_load_cv_scorer does not know clusters. It takes"):
        neg_load_cv_scorer(SlicedMixture().fit(X, y), X, y, clusters=clusters)
    with pytest.raises(TypeError, match="clusters must hold labels of one type"):
        cluster_nmi_scorer(SlicedMixture().fit(X, y), X, clusters=np.resize(["a", None], len(X)))
    with pytest.raises(TypeError, match=r"StandardScaler does not have apply.*`best_estimator_`"):
        neg_load_cv_scorer(StandardScaler().fit(X), X, y)
    with (
        sklearn.config_context(enable_metadata_routing=False),
        pytest.raises(RuntimeError, match=r"set_config\(enable_metadata_routing=True\)"),
    ):
        cluster_nmi_scorer.set_score_request(clusters=True)


def test_a_request_leaves_the_shared_scorer_alone(routed):
    asking = neg_dispatch_entropy_scorer.set_score_request(clusters=True)
    scorers = neg_dispatch_entropy_scorer, asking, asking.set_score_request(sample_weight="weight")
    requests = [scorer.get_metadata_routing().score.requests for scorer in scorers]
    expected = (None, None), (True, None), (True, "weight")
    assert [(r["clusters"], r["sample_weight"]) for r in requests] == [*expected]


@pytest.mark.parametrize("name", ["cluster_nmi_scorer", "neg_load_cv_scorer"])
def test_representation_and_copies(name, data, routed):
    scorer, metadata = SCORERS[name], "clusters" if name in OF_CLUSTERS else "sample_weight"
    asking = scorer.set_score_request(**{metadata: True})
    assert (repr(scorer), repr(asking)) == (name, f"{name}.set_score_request({metadata}=True)")
    X, y, clusters = data
    given = {"clusters": clusters} if name in OF_CLUSTERS else {}
    clf = SlicedMixture().fit(X, y)
    for again in (pickle.loads(pickle.dumps(asking)), copy.deepcopy(asking)):
        assert repr(again) == repr(asking)
        assert again(clf, X, y, **given) == scorer(clf, X, y, **given)
