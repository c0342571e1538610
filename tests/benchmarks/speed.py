"""Speed and memory of sklearn_moe, as ratios measured within one run.

    python tests/benchmarks/speed.py [--quick] [--threads N] [--pairs N] [ROW ...]

Prints a Markdown table. A ratio is the median over pairs A B A B ..., with its range. `--quick`
uses few samples, steps and pairs: it shows that everything runs, not how fast. Images are noise:
what a step costs does not depend on what they show. `busy` keeps every core busy with another
process; run it on a machine that is otherwise idle.
"""

import json
import os
import platform
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from loops import authors_loop, image_loop, image_network, soft_loop, sorted_loop
from measure import (
    Row,
    StepClock,
    command,
    paired,
    print_table,
    quiet,
    run_python,
    seconds,
    verdict,
)
from race import race_rows
from sklearn.datasets import load_digits, make_classification
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.nn import CNNExpert, RouterSpec, TopKRouter

MB = 1e6
IMAGE_BATCH, N_CLASSES = 128, 10


class Effort(NamedTuple):
    """How much to measure."""

    n_samples: int
    n_steps: int
    pairs: int
    size: int  # of images, along an edge
    quick: bool = False


FULL, QUICK = Effort(16_000, 501, 7, 32), Effort(2000, 20, 2, 8, quick=True)


def draw(n_samples):
    """Return samples of setting 1."""
    return make_cluster_patches(n_samples, random_state=0, **PAPER_SETTINGS[1])


def draw_images(n_images, size):
    """Return noise and labels."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_images, 3, size, size), dtype=np.float32)
    return X, rng.integers(N_CLASSES, size=n_images)


def full_batch(n_samples, n_steps, n_experts=8, **options):
    """Return the estimator that trains as `sorted_loop` does."""
    clf = MoEClassifier(n_experts, batch_size=n_samples, max_iter=n_steps, tol=None, random_state=0)
    return clf.set_params(
        router__learning_rate=0.01, solver__schedule="constant", learning_rate_init=0.001, **options
    )


def epoch(clf, X, y):
    """Return the median time of an epoch, the first two left out."""
    clock = StepClock()
    quiet(clf.set_params(callbacks=[clock]).fit, X, y)
    return clock.medians()[0]


def our_step(X, y, n_steps, n_experts=8):
    """Return the median time of our training step."""
    return epoch(full_batch(len(X), n_steps, n_experts, router__noise="uniform"), X, y)


def fit_row(effort):
    """Compare a whole fit with a hand-written loop."""
    X, y = draw(effort.n_samples)
    clf = full_batch(len(X), effort.n_steps, router__noise="uniform")
    by_hand = partial(seconds, sorted_loop, X, y, effort.n_steps)
    ratio = paired(partial(seconds, clf.fit, X, y), by_hand, effort.pairs)
    what = (
        f"fit, {len(X):,} samples, {effort.n_steps} full-batch steps, 8 experts "
        f"({ratio.first:.2f} s), over a hand-written loop with sorted dispatch"
    )
    yield verdict(what, ratio, 1.25)


def authors_row(effort):
    """Compare our step with that of the authors' design."""
    X, y = draw(effort.n_samples)
    n_steps = 5
    ratio = paired(
        lambda: seconds(authors_loop, X, y, n_steps) / n_steps,
        lambda: our_step(X, y, 30),
        effort.pairs,
    )
    what = (
        f"training step of the authors' design (zeroed copies, {1e3 * ratio.first:.0f} ms) over "
        f"ours ({1e3 * ratio.second:.1f} ms), {len(X):,} samples, 8 experts"
    )
    yield verdict(what, ratio, 20, at_least=True)


def experts_row(effort):
    """Compare the step with many experts and with one."""
    X, y = draw(effort.n_samples)
    n_steps = min(effort.n_steps, 60)
    ratio = paired(*(partial(our_step, X, y, n_steps, n) for n in (32, 1)), effort.pairs)
    what = (
        f"full-batch step with 32 experts ({1e3 * ratio.first:.1f} ms) over 1 expert of the same "
        f"size and no router ({1e3 * ratio.second:.1f} ms), {len(X):,} samples"
    )
    yield verdict(what, ratio, 1.5)


def table_row(effort):
    """Compare a step on a table, of 20 columns, with one expert's and with MLPClassifier's."""
    X, y = make_classification(1000, 20, n_informative=10, random_state=0)
    n_epochs = 4 if effort.quick else 100
    options = {"max_iter": n_epochs, "n_iter_no_change": n_epochs, "random_state": 0}
    for dtype in (np.float32, np.float64):
        typed = X.astype(dtype)
        eight, one = (partial(epoch, MoEClassifier(n, **options), typed, y) for n in (8, 1))
        mlp = partial(seconds, quiet, MLPClassifier(**options).fit, typed, y)
        rivals = {"1 expert": (one, 2), "MLPClassifier": (lambda mlp=mlp: mlp() / n_epochs, None)}
        for name, (other, target) in rivals.items():
            ratio = paired(eight, other, effort.pairs)
            first, second = (1e3 * epoch / 5 for epoch in (ratio.first, ratio.second))
            what = (
                f"step of 8 experts ({first:.2f} ms) over that of {name} ({second:.2f} ms), a "
                f"table of {np.dtype(dtype).name}, batch 200, width 100"
            )
            yield verdict(what, ratio, target)


def predict_row(effort):
    """Compare predict_proba with the bare module."""
    X, y = draw(effort.n_samples)
    clf = full_batch(len(X), 20).fit(X, y)
    bare = torch.inference_mode()(clf.module_.eval())
    ratio = paired(
        partial(seconds, clf.predict_proba, X),
        partial(seconds, bare, torch.from_numpy(X)),
        5 * effort.pairs,
    )
    what = (
        f"predict_proba of {len(X):,} rows ({1e3 * ratio.first:.1f} ms) over the bare module's "
        "forward on the same float32 tensor"
    )
    yield verdict(what, ratio, 1.3)


def import_row(effort):
    """Compare importing us with importing what a user of torch and skorch imports anyway."""

    def importing(names):
        clock = "time.perf_counter()"
        return float(run_python("-c", f"import time; t={clock}; import {names}; print({clock}-t)"))

    plain = "torch, sklearn, skorch"
    ratio = paired(partial(importing, "sklearn_moe"), partial(importing, plain), effort.pairs)
    yield verdict(f"import sklearn_moe ({ratio.first:.2f} s) over import {plain}", ratio, 1.1)


def resident(field):
    """Return a field of /proc/self/status in bytes: VmRSS now, VmHWM at its highest (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def peak_of_fit(n_samples, batch_size):
    """Return the bytes of X, and of the peak of two epochs beyond what was there before."""
    rng, options = np.random.default_rng(0), {"max_iter": 2, "tol": None, "random_state": 0}
    MoEClassifier(batch_size=200, **options).fit(*draw(1000))
    X = np.empty((n_samples, 4, 50), dtype=np.float32)
    for part in np.array_split(X, n_samples // 1000):  # in place: no peak of our own
        rng.standard_normal(out=part, dtype=np.float32)
    y = rng.integers(2, size=n_samples)
    clf = MoEClassifier(batch_size=batch_size, **options)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak until now
    before = resident("VmRSS")
    clf.fit(X, y)
    return X.nbytes, resident("VmHWM") - before


def memory_row(effort):
    """Compare the peak of a fit with two copies of a batch, in a process of its own.

    glibc keeps freed blocks for later; with every block mapped by itself the resident memory
    is what is in use, and that is held against the target.
    """
    n_samples = 50_000 if effort.quick else 250_000
    for batch_size in (n_samples // 5, n_samples):
        call = (__file__, "--peak", str(n_samples), str(batch_size))
        size, peak = json.loads(run_python(*call, MALLOC_MMAP_THRESHOLD_="262144"))
        _, with_reserve = json.loads(run_python(*call))
        batch = size * batch_size // n_samples
        # 4 patches times 16 filters, the value and its gradient, 4 bytes each.
        activations, constant = batch_size * 4 * 16 * 2 * 4, 32 * MB
        allowed = 2 * batch + activations + constant
        yield Row(
            f"peak memory of fit beyond X ({size / MB:.0f} MB of float32), batches of "
            f"{batch_size:,} rows ({batch / MB:.0f} MB); allowed: two copies of a batch, "
            f"{activations / MB:.0f} MB of activations, {constant / MB:.0f} MB for the rest",
            f"{peak / MB:.0f} MB ({peak / batch:.2f} batches) in use, {with_reserve / MB:.0f} MB "
            "with what glibc's malloc keeps",
            f"<= {allowed / MB:.0f} MB",
            peak <= allowed,
        )


class GivenRouter(TopKRouter):
    """Routes that cost nothing: drawn once, evenly, with a gate of 1."""

    def forward(self, x, generator=None):
        """Return the same route for every batch of a size."""
        kept = self.__dict__.setdefault("kept", {})
        if len(x) not in kept:
            route = super().forward(x, generator)
            even = torch.arange(len(x)) % route.scores.shape[1]
            shuffled = even[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
            kept[len(x)] = route._replace(
                scores=route.scores.detach(),
                noisy=route.noisy.detach(),
                chosen=shuffled[:, None],
                gate=torch.ones(len(x), 1),
            )
        return kept[len(x)]


def routing_row(effort):
    """Compare routers with each other, by hand, and with routes that are given."""
    X, y = draw(effort.n_samples)
    given = {"router": RouterSpec(GivenRouter, noise=None)}
    for batch_size in (1024, len(X)):
        # As many steps for small batches as for one large one would take minutes.
        n_epochs = (4 if effort.quick else 10) * (1 if batch_size < len(X) else 3)
        where = f"{len(X):,} samples, batches of {batch_size:,}"

        def ours(n_epochs=n_epochs, batch_size=batch_size, **options):
            return epoch(full_batch(batch_size, n_epochs, **options), X, y)

        def by_hand(n_epochs=n_epochs, batch_size=batch_size):
            return seconds(soft_loop, X, y, n_epochs, batch_size) / n_epochs

        ratio = paired(partial(ours, router="topk", top_k=2), ours, effort.pairs)
        yield verdict(f"epoch with top_k=2 over top-1, {where}", ratio, 2.3)
        ratio = paired(partial(ours, router="soft"), by_hand, effort.pairs)
        yield verdict(f"epoch of router='soft' over the dense form by hand, {where}", ratio, 1.2)
        for balance in (None, "switch"):
            ratio = paired(partial(ours, **given), partial(ours, balance=balance), effort.pairs)
            what = f"epoch on given routes over top-1 with its router and balance={balance!r}"
            what += f": the rest is overhead, {where}"
            yield verdict(what, ratio, 0.85, at_least=True)


def image_model(expert, n_experts, n_epochs):
    """Return a mixture with an even load however short the training is.

    The router of zeros is used and differentiated like any other, but its noise alone spreads the
    samples.
    """
    options = {"batch_size": IMAGE_BATCH, "max_iter": n_epochs, "tol": None, "random_state": 0}
    clf = MoEClassifier(n_experts, expert=expert, **options)
    return clf.set_params(router__learning_rate=0)


def image_row(effort, expert, n_steps, n_epochs, target):
    """Compare a step with four experts and with one."""
    X, y = draw_images(n_steps * IMAGE_BATCH, effort.size)
    clocks = (partial(epoch, image_model(expert, n, n_epochs), X, y) for n in (4, 1))
    ratio = paired(*clocks, effort.pairs)
    first, second = (1e3 * seconds / n_steps for seconds in (ratio.first, ratio.second))
    what = (
        f"training step with 4 experts, top-1, expert={expert!r} ({first:.0f} ms), over 1 expert "
        f"and no router ({second:.0f} ms), {IMAGE_BATCH} images with {effort.size} pixels a side"
    )
    yield verdict(what, ratio, target)


def loop_row(effort):
    """Compare our loop with a plain one, over the same network and as one writes it."""
    X, y = draw_images(256 if effort.quick else 5000, effort.size)
    builds = {
        "the same network": partial(CNNExpert, X.shape[1:], N_CLASSES),
        "the network written in plain torch": partial(image_network, X.shape[1:], N_CLASSES),
    }
    for name, build in builds.items():
        ratio = paired(
            partial(epoch, image_model("cnn", 1, 4), X, y),
            lambda build=build: median(image_loop(X, y, build, 4, IMAGE_BATCH)[2:]),
            effort.pairs,
        )
        what = (
            f"epoch with n_experts=1, expert='cnn' ({ratio.first:.2f} s), over a plain torch loop "
            f"with {name} ({ratio.second:.2f} s), {len(X):,} images, batches of {IMAGE_BATCH}"
        )
        yield verdict(what, ratio, 1.05)


def busy_row(effort):
    """Compare a fit beside busy processes with one on an idle machine.

    Small steps on several threads would wait for each other, spinning: tens of times longer.
    """
    digits, classes = load_digits(return_X_y=True)
    n_epochs = 4 if effort.quick else 100
    table = MoEClassifier(max_iter=n_epochs, tol=None, random_state=0)
    fits = {
        "setting 1": partial(MoEClassifier(random_state=0).fit, *draw(effort.n_samples)),
        f"digits, {n_epochs} epochs": partial(table.fit, digits / 16, classes),
    }
    for name, fit in fits.items():

        def busy(fit=fit):
            command = [sys.executable, "-c", "while True: pass"]
            processes = [subprocess.Popen(command) for _ in range(os.cpu_count())]
            time.sleep(0.5)
            try:
                return seconds(quiet, fit)
            finally:
                for process in processes:
                    process.kill()

        ratio = paired(busy, partial(seconds, quiet, fit), effort.pairs)
        yield verdict(f"fit beside a busy process per core over an idle machine, {name}", ratio, 3)


ROWS = {
    "fit": fit_row,
    "authors": authors_row,
    "experts": experts_row,
    "table": table_row,
    "predict": predict_row,
    "import": import_row,
    "memory": memory_row,
    "race": lambda effort: race_rows(effort.quick),
    "routing": routing_row,
    "cnn": partial(image_row, expert="cnn", n_steps=8, n_epochs=6, target=1.25),
    "resnet": partial(image_row, expert="resnet18", n_steps=1, n_epochs=4, target=1.35),
    "loop": loop_row,
    "busy": busy_row,
}


def main():
    """Measure the rows asked for and print them."""
    parser = command(__doc__, ROWS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, help="pairs of a ratio")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    version = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{version}, {options.threads} threads{', --quick' if options.quick else ''}\n")
    torch.set_num_threads(options.threads)
    effort = QUICK if options.quick else FULL
    effort = effort._replace(pairs=options.pairs or effort.pairs)
    with threadpool_limits(options.threads):
        rows = (row for name in options.rows for row in ROWS[name](effort))
        print_table(Row._fields, (row._replace(ok=None) for row in rows) if effort.quick else rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:  # the process that memory_row starts
        torch.set_num_threads(1)
        json.dump(peak_of_fit(*map(int, sys.argv[2:])), sys.stdout)
    else:
        main()
