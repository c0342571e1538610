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

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas
from joblib import delayed
from measure import command, one_of, print_table, quiet, read_results, run_missing
from sklearn.datasets import make_friedman1
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import r2_score
from tables import read_tables, split
from tables_report import N_FOLDS
from threadpoolctl import threadpool_limits

from sklearn_moe import MoERegressor

COVERAGE, MOST_ROWS = 0.9, 2000


class Fit(NamedTuple):
    """What a line of the results is about."""

    table: str
    model: str
    fold: int


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


def outside(interval, y):
    """Return how far numbers lie outside their intervals, below 0 within."""
    return np.maximum(interval[:, 0] - y, y - interval[:, 1])


def load(path):
    """Return {name: frame} of the tables and friedman1."""
    tables = {
        name: frame for (kind, name), frame in read_tables(path).items() if kind == "regression"
    }
    X, y = make_friedman1(MOST_ROWS, noise=1.0, random_state=0)
    tables["friedman1"] = pandas.DataFrame(X).add_prefix("x").assign(target=y)
    few = (
        t if len(t) <= MOST_ROWS else t.sample(MOST_ROWS, random_state=0) for t in tables.values()
    )
    return {name: t.reset_index(drop=True) for name, t in zip(tables, few, strict=True)}


def run(fit, table):
    """Fit one model on one fold and return a line of the results."""
    X, X_test, y, y_test = split("regression", table, 0, fit.fold)
    with threadpool_limits(1):
        interval, mean = quiet(MODELS[fit.model], fit.fold, X, y, X_test)
    found = {"y": y_test, "low": interval[:, 0], "high": interval[:, 1]}
    found = {name: values.tolist() for name, values in found.items()}
    return fit._asdict() | found | {"r2": r2_score(y_test, mean)}


def measures(lines):
    """Return coverage and R2 over the folds; interval score as it is, that moved, width moved."""
    y, low, high = (np.concatenate([line[k] for line in lines]) for k in ("y", "low", "high"))
    shift = np.quantile(np.maximum(low - y, y - high), COVERAGE)
    found = {"r2": np.mean([line["r2"] for line in lines])}
    for name, by in (("", 0), (" moved", shift)):
        outside, width = np.maximum(low - y, y - high) - by, (high - low + 2 * by).clip(0)
        found["coverage" + name] = (outside <= 0).mean()
        found["width" + name] = width.mean()
        found["score" + name] = (width + 2 / (1 - COVERAGE) * outside.clip(0)).mean()
    return found


def rows(done, names):
    """Yield a row per table, and the means: geometric ones of ratios."""
    found = []
    for name in names:
        own, other = (
            measures([done[Fit(name, model, fold)] for fold in range(N_FOLDS)]) for model in MODELS
        )
        ratios = [own[k] / other[k.split()[0] + " moved"] for k in ("width moved", "score")]
        found.append([own["coverage"], other["coverage"], *ratios, own["r2"], other["r2"]])
        yield name, *(f"{value:.3f}" for value in found[-1])
    found = np.array(found)
    means = [*found[:, :2].mean(0), *np.exp(np.log(found[:, 2:4]).mean(0)), *found[:, 4:].mean(0)]
    yield "mean", *(f"{value:.3f}" for value in means)
    yield "least", *(f"{value:.3f}" for value in found.min(axis=0))
    yield "largest", *(f"{value:.3f}" for value in found.max(axis=0))


def main():
    """Run what is missing and report all of it."""
    parser = command(__doc__)
    parser.add_argument("--data", default=os.environ.get("SKLEARN_MOE_TABLES"), metavar="TABLES")
    parser.add_argument("--tables", help="names with commas between, default: all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/intervals.jsonl"))
    options = parser.parse_args()
    if not options.data:
        parser.error("no tables: pass --data or set SKLEARN_MOE_TABLES")
    tables = load(options.data)
    names = one_of(tables, many=True)(options.tables) if options.tables else list(tables)
    wanted = [Fit(n, model, fold) for n in names for fold in range(N_FOLDS) for model in MODELS]
    done = read_results(options.out, Fit)
    jobs = {fit: delayed(run)(fit, tables[fit.table]) for fit in wanted if fit not in done}
    run_missing(jobs, options.out, options.jobs)
    header = ("table", "coverage", "of boosting", "width", "score", "R2", "of boosting")
    print_table(header, rows(read_results(options.out, Fit), names))


if __name__ == "__main__":
    main()
