"""Speed and memory of sklearn_moe, as ratios measured within one run.

    python tests/benchmarks/speed.py [--threads N] [--pairs N] [ROW ...]

Prints a Markdown table. A ratio is the median over pairs A B A B ..., with its range. Images are
noise: what a step costs does not depend on what they show. `busy` keeps every core busy with
another process; run it on a machine that is otherwise idle.
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

import numpy as np
import torch
from loops import authors_loop, image_loop, soft_loop, sorted_loop
from measure import Row, StepClock, command, compare, print_table, quiet, run_python, seconds
from patches import setting_1
from race import race_rows
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from sklearn_moe import MoEClassifier
from sklearn_moe.nn import CNNExpert, RouterSpec, TopKRouter
from sklearn_moe.nn.backbones import ResNet18Expert

MB = 1e6
N, N_STEPS, IMAGE_BATCH, N_CLASSES = 16_000, 501, 128, 10


def draw_images(n_images):
    """Return noise and labels."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_images, 3, 32, 32), dtype=np.float32)
    return X, rng.integers(N_CLASSES, size=n_images)


def full_batch(n_steps, n_experts=8, *, batch_size=N, **options):
    """Return the estimator that trains as `sorted_loop` does."""
    steps = {"batch_size": batch_size, "max_iter": n_steps, "tol": None}
    clf = MoEClassifier(n_experts, **steps, learning_rate_init=0.001, random_state=0)
    return clf.set_params(router__learning_rate=0.01, solver__schedule="constant", **options)


def epoch(clf, X, y):
    """Return the median time of an epoch, the first two left out."""
    clock = StepClock()
    quiet(clf.set_params(callbacks=[clock]).fit, X, y)
    return clock.medians()[0]


def our_step(X, y, n_steps, n_experts=8):
    """Return the median time of our training step."""
    return epoch(full_batch(n_steps, n_experts, router__noise="uniform"), X, y)


def fit_row(pairs):
    """Compare a whole fit with a hand-written loop."""
    X, y = setting_1()
    fit = partial(seconds, full_batch(N_STEPS, router__noise="uniform").fit, X, y)
    by_hand = partial(seconds, sorted_loop, X, y, N_STEPS)
    what = (
        f"fit, {N:,} samples, {N_STEPS} full-batch steps, 8 experts ({{0:.0f}} ms), over a "
        "hand-written loop with sorted dispatch"
    )
    yield compare(what, fit, by_hand, 0.9 if torch.get_num_threads() > 1 else 1.25, pairs)


def authors_row(pairs):
    """Compare our step with that of the authors' design."""
    X, y = setting_1()
    what = (
        "training step of the authors' design (zeroed copies, {0:.0f} ms) over ours ({1:.1f} ms), "
        f"{N:,} samples, 8 experts"
    )

    def theirs():
        return seconds(authors_loop, X, y, 5) / 5

    yield compare(what, theirs, partial(our_step, X, y, 30), 20, pairs, at_least=True)


def experts_row(pairs):
    """Compare the step with many experts and with one."""
    many, one = (partial(our_step, *setting_1(), 60, n) for n in (32, 1))
    what = (
        "full-batch step with 32 experts ({0:.1f} ms) over 1 expert of the same size and no router "
        f"({{1:.1f}} ms), {N:,} samples"
    )
    yield compare(what, many, one, 1.5, pairs)


def predict_row(pairs):
    """Compare predict_proba with the bare module."""
    X, y = setting_1()
    clf = full_batch(20).fit(X, y)
    bare = torch.inference_mode()(clf.module_.eval())
    calls = (partial(seconds, clf.predict_proba, X), partial(seconds, bare, torch.from_numpy(X)))
    what = f"predict_proba of {N:,} rows ({{0:.1f}} ms) over the bare module's forward"
    yield compare(f"{what} on the same float32 tensor", *calls, 1.3, 5 * pairs)


def smooth(n_rows, seed):
    """Return 30 columns and classes: sines of columns, and functions of projections."""
    known, rng = np.random.default_rng(4711), np.random.default_rng(seed)
    size = known.normal(size=30) * (known.random(30) < 0.6)
    frequency, phase = known.uniform(0.5, 1.8, 30), known.uniform(0, 6, 30)
    projections, weight = known.normal(size=(6, 30)) / np.sqrt(30), known.normal(size=6)

    def score(X):
        waves = (np.sin(frequency * X + phase) * size).sum(1)
        return 0.7 * waves + 1.2 * (np.tanh(1.5 * X @ projections.T) * weight).sum(1)

    X = rng.normal(size=(n_rows, 30)).astype(np.float32)
    mean = score(np.random.default_rng(1).normal(size=(20_000, 30)).astype(np.float32)).mean()
    return X, (rng.random(n_rows) < expit(1.8 * (score(X) - mean))).astype(int)


def steps(n_rows, seed):
    """Return 30 columns, normal, uniform and skewed, and classes: products and steps."""
    known, rng = np.random.default_rng(815), np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 30))
    X[:, ::3] = np.exp(0.7 * X[:, ::3])
    X[:, 1::3] = rng.uniform(-2, 2, (n_rows, 10))
    X = X.astype(np.float32)
    pairs, weight = known.permutation(30)[:16].reshape(8, 2), known.normal(size=8)
    centered = X - X.mean(0)
    score = 0.6 * (centered[:, pairs].prod(2) @ weight) + 1.5 * np.where(
        X[:, 1] > 0.5, X[:, 2], -X[:, 5]
    )
    score += 1.2 * (X[:, 4] * X[:, 7] > 0) - 1.4 + np.abs(X[:, 8])
    return X, (rng.random(n_rows) < expit(1.3 * score)).astype(int)


def large_row(pairs):
    """Compare default fits of large tables with other models, and predict with a single network."""
    trees, single = HistGradientBoostingClassifier(), MLPClassifier(max_iter=10, random_state=0)
    for draw, n_rows, other in (
        *((smooth, n_rows, trees) for n_rows in (1_000, 10_000, 50_000, 200_000, 1_000_000)),
        (steps, 200_000, trees),
        (smooth, 1_000_000, single),
    ):
        (X, y), (X_new, y_new) = draw(n_rows, 0), draw(100_000, 99)
        ours = MoEClassifier(random_state=0)
        calls = (partial(seconds, quiet, model.fit, X, y) for model in (ours, other))
        what = (
            f"fit of {n_rows:,} rows, {draw.__name__} ({{0:.0f}} ms), over {type(other).__name__}"
        )
        yield compare(f"{what} ({{1:.0f}} ms)", *calls, 4, max(1, pairs // 7))
        of_ours, of_other = (log_loss(y_new, m.predict_proba(X_new)) for m in (ours, other))
        yield Row("log loss of both", f"{of_ours:.4f}, {of_other:.4f}", "", None)
    calls = (partial(seconds, model.predict, X) for model in (ours, single))
    yield compare("predict of these rows ({0:.0f} ms) over MLPClassifier", *calls, 3, pairs)


def import_row(pairs):
    """Compare importing us with importing what a user of torch and skorch imports anyway."""

    def importing(names):
        clock = "time.perf_counter()"
        return float(run_python("-c", f"import time; t={clock}; import {names}; print({clock}-t)"))

    names = "sklearn_moe", "torch, sklearn, skorch"
    what = f"import {names[0]} ({{0:.0f}} ms) over import {names[1]}"
    yield compare(what, *(partial(importing, of) for of in names), 1.1, pairs)


def resident(field):
    """Return a field of /proc/self/status in bytes: VmRSS now, VmHWM at its highest (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def peak_of_fit(n_samples, batch_size):
    """Return the bytes of X, and of the peak of two epochs beyond what was there before."""
    rng, options = np.random.default_rng(0), {"max_iter": 2, "tol": None, "random_state": 0}
    MoEClassifier(batch_size=200, **options).fit(*setting_1(1000))
    X = np.empty((n_samples, 4, 50), dtype=np.float32)
    for part in np.array_split(X, n_samples // 1000):  # in place: no peak of our own
        rng.standard_normal(out=part, dtype=np.float32)
    y = rng.integers(2, size=n_samples)
    clf = MoEClassifier(batch_size=batch_size, **options)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak until now
    before = resident("VmRSS")
    clf.fit(X, y)
    return X.nbytes, resident("VmHWM") - before


def memory_row(pairs):
    """Compare the peak of a fit with two copies of a batch, in a process of its own.

    glibc keeps freed blocks for later; with every block mapped by itself the resident memory
    is what is in use, and that is held against the target.
    """
    n_samples = 250_000
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


def routing_row(pairs):
    """Compare routers with each other, by hand, and with routes that are given."""
    X, y = setting_1()
    given = {"router": RouterSpec(GivenRouter, noise=None)}
    for batch_size, n_epochs in ((1024, 10), (N, 30)):
        where = f"{N:,} samples, batches of {batch_size:,}"

        def ours(n_epochs=n_epochs, batch_size=batch_size, **options):
            return epoch(full_batch(n_epochs, batch_size=batch_size, **options), X, y)

        def by_hand(n_epochs=n_epochs, batch_size=batch_size):
            return seconds(soft_loop, X, y, n_epochs, batch_size) / n_epochs

        two, soft = partial(ours, router="topk", top_k=2), partial(ours, router="soft")
        yield compare(f"epoch with top_k=2 over top-1, {where}", two, ours, 2.3, pairs)
        what = f"epoch of router='soft' over the dense form by hand, {where}"
        yield compare(what, soft, by_hand, 1.2, pairs)
        for balance in (None, "switch"):
            what = f"epoch on given routes over top-1 with its router and balance={balance!r}"
            what += f": the rest is overhead, {where}"
            routed = partial(ours, balance=balance)
            yield compare(what, partial(ours, **given), routed, 0.85, pairs, at_least=True)


def image_model(expert, n_experts, n_epochs):
    """Return a mixture with an even load however short the training is.

    The router of zeros is used and differentiated like any other, but its noise alone spreads the
    samples.
    """
    options = {"batch_size": IMAGE_BATCH, "max_iter": n_epochs, "tol": None, "random_state": 0}
    clf = MoEClassifier(n_experts, expert=expert, **options)
    return clf.set_params(router__learning_rate=0)


def image_row(pairs, expert, n_steps, n_epochs, target):
    """Compare a step with four experts and with one."""
    X, y = draw_images(n_steps * IMAGE_BATCH)
    clocks = (lambda n=n: epoch(image_model(expert, n, n_epochs), X, y) / n_steps for n in (4, 1))
    what = (
        f"training step with 4 experts, top-1, expert={expert!r} ({{0:.0f}} ms), over 1 expert and "
        f"no router ({{1:.0f}} ms), {IMAGE_BATCH} images with 32 pixels a side"
    )
    yield compare(what, *clocks, target, pairs)


def loop_row(pairs):
    """Compare our loop with a plain one over the same network, in the same precision."""
    X, y = draw_images(2560)
    for name, network, width in (("cnn", CNNExpert, 64), ("resnet18", ResNet18Expert, 16)):
        model = image_model(name, 1, 4).set_params(expert_width=width)
        precision = quiet(model.fit, X[:IMAGE_BATCH], y[:IMAGE_BATCH]).net_.precision
        build = partial(network, X.shape[1:], N_CLASSES, width=width)
        what = (
            f"epoch with n_experts=1, expert={name!r}, width {width} ({{0:.0f}} ms), over a plain "
            f"torch loop with the same network ({{1:.0f}} ms), both in {precision}, {len(X):,} "
            f"images, batches of {IMAGE_BATCH}"
        )

        def plain(build=build, precision=precision):
            return median(image_loop(X, y, build, 4, IMAGE_BATCH, precision)[2:])

        yield compare(what, partial(epoch, model, X, y), plain, 1.1, pairs)


def search_row(pairs):
    """Compare two processes of a search with one; it wants two cores that are idle."""
    X, y = setting_1(2000)
    model, grid = MoEClassifier(random_state=0), {"n_experts": [1, 2, 4, 8, 16]}
    one, two = (GridSearchCV(model, grid, cv=5, n_jobs=n_jobs, refit=False) for n_jobs in (1, 2))
    fits = (partial(seconds, quiet, search.fit, X, y) for search in (one, two))
    what = "GridSearchCV, 25 fits, one process / two"
    yield compare(what, *fits, 1.7, max(1, pairs - 2), at_least=True)
    same = np.array_equal(*(search.cv_results_["mean_test_score"] for search in (one, two)))
    yield Row("the same scores", str(same), "True", same)


def busy_row(pairs):
    """Compare a fit beside busy processes with one on an idle machine.

    Small steps on several threads would wait for each other, spinning: tens of times longer.
    """
    fit = partial(seconds, quiet, MoEClassifier(random_state=0).fit, *setting_1())

    def busy():
        command = [sys.executable, "-c", "while True: pass"]
        processes = [subprocess.Popen(command) for _ in range(os.cpu_count())]
        time.sleep(0.5)
        try:
            return fit()
        finally:
            for process in processes:
                process.kill()

    what = "fit beside a busy process per core over an idle machine, setting 1"
    yield compare(what, busy, fit, 3, pairs)


ROWS = {
    **{"fit": fit_row, "authors": authors_row, "experts": experts_row, "predict": predict_row},
    **{"import": import_row, "memory": memory_row, "race": race_rows, "routing": routing_row},
    "cnn": partial(image_row, expert="cnn", n_steps=8, n_epochs=6, target=1.25),
    "resnet": partial(image_row, expert="resnet18", n_steps=1, n_epochs=4, target=1.35),
    **{"loop": loop_row, "search": search_row, "busy": busy_row, "large": large_row},
}


def main():
    """Measure the rows asked for and print them."""
    parser = command(__doc__, ROWS)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of a ratio")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    version = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{version}, {options.threads} threads\n")
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        rows = (row for name in options.rows for row in ROWS[name](options.pairs))
        print_table(Row._fields, rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:  # the process that memory_row starts
        torch.set_num_threads(1)
        json.dump(peak_of_fit(*map(int, sys.argv[2:])), sys.stdout)
    else:
        main()
