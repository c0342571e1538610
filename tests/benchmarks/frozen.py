"""Freeze what fits give, to see after a change of the code whether they still give it.

    python tests/benchmarks/frozen.py write FILE
    python tests/benchmarks/frozen.py compare FILE

`write` makes fourteen fits and resolves the defaults of 40 configurations. `compare` does it again
and prints for each what differs from FILE: nothing, the largest difference of a prediction over the
deviation of the predictions, or texts. Both use one thread.
"""

import argparse
import pickle
import tempfile
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from sklearn_moe import MixtureClassifier, MixtureRegressor, MoEClassifier, MoERegressor
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.inspection import explain, region_rules
from sklearn_moe.metrics import specialization_report

FITS = {}


def fit(function):
    """Keep a function that returns arrays and texts, by name."""
    FITS[function.__name__] = function
    return function


def described(model, X, *, proba=True):
    """Return what a fitted model says of samples."""
    method = model.predict_proba if proba else model.predict
    said = {"predict": method(X), "apply": model.apply(X), "gate_proba": model.gate_proba(X)}
    if hasattr(model, "resolved_params_"):
        said["resolved"] = str(sorted(model.resolved_params_.items()))
        said["n_iter"] = str(model.n_iter_)
        said["load"] = np.asarray(model.expert_load_)
    return said


@cache
def rows(n=400, seed=0):
    """Return a table, numbers, and classes, with a curve and a region in them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    y = np.where(X[:, 0] > 0, 2 * X[:, 1], -X[:, 1]) + X[:, 2] ** 2 + 0.3 * rng.normal(size=n)
    return X.astype(np.float32), y, np.digitize(y, [0, 2])


@cache
def frame(n=500, seed=1):
    """Return a frame with a category that decides, text, and missing values, and numbers."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["old", "new"], n)
    size = rng.normal(10, 2, n)
    city = rng.choice(["Bonn", "Kyoto", "Lima"], n)
    y = np.where(kind == "old", 3 * size, 50 - 2 * size) + 0.5 * rng.normal(size=n)
    size[rng.random(n) < 0.05] = np.nan
    X = pd.DataFrame({"kind": pd.Categorical(kind), "size": size, "city": city})
    return X.astype({"city": "category"}), y


@fit
def table_of_classes():
    X, y = load_breast_cancer(return_X_y=True)
    model = MoEClassifier(random_state=0).fit(X[::2], y[::2])
    text = str(specialization_report(model, X[1::2], y[1::2]))
    return described(model, X) | {"report": text}


@fit
def table_of_numbers():
    X, y = load_diabetes(return_X_y=True)
    model = MoERegressor(random_state=0).fit(X, y)
    quantiles = model.predict_quantiles(X, [0.1, 0.9])
    return described(model, X, proba=False) | {"quantiles": quantiles}


@fit
def frame_of_numbers():
    X, y = frame()
    weight = np.linspace(0.5, 1.5, len(y))
    model = MoERegressor(random_state=0).fit(X, y, sample_weight=weight)
    return described(model, X, proba=False) | {"rules": str(region_rules(model, X, y))}


@fit
def counts():
    X, _, _ = rows()
    y = np.random.default_rng(2).poisson(np.exp(0.5 * X[:, 0] + 0.5))
    model = MoERegressor(loss="poisson", random_state=0).fit(X, y)
    return described(model, X, proba=False) | {"log_density": model.score_samples(X, y)}


@fit
def labels():
    X, y, _ = rows()
    Y = np.column_stack([y > 0, y > 1, X[:, 3] > 0]).astype(int)
    model = MoEClassifier(random_state=0).fit(X, Y)
    return described(model, X)


@fit
def several_outputs():
    X, y, _ = rows()
    model = MoERegressor(random_state=0).fit(X, np.column_stack([y, y**2, X[:, 4]]))
    return described(model, X, proba=False)


@fit
def bags():
    X, y, _ = make_cluster_patches(1200, random_state=0, return_clusters=True, **PAPER_SETTINGS[1])
    model = MoEClassifier(max_iter=20, random_state=0).fit(X[:800], y[:800])
    return described(model, X)


@fit
def images():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=150)
    X = rng.normal(60 + 40 * y[:, None, None, None], 30, size=(150, 3, 12, 12))
    X = X.clip(0, 255).astype(np.uint8)
    model = MoEClassifier(n_experts=3, max_iter=4, tol=None, random_state=0).fit(X, y)
    return described(model, X)


@fit
def stack():
    X, _, y = rows()
    model = MixtureClassifier(
        [LogisticRegression(), LogisticRegression(C=0.01)],
        gate=LogisticRegression(),
        method="stack",
        random_state=0,
    ).fit(X, y)
    return described(model, X)


@fit
def em():
    X, y, _ = rows()
    model = MixtureRegressor(LinearRegression(), 2, gate=None, n_init=4, random_state=0).fit(X, y)
    log_density = model.score_samples(X, y)
    return described(model, X, proba=False) | {"log_density": log_density, "bic": model.bic(X, y)}


@fit
def auto_mixture():
    X, y = frame()
    model = MixtureRegressor(random_state=0).fit(X, y)
    rules = region_rules(model, X, y)
    texts = {
        "rules": str(rules),
        "python": rules.to_python(),
        "explain": str(explain(model, X, rows=[0, 1])),
        "report": str(specialization_report(model, X, y)),
    }
    return described(model, X, proba=False) | texts


@fit
def two_lines():
    X, y, _ = rows()
    model = MixtureRegressor(Ridge(), 2, gate="auto", random_state=0).fit(X, y)
    return described(model, X, proba=False) | {"rules": str(region_rules(model, X, y))}


@fit
def partial_fit():
    X, _, y = rows()
    model = MoEClassifier(random_state=0)
    for part in np.array_split(np.arange(len(y)), 4):
        model.partial_fit(X[part], y[part], classes=[0, 1, 2])
    return described(model, X)


@fit
def checkpoint():
    X, _, y = rows()
    with tempfile.TemporaryDirectory() as folder:
        model = MoEClassifier(checkpoint=str(Path(folder) / "fit"), random_state=0).fit(X, y)
        again = clone(model).fit(X, y)
    return described(model, X) | {"again": again.predict_proba(X)}


def configurations():
    """Return 40 pairs of an estimator and its data."""
    X, y, classes = rows()
    bags_X, bags_y = make_cluster_patches(200, random_state=0, **PAPER_SETTINGS[1])
    pictures = np.random.default_rng(0).integers(0, 255, (60, 3, 10, 10), dtype=np.uint8)
    of_pictures = np.arange(60) % 3
    for data in ((X, classes), (bags_X, bags_y), (pictures, of_pictures)):
        for options in (
            {},
            {"n_experts": 1},
            {"router": "top1"},
            {"router": "topk", "top_k": 2, "balance": "switch"},
            {"expert_loss_weight": 0.5, "batch_size": 20},
            {"early_stopping": True, "solver": "sgd"},
            {"early_stopping": False, "learning_rate_init": 0.01},
            {"loss": "margin"},
            {"activation": "cubic", "expert_width": 5},
            {"n_experts": 4, "standardize": False},
        ):
            yield MoEClassifier(**options), data
    for options in (
        {},
        {"loss": "gaussian"},
        {"loss": "absolute_error", "n_experts": 2},
        {"loss": "poisson"},
        {"expert": "linear"},
        {"expert": ["mlp", "linear"], "router": "soft"},
        {"expert": "mlp"},
        {"router": "sampled"},
        {"n_experts": 1, "expert": "linear"},
        {"solver": "adamw", "max_iter": 3},
    ):
        yield MoERegressor(**options), (X, np.abs(y).round())


def resolved():
    """Return what "auto" became in each configuration, or the error."""
    texts = {}
    for model, (X, y) in configurations():
        if model.max_iter == "auto":
            model.set_params(max_iter=1, tol=None)
        name = f"{X.ndim - 1}-D {model}".replace("\n", " ")
        try:
            texts[name] = str(
                sorted(model.set_params(random_state=0).fit(X, y).resolved_params_.items())
            )
        except (TypeError, ValueError) as error:
            texts[name] = f"{type(error).__name__}: {error}"
    return texts


def made(names):
    """Return the results of the fits of these names."""
    results = {}
    with threadpool_limits(1):
        for name in names:
            try:
                results[name] = (FITS | {"resolved": resolved})[name]()
            except Exception as error:  # what fails is a result, too
                results[name] = {"error": f"{type(error).__name__}: {error}"}
            print(name, flush=True)
    return results


def difference(before, after):
    """Return in words how two results differ."""
    if isinstance(before, str) or isinstance(after, str):
        before, after = str(before), str(after)
        return "" if before == after else f"\n- {before}\n+ {after}"
    before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if before.shape != after.shape:
        return f"shape {before.shape}, now {after.shape}"
    if np.array_equal(before, after, equal_nan=True):
        return ""
    return f"{np.nanmax(np.abs(before - after)) / max(np.nanstd(before), 1e-30):.1e} deviations"


def main():
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=["write", "compare"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="*", default=[*FITS, "resolved"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = made(arguments.only)
    if arguments.action == "write":
        arguments.file.write_bytes(pickle.dumps(results))
        return
    frozen = pickle.loads(arguments.file.read_bytes())
    for name, result in results.items():
        differing = {}
        for key in frozen[name].keys() | result.keys():
            said = difference(frozen[name].get(key, "none"), result.get(key, "none"))
            if said:
                differing[key] = said
        print(f"{name}: {'equal' if not differing else ''}")
        for key, said in differing.items():
            print(f"    {key}: {said}")


if __name__ == "__main__":
    main()
