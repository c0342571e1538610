"""What a training step costs: operations and waits on a GPU, time on the CPU over another version.

    SKLEARN_MOE_PRETEND_DEVICE=FOLDER python tests/benchmarks/steps.py
    python tests/benchmarks/steps.py --against CHECKOUT [--pairs N] [ROW ...]

The first counts on a device without hardware, see `tests/devices.py`. The second fits by this
version and by that of another checkout in turns, in one process, and prints ratios of processor
time. Both print a Markdown table.
"""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from measure import paired, print_table

HERE = Path(__file__).parent
BATCH = 1024
ROWS = {
    "patches": {},
    "constant": {"learning_rate": "constant"},
    "switch": {"balance": "switch"},
    "bias": {"balance": "bias"},
    "topk": {"router": "topk", "top_k": 2},
    "soft": {"router": "soft"},
    "merge": {"router": "merge"},
    "relu": {"router": "relu"},
    "patch_choice": {"router": "patch_choice"},
    "full batch": {"batch_size": 4 * BATCH},
    "one expert": {"n_experts": 1},
    "table": {"expert": "mlp"},
    "table top1": {"expert": "mlp", "router": "top1"},
    "pictures": {"expert": "cnn", "batch_size": 200},
}


def samples(row):
    """Return samples that the expert of a row takes, and labels."""
    from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

    X, y = make_cluster_patches(4 * BATCH, random_state=0, **PAPER_SETTINGS[1])
    expert = ROWS[row].get("expert", "patch")
    if expert == "cnn":
        return np.random.default_rng(0).normal(size=(600, 3, 16, 16)).astype(np.float32), y[:600]
    return (X.reshape(len(X), -1) if expert == "mlp" else X), y


def options(row):
    """Return the parameters of the estimator."""
    return {"max_iter": 4, "tol": None, "random_state": 0, "batch_size": BATCH} | ROWS[row]


def counts(rows):
    """Count the operations and waits of a step in the middle of an epoch."""
    sys.path.insert(0, str(HERE.parent))
    from devices import step_cost

    from sklearn_moe import MoEClassifier

    rows = [row for row in rows if ROWS[row].get("batch_size", 0) <= BATCH]  # three steps at least
    print_table(
        ["step", "operations", "waits"],
        ((row, *step_cost(MoEClassifier(**options(row)), *samples(row))[:2]) for row in rows),
    )


def load(checkout):
    """Return the classifier of a checkout, beside those of others that are loaded already."""
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn_moe"]:
        del sys.modules[name]
    sys.path.insert(0, str(checkout))
    try:
        return import_module("sklearn_moe").MoEClassifier
    finally:
        sys.path.pop(0)


def ratios(rows, checkout, pairs):
    """Compare fits of this version and of another."""
    other, ours = load(checkout), load(HERE.parent.parent)

    def processor_time(classifier, row, X, y):
        clf = classifier(**options(row), device="cpu")
        start = time.process_time()
        clf.fit(X, y)
        return time.process_time() - start

    def compare(row):
        X, y = samples(row)
        clocks = [
            lambda version=version: processor_time(version, row, X, y) for version in (ours, other)
        ]
        ratio = paired(*clocks, pairs)
        return row, str(ratio), f"{1e3 * ratio.first:.0f} ms", f"{1e3 * ratio.second:.0f} ms"

    print_table(["fit", "ours over theirs", "ours", "theirs"], map(compare, rows))


def main():
    """Print the counts, or the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--against", metavar="CHECKOUT")
    parser.add_argument("--pairs", type=int, default=9)
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"unknown rows {sorted(unknown)}, choose from {list(ROWS)}")
    torch.set_num_threads(1)
    rows = arguments.rows or list(ROWS)
    if arguments.against:
        ratios(rows, arguments.against, arguments.pairs)
    else:
        counts(rows)


if __name__ == "__main__":
    main()
