"""Mixtures of estimators beside models that people read, on real tables.

    python tests/benchmarks/regimes.py --data TABLES [--models mixture,linear] [--jobs 2]
    python tests/benchmarks/regimes.py stability --data TABLES
    python tests/benchmarks/regimes.py flexmix --data REGIMES

Mixtures of default parts, `n_components="auto"`, of the frames as they are; the others get columns
that are encoded. TABLES is what tables.py takes; at most 1,000 rows of each, in 3 folds. "words" is
the score of what is printed: of the expert that the gate finds most probable. `n_read` says how
much there is to read: conditions, and coefficients that are not 0, those that experts share once.
Cubist, EBM and lmtree run where `pip install cubist interpret-core`, or R with partykit, is there.
Results are kept in results/regimes.jsonl, see tables.py.

`stability`: refits to rows that are drawn with replacement, of the regression tables.

`flexmix`: mixtures of Poisson regressions beside those of the R package, ten fits of each from
random starts, in seconds of one processor: three turns. REGIMES is a folder with NPreg.csv and
patent.csv of flexmix.
"""

import shutil
import subprocess
import tempfile
import time
from itertools import product

import numpy as np
import pandas
from joblib import delayed
from measure import one_of, print_table, quiet, ratio_of, run_missing, seconds
from models import CATBOOST, EBM, PACKAGES, TREES, missing_package, of
from models import MODELS as OTHERS
from sklearn import linear_model
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.feature_selection import VarianceThreshold
from sklearn.metrics import r2_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import SplineTransformer
from tables import Fit, command_on_tables, fit_and_score, read_tables, split
from threadpoolctl import threadpool_limits

from sklearn_moe import MixtureRegressor
from sklearn_moe.inspection import routing_stability

MOST_ROWS, N_FOLDS, N_REFITS = 1000, 3, 8
SCORES = {"regression": ["r2", "words"], "classification": ["log_loss", "accuracy", "words"]}
PACKAGES["Cubist"] = "cubist"
MIXTURE = "mixture"
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

FLEXMIX = """
suppressMessages(library(flexmix))
table <- read.csv("table.csv"); k <- %d
run <- function(start) flexmix(%s ~ %s, table, k, start, model = FLXMRglm(family = "poisson"),
                               concomitant = %s, control = list(iter.max = 500))
starts <- read.csv("starts.csv")
invisible(run(starts[[1]]))
times <- system.time(fits <- lapply(starts, run))
cat(times[1] + times[2], sapply(fits, function(fit) fit@logLik))
"""
# A table, its target, the columns of experts and gate, and the number of components.
POISSON = [
    ("NPreg", "yp", "x", "x", 2),
    ("NPreg", "yp", "x", None, 2),
    ("patent", "Patents", "lgRD", "RDS", 3),
]


class LinearTree(RegressorMixin, BaseEstimator):
    """The lmtree of R's partykit, which is run when it is to predict."""

    def fit(self, X, y):
        self.train_ = pandas.DataFrame(X).add_prefix("x").assign(y=y)
        return self

    def predict(self, X):
        with tempfile.TemporaryDirectory() as folder:
            self.train_.to_csv(f"{folder}/train.csv", index=False)
            pandas.DataFrame(X).add_prefix("x").to_csv(f"{folder}/test.csv", index=False)
            printed = subprocess.check_output(["Rscript", "-e", LMTREE], cwd=folder)
            self.n_read_ = float(printed.split()[-1])
            return pandas.read_csv(f"{folder}/y.csv").to_numpy().ravel()


RIDGE = of("sklearn.linear_model.RidgeCV", alphas=np.logspace(-3, 4, 15))


def spline_ridge(seed):
    """Return an additive model: cubic splines of each column, with one penalty."""
    return make_pipeline(
        SplineTransformer(n_knots=6, knots="quantile"), VarianceThreshold(), RIDGE(0)
    )


MODELS = {
    "regression": {
        MIXTURE: of("sklearn_moe.MixtureRegressor", n_components="auto"),
        "linear": RIDGE,
        "spline ridge": spline_ridge,
        "tree": of("sklearn.tree.DecisionTreeRegressor", max_leaf_nodes=8),
        "Cubist": of("cubist.Cubist"),
        "lmtree": lambda seed: LinearTree(),
        **{name: OTHERS["regression"][name] for name in (EBM, TREES, CATBOOST)},
    },
    "classification": {
        MIXTURE: of("sklearn_moe.MixtureClassifier", n_components="auto"),
        "tree": of("sklearn.tree.DecisionTreeClassifier", max_leaf_nodes=8),
        **{name: OTHERS["classification"][name] for name in ("linear", EBM, TREES)},
    },
}


def is_missing(model):
    """Whether what a model needs is not installed."""
    if model != "lmtree":
        return bool(missing_package(model))
    load = ["Rscript", "-e", "library(partykit)"]
    return not shutil.which("Rscript") or subprocess.run(load, capture_output=True).returncode > 0


def n_read(model):
    """Return how many conditions and coefficients there are to read, NaN if they do not count."""
    if hasattr(model, "experts_"):
        lines = [np.append(np.ravel(e[-1].coef_), e[-1].intercept_) for e in model.experts_]
        shared = zip(*(line.round(9) for line in lines), strict=True)
        conditions = n_read(model.gate_) if model.gate_ else 0
        return conditions + sum(len({*values} - {0.0}) for values in shared)
    model = model[-1] if isinstance(model, Pipeline) else model
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
    is_mixture = fit.model == MIXTURE
    folds = split(fit.kind, table, fit.repeat, fit.fold, N_FOLDS, encoded=not is_mixture)
    model, found = quiet(fit_and_score, fit.kind, build, seed, *folds)
    if is_mixture:
        found |= {"n_components": model.n_components_, "words": score_of_words(model, *folds[1::2])}
    return fit._asdict() | found | {"n_read": float(n_read(model))}


def score_of_words(mixture, X, y):
    """Return R2 or accuracy of the most probable expert of each row."""
    is_numbers = hasattr(mixture, "expert_predict")
    outputs = mixture.expert_predict(X) if is_numbers else mixture.expert_proba(X)
    chosen = outputs[np.arange(len(y)), mixture.apply(X)]
    if is_numbers:
        return r2_score(y, chosen)
    return float((mixture.classes_[chosen.argmax(axis=1)] == y).mean())


def load(path, names):
    """Return {(kind, name): frame} of the tables, only some of their rows."""
    tables = read_tables(path).items()
    return {key: table.head(MOST_ROWS) for key, table in tables if not names or key[1] in names}


def stability(name, model, table):
    """Return a line: the number of experts, and how refits agree with the first fit."""
    X, y = table.drop(columns="target"), table["target"]
    mixture = quiet(MODELS["regression"][model](0).fit, X, y)
    if mixture.n_components_ == 1:
        return name, model, "1", "one rule", ""
    found = quiet(routing_stability, mixture, X, y, n_refits=N_REFITS, random_state=0)
    agree = f"{found.n_agree} of {N_REFITS}"
    return name, model, str(mixture.n_components_), agree, f"{found.mean:.2f}"


def beside_flexmix(folder, name, target, column, by, n_components, n_starts=10, n_turns=3):
    """Return a line: the times of both, their ratio, and the best log-likelihoods."""
    table = pandas.read_csv(f"{folder}/{name}.csv")
    starts = np.random.default_rng(0).integers(n_components, size=(n_starts, len(table)))
    gate = f"FLXPmultinom(~ {by})" if by else "FLXPconstant()"
    program = FLEXMIX % (n_components, target, column, gate)

    def after(columns, model):
        return make_pipeline(make_column_transformer(("passthrough", columns)), model)

    expert = linear_model.PoissonRegressor(alpha=0, solver="newton-cholesky", tol=1e-8)
    logit = by and after([by], linear_model.LogisticRegression(C=np.inf, tol=1e-6))
    options = {"n_components": n_components, "gate": logit, "init": "random", "n_init": 1}
    one = MixtureRegressor(after([column], expert), **options)
    ours = [clone(one).set_params(random_state=start) for start in range(n_starts)]
    X, y = table[[*dict.fromkeys([column, by or column])]], table[target]
    times, likelihoods = [], []
    with tempfile.TemporaryDirectory() as there, threadpool_limits(1):
        table.to_csv(f"{there}/table.csv", index=False)
        pandas.DataFrame(starts.T + 1).to_csv(f"{there}/starts.csv", index=False)
        for _ in range(n_turns):
            printed = subprocess.check_output(["Rscript", "-e", program], cwd=there)
            theirs, *likelihoods = map(float, printed.split())
            taken = [quiet(seconds, m.fit, X, y, clock=time.process_time) for m in ours]
            times.append((sum(taken), theirs))
    ratio = ratio_of(*zip(*times, strict=True))
    best = max(mixture.log_likelihood_ for mixture in ours), max(likelihoods)
    found = f"{ratio.first:.2f}", f"{ratio.second:.2f}", ratio, *(f"{value:.3f}" for value in best)
    return f"{name}, {target} ~ {column}, gate {by}", *found


def main():
    """Run what is missing and print means over the folds."""
    parser = command_on_tables(__doc__, "results/regimes.jsonl")
    known = list(MODELS["regression"])
    parser.add_argument(
        "what", nargs="?", choices=("tables", "stability", "flexmix"), default="tables"
    )
    parser.add_argument("--tables", type=lambda text: text.split(","), help="all by default")
    parser.add_argument("--models", type=one_of(known, many=True), default=known)
    parser.add_argument("--repeats", type=int, default=1, help=f"of {N_FOLDS} folds, default: 1")
    options = parser.parse_args()
    if options.what == "flexmix":
        header = "model", "seconds", "flexmix", "ratio", "log-likelihood", "flexmix"
        print_table(header, (beside_flexmix(options.data, *model) for model in POISSON))
        return
    tables = load(options.data, options.tables)
    if options.what == "stability":
        header = "table", "model", "experts", "refits that agree", "mean adjusted Rand index"
        numbers = [key for key in tables if key[0] == "regression"]
        pairs = product(numbers, (MIXTURE,))
        print_table(header, (stability(key[1], model, tables[key]) for key, model in pairs))
        return
    models = [name for name in options.models if not is_missing(name)]
    repeats = product(range(options.repeats), tables, range(N_FOLDS), models)
    wanted = [Fit(*key, m, repeat, f) for repeat, key, f, m in repeats if m in MODELS[key[0]]]
    jobs = {fit: delayed(run)(fit, tables[fit[:2]]) for fit in wanted}
    done = run_missing(jobs, options.out, options.jobs)
    frame = pandas.DataFrame([done[fit] for fit in wanted])
    for kind, of_kind in frame.groupby("kind", sort=False):
        for column in (*SCORES[kind], "n_components", "n_read", "fit_seconds"):
            if column not in of_kind:
                continue
            rows = of_kind.pivot_table(index="table", columns="model", values=column, sort=False)
            rows.loc["mean"] = rows.mean()
            print(f"\n## {kind}: {column}\n")
            shown = rows.map(("{:.3f}" if column in SCORES[kind] else "{:.4g}").format)
            print_table(("table", *shown), shown.itertuples())


if __name__ == "__main__":
    main()
