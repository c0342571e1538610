"""One process against several: time per epoch, and what travels; a Markdown table.

    python tests/benchmarks/processes.py [--processes 2] [--epochs 10] [--pairs 3]

Each process computes with one thread, so that two want two idle cores. One process and several are
measured in turn, started anew each time; of the epochs the median counts. Where other work is going
on, the time per epoch says little, and that of the processor alone, without waiting, says more.
"""

import os
import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from measure import StepClock, command, print_table, quiet

from sklearn_moe import MoEClassifier
from sklearn_moe._training.process_group import Connection
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.distributed import data_parallel


def patches():
    """Return setting 1 of the paper."""
    return make_cluster_patches(16_000, random_state=0, **PAPER_SETTINGS[1])


def table():
    """Return a table of 50 columns."""
    X = np.random.default_rng(0).normal(size=(20_000, 50)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def images():
    """Return images as large as those of CIFAR-10."""
    X = np.random.default_rng(0).integers(256, size=(1000, 3, 32, 32), dtype=np.uint8)
    return X, (X.mean((1, 2, 3)) > 127.5).astype(int)


MODELS = {
    "patches, 8 experts, batches of 1024": (patches, {}),
    "table, 8 experts, batches of 1000": (table, {"batch_size": 1000}),
    "images, CNN trunk, 8 experts, batches of 200": (images, {"batch_size": 200}),
}


def train(name, epochs):
    """Return ms per epoch by two clocks, and parameters, kB and messages per step."""
    data, options = MODELS[name]
    clock, sent, exchange = StepClock(), [], Connection.exchange
    clf = MoEClassifier(**options, max_iter=epochs + 2, tol=None, early_stopping=False)
    clf.set_params(random_state=0, device="cpu", callbacks=[clock])

    def count(self, function, *tensors):
        sent.append(tensors[-1].nbytes)
        exchange(self, function, *tensors)

    Connection.exchange = count
    with data_parallel():
        quiet(clf.fit, *data())
    Connection.exchange = exchange
    steps = clf.n_iter_ * clf.net_.history[-1, "train_batch_count"]
    n_parameters = sum(p.numel() for p in clf.module_.parameters())
    times = [1e3 * seconds for seconds in clock.medians()]
    return times, n_parameters, sum(sent) / steps / 1e3, len(sent) / steps


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
    """Return the result of the first of so many processes."""
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
        times = np.median([[one[0], several[0]] for one, several in results], axis=0)
        _, n_parameters, kilobytes, n_messages = results[0][1]
        cells = (f"{time:.0f}" for time in times.T.flat)  # of either clock, one and several
        yield name, f"{n_parameters:,}", f"{kilobytes:,.0f}", f"{n_messages:.1f}", *cells


if __name__ == "__main__":
    parser = command(__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    several = [f"{args.processes} processes", "ms of computing, 1 process"]
    head = ["model", "parameters", "kB per step", "messages per step", "ms per epoch, 1 process"]
    head += [*several, f"each of {args.processes}"]
    print_table(head, compare(args.processes, args.epochs, args.pairs))
