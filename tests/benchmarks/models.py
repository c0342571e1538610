"""The models that tables.py and peers.py compare, by name, each at its defaults."""

import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from shutil import rmtree
from tempfile import mkdtemp
from weakref import finalize

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler

MOE, ONE, MLP, TREES = "MoE", "one expert", "MLP", "HistGradientBoosting"
STOPPED, BETTER = "MLP, stopped", "MLP, better of both"
LIGHTGBM, CATBOOST, EBM = "LightGBM", "CatBoost", "EBM"
REAL_MLP, TABM, HME, SOFT_TREE = "RealMLP", "TabM", "HME", "soft tree"
# The variant that pytabkit calls its default, and the same told to be good at the log loss.
REAL_MLP_TD, REAL_MLP_LOSS = "RealMLP TD", "RealMLP TD, log loss"
AUTOGLUON, STACK = "AutoGluon", "stack of three"
# Of linear models, in the fewest regions that predict as well: what one can read.
MIXTURE = "Mixture, auto"
# What must be installed: the name for pip, that of the module but for its hyphens.
PACKAGES = {REAL_MLP: "pytabkit", TABM: "pytabkit", HME: "neural-trees", SOFT_TREE: "neural-trees"}
PACKAGES |= {LIGHTGBM: "lightgbm", CATBOOST: "catboost", EBM: "interpret"}
PACKAGES |= {REAL_MLP_TD: "pytabkit", REAL_MLP_LOSS: "pytabkit", AUTOGLUON: "autogluon.tabular"}
PACKAGES |= {STACK: "catboost"}
ONE_CORE = {"device": "cpu", "n_threads": 1}
FOR_LOG_LOSS = {"val_metric_name": "cross_entropy", "use_ls": False}
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


def autogluon(seed):
    """Return AutoGluon of medium quality: trees and two networks, weighed by their log loss.

    The limit is in seconds by the clock, and no fit should reach it. Its files go with the model.
    """
    folder = mkdtemp()
    model = of(
        "autogluon.tabular.experimental.TabularClassifier",
        presets="medium_quality",
        eval_metric="log_loss",
        time_limit=1800,
        init_args={"path": folder},
        fit_args={"num_cpus": 1, "num_gpus": 0},
        verbosity=0,
    )(seed)
    finalize(model, rmtree, folder, ignore_errors=True)
    return model


def stack(seed):
    """Return our stack of the three models whose log loss is best on 23 tables."""
    models = [PAIRS[name][0](seed) for name in (MOE, CATBOOST, LIGHTGBM)]
    return of("sklearn_moe.MixtureClassifier", estimator=models, method="stack")(seed)


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
    REAL_MLP_TD: pair("pytabkit.RealMLP_TD_{}", **ONE_CORE),
    REAL_MLP_LOSS: (of("pytabkit.RealMLP_TD_Classifier", **FOR_LOG_LOSS, **ONE_CORE), None),
    AUTOGLUON: (autogluon, None),
    STACK: (stack, None),
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
    if package and find_spec(package.replace("-", "_").partition(".")[0]) is None:
        return package
    return None
