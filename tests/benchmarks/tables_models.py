"""The models that tables.py compares, by name, each at its defaults."""

import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from sklearn_moe import MoEClassifier, MoERegressor

__all__ = [
    "MLP",
    "MODELS",
    "MOE",
    "ONE",
    "OPTIONAL",
    "build",
    "elsewhere",
    "installed",
    "standardized",
    "warm_up",
]

MOE, ONE, MLP = "MoE", "one expert", "MLP"


def standardized(regressor):
    """Return a regressor that sees a standardized target, where it would depend on its unit."""
    return TransformedTargetRegressor(regressor, transformer=StandardScaler())


def pytabkit(name):
    """Return a function that builds a model of pytabkit, which takes long to import."""

    def build(seed):
        import pytabkit

        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        return getattr(pytabkit, name)(device="cpu", n_threads=1, random_state=seed)

    return build


def elsewhere(package, name, **options):
    """Return a function that builds a model of a package that may not be there."""

    def build(seed):
        return getattr(import_module(package), name)(random_state=seed, **options)

    return build


def soft_tree_regressor(seed):
    """Return the tree of neural-trees, which does not standardize the target itself."""
    return standardized(elsewhere("neural_trees", "SoftDecisionTreeRegressor")(seed))


# Each value is a function of the seed. Classifier and regressor of a family share a name.
CLASSIFIERS = {
    MOE: lambda seed: MoEClassifier(random_state=seed),
    ONE: lambda seed: MoEClassifier(n_experts=1, random_state=seed),
    MLP: lambda seed: MLPClassifier(random_state=seed),
    "HistGradientBoosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
    "RandomForest": lambda seed: RandomForestClassifier(random_state=seed),
    "linear": lambda seed: LogisticRegression(max_iter=1000, random_state=seed),
    "SVM": lambda seed: SVC(random_state=seed),
    "RealMLP": pytabkit("RealMLP_TD_S_Classifier"),
    "TabM": pytabkit("TabM_D_Classifier"),
    "HME": elsewhere("neural_trees", "HierarchicalMixtureOfExperts"),
    "soft tree": elsewhere("neural_trees", "SoftDecisionTree"),
}
REGRESSORS = {
    MOE: lambda seed: MoERegressor(random_state=seed),
    ONE: lambda seed: MoERegressor(n_experts=1, random_state=seed),
    MLP: lambda seed: standardized(MLPRegressor(random_state=seed)),
    "HistGradientBoosting": lambda seed: HistGradientBoostingRegressor(random_state=seed),
    "RandomForest": lambda seed: RandomForestRegressor(random_state=seed),
    "linear": lambda seed: Ridge(random_state=seed),
    "SVM": lambda seed: standardized(SVR()),
    "RealMLP": pytabkit("RealMLP_TD_S_Regressor"),
    "TabM": pytabkit("TabM_D_Regressor"),
    "soft tree": soft_tree_regressor,
}
MODELS = {"classification": CLASSIFIERS, "regression": REGRESSORS}
OPTIONAL = {  # the module that must be there
    "RealMLP": "pytabkit",
    "TabM": "pytabkit",
    "HME": "neural_trees",
    "soft tree": "neural_trees",
}


def build(kind, name, seed):
    """Return an unfitted model."""
    return MODELS[kind][name](seed)


@cache
def warm_up(build):
    """Fit and ask a model, once in a process: the first time, libraries load what they need."""
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    build(0).fit(X, y).predict(X)


def installed(name):
    """Return whether what a model needs is installed."""
    return name not in OPTIONAL or find_spec(OPTIONAL[name]) is not None
