"""MoEClassifier and MoERegressor beside other models, on real tables.

    python tests/benchmarks/tables.py --data TABLES [--half first] [--models MoE,MLP] [--jobs 2]

TABLES is a folder, or a tar archive of one, with classification/NAME.csv and regression/NAME.csv,
the last column `target`; without --data it is what SKLEARN_MOE_TABLES names. All models are at
their defaults and get the same repeated folds, prepared in the same way. Defaults of this library
are chosen on the first half of the tables, every other one by name; the second half is new to them.

Results are kept in results/tables.jsonl, a line per fit, and a second start goes on with what is
missing. A line does not know which version of a model it is of: where the code has changed, say
`--redo MoE`, or name another file. `--report FOLDER` writes what is printed as tables.rst, to be
included by a page, and tables.png. RealMLP, TabM, HME and soft tree run only where --models names
them, and need `pip install '.[tables]'`.
"""

import argparse
import os
import tarfile
import time
import warnings
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas
import torch
from joblib import delayed
from result_lines import read_results, run_missing
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tables_models import MODELS, OPTIONAL, build, installed, warm_up
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


def first_half(tables):
    """Return every other table of each kind."""
    by_kind = ([key for key in tables if key[0] == kind] for kind in MODELS)
    return {key for keys in by_kind for key in keys[::2]}


def split(kind, table, repeat, fold):
    """Return X_train, X_test, y_train, y_test of one fold, prepared on its training rows."""
    X, y = table.drop(columns="target"), table["target"].to_numpy()
    # Numbers for classes: not every library takes strings.
    y = np.unique(y, return_inverse=True)[1] if kind == "classification" else y.astype(float)
    folds = SPLITTERS[kind](n_splits=N_FOLDS, n_repeats=repeat + 1, random_state=0)
    train, test = next(islice(folds.split(X, y), N_FOLDS * repeat + fold, None))
    preparation = make_column_transformer(
        (
            make_pipeline(SimpleImputer(), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            make_column_selector(dtype_exclude="number"),
        ),
    )
    X_train = preparation.fit_transform(X.iloc[train])
    return X_train, preparation.transform(X.iloc[test]), y[train], y[test]


def seconds(function, *args):
    """Return what a function returns, and the seconds of one core that it took.

    The time of this process alone: in one thread, what a clock would say on an idle machine.
    """
    start = time.process_time()
    result = function(*args)
    return result, time.process_time() - start


def probability_scores(model, X, y):
    """Return log loss and Brier score; nothing for a model without probabilities."""
    if not hasattr(model, "predict_proba"):
        return {}
    # In float64 for everybody: how far a probability may fall is up to the model, not to the type.
    probabilities = model.predict_proba(X).astype(float)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    squares = (probabilities - (y[:, np.newaxis] == model.classes_)) ** 2
    return {
        "log_loss": log_loss(y, probabilities, labels=model.classes_),
        "brier": squares.sum(axis=1).mean(),
    }


def training_facts(model):
    """Return epochs and experts in use, of models that have them."""
    model = getattr(model, "regressor_", model)
    facts = {}
    if np.isscalar(getattr(model, "n_iter_", None)):
        facts["n_iter"] = int(model.n_iter_)
    if hasattr(model, "expert_load_"):
        load = model.expert_load_
        facts["experts_in_use"] = int((load > 0.25 / len(load)).sum())
    return facts


def run(fit, table):
    """Fit one model on one fold and return a line of the results."""
    X_train, X_test, y_train, y_test = split(fit.kind, table, fit.repeat, fit.fold)
    model = build(fit.kind, fit.model, seed=N_FOLDS * fit.repeat + fit.fold)
    torch.set_num_threads(1)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # those of a dozen models on 32 tables
        warm_up(MODELS[fit.kind][fit.model])
        _, fit_seconds = seconds(model.fit, X_train, y_train)
        predicted, predict_seconds = seconds(model.predict, X_test)
        if fit.kind == "classification":
            scores = {"accuracy": accuracy_score(y_test, predicted)}
            scores |= probability_scores(model, X_test, y_test)
        else:
            scores = {"r2": r2_score(y_test, predicted)}
    times = {"fit_seconds": fit_seconds, "predict_seconds": predict_seconds}
    return fit._asdict() | scores | times | training_facts(model)


def names(text):
    """Return the parts of a comma-separated list."""
    return [name.strip() for name in text.split(",")]


def parse():
    """Return the arguments, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("SKLEARN_MOE_TABLES"), metavar="TABLES")
    parser.add_argument("--tables", type=names, default=[], help="comma-separated, default: all")
    parser.add_argument(
        "--half", choices=("all", "first", "second"), default="all", help="of the tables"
    )
    known = list(MODELS["classification"])
    default = [name for name in known if name not in OPTIONAL]
    parser.add_argument("--models", type=names, default=default, help=f"of {', '.join(known)}")
    parser.add_argument("--repeats", type=int, default=3, help=f"of {N_FOLDS} folds, default: 3")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/tables.jsonl"))
    parser.add_argument("--redo", type=names, default=[], help="models to run again")
    parser.add_argument("--report", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if not options.data:
        parser.error("no tables: pass --data or set SKLEARN_MOE_TABLES")
    if unknown := set(options.models + options.redo) - set(known):
        parser.error(f"unknown models {sorted(unknown)}, choose from {known}")
    return parser, options


def choose(tables, half, chosen):
    """Return the tables of a half, and of these the chosen ones, if any are named."""
    first = first_half(tables)
    halves = {"all": set(tables), "first": first, "second": set(tables) - first}
    return [key for key in tables if key in halves[half] and (not chosen or key[1] in chosen)]


def main():
    """Run what is missing and report all of it."""
    parser, options = parse()
    tables = read_tables(options.data)
    if unknown := set(options.tables) - {name for _, name in tables}:
        parser.error(f"unknown tables {sorted(unknown)}")
    chosen = choose(tables, options.half, options.tables)
    if not chosen:
        parser.error("none of these tables is in this half")
    # Models side by side, so that their times are of the same state of the machine; repeats last,
    # so that a run which is cut off has seen all tables.
    wanted = [
        Fit(*key, model, repeat, fold)
        for repeat, key, fold, model in product(
            range(options.repeats), chosen, range(N_FOLDS), options.models
        )
        if model in MODELS[key[0]]
    ]
    done = read_results(options.out, Fit)
    missing = [fit for fit in wanted if fit not in done or fit.model in options.redo]
    if absent := sorted({fit.model for fit in missing if not installed(fit.model)}):
        parser.error(f"{absent} need packages that pip install '.[tables]' installs")
    jobs = {fit: delayed(run)(fit, tables[fit.kind, fit.table]) for fit in missing}
    run_missing(jobs, options.out, options.jobs)
    done = read_results(options.out, Fit)
    frame = pandas.DataFrame([done[fit] for fit in wanted])
    found = list(results_by_kind(frame, options.models, first_half(tables)))
    print_report(found)
    if options.report:
        write_report(options.report, found)


if __name__ == "__main__":
    main()
