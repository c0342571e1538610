"""One process against several: time per epoch, and what travels; a Markdown table.

    python tests/benchmarks/processes.py [--processes 2] [--epochs 10] [--pairs 3]

Each process computes with one thread, so that two want two idle cores. One process and several are
measured in turn, started anew each time; of the epochs the median counts. Where other work is going
on, the time per epoch says little, and that of the processor alone, without waiting, says more.
"""

import argparse
import os
import socket
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import joblib
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from measure import print_table
from skorch.callbacks import Callback

from sklearn_moe import MoEClassifier
from sklearn_moe._training import Connection
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.distributed import data_parallel


class Clocks(Callback):
    """Collect the times of epochs, of the wall and of the processor; the first two warm up."""

    def on_train_begin(self, net, **kwargs):
        """Start the clocks."""
        self.ticks = []

    def on_epoch_end(self, net, **kwargs):
        """Note the times."""
        self.ticks.append((time.perf_counter(), time.thread_time()))

    def medians(self):
        """Return the median time of an epoch, by either clock."""
        return [
            median(after - before for before, after in pairwise(ticks[1:]))
            for ticks in zip(*self.ticks, strict=True)
        ]


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
    """Return seconds per epoch by two clocks, and parameters, bytes and messages per step."""
    data, options = MODELS[name]
    X, y = data()
    clocks = Clocks()
    clf = MoEClassifier(**options, max_iter=epochs + 2, tol=None, early_stopping=False)
    clf.set_params(random_state=0, device="cpu", callbacks=[clocks])
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
    return *clocks.medians(), n_parameters, sum(sent) / steps, len(sent) / steps


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
        times = [
            f"{1e3 * median(pair[who][clock] for pair in results):.0f}"
            for clock in range(2)
            for who in range(2)
        ]
        *_, n_parameters, n_bytes, n_messages = results[0][1]
        yield name, f"{n_parameters:,}", f"{n_bytes / 1e3:,.0f}", f"{n_messages:.1f}", *times


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    head = ["model", "parameters", "kB per step", "messages per step", "ms per epoch, 1 process"]
    head += [
        f"{args.processes} processes",
        "ms of computing, 1 process",
        f"each of {args.processes}",
    ]
    print_table(head, compare(args.processes, args.epochs, args.pairs))
