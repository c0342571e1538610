"""Do linear experts specialize? One GridSearchCV over what might decide it, on setting 1.

    python tests/benchmarks/linear_experts.py [--seeds 5] [--jobs 2] [--out FILE.csv]

Activation, initial scale, router rate, gate and loss, in the regime of the paper: full batch,
normalized steps of 0.001, 501 of them, 8 experts of 8 filters. Every cell is fitted from several
seeds on one data set of 16,000 samples and scored on 16,000 others; the dispatch entropy comes from
a scorer that gets the clusters by metadata routing.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.model_selection import GridSearchCV, ShuffleSplit

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.metrics import neg_dispatch_entropy_scorer
from sklearn_moe.nn import EXPERTS, ExpertSpec

GRID = {
    "activation": ["linear", "cubic"],
    "expert": [EXPERTS["patch"].with_options(init_scale=scale) for scale in (0.001, 1.0)],
    "router_learning_rate_init": [0.1, 0.01],
    "gate": ["softmax", "logit"],
    "loss": ["log_loss", "margin", "probabilities"],
}


def search(n_samples, seeds, steps, jobs):
    """Return the fitted GridSearchCV."""
    torch.set_num_threads(1)
    X, y, clusters = make_cluster_patches(
        2 * n_samples, random_state=12, return_clusters=True, **PAPER_SETTINGS[1]
    )
    clf = MoEClassifier(
        solver="normalized_sgd",
        learning_rate="constant",
        learning_rate_init=0.001,
        batch_size=None,
        max_iter=steps,
        tol=None,
    )
    sklearn.set_config(enable_metadata_routing=True)
    scoring = {
        "accuracy": "accuracy",
        "entropy": neg_dispatch_entropy_scorer.set_score_request(clusters=True),
    }
    grid = GridSearchCV(
        clf,
        GRID | {"random_state": list(range(seeds))},
        scoring=scoring,
        refit=False,
        cv=ShuffleSplit(1, train_size=n_samples, test_size=n_samples, random_state=0),
        n_jobs=jobs,
        verbose=2,
    )
    return grid.fit(X, y, clusters=clusters)


def table(results, names):
    """Yield a line per cell: parameters, mean and deviation of accuracy and entropy over seeds."""
    accuracy, entropy = 100 * results["mean_test_accuracy"], -results["mean_test_entropy"]
    cells = [tuple(_shown(params[name]) for name in names) for params in results["params"]]
    for cell in dict.fromkeys(cells):
        rows = [i for i, other in enumerate(cells) if other == cell]
        yield [*cell, _spread(accuracy[rows], 2), _spread(entropy[rows], 3)]


def _shown(value):
    """Return what tells an expert from the others of the grid, any other value as it is."""
    if isinstance(value, ExpertSpec):
        return f"init_scale {value.options['init_scale']:g}"
    return value


def _spread(values, digits):
    return f"{values.mean():.{digits}f} ± {values.std(ddof=min(1, len(values) - 1)):.{digits}f}"


def effects(results, names):
    """Yield what each choice does to linear experts, averaged over all others."""
    linear = [p["activation"] == "linear" for p in results["params"]]
    accuracy, entropy = 100 * results["mean_test_accuracy"], -results["mean_test_entropy"]
    for name in names:
        for value in GRID[name]:
            rows = np.array(linear) & [p[name] == value for p in results["params"]]
            yield name, _shown(value), f"{accuracy[rows].mean():.2f}", f"{entropy[rows].mean():.3f}"


def main():
    """Run the search and write the table; the effects go to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--n-samples", type=int, default=16_000)
    parser.add_argument("--steps", type=int, default=501)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = search(options.n_samples, options.seeds, options.steps, options.jobs).cv_results_
    names = list(GRID)
    with options.out.open("w", newline="") if options.out else sys.stdout as file:
        lines = csv.writer(file)
        lines.writerow([*names, "accuracy %", "dispatch entropy"])
        lines.writerows(table(results, names))
        for line in effects(results, names[1:]):
            print(*line, file=sys.stderr)


if __name__ == "__main__":
    main()
