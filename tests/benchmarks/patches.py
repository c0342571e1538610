"""Bags of patches, the problem of the paper: samples of setting 1, and fits of any setting."""

import warnings

import torch
from measure import seconds

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.metrics import dispatch_entropy

N_TEST = 16_000


def setting_1(n_samples=16_000, seed=0):
    """Return bags of patches of setting 1 of the paper, and their classes."""
    return make_cluster_patches(n_samples, random_state=seed, **PAPER_SETTINGS[1])


def fit_patches(setting, n_train, seed, **parameters):
    """Fit a mixture to the problem of a seed, and return what it comes to on other samples."""
    torch.set_num_threads(1)
    X, y, clusters = make_cluster_patches(
        n_train + N_TEST, random_state=seed, return_clusters=True, **PAPER_SETTINGS[setting]
    )
    clf = MoEClassifier(random_state=seed).set_params(**parameters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        elapsed = seconds(clf.fit, X[:n_train], y[:n_train])
    experts = clf.apply(X[n_train:])
    return {
        "accuracy": 100 * clf.score(X[n_train:], y[n_train:]),
        "entropy": dispatch_entropy(clusters[n_train:], experts),
        "dead": clf.n_experts - len(set(experts.tolist())),
        "epochs": clf.n_iter_,
        "seconds": elapsed,
        "warnings": ", ".join(warning.category.__name__ for warning in caught),
    }
