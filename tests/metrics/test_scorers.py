"""The scorer of routes inside scikit-learn's cross-validation and searches."""

import pickle

import numpy as np
import pytest
import sklearn
from helpers import raises
from joblib import parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_moe.metrics import dispatch_entropy, neg_dispatch_entropy_scorer


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


@pytest.mark.parametrize("estimator", [SlicedMixture(), make_pipeline(None, SlicedMixture())])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_clusters_are_routed_and_split(estimator, n_jobs, data, routed):
    X, y, clusters = data
    scorer = pickle.loads(pickle.dumps(neg_dispatch_entropy_scorer))  # as workers get it
    scoring = {"entropy": scorer, "accuracy": "accuracy"}
    options = {"cv": KFold(3), "params": {"clusters": clusters}, "error_score": "raise"}
    with parallel_config("threading", n_jobs=n_jobs):
        result = cross_validate(estimator, X, y, scoring=scoring, **options)
    assert not np.isnan(result["test_accuracy"]).any()
    for fold, (_, test) in enumerate(KFold(3).split(X)):
        expected = -dispatch_entropy(clusters[test], SlicedMixture().apply(X[test]))
        assert result["test_entropy"][fold] == expected


def test_a_search_prefers_experts_of_one_cluster(data, routed):
    X, y, clusters = data
    options = {"scoring": neg_dispatch_entropy_scorer, "cv": 3}
    search = GridSearchCV(SlicedMixture(), {"n_experts": [1, 3, 4]}, **options)
    assert search.fit(X, y, clusters=clusters).best_params_ == {"n_experts": 4}


def test_wrong_input_is_explained(data):
    X, y, clusters = data
    clf = SlicedMixture().fit(X, y)
    raises(TypeError, "clusters", neg_dispatch_entropy_scorer, clf, X, y)
    wrong = StandardScaler().fit(X)
    raises(TypeError, "not have apply", neg_dispatch_entropy_scorer, wrong, X, clusters=clusters)
