"""One process against several: time per epoch, and what travels; a Markdown table.

    python tests/benchmarks/processes.py [--processes 2] [--epochs 10] [--pairs 3]

Each process computes with one thread, so that two want two idle cores. One process and several are
measured in turn, started anew each time; of the epochs the median counts. Where other work is going
on, the time per epoch says little, and that of the processor alone, without waiting, says more.
"""

import json
import os
import sys

import numpy as np
import torch
from measure import StepClock, command, print_table, quiet, run_python
from patches import setting_1

from sklearn_moe import MoEClassifier
from sklearn_moe._training.process_group import Connection
from sklearn_moe.distributed import data_parallel


def table():
    """Return a table of 50 columns."""
    X = np.random.default_rng(0).normal(size=(20_000, 50)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def images():
    """Return images as large as those of CIFAR-10."""
    X = np.random.default_rng(0).integers(256, size=(1000, 3, 32, 32), dtype=np.uint8)
    return X, (X.mean((1, 2, 3)) > 127.5).astype(int)


MODELS = {
    "patches, 8 experts, batches of 1024": (setting_1, {}),
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
    steps = clf.n_iter_ * clf.net_.history[-1, "train_batch_count"]
    n_parameters = sum(p.numel() for p in clf.module_.parameters())
    times = [1e3 * seconds for seconds in clock.medians()]
    return times, n_parameters, sum(sent) / steps / 1e3, len(sent) / steps


def measure(size, name, epochs):
    """Return the result of the first of so many processes."""
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}")
    call = (__file__, "--train", name, str(epochs))
    return json.loads(run_python(*(launcher if size > 1 else ()), *call, OMP_NUM_THREADS="1"))


def compare(size, epochs, pairs):
    """Yield the rows of the table."""
    for name in MODELS:
        results = [(measure(1, name, epochs), measure(size, name, epochs)) for _ in range(pairs)]
        times = np.median([[one[0], several[0]] for one, several in results], axis=0)
        _, n_parameters, kilobytes, n_messages = results[0][1]
        cells = (f"{time:.0f}" for time in times.T.flat)  # of either clock, one and several
        yield name, f"{n_parameters:,}", f"{kilobytes:,.0f}", f"{n_messages:.1f}", *cells


def main():
    """Print the table."""
    parser = command(__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    several = [f"{args.processes} processes", "ms of computing, 1 process"]
    head = ["model", "parameters", "kB per step", "messages per step", "ms per epoch, 1 process"]
    head += [*several, f"each of {args.processes}"]
    print_table(head, compare(args.processes, args.epochs, args.pairs))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:  # a process that `measure` starts
        torch.set_num_threads(1)
        result = train(sys.argv[2], int(sys.argv[3]))
        if os.environ.get("RANK", "0") == "0":
            json.dump(result, sys.stdout)
    else:
        main()
