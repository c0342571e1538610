"""MoEClassifier and MoERegressor beside their peers, on data that needs no download.

    python tests/benchmarks/peers.py [--jobs 2] [--report FILE]

Mixtures of experts of other packages, a mixture written by hand with skorch, and what else one
would take: all at their defaults, on the same folds, in one thread. The data are those that
scikit-learn ships and the paper's problem; columns are standardized for everybody, but the bags of
patches, which only a MoE takes as they are. Beside the scores it counts dead experts and the checks
of scikit-learn that fail. A peer that is not installed is named at the end, see
`pip install '.[peers]'`, and one that fails is shown with its error.

Results are kept in results/peers.jsonl, a line per fit, and a second start goes on with what is
missing. A line does not know which version of a model it is of: where the code has changed, name
another file, `--out`.
"""

import argparse
import os
import platform
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
from measure import command, one_of, print_table, quiet, run_missing
from models import (
    CATBOOST,
    HME,
    LIGHTGBM,
    MIXTURE,
    MLP,
    MODELS,
    MOE,
    PACKAGES,
    REAL_MLP,
    TREES,
    missing_package,
    of,
)
from models import standardized as with_target
from patches import setting_1
from sklearn import datasets
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback
from tables import fit_and_score
from tables_report import csv_table
from torch import nn

DATA = {
    "classification": {
        "wine": partial(datasets.load_wine, return_X_y=True),
        "breast cancer": partial(datasets.load_breast_cancer, return_X_y=True),
        "digits": partial(datasets.load_digits, return_X_y=True),
        # 2,000 samples to train on.
        "patches": partial(setting_1, 2500),
    },
    "regression": {
        "diabetes": partial(datasets.load_diabetes, return_X_y=True),
        "friedman1": partial(datasets.make_friedman1, 1250, noise=1.0, random_state=0),
    },
}
SPLITTERS = {"classification": StratifiedKFold, "regression": KFold}
SCORES = {  # columns of the results by title, their scale and digits
    "classification": {"accuracy %": ("accuracy", 100, 2), "log loss": ("log_loss", 1, 3)},
    "regression": {"R2": ("r2", 1, 3)},
}
CHECKS = "check_estimator"
PLAIN, DATALETS, CGMM = "plain mixture", "datalets", "cgmm"
STACK, STACKING = "Mixture, stack", "Stacking"
PACKAGES |= {DATALETS: "datalets", CGMM: "cgmm"}
COMMON = MOE, MLP, TREES, LIGHTGBM, CATBOOST, REAL_MLP, MIXTURE
N_EXPERTS, WIDTH = 8, 100  # of the mixture that is written by hand


class Mixture(nn.Module):
    """What one writes by hand: a softmax gate over small multilayer perceptrons."""

    def __init__(self, n_features=1, n_classes=None, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.n_classes = n_classes
        self.gate = nn.Linear(n_features, N_EXPERTS)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(n_features, WIDTH), nn.ReLU(), nn.Linear(WIDTH, n_classes or 1))
            for _ in range(N_EXPERTS)
        )

    def forward(self, X):
        """Return probabilities, of which skorch takes the logarithm, or the predictions."""
        X = X.float()
        outputs = torch.stack([expert(X) for expert in self.experts], dim=1)
        if self.n_classes:
            outputs = outputs.softmax(dim=2)
        mixed = (self.gate(X).softmax(dim=1).unsqueeze(2) * outputs).sum(dim=1)
        return mixed if self.n_classes else mixed.squeeze(1)


class KnowShapes(Callback):
    """Tell the module what only `fit` knows, as the documentation of skorch suggests."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Make the module anew."""
        n_classes = len(np.unique(y)) if isinstance(net, NeuralNetClassifier) else None
        net.set_params(module__n_features=X.shape[1], module__n_classes=n_classes)


def plain(net, seed):
    """Return a net of skorch with the budget and the steps of scikit-learn's MLP."""
    options = {"lr": 0.001, "batch_size": 200, "max_epochs": 200, "iterator_train__shuffle": True}
    options |= {"train_split": None, "callbacks": [KnowShapes], "verbose": 0}
    return net(Mixture, module__seed=seed, optimizer=torch.optim.Adam, **options)


def parts(kind):
    """Return the models that both kinds of stacks are made of."""
    linear = of("sklearn.linear_model.LogisticRegression", max_iter=1000)
    linear = linear if kind == "Classifier" else of("sklearn.linear_model.Ridge")
    return [linear, *(of(f"sklearn.ensemble.{name}{kind}") for name in ("RandomForest", TREES))]


def stack(kind, seed):
    """Return our stack, whose weights may depend on the row."""
    models = [build(seed) for build in parts(kind)]
    return of(f"sklearn_moe.Mixture{kind}", estimator=models, method="stack")(seed)


def stacking(kind, seed):
    """Return scikit-learn's stack of the same models."""
    models = [(str(index), build(seed)) for index, build in enumerate(parts(kind))]
    return of(f"sklearn.ensemble.Stacking{kind}", estimators=models)(seed)


def ours_and_stacks(kind):
    """Return what is there for classes and for numbers, by name."""
    return {STACK: partial(stack, kind), STACKING: partial(stacking, kind)}


# Each value is a function of the seed.
PEERS = {
    "classification": {
        **{name: MODELS["classification"][name] for name in (*COMMON, HME)},
        **ours_and_stacks("Classifier"),
        PLAIN: partial(plain, NeuralNetClassifier),
        DATALETS: of("datalets.PartitionedClassifier", progress=False),
    },
    "regression": {
        **{name: MODELS["regression"][name] for name in COMMON},
        **ours_and_stacks("Regressor"),
        PLAIN: lambda seed: with_target(plain(NeuralNetRegressor, seed)),
        DATALETS: of("datalets.PartitionedRegressor", progress=False),
        CGMM: of("cgmm.MixtureOfExpertsRegressor"),
    },
}


@torch.no_grad()
def gates_of_plain(net, X):
    """Return the gate's logits of a plain mixture."""
    return net.module_.gate(torch.as_tensor(X, dtype=torch.float32)).numpy()


def first(scores):
    """Return of how many samples each expert has the largest score."""
    return np.bincount(scores.argmax(1), minlength=scores.shape[1])


def first_of_ours(model, X):
    """Return of how many samples each expert, or each kind of several, has the largest gate."""
    kinds = np.unique(model.expert_kinds_)
    if len(kinds) == 1:
        return np.bincount(model.apply(X), minlength=len(model.expert_load_))
    gates = model.gate_proba(X)
    return first(np.stack([gates[:, model.expert_kinds_ == kind].sum(1) for kind in kinds], 1))


# How many samples each expert gets first, of the peers that can be asked.
COUNTS = {
    MOE: first_of_ours,
    PLAIN: lambda net, X: first(gates_of_plain(net, X)),
    HME: lambda model, X: model.to_hard_router().route_counts(X),
    DATALETS: lambda model, X: [
        (model.predict_cluster(X) == cluster).sum() for cluster in model.router_.clusters_
    ],
    CGMM: lambda model, X: first(model.responsibilities(X)),
}


class Job(NamedTuple):
    """What a line of the results is about; `data` may be CHECKS."""

    kind: str
    data: str
    model: str
    n_folds: int
    fold: int


def score(job):
    """Fit one model on one fold; return its scores, and how many experts get almost nothing."""
    X, y = DATA[job.kind][job.data]()
    folds = SPLITTERS[job.kind](job.n_folds, shuffle=True, random_state=0).split(X, y)
    train, test = list(folds)[job.fold]
    X_train, X_test = X[train], X[test]
    if X.ndim == 2 or job.model != MOE:
        X_train, X_test = (Z.reshape(len(Z), -1) for Z in (X_train, X_test))
        scaler = StandardScaler().fit(X_train)
        X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    build = PEERS[job.kind][job.model]
    model, found = fit_and_score(job.kind, build, job.fold, X_train, X_test, y[train], y[test])
    if job.model in COUNTS:
        counts = COUNTS[job.model](getattr(model, "regressor_", model), X_test)
        shares = np.divide(counts, np.sum(counts))
        n_dead = int((shares < 0.25 / len(shares)).sum())
        found |= {"dead": n_dead, "experts": len(shares)}
    return found


def check(job):
    """Return what scikit-learn's checks say of the estimator itself."""
    model = PEERS[job.kind][job.model](0)
    results = check_estimator(getattr(model, "regressor", model), on_skip=None, on_fail=None)
    failed = [result["check_name"] for result in results if result["status"] == "failed"]
    return {"checks": len(results), "failed": failed}


def run(job):
    """Return a line of the results; an error is one, too."""
    try:
        found = quiet(check if job.data == CHECKS else score, job)
    except Exception as error:  # a peer that fails is a result
        first_line = (str(error).strip().splitlines() or [""])[0]
        found = {"error": f"{type(error).__name__}: {first_line}"}
    return job._asdict() | found


def spread(values, digits):
    """Return mean and standard error over the folds, or nothing of what there is none."""
    if not len(values):
        return "n/a"
    error = np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def side_by_side(kind, lines):
    """Yield a row per model, a header first; `lines` are the folds of each on the same data."""
    columns = SCORES[kind]
    yield "model", *columns, "seconds a fit", "dead experts"
    for model, folds in lines.items():
        if errors := [fold["error"] for fold in folds if "error" in fold]:
            yield model, f"fails: {errors[0]}", *[""] * (len(columns) + 1)
            continue
        cells = (
            spread([scale * fold[name] for fold in folds if name in fold], digits)
            for name, scale, digits in columns.values()
        )
        dead = "n/a"
        if "dead" in folds[0]:
            dead = f"{np.mean([fold['dead'] for fold in folds]):.1f} of {folds[0]['experts']}"
        yield model, *cells, f"{np.mean([fold['fit_seconds'] for fold in folds]):.2f}", dead


def checks(lines):
    """Yield a row per estimator: how many checks of scikit-learn fail, and which."""
    yield "model", "checks", "fail", "which"
    for (kind, model), line in lines.items():
        cells = "", f"fails: {line.get('error')}", ""
        if "error" not in line:
            which = ", ".join(dict.fromkeys(line["failed"])) or "n/a"
            cells = line["checks"], len(line["failed"]), which
        yield f"{model}, {kind}", *cells


def tables(results):
    """Yield titles and rows of what there is."""
    frames, found = {}, {}
    for job, line in results.items():
        if job.data == CHECKS:
            found[job.kind, job.model] = line
        else:
            frames.setdefault((job.kind, job.data), {}).setdefault(job.model, []).append(line)
    for (kind, data), lines in frames.items():
        yield f"{data}, {kind}", side_by_side(kind, lines)
    if found:
        yield "check_estimator of scikit-learn", checks(found)


def conditions(n_folds, present, absent):
    """Yield sentences: versions, folds, and what was left out."""
    packages = ["scikit-learn", "torch", "skorch", *(PACKAGES[n] for n in present if n in PACKAGES)]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    yield f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores."
    yield f"Means and standard errors over {n_folds} folds; seconds are those of one core."
    for name in absent:
        yield f"Left out: {name} (not installed: pip install {missing_package(name)})."


def main():
    """Run what is missing and report all of it."""
    peers = list(PEERS["classification"] | PEERS["regression"])
    data = [name for of_kind in DATA.values() for name in of_kind]
    parser = command(__doc__)
    parser.add_argument("--peers", type=one_of(peers, many=True), default=peers)
    parser.add_argument("--data", type=one_of(data, many=True), default=data)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--checks", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/peers.jsonl"))
    parser.add_argument("--report", type=Path, metavar="FILE", help="for a page to include")
    options = parser.parse_args()
    torch.set_num_threads(1)  # for --jobs 1, which stays in this process
    absent = [name for name in options.peers if missing_package(name)]
    present = [name for name in options.peers if name not in absent]
    jobs = [  # one fold of everything first, the checks last
        Job(kind, name, model, options.folds, fold)
        for fold, kind in product(range(options.folds), DATA)
        for name, model in product(DATA[kind], PEERS[kind])
        if name in options.data and model in present
    ]
    if options.checks:
        jobs += [Job(k, CHECKS, m, 0, 0) for k in PEERS for m in PEERS[k] if m in present]
    done = run_missing({job: delayed(run)(job) for job in jobs}, options.out, options.jobs)
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
