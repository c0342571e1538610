"""MoERegressor beside other regressors, on made problems and on tables.

    python tests/benchmarks/regression.py [--data FOLDER] [--folds N] [--jobs N] [NAME ...]

FOLDER holds tables as NAME.csv, the last column `target`. Prints R2 as a Markdown table: mean over
the same folds for everybody, and the standard error of the difference to MLPRegressor. Defaults
were chosen on `CHOSEN_ON`; the others are new to them.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from sklearn_moe import MoERegressor
from sklearn_moe.exceptions import ExpertCollapseWarning
from sklearn_moe.metrics import dispatch_entropy

CHOSEN_ON = ("concrete", "hitters", "carseats", "car_prices")
MODELS = {
    "MoERegressor": MoERegressor(random_state=0),
    "one expert": MoERegressor(n_experts=1, random_state=0),
    "MLPRegressor": TransformedTargetRegressor(
        MLPRegressor(random_state=0), transformer=StandardScaler()
    ),
    "HistGradientBoosting": HistGradientBoostingRegressor(random_state=0),
    "Ridge": Ridge(),
}


def make_regions(n_samples, seed):
    """Return X, y and the region of a target that is linear in each of four quadrants."""
    problem, rng = np.random.default_rng(7), np.random.default_rng(seed)
    slopes, levels = problem.normal(0, 2, size=(4, 4)), np.array([0, 3, -3, 1])
    X = rng.uniform(-1, 1, size=(n_samples, 4))
    regions = 2 * (X[:, 0] > 0) + (X[:, 1] > 0)
    y = (X * slopes[regions]).sum(1) + levels[regions] + rng.normal(0, 0.05, n_samples)
    return X, y, regions


def problems(folder):
    """Yield names, X as a frame and y."""
    yield "friedman1", *make_friedman1(1000, noise=1.0, random_state=100)
    yield "diabetes", *load_diabetes(return_X_y=True)
    yield "regions", *make_regions(2000, seed=100)[:2]
    for path in sorted(Path(folder).glob("*.csv")) if folder else ():
        table = pandas.read_csv(path)
        yield path.stem, table.drop(columns="target"), table["target"].to_numpy(float)


def prepared(model):
    """Return a model behind standardized numbers and one-hot categories."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore", min_frequency=5, sparse_output=False)
    columns = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("categories", categories, make_column_selector(dtype_exclude="number")),
        ]
    )
    return make_pipeline(columns, model)


def evaluate(model, X, y, train, test):
    """Return R2 on the test rows and the seconds of the fit."""
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", ExpertCollapseWarning)
        start = time.perf_counter()
        fitted = prepared(clone(model)).fit(X.iloc[train], y[train])
        seconds = time.perf_counter() - start
    return fitted.score(X.iloc[test], y[test]), seconds


def compare(models, X, y, n_folds, n_jobs):
    """Return R2 and seconds of every model on the same folds, (n_models, n_folds, 2)."""
    X = pandas.DataFrame(X)
    folds = list(KFold(n_folds, shuffle=True, random_state=0).split(X))
    results = Parallel(n_jobs)(
        delayed(evaluate)(model, X, y, *fold) for model in models.values() for fold in folds
    )
    return np.reshape(results, (len(models), n_folds, 2))


def print_regions(seeds):
    """Print how well the regions of the piecewise linear target are found."""
    X_test, y_test, regions = make_regions(4000, seed=999)
    for options in ({}, {"router_learning_rate_init": 0.1, "max_iter": 300}):
        fitted = [
            MoERegressor(random_state=s, **options).fit(*make_regions(2000, 200 + s)[:2])
            for s in range(seeds)
        ]
        entropies = [dispatch_entropy(regions, reg.apply(X_test)) for reg in fitted]
        scores = [reg.score(X_test, y_test) for reg in fitted]
        print(
            f"\nRegions, {options or 'defaults'}: dispatch entropy {np.mean(entropies):.3f} on "
            f"average of {seeds} seeds, {np.max(entropies):.3f} at worst (log 4 = 1.386 if nothing "
            f"is found); R2 {np.mean(scores):.3f}."
        )


def main():
    """Compare all models on all problems."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="problems, default: all")
    parser.add_argument("--data", metavar="FOLDER", help="tables as csv files")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5, help="of the regions, default: 5")
    options = parser.parse_args()

    print(f"| problem | {' | '.join(MODELS)} | - MLPRegressor | seconds of a fit / MLP |")
    print("|---" * (len(MODELS) + 3) + "|")
    means = []
    for name, X, y in problems(options.data):
        if options.names and name not in options.names:
            continue
        results = compare(MODELS, X, y, options.folds, options.jobs)
        scores, seconds = results[..., 0], np.median(results[..., 1], axis=1)
        means.append(scores.mean(1))
        gain = scores[0] - scores[list(MODELS).index("MLPRegressor")]
        cells = [f"{mean:.3f}" for mean in means[-1]]
        cells.append(f"{gain.mean():+.3f} ± {gain.std(ddof=1) / len(gain) ** 0.5:.3f}")
        cells.append(f"{seconds[0]:.1f} / {seconds[2]:.1f}")
        seen = " (chosen on)" if name in CHOSEN_ON else ""
        print(f"| {name}{seen} | {' | '.join(cells)} |", flush=True)
    if len(means) > 1:
        print("| mean |", " | ".join(f"{mean:.3f}" for mean in np.mean(means, 0)), "| | |")
    print_regions(options.seeds)


if __name__ == "__main__":
    main()
