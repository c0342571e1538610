"""What benchmarks share: command lines, ratios measured side by side, tables, stored results."""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
import warnings
from itertools import chain, pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from joblib import Parallel, parallel_config
from sklearn.datasets import get_data_home
from skorch.callbacks import Callback
from torchvision.datasets import CIFAR10, ImageFolder


class Row(NamedTuple):
    """A line of a report; `ok` is None where nothing is asked for."""

    what: str
    measured: str
    target: str
    ok: bool | None


class Ratio(NamedTuple):
    """A over B: median and range of the pairs, and the median of A and of B themselves."""

    median: float
    low: float
    high: float
    first: float
    second: float

    def __str__(self):
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


class StepClock(Callback):
    """Collect the times of all epochs, of the wall and of the processor; the first two warm up."""

    def on_train_begin(self, net, **kwargs):
        """Start the clocks."""
        self.ticks = []

    def on_epoch_end(self, net, **kwargs):
        """Note the times."""
        self.ticks.append((time.perf_counter(), time.thread_time()))

    def medians(self):
        """Return the median time of an epoch, by either clock."""
        clocks = zip(*self.ticks[1:], strict=True)
        return [median(after - before for before, after in pairwise(ticks)) for ticks in clocks]


def command(doc, rows=None):
    """Return a parser; its arguments are names of `rows`, all of them by default."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    if rows:
        parser.add_argument("rows", nargs="*", metavar="ROW", type=one_of(rows), default=[*rows])
    return parser


def one_of(known, many=False):
    """Return a type of argument: one of the known names, or several with commas between.

    A name that has a comma itself is put in double quotes: 'MLP,"MLP, stopped"'.
    """

    def check(text):
        names = next(csv.reader([text], skipinitialspace=True)) if many else [text]
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown {unknown}, choose from {', '.join(known)}")
        return names if many else text

    return check


def seconds(function, *args, clock=time.perf_counter, **kwargs):
    """Return the time of a call."""
    start = clock()
    function(*args, **kwargs)
    return clock() - start


def quiet(function, *args, ignored=Warning, **kwargs):
    """Call a function, and return what it returns, without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ignored)
        return function(*args, **kwargs)


def paired(first, second, pairs):
    """Return the ratio of two clocks, functions that return seconds, run A B A B after one each.

    Neighbours share the state of the machine, so the median of their ratios survives a noisy
    neighbour that would spoil the ratio of the medians.
    """
    first(), second()
    return ratio_of(*zip(*((first(), second()) for _ in range(pairs)), strict=True))


def ratio_of(first, second):
    """Return the ratio of paired times."""
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios), median(first), median(second))


def compare(what, first, second, target, pairs, *, at_least=False):
    """Return the row of a ratio that must not pass (or with `at_least`, must reach) a target.

    `first` and `second` are those of `paired`; {0} and {1} in the text become their milliseconds.
    """
    ratio = paired(first, second, pairs)
    ok = ratio.median >= target if at_least else ratio.median <= target
    what = what.format(1e3 * ratio.first, 1e3 * ratio.second)
    return Row(what, str(ratio), f"{'>=' if at_least else '<='} {target:g}", ok)


def run_python(*args, **environment):
    """Run a fresh interpreter, with more environment variables, and return what it prints."""
    command = [sys.executable, *args]
    return subprocess.check_output(command, env=os.environ | environment, text=True)


def spread(values, digits=2):
    """Return mean and standard deviation over the runs as text."""
    values = np.array(list(values), dtype=float)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=min(1, len(values) - 1)):.{digits}f}"


def number(value, digits, sign=""):
    """Return a number as text, or nothing for NaN."""
    return "" if np.isnan(value) else f"{round(value, digits) + 0.0:{sign}.{digits}f}"  # no -0


def shown(interval, digits, sign="+"):
    """Return a mean, by default a difference, and its interval as text."""
    mean, *ends = (number(value, digits, sign) for value in interval)
    return f"{mean} [{', '.join(ends)}]" if all(ends) else mean


def print_table(header, rows):
    """Print a Markdown table, each row as soon as it is there; booleans read yes and NO."""
    words = {True: "yes", False: "**NO**", None: ""}
    for row in chain([header, ["---"] * len(header)], rows):
        cells = [words[c] if c is None or isinstance(c, bool) else str(c) for c in row]
        print(f"| {' | '.join(cells)} |", flush=True)


def read_results(path, key):
    """Return {key: line}, where `key` is the NamedTuple of a job; of several lines the last."""
    rows = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    return {key(*(row[name] for name in key._fields)): row for row in rows}


def run_missing(jobs, path, n_jobs):
    """Run delayed jobs, {key: job}, of which a file has no line; return {key: line} of the file.

    A job returns its line, which is appended.
    """
    if not jobs:
        return {}
    key = type(next(iter(jobs)))
    done = read_results(path, key)
    missing = [job for name, job in jobs.items() if name not in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1), path.open("a") as file:
        rows = Parallel(return_as="generator_unordered")(missing)
        for i, row in enumerate(rows, 1):
            print(json.dumps(row), file=file, flush=True)
            what = " ".join(str(row[name]) for name in key._fields)
            print(f"{i} of {len(missing)}: {what}", file=sys.stderr)
    return read_results(path, key)


def load_images(path):
    """Return images of CIFAR-10 and labels to train on, and to test on.

    They are fetched without a path; else from a folder, train/<class>/*.jpg and test/, or an .npz.
    """
    if path is None:
        home = Path(get_data_home(), "cifar10")
        parts = [CIFAR10(home, train=is_train, download=True) for is_train in (True, False)]
        X, X_test = (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)) for part in parts)
        y, y_test = (np.array(part.targets) for part in parts)
        return X, y, X_test, y_test
    if path.endswith(".npz"):
        with np.load(path) as arrays:
            X, y, X_test, y_test = (arrays[k] for k in ("X_train", "y_train", "X_test", "y_test"))
        if X.shape[-1] == 3:  # channels last
            X, X_test = (np.ascontiguousarray(Z.transpose(0, 3, 1, 2)) for Z in (X, X_test))
        return X, y, X_test, y_test
    arrays = []
    for split in ("train", "test"):
        images = ImageFolder(Path(path, split))
        arrays.append(np.stack([np.asarray(image).transpose(2, 0, 1) for image, _ in images]))
        arrays.append(np.array(images.targets))
    return tuple(arrays)
