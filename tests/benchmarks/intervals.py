"""90 % intervals of MoERegressor beside those of gradient-boosted quantiles, on real tables.

    python tests/benchmarks/intervals.py --data TABLES [--tables ames,boston] [--jobs 2]

TABLES is what tables.py takes; friedman1 is added, 2,000 rows of it and of every larger table. The
rival is two HistGradientBoostingRegressor(loss="quantile") at their defaults, on the same five
folds. Prints the share of the numbers that lie in the intervals, and R2. Gradient boosting is
compared at its best, its intervals moved by what makes them hold exactly 90 % of the test rows, as
if its conformal prediction knew these: the mean width over its width, with the mixture's intervals
moved in the same way; and the mean interval score, width plus 20 times the distance of a number
outside, over its score, with the mixture's intervals as they are.

Results are kept in results/intervals.jsonl, see tables.py.
"""

from itertools import product

import numpy as np
import pandas
from joblib import delayed
from measure import one_of, print_table, quiet, run_missing
from sklearn.datasets import make_friedman1
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import r2_score
from tables import Fit, command_on_tables, read_tables, split
from tables_report import N_FOLDS
from threadpoolctl import threadpool_limits

from sklearn_moe import MoERegressor

KIND, COVERAGE, MOST_ROWS = "regression", 0.9, 2000


def moe(seed, X, y, X_test):
    """Return intervals and predictions of the mixture at its defaults."""
    reg = MoERegressor(random_state=seed).fit(X, y)
    return reg.predict_interval(X_test, COVERAGE), reg.predict(X_test)


def boosting(seed, X, y, X_test):
    """Return those of gradient boosting, intervals that hold too few."""
    models = [
        HistGradientBoostingRegressor(loss="quantile", quantile=q, random_state=seed)
        for q in ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2)
    ]
    models.append(HistGradientBoostingRegressor(random_state=seed))
    found = np.stack([model.fit(X, y).predict(X_test) for model in models], axis=1)
    return found[:, :2], found[:, 2]


MODELS = {"MoE": moe, "boosting": boosting}


def load(path):
    """Return {name: frame} of the tables and friedman1, at most so many rows of each."""
    tables = {name: table for (kind, name), table in read_tables(path).items() if kind == KIND}
    X, y = make_friedman1(MOST_ROWS, noise=1.0, random_state=0)
    tables["friedman1"] = pandas.DataFrame(X).add_prefix("x").assign(target=y)
    for name, table in tables.items():
        if len(table) > MOST_ROWS:
            tables[name] = table.sample(MOST_ROWS, random_state=0, ignore_index=True)
    return tables


def run(fit, table):
    """Fit one model on one fold and return a line of the results."""
    X, X_test, y, y_test = split(KIND, table, 0, fit.fold)
    with threadpool_limits(1):
        interval, mean = quiet(MODELS[fit.model], fit.fold, X, y, X_test)
    found = {"y": y_test, "low": interval[:, 0], "high": interval[:, 1]}
    found = {name: values.tolist() for name, values in found.items()}
    return fit._asdict() | found | {"r2": r2_score(y_test, mean)}


def measures(lines):
    """Return what the intervals of all folds come to; moved ones hold 90 % of the numbers."""
    y, low, high = (np.concatenate([line[k] for line in lines]) for k in ("y", "low", "high"))
    outside, width = np.maximum(low - y, y - high), high - low
    shift = np.quantile(outside, COVERAGE)
    outside_moved, width_moved = outside - shift, (width + 2 * shift).clip(0)
    penalty = 2 / (1 - COVERAGE)
    return {
        "coverage": (outside <= 0).mean(),
        "score": (width + penalty * outside.clip(0)).mean(),
        "width moved": width_moved.mean(),
        "score moved": (width_moved + penalty * outside_moved.clip(0)).mean(),
        "r2": np.mean([line["r2"] for line in lines]),
    }


def rows(done, names):
    """Yield a row per table, and the means: geometric ones of ratios."""
    found = []
    for name in names:
        own, other = (
            measures([done[Fit(KIND, name, model, 0, fold)] for fold in range(N_FOLDS)])
            for model in MODELS
        )
        ratios = own["width moved"] / other["width moved"], own["score"] / other["score moved"]
        found.append([own["coverage"], other["coverage"], *ratios, own["r2"], other["r2"]])
    found = np.array(found)
    means = found.mean(axis=0)
    means[2:4] = np.exp(np.log(found[:, 2:4]).mean(axis=0))
    values = [*found, means, found.min(axis=0), found.max(axis=0)]
    for name, row in zip([*names, "mean", "least", "largest"], values, strict=True):
        yield name, *(f"{value:.3f}" for value in row)


def main():
    """Run what is missing and report all of it."""
    parser = command_on_tables(__doc__, "results/intervals.jsonl")
    parser.add_argument("--tables", help="names with commas between, default: all")
    options = parser.parse_args()
    tables = load(options.data)
    names = one_of(tables, many=True)(options.tables) if options.tables else list(tables)
    wanted = [Fit(KIND, *of) for of in product(names, MODELS, [0], range(N_FOLDS))]
    jobs = {fit: delayed(run)(fit, tables[fit.table]) for fit in wanted}
    done = run_missing(jobs, options.out, options.jobs)
    header = ("table", "coverage", "of boosting", "width", "score", "R2", "of boosting")
    print_table(header, rows(done, names))


if __name__ == "__main__":
    main()
