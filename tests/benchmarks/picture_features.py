"""Features of CIFAR-10 without labels, and what learns from them.

    python tests/benchmarks/picture_features.py [--data PATH] [--subset N] [--seed N]

Features are those of PatchKMeansFeatures with its defaults. N random pictures are for training, all
10,000 for the test. PATH is a folder with train/<class>/*.jpg and test/<class>/*.jpg, or an .npz
with X_train, y_train, X_test and y_test; without it the pictures are fetched. Prints a Markdown
table.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from measure import print_table
from pictures import load_pictures
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sklearn_moe import MoEClassifier
from sklearn_moe.preprocessing import PatchKMeansFeatures

N_TRAIN, TARGET = 20_000, 68.0  # percent, of the linear model on all 20,000
C, DECAY = 0.02, 1.0  # of the features of 20,000 pictures
HEADER = ("model", "accuracy %", "on training %", "fit s", "target", "ok")


def subset(X, y, n, seed):
    """Return n random pictures."""
    rows = np.random.default_rng(seed).permutation(len(X))[:n]
    return X[rows], y[rows]


def models(seed):
    """Return what learns from the features, and which of them have a target."""
    return {
        "LogisticRegression()": (linear(1.0), False),
        f"LogisticRegression(C={C})": (linear(C), True),
        "MoEClassifier()": (MoEClassifier(random_state=seed), False),
        f"MoEClassifier(weight_decay={DECAY})": (
            MoEClassifier(weight_decay=DECAY, random_state=seed),
            True,
        ),
    }


def linear(C):
    """Return a linear model, which needs columns of one scale."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=C))


def rows(features, seed):
    """Fit every model and yield its row; the mixture shall not fall behind the linear models."""
    Z, y, Z_test, y_test = features
    best = TARGET if len(y) == N_TRAIN else 0.0
    for name, (model, has_target) in models(seed).items():
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 100 steps are near enough
            model.fit(Z, y)
        elapsed = time.perf_counter() - start
        accuracy, learned = 100 * model.score(Z_test, y_test), 100 * model.score(Z, y)
        target, ok = (f">= {best:.2f}", bool(accuracy >= best)) if has_target else ("", None)
        yield name, f"{accuracy:.2f}", f"{learned:.2f}", f"{elapsed:.0f}", target, ok
        best = max(best, accuracy)


def main():
    """Find the features, and print what is learned from them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", metavar="PATH", help="folder or .npz")
    parser.add_argument("--subset", type=int, default=N_TRAIN, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    X, y, X_test, y_test = load_pictures(options.data)
    X, y = subset(X, y, options.subset, options.seed)
    with threadpool_limits(options.threads):
        transformer = PatchKMeansFeatures(random_state=options.seed)
        start = time.perf_counter()
        transformer.fit(X)
        fitted = time.perf_counter()
        Z, Z_test = transformer.transform(X), transformer.transform(X_test)
        per_picture = (time.perf_counter() - fitted) / (len(X) + len(X_test))
        print(
            f"{len(X):,} pictures, {Z.shape[1]} features: fit {fitted - start:.0f} s, transform "
            f"{1e3 * per_picture:.1f} ms per picture, {options.threads} threads\n"
        )
        print_table(HEADER, rows((Z, y, Z_test, y_test), options.seed))


if __name__ == "__main__":
    main()
