"""One process against several: time per epoch, and what travels; a Markdown table.

    python tests/benchmarks/distributed.py [--processes 2] [--epochs 10]

Each process computes with one thread, so that two want two idle cores. They are started anew for
every pair of measurements, one process after the other's, and the median of the epochs counts.
"""

import argparse
import os
import socket
import sys
import warnings
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import joblib
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from measure import StepClock, print_table

from sklearn_moe import MoEClassifier
from sklearn_moe._engine import Connection
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.distributed import data_parallel


def patches():
    """Return setting 1 of the paper."""
    return make_cluster_patches(16_000, random_state=0, **PAPER_SETTINGS[1])


def table():
    """Return a table of 50 columns."""
    X = np.random.default_rng(0).normal(size=(20_000, 50)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def pictures():
    """Return pictures as large as those of CIFAR-10."""
    X = np.random.default_rng(0).integers(256, size=(1000, 3, 32, 32), dtype=np.uint8)
    return X, (X.mean((1, 2, 3)) > 127.5).astype(int)


MODELS = {
    "patches, 8 experts, batches of 1024": (patches, {}),
    "table, 8 experts, batches of 1000": (table, {"batch_size": 1000}),
    "pictures, CNN trunk, 8 experts, batches of 200": (pictures, {"batch_size": 200}),
}


def train(name, epochs):
    """Return seconds per epoch, parameters, and bytes and messages per step of one process."""
    data, options = MODELS[name]
    X, y = data()
    clock = StepClock()
    clf = MoEClassifier(**options, max_iter=epochs + 2, tol=None, early_stopping=False)
    clf.set_params(random_state=0, device="cpu", callbacks=[clock])
    sent = []
    exchange = Connection.exchange

    def count(self, function, *tensors):
        sent.append(tensors[-1].nbytes)
        exchange(self, function, *tensors)

    Connection.exchange = count
    with warnings.catch_warnings(action="ignore"), data_parallel():
        clf.fit(X, y)
    Connection.exchange = exchange
    steps = clf.n_iter_ * clf.net_.history[-1, "train_batch_count"]
    n_parameters = sum(p.numel() for p in clf.module_.parameters())
    return clock.median(), n_parameters, sum(sent) / steps, len(sent) / steps


def start(rank, size, port, folder, name, epochs):
    """Be one of several processes."""
    torch.set_num_threads(1)
    if size > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        os.environ |= {key: str(value) for key, value in place.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    result = train(name, epochs)
    if rank == 0:
        joblib.dump(result, folder + "/result")


def measure(size, name, epochs):
    """Return the result of rank 0 of so many processes."""
    with socket.socket() as taken, TemporaryDirectory() as folder:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.close()
        torch.multiprocessing.spawn(start, (size, port, folder, name, epochs), nprocs=size)
        return joblib.load(folder + "/result")


def compare(size, epochs, pairs):
    """Yield the rows of the table."""
    for name in MODELS:
        results = [(measure(1, name, epochs), measure(size, name, epochs)) for _ in range(pairs)]
        alone, together = (median(pair[i][0] for pair in results) for i in (0, 1))
        ratio = median(one[0] / many[0] for one, many in results)
        _, n_parameters, n_bytes, n_messages = results[0][1]
        times = f"{1e3 * alone:.0f}", f"{1e3 * together:.0f}", f"{ratio:.2f}"
        yield name, f"{n_parameters:,}", f"{n_bytes / 1e3:,.1f}", f"{n_messages:.1f}", *times


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    head = ["model", "parameters", "kB per step", "sums per step", "ms per epoch, 1 process"]
    head += [f"{args.processes} processes", "times faster"]
    print_table(head, compare(args.processes, args.epochs, args.pairs))
