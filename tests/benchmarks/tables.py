"""MoEClassifier and MoERegressor beside other models, on real tables.

    python tests/benchmarks/tables.py --data TABLES [--half first] [--models MoE,MLP] [--jobs 2]

TABLES is a folder, or a tar archive of one, with classification/NAME.csv and regression/NAME.csv,
the last column `target`; without --data it is what SKLEARN_MOE_TABLES names. All models are at
their defaults and get the same repeated folds, prepared in the same way. Defaults of this library
are chosen on the first half of the tables, every other one by name; the second half is new to them.

Results are kept in results/tables.jsonl, a line per fit, and a second start goes on with what is
missing. A line does not know which version of a model it is of: where the code has changed, name
another file, `--out`. `--report FOLDER` writes what is printed as tables.inc, to be
included by a page, and tables.png. LightGBM, CatBoost, EBM, RealMLP, TabM, HME, soft tree,
AutoGluon and a stack run only where --models names them, and need `pip install '.[tables]'`. For
slow ones there are `--tables`, the names of some, and `--repeats 1 --folds 1`; `--no-fit` then
reports all that is there: models that lack some fits are only in the tables that compare MoE with
each model on the folds that both have.
"""

import os
import tarfile
import time
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas
import torch
from joblib import delayed, parallel_config
from measure import command, one_of, quiet, read_results, run_missing, seconds
from models import MODELS, PACKAGES, missing_package, warm_up
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tables_report import N_FOLDS, print_report, results_by_kind, write_report
from threadpoolctl import threadpool_limits

SPLITTERS = {"classification": RepeatedStratifiedKFold, "regression": RepeatedKFold}


class Fit(NamedTuple):
    """What a line of the results is about."""

    kind: str
    table: str
    model: str
    repeat: int
    fold: int


def read_tables(path):
    """Return {(kind, name): frame} of a folder or an archive, sorted."""
    tables = {}
    if Path(path).is_dir():
        for file in Path(path).glob("*/*.csv"):
            tables[file.parent.name, file.stem] = pandas.read_csv(file)
    else:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name)
                if name.suffix == ".csv":
                    frame = pandas.read_csv(archive.extractfile(member))
                    tables[name.parent.name, name.stem] = frame
    return {key: tables[key] for key in sorted(tables) if key[0] in MODELS}


def split(kind, table, repeat, fold, n_folds=N_FOLDS, encoded=True):
    """Return X_train, X_test, y_train, y_test of one fold, encoded as its training rows say."""
    X, y = table.drop(columns="target"), table["target"].to_numpy()
    # Numbers for classes: not every library takes strings.
    y = np.unique(y, return_inverse=True)[1] if kind == "classification" else y.astype(float)
    folds = SPLITTERS[kind](n_splits=n_folds, n_repeats=repeat + 1, random_state=0)
    train, test = next(islice(folds.split(X, y), n_folds * repeat + fold, None))
    if not encoded:
        return X.iloc[train], X.iloc[test], y[train], y[test]
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    preparation = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    )
    X_train = preparation.fit_transform(X.iloc[train])
    return X_train, preparation.transform(X.iloc[test]), y[train], y[test]


def scores_of(kind, model, X, y):
    """Return R2, or accuracy with the log loss and Brier score of a model with probabilities."""
    if kind == "regression":
        return {"r2": r2_score(y, model.predict(X))}
    accuracy = {"accuracy": accuracy_score(y, model.predict(X))}
    if not hasattr(model, "predict_proba"):
        return accuracy
    # In float64 for everybody: how far a probability may fall is up to the model, not to the type.
    probabilities = model.predict_proba(X).astype(float)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    squares = (probabilities - (y[:, np.newaxis] == model.classes_)) ** 2
    loss = log_loss(y, probabilities, labels=model.classes_)
    return accuracy | {"log_loss": loss, "brier": squares.sum(axis=1).mean()}


def fit_and_score(kind, build, seed, X_train, X_test, y_train, y_test):
    """Return a fitted model, its scores, and the seconds of one core that it took.

    The time of this process alone: in one thread, what a clock would say on an idle machine.
    """
    torch.set_num_threads(1)
    # AutoGluon asks its forests for all cores: in processes their time would not be counted.
    with threadpool_limits(1), parallel_config("threading", n_jobs=1):
        warm_up(build)
        model = build(seed)
        fit_seconds = seconds(model.fit, X_train, y_train, clock=time.process_time)
        predict_seconds = seconds(model.predict, X_test, clock=time.process_time)
        scores = scores_of(kind, model, X_test, y_test)
    return model, scores | {"fit_seconds": fit_seconds, "predict_seconds": predict_seconds}


def run(fit, table):
    """Fit one model on one fold and return a line of the results."""
    build, seed = MODELS[fit.kind][fit.model], N_FOLDS * fit.repeat + fit.fold
    folds = split(fit.kind, table, fit.repeat, fit.fold)
    model, found = quiet(fit_and_score, fit.kind, build, seed, *folds)
    model = getattr(model, "regressor_", model)
    if np.isscalar(getattr(model, "n_iter_", None)):
        found["n_iter"] = int(model.n_iter_)
    if hasattr(model, "expert_load_"):
        load = model.expert_load_
        found["experts_in_use"] = int((load > 0.25 / len(load)).sum())
    return fit._asdict() | found


def command_on_tables(doc, results):
    """Return a parser with the options that all benchmarks on real tables have."""
    parser = command(doc)
    known = os.environ.get("SKLEARN_MOE_TABLES")
    where = {"default": known, "required": not known, "help": "default: SKLEARN_MOE_TABLES"}
    parser.add_argument("--data", metavar="TABLES", **where)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(results))
    return parser


def main():
    """Run what is missing and report all of it."""
    parser = command_on_tables(__doc__, "results/tables.jsonl")
    known = list(MODELS["classification"])
    default = [name for name in known if name not in PACKAGES]
    parser.add_argument("--half", choices=("all", "first", "second"), default="all")
    parser.add_argument("--tables", metavar="NAMES", help="default: all of the half")
    parser.add_argument("--models", type=one_of(known, many=True), default=default)
    parser.add_argument("--repeats", type=int, default=3, help=f"of {N_FOLDS} folds, default: 3")
    parser.add_argument("--folds", type=int, default=N_FOLDS, help="of each repeat, default: all")
    parser.add_argument("--no-fit", action="store_true", help="report what is there")
    parser.add_argument("--report", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    tables = read_tables(options.data)
    first = {key for kind in MODELS for key in [k for k in tables if k[0] == kind][::2]}
    halves = {"all": set(tables), "first": first, "second": set(tables) - first}
    chosen = [key for key in tables if key in halves[options.half]]
    if options.tables:
        names = set(options.tables.split(","))
        chosen = [key for key in chosen if key[1] in names]
        if unknown := names.difference(name for _, name in chosen):
            parser.error(f"this half has no tables {sorted(unknown)}")
    # Models side by side, so that their times are of the same state of the machine; repeats last,
    # so that a run which is cut off has seen all tables.
    wanted = [
        Fit(*key, model, repeat, fold)
        for repeat, key, fold, model in product(
            range(options.repeats), chosen, range(options.folds), options.models
        )
        if model in MODELS[key[0]]
    ]
    done = read_results(options.out, Fit)
    missing = [fit for fit in wanted if fit not in done and not options.no_fit]
    if absent := sorted({fit.model for fit in missing if missing_package(fit.model)}):
        parser.error(f"{absent} need packages that pip install '.[tables]' installs")
    jobs = {fit: delayed(run)(fit, tables[fit.kind, fit.table]) for fit in missing}
    done |= run_missing(jobs, options.out, options.jobs)
    frame = pandas.DataFrame([done[fit] for fit in wanted if fit in done])
    found = list(results_by_kind(frame, options.models, first))
    print_report(found)
    if options.report:
        write_report(options.report, found)


if __name__ == "__main__":
    main()
