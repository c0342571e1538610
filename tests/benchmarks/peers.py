"""MoEClassifier and MoERegressor beside their peers, on data that needs no download.

    python tests/benchmarks/peers.py [--jobs 2] [--report FILE.rst]

Mixtures of experts of other packages, a mixture written by hand with skorch, and what else one
would take: all at their defaults, on the same folds, in one thread. The data are those that
scikit-learn ships and the paper's problem; columns are standardized for everybody, but the bags of
patches, which only a MoE takes as they are. Beside the scores it counts dead experts and the checks
of scikit-learn that fail. A peer that is not installed is named at the end, see
`pip install '.[peers]'`, and one that fails is shown with its error.

Results are kept in results/peers.jsonl, a line per fit, and a second start goes on with what is
missing. A line does not know which version of a model it is of: where the code has changed, say
`--redo MoE`, or name another file.
"""

import argparse
import os
import platform
import warnings
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import NamedTuple

# SciPy reads it at import; without it, a check of scikit-learn is skipped.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import torch
from joblib import delayed
from measure import print_table
from peers_models import MOE, PACKAGES, PEERS, bare, dead_experts, missing_package
from result_lines import read_results, run_missing
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_wine,
    make_friedman1,
)
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from tables import names, probability_scores, seconds
from tables_models import warm_up
from tables_report import csv_table
from threadpoolctl import threadpool_limits

from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

PATCHES = partial(make_cluster_patches, 2500, random_state=0, **PAPER_SETTINGS[1])
DATA = {
    "classification": {
        "wine": partial(load_wine, return_X_y=True),
        "breast cancer": partial(load_breast_cancer, return_X_y=True),
        "digits": partial(load_digits, return_X_y=True),
        "patches": PATCHES,  # 2,000 samples to train on
    },
    "regression": {
        "diabetes": partial(load_diabetes, return_X_y=True),
        "friedman1": partial(make_friedman1, 1250, noise=1.0, random_state=0),
    },
}
SPLITTERS = {"classification": StratifiedKFold, "regression": KFold}
CHECKS = "check_estimator"


class Job(NamedTuple):
    """What a line of the results is about; `data` may be CHECKS."""

    kind: str
    data: str
    model: str
    n_folds: int
    fold: int


def prepared(model, train, test):
    """Return the samples of a fold as a model takes them."""
    if train.ndim > 2:
        if model == MOE:
            return train, test
        train, test = (X.reshape(len(X), -1) for X in (train, test))
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)


def score(job):
    """Fit one model on one fold and return its scores."""
    X, y = DATA[job.kind][job.data]()
    folds = SPLITTERS[job.kind](job.n_folds, shuffle=True, random_state=0).split(X, y)
    train, test = list(folds)[job.fold]
    X_train, X_test = prepared(job.model, X[train], X[test])
    build = PEERS[job.kind][job.model]
    warm_up(build)
    model = build(job.fold)
    _, fit_seconds = seconds(model.fit, X_train, y[train])
    predicted = model.predict(X_test)
    if job.kind == "classification":
        scores = {"score": 100 * accuracy_score(y[test], predicted)}
        scores |= probability_scores(model, X_test, y[test])
    else:
        scores = {"score": r2_score(y[test], predicted)}
    return scores | {"fit_seconds": fit_seconds} | dead_experts(job.model, model, X_test)


def check(job):
    """Return what scikit-learn's checks say of the estimator itself."""
    model = bare(PEERS[job.kind][job.model](0))
    results = check_estimator(model, on_skip=None, on_fail=None)
    failed = [result["check_name"] for result in results if result["status"] == "failed"]
    return {"checks": len(results), "failed": failed}


def run(job):
    """Return a line of the results; an error is one, too."""
    torch.set_num_threads(1)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        try:
            found = check(job) if job.data == CHECKS else score(job)
        except Exception as error:  # a peer that fails is a result
            first_line = (str(error).strip().splitlines() or [""])[0]
            found = {"error": f"{type(error).__name__}: {first_line}"}
    return job._asdict() | found


def spread(values, digits):
    """Return mean and standard error over the folds, or nothing of what there is none."""
    values = np.array([value for value in values if value is not None], dtype=float)
    if not len(values):
        return "n/a"
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std(ddof=1) / len(values) ** 0.5:.{digits}f}"


def side_by_side(kind, lines):
    """Yield a row per model, a header first; `lines` are the folds of each on the same data."""
    classes = kind == "classification"
    header = ["accuracy %", "log loss"] if classes else ["R2"]
    yield "", *header, "seconds a fit", "dead experts"
    for model, folds in lines.items():
        if errors := [fold["error"] for fold in folds if "error" in fold]:
            yield model, f"fails: {errors[0]}", *[""] * (len(header) + 1)
            continue
        columns = {name: [fold.get(name) for fold in folds] for name in ("score", "log_loss")}
        cells = [spread(columns["score"], 2 if classes else 3)]
        cells += [spread(columns["log_loss"], 3)] if classes else []
        dead = "n/a"
        if "dead" in folds[0]:
            dead = f"{np.mean([fold['dead'] for fold in folds]):.1f} of {folds[0]['experts']}"
        yield model, *cells, f"{np.mean([fold['fit_seconds'] for fold in folds]):.2f}", dead


def checks(lines):
    """Yield a row per estimator: how many checks of scikit-learn fail, and which."""
    yield "", "checks", "fail", "which"
    for (kind, model), line in lines.items():
        what = f"{model}, {kind}"
        if "error" in line:
            yield what, "", f"fails: {line['error']}", ""
        else:
            failed = line["failed"]
            yield what, line["checks"], len(failed), ", ".join(dict.fromkeys(failed)) or "n/a"


def tables(results):
    """Yield titles and rows of what there is."""
    frames = {}
    for job, line in results.items():
        frames.setdefault((job.kind, job.data), {}).setdefault(job.model, []).append(line)
    found = {}
    for (kind, data), lines in frames.items():
        if data == CHECKS:
            found |= {(kind, model): line for model, (line,) in lines.items()}
        else:
            yield f"{data}, {kind}", side_by_side(kind, lines)
    if found:
        yield "check_estimator of scikit-learn", checks(found)


def conditions(n_folds, present, absent):
    """Yield sentences: versions, folds, and what was left out."""
    packages = [PACKAGES[name] for name in present if name in PACKAGES]
    versions = [
        f"{name} {version(name)}" for name in ("scikit-learn", "torch", "skorch", *packages)
    ]
    yield f"Python {platform.python_version()}, {', '.join(versions)}; {os.cpu_count()} cores."
    yield f"Means and standard errors over {n_folds} folds; seconds are those of one core."
    for name in absent:
        yield f"Left out: {name} (not installed: pip install {missing_package(name)})."


def parse():
    """Return the arguments, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    peers = list(PEERS["classification"] | PEERS["regression"])
    data = [name for of_kind in DATA.values() for name in of_kind]
    parser.add_argument("--peers", type=names, default=peers, help=f"of {', '.join(peers)}")
    parser.add_argument("--data", type=names, default=data, help=f"of {', '.join(data)}")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--checks", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/peers.jsonl"))
    parser.add_argument("--redo", type=names, default=[], help="peers to run again")
    parser.add_argument("--report", type=Path, metavar="FILE", help="for a page to include")
    options = parser.parse_args()
    if unknown := set(options.peers + options.redo) - set(peers):
        parser.error(f"unknown peers {sorted(unknown)}, choose from {peers}")
    if unknown := set(options.data) - set(data):
        parser.error(f"unknown data {sorted(unknown)}, choose from {data}")
    return options


def wanted(options, peers):
    """Return all jobs: one fold of everything first, the checks last."""
    jobs = [
        Job(kind, data, model, options.folds, fold)
        for fold, kind in product(range(options.folds), DATA)
        for data, model in product(DATA[kind], PEERS[kind])
        if data in options.data and model in peers
    ]
    if options.checks:
        jobs += [Job(k, CHECKS, m, 0, 0) for k in PEERS for m in PEERS[k] if m in peers]
    return jobs


def main():
    """Run what is missing and report all of it."""
    options = parse()
    absent = [name for name in options.peers if missing_package(name)]
    present = [name for name in options.peers if name not in absent]
    jobs = wanted(options, present)
    done = read_results(options.out, Job)
    missing = {
        job: delayed(run)(job) for job in jobs if job not in done or job.model in options.redo
    }
    run_missing(missing, options.out, options.jobs)
    done = read_results(options.out, Job)
    notes = list(conditions(options.folds, present, absent))
    found = [(title, list(rows)) for title, rows in tables({job: done[job] for job in jobs})]
    for title, (header, *rows) in found:
        print(f"\n## {title}\n")
        print_table(header, rows)
    print("", *notes, sep="\n\n")
    if options.report:
        comment = ".. Written by tests/benchmarks/peers.py --report."
        blocks = [csv_table(title, rows) for title, rows in found]
        options.report.write_text("\n".join([comment + "\n", *blocks, " ".join(notes) + "\n"]))


if __name__ == "__main__":
    main()
