"""A default fit beside processes that keep every core busy, over the same on an idle machine.

    python tests/benchmarks/busy.py [--fits N]

Run it on a machine that is otherwise idle, and with torch's own number of threads. Small steps on
several threads would wait for each other, spinning: tens of times longer.
"""

import argparse
import os
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from statistics import median

from sklearn.datasets import load_digits

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches


def seconds(X, y, n_fits, **parameters):
    """Return the median time of a fit."""
    times = []
    for _ in range(n_fits):
        start = time.perf_counter()
        MoEClassifier(random_state=0, **parameters).fit(X, y)
        times.append(time.perf_counter() - start)
    return median(times)


@contextmanager
def busy_cores():
    """Keep every core busy with a process of its own."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(os.cpu_count())]
    time.sleep(0.5)
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def main():
    """Print the ratio for patches and for a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=5)
    n_fits = parser.parse_args().fits
    warnings.simplefilter("ignore")
    X, y = make_cluster_patches(16_000, random_state=0, **PAPER_SETTINGS[1])
    digits, classes = load_digits(return_X_y=True)
    problems = {
        "setting 1, defaults": (X, y, {}),
        "digits, 100 epochs": (digits / 16, classes, {"max_iter": 100, "tol": None}),
    }
    seconds(X[:100], y[:100], 1, max_iter=1)  # imports what a first fit imports
    print("| fit | idle s | busy s | ratio | target |\n|---|---|---|---|---|")
    for name, (samples, target, parameters) in problems.items():
        idle = seconds(samples, target, n_fits, **parameters)
        with busy_cores():
            busy = seconds(samples, target, n_fits, **parameters)
        print(f"| {name} | {idle:.2f} | {busy:.2f} | {busy / idle:.2f} | ≤ 3 |")


if __name__ == "__main__":
    main()
