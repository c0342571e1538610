"""How soon a model is good on setting 1: our time to 99.9 % against the others' to their best.

The clock runs over whole calls of `fit`, with nothing but `max_iter` changed, one after the
other on the same samples; the time to find the right `max_iter` is not counted for anyone. The
test samples choose it for everyone: the smallest that gives us 99.9 %, and for the others the
most accurate of those tried (MLP: growing by a third each; boosting: every one).
"""

from statistics import median
from typing import NamedTuple

from measure import Row, quiet, ratio_of, seconds
from patches import setting_1
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from sklearn_moe import MoEClassifier

GOOD, TARGET, MAX_EPOCHS = 0.999, 10, 60


class Attempt(NamedTuple):
    """A fit of `length` iterations."""

    length: int
    accuracy: float
    seconds: float


def attempt(model, X, y):
    """Time a whole fit to the first half of the samples, then score it on the other one."""
    n = len(X) // 2
    elapsed = seconds(quiet, model.fit, X[:n], y[:n], ignored=ConvergenceWarning)
    return Attempt(model.n_iter_, model.score(X[n:], y[n:]), elapsed)


def mlp_attempts(X, y, seed):
    """Return fits of growing length, the last one run to its end."""

    def of(length):
        return attempt(MLPClassifier((128,), max_iter=length, random_state=seed), X, y)

    full, attempts, length = of(200), [], 1
    while length < full.length:
        attempts.append(of(length))
        length += max(1, length // 3)
    return [*attempts, full]


def boosting_attempts(X, y, seed):
    """Return the fit of the best length, found along the longest one, and the longest."""

    def build(length):
        options = {"early_stopping": False, "random_state": seed}
        return HistGradientBoostingClassifier(max_iter=length, **options)

    model, n = build(300), len(X) // 2
    full = attempt(model, X, y)
    staged = [(predicted == y[n:]).mean() for predicted in model.staged_predict(X[n:])]
    return [attempt(build(1 + staged.index(max(staged))), X, y), full]


RIVALS = {
    "MLPClassifier((128,))": mlp_attempts,
    "HistGradientBoostingClassifier": boosting_attempts,
}


def race(n_samples, seed):
    """Run everyone on one problem.

    Returns our epochs (None if we are never good), and for each rival our seconds next to theirs,
    and their best fit.
    """
    X, y = setting_1(2 * n_samples, seed)

    def ours(length):
        return attempt(MoEClassifier(max_iter=length, random_state=seed), X, y)

    lengths = range(1, MAX_EPOCHS + 1)
    epochs = next((length for length in lengths if ours(length).accuracy >= GOOD), None)
    results = {}
    for name, run in RIVALS.items() if epochs else ():
        before = [ours(epochs).seconds for _ in range(3)]
        attempts = run(X.reshape(len(X), -1), y, seed)
        our_seconds = (median(before) + median(ours(epochs).seconds for _ in range(3))) / 2
        best = max(attempts, key=lambda fit: (fit.accuracy, -fit.length))
        results[name] = our_seconds, best
    return epochs, results


def race_rows(pairs):
    """Yield the rows of the report; what is paired here are fits of the same problem."""
    n_samples, n_seeds = 16_000, 3
    races = [race(n_samples, seed) for seed in range(n_seeds)]
    size = f"setting 1, {n_samples:,} + {n_samples:,} samples, {n_seeds} seeds"
    epochs, results = zip(*races, strict=True)
    if None in epochs:
        yield Row(f"{GOOD:.1%} within {MAX_EPOCHS} epochs, {size}", "no", "yes", False)
        return
    for name in RIVALS:
        ours, theirs = zip(*(result[name] for result in results), strict=True)
        ratio = ratio_of([fit.seconds for fit in theirs], ours)
        what = (
            f"{name}, fit up to its own best ({', '.join(str(fit.length) for fit in theirs)} "
            f"iterations, test accuracy {median(fit.accuracy for fit in theirs):.2%}), over our "
            f"fit up to {GOOD:.1%} ({', '.join(map(str, epochs))} epochs); {size}"
        )
        measured = f"{ratio} ({ratio.first:.2f} s over {ratio.second:.2f} s)"
        yield Row(what, measured, f">= {TARGET}", ratio.median >= TARGET)
