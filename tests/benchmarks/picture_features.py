"""Features of CIFAR-10 without labels, and what learns from them.

    python tests/benchmarks/picture_features.py [--data PATH] [--subset N] [--seed N]

Features are those of PatchKMeansFeatures with its defaults. N random images are for training, all
10,000 for the test. PATH is a folder with train/<class>/*.jpg and test/<class>/*.jpg, or an .npz
with X_train, y_train, X_test and y_test; without it the images are fetched. Prints a Markdown
table.
"""

import time

import numpy as np
import torch
from measure import command, load_images, print_table, quiet, seconds
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sklearn_moe import MoEClassifier
from sklearn_moe.preprocessing import PatchKMeansFeatures

N_TRAIN, TARGET = 20_000, 68.0  # percent, of the linear model on all 20,000
C, DECAY = 0.02, 1.0  # of the features of 20,000 images
MODELS = {  # what learns from the features, and whether it has a target
    "LogisticRegression()": (make_pipeline(StandardScaler(), LogisticRegression()), False),
    f"LogisticRegression(C={C})": (make_pipeline(StandardScaler(), LogisticRegression(C=C)), True),
    "MoEClassifier()": (MoEClassifier(), False),
    f"weight decay {DECAY}": (MoEClassifier().set_params(solver__weight_decay=DECAY), True),
}
HEADER = ("model", "accuracy %", "on training %", "fit s", "target", "ok")


def rows(Z, y, Z_test, y_test, seed):
    """Fit every model and yield its row; the mixture shall not fall behind the linear models."""
    best = TARGET if len(y) == N_TRAIN else 0.0
    for name, (model, has_target) in MODELS.items():
        if isinstance(model, MoEClassifier):
            model.set_params(random_state=seed)
        elapsed = seconds(quiet, model.fit, Z, y, ignored=ConvergenceWarning)  # near enough
        accuracy, learned = 100 * model.score(Z_test, y_test), 100 * model.score(Z, y)
        target, ok = (f">= {best:.2f}", bool(accuracy >= best)) if has_target else ("", None)
        yield name, f"{accuracy:.2f}", f"{learned:.2f}", f"{elapsed:.0f}", target, ok
        best = max(best, accuracy)


def main():
    """Find the features, and print what is learned from them."""
    parser = command(__doc__)
    parser.add_argument("--data", metavar="PATH", help="folder or .npz")
    parser.add_argument("--subset", type=int, default=N_TRAIN, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    X, y, X_test, y_test = load_images(options.data)
    chosen = np.random.default_rng(options.seed).permutation(len(X))[: options.subset]
    X, y = X[chosen], y[chosen]
    with threadpool_limits(1):
        transformer = PatchKMeansFeatures(random_state=options.seed)
        fitted = seconds(transformer.fit, X)
        start = time.perf_counter()
        Z, Z_test = transformer.transform(X), transformer.transform(X_test)
        per_image = (time.perf_counter() - start) / (len(X) + len(X_test))
        print(
            f"{len(X):,} images, {Z.shape[1]} features: fit {fitted:.0f} s, transform "
            f"{1e3 * per_image:.1f} ms per image\n"
        )
        print_table(HEADER, rows(Z, y, Z_test, y_test, options.seed))


if __name__ == "__main__":
    main()
