"""The models that tables.py and peers.py compare, by name, each at its defaults."""

import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler

MOE, ONE, MLP, TREES = "MoE", "one expert", "MLP", "HistGradientBoosting"
STOPPED, BETTER = "MLP, stopped", "MLP, better of both"
LIGHTGBM, CATBOOST, EBM = "LightGBM", "CatBoost", "EBM"
REAL_MLP, TABM, HME, SOFT_TREE = "RealMLP", "TabM", "HME", "soft tree"
# Of linear models, in the fewest regions that predict as well: what one can read.
MIXTURE = "Mixture, auto"
# What must be installed: the name for pip, that of the module but for its hyphens.
PACKAGES = {REAL_MLP: "pytabkit", TABM: "pytabkit", HME: "neural-trees", SOFT_TREE: "neural-trees"}
PACKAGES |= {LIGHTGBM: "lightgbm", CATBOOST: "catboost", EBM: "interpret"}
ONE_CORE = {"device": "cpu", "n_threads": 1}
# With random_state, which its get_params() lacks unless it is set.
QUIET_CAT = {"thread_count": 1, "verbose": 0, "allow_writing_files": False, "random_state": 0}

for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero"):
    logging.getLogger(name).setLevel(logging.ERROR)


def standardized(regressor):
    """Return a regressor that sees a standardized target, where it would depend on its unit."""
    return TransformedTargetRegressor(regressor, transformer=StandardScaler())


def of(path, standardize=False, **options):
    """Return a function of the seed that builds a model, of a package that may not be there."""
    package, _, name = path.rpartition(".")

    def build(seed):
        model = getattr(import_module(package), name)(**options)
        if "random_state" in model.get_params(deep=False):
            model.set_params(random_state=seed)
        return standardized(model) if standardize else model

    return build


def pair(path, standardize=False, **options):
    """Return such functions for the classifier and the regressor of a name that ends in {}."""
    regressor = of(path.format("Regressor"), standardize, **options)
    return of(path.format("Classifier"), **options), regressor


PAIRS = {
    MOE: pair("sklearn_moe.MoE{}"),
    ONE: pair("sklearn_moe.MoE{}", n_experts=1),
    MIXTURE: pair("sklearn_moe.Mixture{}", n_components="auto"),
    MLP: pair("sklearn.neural_network.MLP{}", standardize=True),
    STOPPED: pair("sklearn.neural_network.MLP{}", standardize=True, early_stopping=True),
    TREES: pair("sklearn.ensemble.HistGradientBoosting{}"),
    "RandomForest": pair("sklearn.ensemble.RandomForest{}"),
    "linear": (
        of("sklearn.linear_model.LogisticRegression", max_iter=1000),
        of("sklearn.linear_model.Ridge"),
    ),
    "SVM": (of("sklearn.svm.SVC"), of("sklearn.svm.SVR", standardize=True)),
    LIGHTGBM: pair("lightgbm.LGBM{}", n_jobs=1, verbose=-1),
    CATBOOST: pair("catboost.CatBoost{}", **QUIET_CAT),
    EBM: pair("interpret.glassbox.ExplainableBoosting{}", n_jobs=1),
    REAL_MLP: pair("pytabkit.RealMLP_TD_S_{}", **ONE_CORE),
    TABM: pair("pytabkit.TabM_D_{}", **ONE_CORE),
    HME: (of("neural_trees.HierarchicalMixtureOfExperts"), None),
    SOFT_TREE: (
        of("neural_trees.SoftDecisionTree"),
        of("neural_trees.SoftDecisionTreeRegressor", standardize=True),
    ),
}
MODELS = {
    kind: {name: both[i] for name, both in PAIRS.items() if both[i]}
    for i, kind in enumerate(("classification", "regression"))
}


@cache
def warm_up(build):
    """Fit and ask a model, once in a process: the first time, libraries load what they need."""
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    build(0).fit(X, y).predict(X)


def missing_package(name):
    """Return what to install for a model that is not there, or None."""
    package = PACKAGES.get(name)
    return package if package and find_spec(package.replace("-", "_")) is None else None
