"""Speed and memory of sklearn_moe, as ratios measured within one run.

    python tests/benchmarks/speed.py [--quick] [--threads N] [ROW ...]

Prints a Markdown table. A ratio is the median over pairs A B A B ..., with its range. `--quick`
uses few samples, steps and pairs: it shows that everything runs, not how fast.
"""

import argparse
import json
import platform
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
import skorch
import torch
from loops import authors_loop, sorted_loop
from measure import Row, StepClock, paired, print_table, run_python, seconds, verdict
from race import race_rows
from routing import routing_rows
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

HERE = Path(__file__).parent
MB = 1e6


class Effort(NamedTuple):
    """How much to measure."""

    n_samples: int
    n_steps: int
    pairs: int


FULL, QUICK = Effort(16_000, 501, 7), Effort(2000, 20, 2)


def full_batch(n_samples, n_steps, n_experts=8, callbacks=None):
    """Return the estimator that trains as `sorted_loop` does."""
    return MoEClassifier(
        n_experts,
        batch_size=n_samples,
        max_iter=n_steps,
        tol=None,
        router_noise="uniform",
        learning_rate="constant",
        learning_rate_init=0.001,
        router_learning_rate_init=0.01,
        callbacks=callbacks,
        random_state=0,
    )


def draw(n_samples):
    """Return samples of setting 1."""
    return make_cluster_patches(n_samples, random_state=0, **PAPER_SETTINGS[1])


def our_step(X, y, n_steps, n_experts=8):
    """Return the median time of our training step."""
    clock = StepClock()
    full_batch(len(X), n_steps, n_experts, [clock]).fit(X, y)
    return clock.median()


def fit_row(effort):
    """Compare a whole fit with a hand-written loop."""
    X, y = draw(effort.n_samples)
    ratio = paired(
        lambda: seconds(full_batch(len(X), effort.n_steps).fit, X, y),
        lambda: seconds(sorted_loop, X, y, effort.n_steps),
        effort.pairs,
    )
    what = (
        f"fit, {len(X):,} samples, {effort.n_steps} full-batch steps, 8 experts "
        f"({ratio.first:.2f} s), over a hand-written loop with sorted dispatch"
    )
    return [verdict(what, ratio, 1.25)]


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
    return [verdict(what, ratio, 20, at_least=True)]


def experts_row(effort):
    """Compare the step with many experts and with one."""
    X, y = draw(effort.n_samples)
    n_steps = min(effort.n_steps, 60)
    ratio = paired(
        lambda: our_step(X, y, n_steps, 32), lambda: our_step(X, y, n_steps, 1), effort.pairs
    )
    what = (
        f"full-batch step with 32 experts ({1e3 * ratio.first:.1f} ms) over 1 expert of the same "
        f"size and no router ({1e3 * ratio.second:.1f} ms), {len(X):,} samples"
    )
    return [verdict(what, ratio, 1.5)]


def table_row(effort):
    """Compare a step on a table, of 20 columns, with one expert's and with MLPClassifier's."""
    options = {"n_informative": 10, "random_state": 0}
    X, y = make_classification(1000, 20, **options)
    n_epochs = 100 if effort is FULL else 4
    rows = []
    for dtype in (np.float32, np.float64):
        typed = X.astype(dtype)

        def step(n_experts, typed=typed):
            clock = StepClock()
            options = {"max_iter": n_epochs, "callbacks": [clock], "random_state": 0}
            MoEClassifier(n_experts, n_iter_no_change=n_epochs, **options).fit(typed, y)
            return clock.median() / 5

        def mlp(typed=typed):
            clf = MLPClassifier(max_iter=n_epochs, n_iter_no_change=n_epochs, random_state=0)
            with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
                return seconds(clf.fit, typed, y) / (5 * n_epochs)

        name = np.dtype(dtype).name
        for other, what, target in ((lambda: step(1), "1 expert", 2), (mlp, "MLPClassifier", None)):
            ratio = paired(lambda: step(8), other, effort.pairs)
            what = (
                f"step of 8 experts ({1e3 * ratio.first:.2f} ms) over that of {what} "
                f"({1e3 * ratio.second:.2f} ms), a table of {name}, batch 200, width 100"
            )
            rows.append(verdict(what, ratio, target) if target else Row(what, str(ratio), "", None))
    return rows


def predict_row(effort):
    """Compare predict_proba with the bare module."""
    X, y = draw(effort.n_samples)
    clf = full_batch(len(X), 20).fit(X, y)
    module, x = clf.module_.eval(), torch.from_numpy(X)

    def bare():
        with torch.inference_mode():
            return module(x)

    ratio = paired(lambda: seconds(clf.predict_proba, X), lambda: seconds(bare), 5 * effort.pairs)
    what = (
        f"predict_proba of {len(X):,} rows ({1e3 * ratio.first:.1f} ms) over the bare module's "
        "forward on the same float32 tensor"
    )
    return [verdict(what, ratio, 1.3)]


_IMPORT = """
import sys, time
start = time.perf_counter()
import {}
print(time.perf_counter() - start, *sys.modules)
"""
_HEAVY = {"matplotlib", "pandas", "torchvision"}


def import_row(effort):
    """Compare importing us with importing what a user of torch and skorch imports anyway."""
    modules = {}

    def importing(names):
        elapsed, *modules[names] = run_python("-c", _IMPORT.format(names)).split()
        return float(elapsed)

    plain = "torch, sklearn, skorch"
    ratio = paired(lambda: importing("sklearn_moe"), lambda: importing(plain), effort.pairs)
    more = set(modules["sklearn_moe"]) - set(modules[plain])
    ours = [name for name in more if name.startswith("sklearn_moe")]
    learn = sorted(name for name in more if name.split(".")[0] == "sklearn")
    heavy = sorted(_HEAVY & more)
    skorchs = sorted(_HEAVY & set(modules[plain]))
    return [
        verdict(f"import sklearn_moe ({ratio.first:.2f} s) over import {plain}", ratio, 1.1),
        Row(
            f"matplotlib, pandas, torchvision imported by us (already by {plain}: "
            f"{', '.join(skorchs) or 'none'})",
            f"{', '.join(heavy) or 'none'}; {len(more) - len(ours)} modules more in all, of "
            f"scikit-learn: {', '.join(learn) or 'none'}",
            "none",
            not heavy,
        ),
    ]


def memory_row(effort):
    """Compare the peak of a fit with two copies of a batch."""
    n_samples = 250_000 if effort is FULL else 50_000
    return [memory_of(n_samples, batch_size) for batch_size in (n_samples // 5, n_samples)]


def memory_of(n_samples, batch_size):
    """Return the row of one batch size.

    glibc keeps freed blocks for later; with every block mapped by itself the resident memory
    is what is in use, and that is held against the target.
    """
    call = (str(HERE / "memory.py"), str(n_samples), str(batch_size))
    sizes = json.loads(run_python(*call, MALLOC_MMAP_THRESHOLD_="262144"))
    with_reserve = json.loads(run_python(*call))["peak"]
    # 4 patches times 16 filters, the value and its gradient, 4 bytes each.
    activations = batch_size * 4 * 16 * 2 * 4
    constant = 32 * MB
    allowed = 2 * sizes["batch"] + activations + constant
    what = (
        f"peak memory of fit beyond X ({sizes['X'] / MB:.0f} MB of float32), batches of "
        f"{batch_size:,} rows ({sizes['batch'] / MB:.0f} MB); allowed: two copies of a batch, "
        f"{activations / MB:.0f} MB of activations (pre-activations and their gradients), "
        f"{constant / MB:.0f} MB for labels, weights, order and prediction"
    )
    measured = (
        f"{sizes['peak'] / MB:.0f} MB ({sizes['peak'] / sizes['batch']:.2f} batches) in use, "
        f"{with_reserve / MB:.0f} MB with what glibc's malloc keeps"
    )
    return Row(what, measured, f"<= {allowed / MB:.0f} MB", sizes["peak"] <= allowed)


def race_row(effort):
    """Race to a good model against models without experts."""
    return race_rows(quick=effort is QUICK)


def routing_row(effort):
    """Compare routers with each other, by hand, and with routes that are given."""
    return routing_rows(effort.n_samples, 10 if effort is FULL else 4, effort.pairs)


ROWS = {
    "fit": fit_row,
    "authors": authors_row,
    "experts": experts_row,
    "table": table_row,
    "predict": predict_row,
    "import": import_row,
    "memory": memory_row,
    "race": race_row,
    "routing": routing_row,
}


def main():
    """Measure the rows asked for and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"unknown rows {sorted(unknown)}, choose from {list(ROWS)}")
    versions = f"torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    print(
        f"Python {platform.python_version()}, {versions}, skorch {skorch.__version__}, "
        f"{options.threads} threads{', --quick' if options.quick else ''}\n"
    )
    torch.set_num_threads(options.threads)
    effort = QUICK if options.quick else FULL
    with threadpool_limits(options.threads):
        names = options.rows or ROWS
        rows = (row for name in names for row in ROWS[name](effort))
        print_table(Row._fields, (row._replace(ok=None) for row in rows) if options.quick else rows)


if __name__ == "__main__":
    main()
