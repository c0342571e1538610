"""How soon a model is good on setting 1: our time to 99.9 % against the others' to their best.

The clock runs over whole calls of `fit`, with nothing but `max_iter` changed, one after the
other on the same samples; the time to find the right `max_iter` is not counted for anyone. The
test samples choose it for everyone: the smallest that gives us 99.9 %, and for the others the
most accurate of those tried (MLP: growing by a third each; boosting: every one).
"""

import warnings
from statistics import median
from typing import NamedTuple

from measure import Ratio, Row, ratio_of, seconds
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

GOOD = 0.999
TARGET = 10
MAX_EPOCHS = 60
MAX_TREES = 300


class Problem(NamedTuple):
    """Training and test samples, as patches; `flat` are the same as vectors."""

    X: object
    y: object
    X_test: object
    y_test: object

    @classmethod
    def draw(cls, n_samples, seed):
        """Draw a problem with as many test samples as training samples."""
        X, y = make_cluster_patches(2 * n_samples, random_state=seed, **PAPER_SETTINGS[1])
        return cls(X[:n_samples], y[:n_samples], X[n_samples:], y[n_samples:])

    def flat(self):
        """Return the problem with feature vectors for samples."""
        return self._replace(
            X=self.X.reshape(len(self.X), -1), X_test=self.X_test.reshape(len(self.X_test), -1)
        )


class Trial(NamedTuple):
    """A fit of `length` iterations."""

    length: int
    accuracy: float
    seconds: float


def attempt(make, problem, length):
    """Time a whole fit of `length` iterations, then score it."""
    model = make(length)
    elapsed = seconds(model.fit, problem.X, problem.y)
    return Trial(length, model.score(problem.X_test, problem.y_test), elapsed), model


def our_epochs(make, problem):
    """Return the smallest max_iter whose fit is good, None if no fit is."""
    for length in range(1, MAX_EPOCHS + 1):
        if attempt(make, problem, length)[0].accuracy >= GOOD:
            return length
    return None


def mlp_trials(seed, problem, max_epochs):
    """Return fits of growing length, the last one run to its end."""

    def make(length):
        return MLPClassifier((128,), max_iter=length, random_state=seed)

    full, model = attempt(make, problem, max_epochs)
    lengths, step = [1], 1
    while lengths[-1] + step < model.n_iter_:
        lengths.append(lengths[-1] + step)
        step = max(1, lengths[-1] // 3)
    trials = [attempt(make, problem, length)[0] for length in lengths]
    return [*trials, full._replace(length=model.n_iter_)]


def boosting_trials(seed, problem, max_trees):
    """Return the fit of the best length, found along the longest one, and the longest."""

    def make(length):
        return HistGradientBoostingClassifier(
            max_iter=length, early_stopping=False, random_state=seed
        )

    full, model = attempt(make, problem, max_trees)
    staged = [(y == problem.y_test).mean() for y in model.staged_predict(problem.X_test)]
    best = 1 + staged.index(max(staged))
    return [attempt(make, problem, best)[0], full]


def best_of(trials):
    """Return the most accurate trial, the shortest of equals."""
    return max(trials, key=lambda trial: (trial.accuracy, -trial.length))


def race(n_samples, seed, quick):
    """Run everyone on one problem.

    Returns our epochs (None if we are never good), our default fit, and for each rival (name,
    our seconds next to theirs, their best fit, their longest fit).
    """
    problem = Problem.draw(n_samples, seed)

    def ours(length):
        return MoEClassifier(max_iter=length, random_state=seed)

    epochs = our_epochs(ours, problem)
    default, model = attempt(lambda _: MoEClassifier(random_state=seed), problem, 0)
    default = default._replace(length=model.n_iter_)
    if epochs is None:
        return epochs, default, []

    def ours_again():
        return median(attempt(ours, problem, epochs)[0].seconds for _ in range(3))

    flat = problem.flat()
    rivals = []
    for name, run, length in (
        ("MLPClassifier((128,))", mlp_trials, 20 if quick else 200),
        ("HistGradientBoostingClassifier", boosting_trials, 20 if quick else MAX_TREES),
    ):
        before = ours_again()
        trials = run(seed, flat, length)
        rivals.append((name, (before + ours_again()) / 2, best_of(trials), trials[-1]))
    return epochs, default, rivals


def race_rows(quick):
    """Return the rows of the report."""
    n_samples = 4000 if quick else 16_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        races = [race(n_samples, seed, quick) for seed in range(1 if quick else 3)]
    size = f"setting 1, {n_samples:,} + {n_samples:,} samples, {len(races)} seeds"
    epochs = [entry[0] for entry in races]
    defaults = [entry[1] for entry in races]
    rows = [
        Row(
            f"default fit, {size}: seconds, test accuracy, epochs (worst of the seeds each)",
            f"{max(t.seconds for t in defaults):.2f} s, "
            f"{min(t.accuracy for t in defaults):.2%}, {max(t.length for t in defaults)}",
            "",
            None,
        )
    ]
    if None in epochs:
        return [*rows, Row(f"{GOOD:.1%} within {MAX_EPOCHS} epochs, {size}", "no", "yes", False)]
    for results in zip(*(entry[2] for entry in races), strict=True):
        rows.extend(rival_rows(results, size, epochs))
    return rows


def rival_rows(results, size, epochs):
    """Return two rows: against the rival's best moment, and against its longest fit."""
    name = results[0][0]
    ours = [result[1] for result in results]
    rows = []
    for kind, column, target in (("fit up to its own best", 2, TARGET), ("longest fit", 3, None)):
        trials = [result[column] for result in results]
        ratio = ratio_of([trial.seconds for trial in trials], ours)
        lengths = ", ".join(str(trial.length) for trial in trials)
        what = (
            f"{name}, {kind} ({lengths} iterations, test accuracy "
            f"{median(t.accuracy for t in trials):.2%}), over our fit up to "
            f"{GOOD:.1%} ({', '.join(map(str, epochs))} epochs); {size}"
        )
        rows.append(race_row(what, ratio, target))
    return rows


def race_row(what, ratio: Ratio, target):
    """Return the row of one ratio."""
    measured = f"{ratio} ({ratio.first:.2f} s over {ratio.second:.2f} s)"
    if target is None:
        return Row(what, measured, "", None)
    return Row(what, measured, f">= {target}", ratio.median >= target)
