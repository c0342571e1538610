"""Two commits against each other: how long fits and predictions take, as ratios.

    python tests/benchmarks/commits.py OLD NEW [--busy] [--repeats 5] [--only WORD ...]

OLD and NEW are what git knows, such as `HEAD~3`; each is unpacked into a folder of its own and runs
in a process of its own, with one thread. The two do a task in turn, OLD NEW OLD NEW ..., and of the
ratios NEW over OLD of neighbours the median and the quartiles are printed, of the wall's clock and
of the processor's. With `--busy` two other processes keep two cores busy. Each predicts by what it
has fitted itself.
"""

import math
import os
import subprocess
import sys
import tarfile
import time
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from measure import command, print_table
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from sklearn_moe import MixtureRegressor, MoEClassifier, MoERegressor
from sklearn_moe.datasets import make_cluster_patches

# Seconds that short tasks are repeated for, to be measured.
SECONDS = 0.1


@cache
def numbers(n_rows=3000):
    """Return 20 columns, numbers and classes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 20)).astype(np.float32)
    score = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + 0.5 * X[:, 3] + (X[:, 4] > 0.5)
    score += 0.5 * rng.normal(size=n_rows)
    return X, score, np.digitize(score, [0, 1])


@cache
def frame(n_rows=1470):
    """Return a frame, 14 of 30 columns categories, and two classes."""
    rng = np.random.default_rng(1)
    columns = {f"number {i}": rng.normal(size=n_rows) for i in range(16)}
    names = np.array([f"kind {i}" for i in range(8)], dtype=object)
    for i in range(14):
        columns[f"category {i}"] = pd.Categorical(rng.choice(names[: 2 + i % 7], n_rows))
    X = pd.DataFrame(columns)
    score = X["number 0"] + (X["category 1"] == "kind 1") * X["number 1"] + rng.normal(size=n_rows)
    return X, (score > 0.5).astype(int)


@cache
def fitted(name):
    """Return a model that predicts."""
    if name == "frame":
        return MoEClassifier(random_state=0).fit(*frame())
    X, score, classes = numbers()
    if name == "numbers":
        return MoERegressor(random_state=0).fit(X[:1000], score[:1000])
    return MoEClassifier(random_state=0).fit(X, classes)


def fit(make, load):
    """Return a task that fits a model."""
    return lambda: make().fit(*load())


def predict(name, n_rows, method="predict"):
    """Return a task that predicts some rows."""

    def run():
        X = frame()[0] if name == "frame" else numbers()[0]
        getattr(fitted(name), method)(X[:n_rows])

    return run


def classifier(**options):
    """Return what makes a classifier."""
    return lambda: MoEClassifier(random_state=0, **options)


def regressor(**options):
    """Return what makes a regressor."""
    return lambda: MoERegressor(random_state=0, **options)


def some(n_rows, target):
    """Return what loads some rows of 20 columns, with their numbers or classes."""
    return lambda: [part[:n_rows] for part in (numbers()[0], numbers()[target])]


def patches():
    """Return bags of patches."""
    return make_cluster_patches(2000, random_state=0)


def images():
    """Return noise."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 3, 16, 16)).astype(np.float32), rng.integers(2, size=300)


def of(load):
    """Return a function that loads X and y of scikit-learn."""
    return lambda: load(return_X_y=True)


TASKS = {
    "fit wine": fit(classifier(), of(load_wine)),
    "fit breast cancer": fit(classifier(), of(load_breast_cancer)),
    "fit diabetes": fit(regressor(), of(load_diabetes)),
    "fit 1,000 x 20, numbers": fit(regressor(), some(1000, 1)),
    "fit 3,000 x 20, three classes": fit(classifier(), some(3000, 2)),
    "fit frame of 1,470 rows": fit(classifier(), frame),
    "fit 8 networks behind a router": fit(
        classifier(n_experts=8, expert="mlp", max_iter=20, tol=None), some(1000, 2)
    ),
    "fit patches": fit(classifier(max_iter=30, tol=None), patches),
    "fit images": fit(classifier(max_iter=2, tol=None), images),
    "fit regimes": fit(lambda: MixtureRegressor(n_init=2, random_state=0), some(500, 1)),
    "predict 1 row": predict("classes", 1),
    "predict 100 rows": predict("classes", 100),
    "predict 3,000 rows": predict("classes", 3000),
    "predict numbers of 3,000 rows": predict("numbers", 3000),
    "predict 1 row of a frame": predict("frame", 1),
    "predict 1,470 rows of a frame": predict("frame", 1470, "predict_proba"),
}


def work():
    """Do tasks, "times,name" by line, and print the seconds of each by both clocks."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        times, name = line.strip().split(",", 1)
        start = time.perf_counter(), time.process_time()
        for _ in range(int(times)):
            TASKS[name]()
        print(time.perf_counter() - start[0], time.process_time() - start[1], flush=True)


def start(commit, folder):
    """Start the process of a commit."""
    root = Path(__file__).parents[2]
    archive = subprocess.check_output(["git", "-C", root, "archive", commit, "sklearn_moe"])
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    variables = {"PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, __file__, "--work"], env=os.environ | variables, **pipes
    )


def ask(process, times, name):
    """Return the seconds that a process takes for a task, by both clocks."""
    print(f"{times},{name}", file=process.stdin, flush=True)
    return [float(seconds) for seconds in process.stdout.readline().split()]


def ratios(name, processes, repeats):
    """Return a line of the table."""
    for process in processes:
        ask(process, 1, name)
    times = math.ceil(SECONDS / ask(processes[0], 1, name)[0])
    pairs = [[ask(process, times, name) for process in processes] for _ in range(repeats)]
    line = [name, *(f"{1e3 * median(each[i][0] for each in pairs) / times:.2f}" for i in (0, 1))]
    for clock in (0, 1):
        found = [new[clock] / old[clock] for old, new in pairs]
        low, middle, high = quantiles(found, n=4, method="inclusive")
        line.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
    return line


def main():
    """Compare the commits."""
    parser = command(__doc__)
    parser.add_argument("commits", nargs=2, metavar="COMMIT")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[""], help="words of names of tasks")
    args, processes = parser.parse_args(), []
    others = [[sys.executable, "-c", "while True: pass"]] * (2 * args.busy)
    with TemporaryDirectory() as old, TemporaryDirectory() as new:
        try:
            processes += map(start, args.commits, (old, new))
            processes += map(subprocess.Popen, others)
            names = [name for name in TASKS if any(word in name for word in args.only)]
            header = ["task", "OLD, ms", "NEW, ms", "NEW over OLD (quartiles)", "processor alone"]
            print_table(header, (ratios(name, processes[:2], args.repeats) for name in names))
        finally:
            for process in processes:
                process.kill()


if __name__ == "__main__":
    work() if sys.argv[1:] == ["--work"] else main()
