"""Mixtures of estimators beside models that people read, and beside flexmix.

    python tests/benchmarks/regimes.py tables --data TABLES [--models mixture,ridge] [--jobs 2]
    python tests/benchmarks/regimes.py flexmix time --regimes REGIMES

`tables`: ridge or logistic regressions behind a tree, their number chosen, on the tables that
tables.py describes: at most 1,000 rows, or 700 and five classes, in 3 x 3 folds. Beside the score
it says how much there is to read: conditions and coefficients. Cubist, EBM and lmtree run where
`pip install cubist interpret-core`, or R with partykit, is there. Results are kept as those of
tables.py are.

`flexmix`: log-likelihoods beside those of the R package. REGIMES is a folder with tables and what
flexmix reaches on them, written by `Rscript tests/benchmarks/regimes.R REGIMES`. `time`: 20 starts
on NPreg beside those of `stepFlexmix`, in seconds of one core.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas
from joblib import delayed
from measure import command, one_of, paired, print_table, quiet, read_results, run_missing, seconds
from models import PACKAGES, TREES, missing_package, of
from sklearn import linear_model
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier
from tables import Fit, fit_and_score, read_tables, split

from sklearn_moe import MixtureClassifier, MixtureRegressor

ROWS = ("tables", "flexmix", "time")
MOST_ROWS = {"regression": 1000, "classification": 700}
MOST_CLASSES, N_FOLDS = 5, 3
SCORES = {"regression": ["r2"], "classification": ["log_loss", "accuracy"]}
PACKAGES["Cubist"] = "cubist"
LMTREE = """
suppressMessages(library(partykit))
train <- read.csv("train.csv"); names <- setdiff(names(train), "y")
rank <- qr(cbind(1, as.matrix(train[names])))  # one-hot columns add up to 1
linear <- names[setdiff(sort(rank$pivot[seq_len(rank$rank)]), 1) - 1]
formula <- paste("y ~", paste(linear, collapse = "+"), "|", paste(names, collapse = "+"))
# The default, ten rows for each coefficient, leaves hardly a split on these tables.
model <- lmtree(as.formula(formula), train, minsize = 5 * (length(linear) + 1))
write.csv(predict(model, read.csv("test.csv")), "y.csv", row.names = FALSE)
cat(sum(!is.na(coef(model))) + width(model) - 1)
"""
TIME = """
suppressMessages(library(flexmix)); data("NPreg", package = "flexmix"); set.seed(0)
run <- function() stepFlexmix(yn ~ x + I(x^2), data = NPreg, k = 2, nrep = 20, verbose = FALSE)
cat(sum(system.time(run())[1:2]))
"""


def run_r(script, folder=None):
    """Run a script of R and return the last number that it prints."""
    found = subprocess.run(["Rscript", "-e", script], cwd=folder, capture_output=True, check=True)
    return float(found.stdout.split()[-1])


class LinearTree(RegressorMixin, BaseEstimator):
    """The lmtree of R's partykit, which is run when it is to predict."""

    def fit(self, X, y):
        self.train_ = pandas.DataFrame(X).add_prefix("x").assign(y=y)
        return self

    def predict(self, X):
        with tempfile.TemporaryDirectory() as folder:
            self.train_.to_csv(f"{folder}/train.csv", index=False)
            pandas.DataFrame(X).add_prefix("x").to_csv(f"{folder}/test.csv", index=False)
            self.n_read_ = run_r(LMTREE, folder)
            return pandas.read_csv(f"{folder}/y.csv").to_numpy().ravel()


def mixtures(path, expert):
    """Return the mixtures by name."""
    gate = DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=20, random_state=0)
    options = {"estimator": expert, "n_components": "auto", "gate": gate, "n_init": 2}
    held_out = of(path, criterion="held_out", **options)
    return {"mixture": of(path, **options), "mixture, held out": held_out}


MODELS = {
    "regression": {
        **mixtures("sklearn_moe.MixtureRegressor", linear_model.Ridge(alpha=10)),
        "linear": of("sklearn.linear_model.RidgeCV", alphas=np.logspace(-3, 4, 15)),
        "tree": of("sklearn.tree.DecisionTreeRegressor", max_leaf_nodes=8),
        "Cubist": of("cubist.Cubist"),
        "lmtree": lambda seed: LinearTree(),
        "EBM": of("interpret.glassbox.ExplainableBoostingRegressor", n_jobs=1),
        TREES: of("sklearn.ensemble.HistGradientBoostingRegressor"),
    },
    "classification": {
        **mixtures("sklearn_moe.MixtureClassifier", linear_model.LogisticRegression(max_iter=1000)),
        "linear": of("sklearn.linear_model.LogisticRegression", max_iter=1000),
        "tree": of("sklearn.tree.DecisionTreeClassifier", max_leaf_nodes=8),
        "EBM": of("interpret.glassbox.ExplainableBoostingClassifier", n_jobs=1),
        TREES: of("sklearn.ensemble.HistGradientBoostingClassifier"),
    },
}


def is_missing(model):
    """Whether what a model needs is not installed."""
    return shutil.which("Rscript") is None if model == "lmtree" else bool(missing_package(model))


def n_read(model):
    """Return how many conditions and coefficients there are to read, NaN if they do not count."""
    if hasattr(model, "experts_"):
        parts = [*model.experts_, *([model.gate_] if len(model.experts_) > 1 else [])]
        return sum(n_read(part) for part in parts)
    if hasattr(model, "tree_"):
        return 2 * model.get_n_leaves() - 1
    if hasattr(model, "coeffs_"):
        conditions = 0 if model.splits_ is None else len(model.splits_)
        return conditions + model.coeffs_.drop(columns=["committee", "rule"]).notna().sum().sum()
    if hasattr(model, "coef_"):
        return np.size(model.coef_) + np.size(model.intercept_)
    return getattr(model, "n_read_", np.nan)


def run(fit, table):
    """Fit one model on one fold and return a line of the results."""
    build, seed = MODELS[fit.kind][fit.model], N_FOLDS * fit.repeat + fit.fold
    folds = split(fit.kind, table, fit.repeat, fit.fold, N_FOLDS)
    model, found = quiet(fit_and_score, fit.kind, build, seed, *folds)
    found["n_components"] = getattr(model, "n_components_", np.nan)
    return fit._asdict() | found | {"n_read": float(n_read(model))}


def report_tables(options):
    """Run what is missing and print means over the folds."""
    tables = {
        (kind, name): table.head(MOST_ROWS[kind])
        for (kind, name), table in read_tables(options.data).items()
        if kind == "regression" or table["target"].nunique() <= MOST_CLASSES
        if not options.tables or name in options.tables
    }
    models = [name for name in options.models if not is_missing(name)]
    repeats = product(range(options.repeats), tables, range(N_FOLDS), models)
    wanted = [Fit(*key, m, repeat, f) for repeat, key, f, m in repeats if m in MODELS[key[0]]]
    done = read_results(options.out, Fit)
    missing = {fit: delayed(run)(fit, tables[fit[:2]]) for fit in wanted if fit not in done}
    run_missing(missing, options.out, options.jobs)
    done = read_results(options.out, Fit)
    frame = pandas.DataFrame([done[fit] for fit in wanted])
    for kind, scores in SCORES.items():
        if not (frame["kind"] == kind).any():
            continue
        for column in (*scores, "n_components", "n_read", "fit_seconds"):
            rows = frame[frame["kind"] == kind].pivot_table(
                index="table", columns="model", values=column, sort=False
            )
            rows.loc["mean"] = rows.mean()
            print(f"\n## {kind}: {column}\n")
            shown = rows.map("{:.3f}".format) if column in scores else rows.map("{:.4g}".format)
            print_table(("table", *shown), shown.itertuples())


def part_of(columns, estimator, without):
    """Return an estimator of some columns, another one where there are none."""
    if not columns:
        return without
    return make_pipeline(make_column_transformer(("passthrough", columns)), estimator)


def fitted(entry, table, n_init):
    """Return a mixture fitted as an entry of reference.json says."""
    logistic = linear_model.LogisticRegression(C=np.inf, max_iter=10_000, tol=1e-8)
    exact = {"alpha": 0, "max_iter": 10_000, "tol": 1e-8}
    family, kind = entry["family"], MixtureRegressor
    if family == "binomial":
        kind, expert, mean = MixtureClassifier, logistic, DummyClassifier(strategy="prior")
    else:
        mean = DummyRegressor()
        expert = {
            "gaussian": linear_model.LinearRegression(),
            "poisson": linear_model.PoissonRegressor(solver="newton-cholesky", **exact),
            "gamma": linear_model.GammaRegressor(solver="newton-cholesky", **exact),
        }[family]
    mixture = kind(
        part_of(entry["experts"], expert, mean),
        entry["k"],
        gate=part_of(entry["gate"], logistic, None),
        family="auto" if family == "binomial" else family,
        n_init=n_init,
        max_iter=1500,
        tol=1e-8,
        min_prior=0.05 if family == "gaussian" else 0,  # as in regimes.R
        random_state=0,
    )
    weight, groups = (entry[key] and table[entry[key]] for key in ("weights", "groups"))
    return mixture.fit(table, table[entry["target"]], weight, groups)


def rows_of_flexmix(folder, n_init):
    """Yield a row per reference: flexmix, and ours, in as many starts."""
    for entry in json.loads((folder / "reference.json").read_text()):
        table = pandas.read_csv(folder / f"{entry['file']}.csv")
        mixture = quiet(fitted, entry, table, n_init)
        ours, theirs = mixture.log_likelihood_ + entry["constant"], entry["logLik"]
        # Not both may have found the best: what counts is not to be worse.
        ok = bool(ours > theirs - 0.01)
        what = (entry["name"], entry["k"], entry["driver"], entry["df"], mixture.n_parameters_)
        yield *what, f"{theirs:.3f}", f"{ours:.3f}", f"{ours - theirs:+.3f}", ok


def cpu_seconds_of_ours(table):
    """Return the time of 20 starts on NPreg, as flexmix is at its defaults."""
    X, y = table[["x", "x2"]].to_numpy(), table["yn"].to_numpy()
    return seconds(MixtureRegressor(n_init=20, random_state=0).fit, X, y, clock=time.process_time)


def main():
    """Run the rows asked for."""
    parser = command(__doc__, ROWS)
    known = list(MODELS["regression"])
    parser.add_argument("--data", default=os.environ.get("SKLEARN_MOE_TABLES"), metavar="TABLES")
    parser.add_argument("--regimes", type=Path, metavar="REGIMES")
    parser.add_argument("--tables", type=lambda text: text.split(","), help="all by default")
    parser.add_argument("--models", type=one_of(known, many=True), default=known)
    parser.add_argument("--repeats", type=int, default=3, help=f"of {N_FOLDS} folds, default: 3")
    parser.add_argument("--starts", type=int, default=20, help="beside flexmix, default: 20")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/regimes.jsonl"))
    options = parser.parse_args()
    if "tables" in options.rows:
        if not options.data:
            parser.error("no tables: pass --data or set SKLEARN_MOE_TABLES")
        report_tables(options)
    if {"flexmix", "time"}.intersection(options.rows) and options.regimes is None:
        parser.error("no data with regimes: pass --regimes")
    if "flexmix" in options.rows:
        header = (
            "data",
            "k",
            "driver",
            "parameters",
            "ours",
            "log-likelihood",
            "ours",
            "difference",
            "ok",
        )
        print_table(header, rows_of_flexmix(options.regimes, options.starts))
    if "time" in options.rows and shutil.which("Rscript"):
        table = pandas.read_csv(options.regimes / "NPreg.csv")
        table["x2"] = table["x"] ** 2
        ratio = paired(lambda: quiet(cpu_seconds_of_ours, table), lambda: run_r(TIME), 5)
        print(f"ours / flexmix: {ratio}, {ratio.first:.2f} s and {ratio.second:.2f} s")


if __name__ == "__main__":
    main()
