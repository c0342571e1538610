"""Experts for pictures: the cost of several, of the loop around them, and of memory.

    python tests/benchmarks/images.py [--quick] [--threads N] [ROW ...]

Prints a Markdown table. A ratio is the median over pairs A B A B ..., with its range. `--quick`
uses few and small pictures: it shows that everything runs, not how fast. Pictures are noise: what
a step costs does not depend on what they show.
"""

import argparse
import json
import math
import platform
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from measure import Row, StepClock, paired, print_table, run_python, verdict
from memory import resident
from threadpoolctl import threadpool_limits
from torch import nn

from sklearn_moe import MoEClassifier
from sklearn_moe.exceptions import ExpertCollapseWarning
from sklearn_moe.nn import CNNExpert

BATCH_SIZE, N_CLASSES = 128, 10
MB = 1e6
_RESET_PEAK = "5"


class Effort(NamedTuple):
    """How much to measure."""

    size: int  # pixels along an edge
    n_pictures: int
    n_bytes: int  # pictures for the memory
    pairs: int


FULL, QUICK = Effort(32, 5000, 50_000, 5), Effort(8, 256, 1000, 1)


def draw(n_pictures, size, dtype=np.float32):
    """Return noise and labels."""
    rng = np.random.default_rng(0)
    if dtype == np.uint8:
        X = rng.integers(256, size=(n_pictures, 3, size, size), dtype=np.uint8)
    else:
        X = rng.standard_normal((n_pictures, 3, size, size), dtype=np.float32)
    return X, rng.integers(N_CLASSES, size=n_pictures)


def fit(X, y, expert, n_experts, n_epochs, callbacks=None):
    """Train for some epochs, with an even load however short the training is.

    The router of zeros is used and differentiated like any other, but its noise alone spreads the
    samples.
    """
    clf = MoEClassifier(
        n_experts,
        expert=expert,
        batch_size=BATCH_SIZE,
        max_iter=n_epochs,
        tol=None,
        router_learning_rate_init=0,
        callbacks=callbacks,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExpertCollapseWarning)  # it speaks of routes without noise
        return clf.fit(X, y)


def epoch(X, y, expert, n_experts, n_epochs):
    """Return the median time of an epoch, the first two left out."""
    clock = StepClock()
    fit(X, y, expert, n_experts, n_epochs, [clock])
    return clock.median()


def plain_network(X):
    """Return the network of expert="cnn" as one writes it in torch."""
    width, cells = 64, (X.shape[2] // 4) * (X.shape[3] // 4)
    return nn.Sequential(
        nn.Conv2d(X.shape[1], width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(width * cells, 2 * width),
        nn.ReLU(),
        nn.Linear(2 * width, N_CLASSES),
    )


def plain_epoch(X, y, build, n_epochs):
    """Return the median time of an epoch of a plain torch loop, the first two left out."""
    x, y = torch.from_numpy(X), torch.from_numpy(y)
    # As even as ours: activations of more than 32 MiB, 128 pictures of 64 channels, come from the
    # kernel every time, which would cost the loop with the larger batches a fifth of its speed.
    n_batches = math.ceil(len(x) / BATCH_SIZE)
    with torch.random.fork_rng(devices=[]):
        network = build(X)
        optimizer = torch.optim.Adam(network.parameters(), fused=True)
        times = []
        for _ in range(n_epochs):
            start = time.perf_counter()
            for rows in torch.randperm(len(x)).tensor_split(n_batches):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
                optimizer.step()
            times.append(time.perf_counter() - start)
    return median(times[2:])


def experts_row(effort, expert, n_steps, n_epochs, target):
    """Compare a step with four experts and with one."""
    X, y = draw(n_steps * BATCH_SIZE, effort.size)
    ratio = paired(
        partial(epoch, X, y, expert, 4, n_epochs),
        partial(epoch, X, y, expert, 1, n_epochs),
        effort.pairs,
    )
    first, second = (1e3 * seconds / n_steps for seconds in (ratio.first, ratio.second))
    what = (
        f"training step with 4 experts, top-1, expert={expert!r} ({first:.0f} ms), over 1 expert "
        f"of the same size and no router ({second:.0f} ms), {BATCH_SIZE} pictures of 3 x "
        f"{effort.size} x {effort.size}"
    )
    return [verdict(what, ratio, target)]


def cnn_row(effort):
    """Compare four small networks with one."""
    return experts_row(effort, "cnn", 8, 6, 1.25)


def resnet_row(effort):
    """Compare four ResNet-18 with one."""
    return experts_row(effort, "resnet18", 1, 4, 1.35)


def loop_rows(effort):
    """Compare our loop with a plain one, over the same network and as one writes it."""
    X, y = draw(effort.n_pictures, effort.size)
    ours = partial(epoch, X, y, "cnn", 1, 4)
    networks = {
        "the same network": lambda X: CNNExpert(X.shape[1:], N_CLASSES),
        "the network written in plain torch": plain_network,
    }
    for name, build in networks.items():
        ratio = paired(ours, partial(plain_epoch, X, y, build, 4), effort.pairs)
        what = (
            f"epoch with n_experts=1, expert='cnn' ({ratio.first:.2f} s), over a plain torch loop "
            f"with {name} ({ratio.second:.2f} s), {len(X):,} pictures of 3 x {effort.size} x "
            f"{effort.size} in batches of {BATCH_SIZE}"
        )
        yield verdict(what, ratio, 1.05)


def peak_of_fit(n_pictures, size):
    """Return the bytes of X and of the peak of one epoch beyond what was there before (Linux)."""
    fit(*draw(2 * BATCH_SIZE, size, np.uint8), "cnn", 4, 1)
    X, y = draw(n_pictures, size, np.uint8)
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    before = resident("VmRSS")
    fit(X, y, "cnn", 4, 1)
    return {"X": X.nbytes, "peak": resident("VmHWM") - before}


def memory_row(effort):
    """Compare the peak of a fit with the pictures themselves, in a process of its own."""
    call = (__file__, "--peak", str(effort.n_bytes), str(effort.size))
    sizes = json.loads(run_python(*call))
    what = (
        f"peak memory of fit beyond X ({effort.n_bytes:,} pictures of 3 x {effort.size} x "
        f"{effort.size} bytes, {sizes['X'] / MB:.0f} MB), 4 experts, expert='cnn', batches of "
        f"{BATCH_SIZE}"
    )
    allowed = 2**30
    measured = f"{sizes['peak'] / MB:.0f} MB"
    return [Row(what, measured, f"<= {allowed / MB:.0f} MB", sizes["peak"] <= allowed)]


ROWS = {"cnn": cnn_row, "resnet": resnet_row, "loop": loop_rows, "memory": memory_row}


def main():
    """Measure the rows asked for and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, help="pairs of a ratio")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"unknown rows {sorted(unknown)}, choose from {list(ROWS)}")
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {options.threads} threads"
        f"{', --quick' if options.quick else ''}\n"
    )
    torch.set_num_threads(options.threads)
    effort = QUICK if options.quick else FULL
    effort = effort._replace(pairs=options.pairs or effort.pairs)
    with threadpool_limits(options.threads):
        rows = (row for name in options.rows or ROWS for row in ROWS[name](effort))
        print_table(Row._fields, (row._replace(ok=None) for row in rows) if options.quick else rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:  # the process that memory_row starts
        torch.set_num_threads(1)
        json.dump(peak_of_fit(*map(int, sys.argv[2:])), sys.stdout)
    else:
        main()
