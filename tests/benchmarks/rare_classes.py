"""What weights of classes do to rare ones: `python tests/benchmarks/rare_classes.py`.

The rare class lies in two clusters on either side of the frequent one. Printed are means over the
seeds, each with rows of its own, and half of the 95 % t-interval: the table of probabilities.rst.
"""

import argparse
from time import perf_counter

import numpy as np
import pandas as pd
from scipy.stats import t
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, recall_score

from sklearn_moe import MoEClassifier

N_TRAIN, N_TEST = 20_000, 100_000
MODELS = {
    "MoEClassifier": lambda seed: MoEClassifier(random_state=seed),
    "MoEClassifier, balanced": lambda seed: MoEClassifier(
        class_weight="balanced", random_state=seed
    ),
    "HistGradientBoosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
    "HistGradientBoosting, balanced": lambda seed: HistGradientBoostingClassifier(
        class_weight="balanced", random_state=seed
    ),
    "logistic regression": lambda seed: LogisticRegression(),
}


def make_rare(n_samples, ratio, rng):
    """Return columns, and the class of each row: one row in `ratio` is of class 1."""
    y = (np.arange(n_samples) % ratio == 0).astype(int)
    X = rng.normal(size=(n_samples, 5))
    X[:, :2] += y[:, np.newaxis] * 2.0 * rng.choice([-1, 1], size=(n_samples, 1))
    return X, y


def best_threshold(proba, y):
    """Return the probability from which on to say 1, for the largest mean recall of the classes."""
    order = np.argsort(-proba)
    found, false = np.cumsum(y[order]) / y.sum(), np.cumsum(1 - y[order]) / (1 - y).sum()
    return proba[order][np.argmax(found - false)]


def measure(name, ratio, seed):
    """Return what a fit of a model is worth on new rows."""
    rng = np.random.default_rng(seed)
    (X, y), (X_new, y_new) = (make_rare(n, ratio, rng) for n in (N_TRAIN, N_TEST))
    start = perf_counter()
    model = MODELS[name](seed).fit(X, y)
    seconds = perf_counter() - start
    proba = model.predict_proba(X_new)[:, 1]
    threshold = np.nan
    if hasattr(model, "oob_decision_function_"):  # of rows that the experts were not trained on
        threshold = best_threshold(model.oob_decision_function_[:, 1], y)
    recalls = [
        recall_score(y_new, proba >= cut, average="macro") if cut == cut else np.nan
        for cut in (0.5, 1 / ratio, threshold)
    ]
    return {
        "log loss / that of the share": log_loss(y_new, proba)
        / log_loss(y_new, np.full(N_TEST, 1 / ratio)),
        "average precision": average_precision_score(y_new, proba),
        "expected / observed": proba.sum() / y_new.sum(),
        **dict(
            zip(("mean recall at .5", "at the share", "at the chosen one"), recalls, strict=True)
        ),
        "seconds": seconds,
    }


def main():
    """Print a table for each ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratios", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    options = parser.parse_args()
    for ratio in options.ratios:
        print(f"one row in {ratio}, {N_TRAIN} rows, {options.seeds} seeds")
        rows = {}
        for name in options.models:
            runs = pd.DataFrame([measure(name, ratio, seed) for seed in range(options.seeds)])
            half = runs.sem() * t.ppf(0.975, options.seeds - 1)
            rows[name] = {key: f"{runs[key].mean():.3f} ± {half[key]:.3f}" for key in runs}
            print(pd.DataFrame({name: rows[name]}).T.to_string(), flush=True)


if __name__ == "__main__":
    main()
