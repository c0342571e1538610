"""Searches of small models: many fits at once, and two processes, over one fit after the other.

    python tests/benchmarks/searches.py [--quick] [together | tables | grid ...]

`together` and `tables` compare 25 seeds by `fit_together` with one fit after the other, on one
thread; the models are compared, too. `grid` is a GridSearchCV of 5 counts of experts on 5 folds
with n_jobs=2 over n_jobs=1; it wants two cores that are idle. Prints a Markdown table.
"""

import argparse
import warnings

import numpy as np
import torch
from measure import Row, paired, print_table, seconds, verdict
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.model_selection import fit_together


def setting_1():
    """Return 2,000 samples of the paper's first setting."""
    return make_cluster_patches(2000, random_state=0, **PAPER_SETTINGS[1])


def compare(what, X, y, target, pairs, n_seeds, **parameters):
    """Yield rows on seeds of a model that are fitted together."""
    alone, together = (
        [MoEClassifier(**parameters, random_state=seed) for seed in range(n_seeds)]
        for _ in range(2)
    )

    def one_by_one():
        for model in alone:
            model.fit(X, y)

    ratio = paired(
        lambda: seconds(fit_together, together, X, y), lambda: seconds(one_by_one), pairs
    )
    title = f"{n_seeds} seeds of {what}, at once / one by one"
    yield verdict(title, ratio, target)
    pairs_of_models = list(zip(together, alone, strict=True))
    difference = max(
        np.abs(a.predict_proba(X) - b.predict_proba(X)).max() for a, b in pairs_of_models
    )
    same_length = all(a.n_iter_ == b.n_iter_ for a, b in pairs_of_models)
    ok = bool(difference <= 1e-5) and same_length
    yield Row("largest difference of a probability", f"{difference:.1e}", "<= 1e-5", ok)


def together_rows(quick):
    """Compare bags of patches, with all defaults."""
    few = {"max_iter": 10, "tol": None} if quick else {}
    yield from compare("setting 1", *setting_1(), 1 / 3, 1 if quick else 5, 25, **few)


def tables_rows(quick):
    """Compare a table, with all defaults but few epochs."""
    X, y = load_digits(return_X_y=True)
    epochs = 3 if quick else 20
    yield from compare("digits", X, y, 1, 1 if quick else 3, 25, max_iter=epochs)


def grid_rows(quick):
    """Compare two processes with one."""
    X, y = setting_1()
    few = {"max_iter": 10, "tol": None} if quick else {}
    model = MoEClassifier(**few, random_state=0)
    grid = {"n_experts": [1, 2, 4, 8, 16]}
    one, two = (GridSearchCV(model, grid, cv=5, n_jobs=n_jobs, refit=False) for n_jobs in (1, 2))
    ratio = paired(
        lambda: seconds(one.fit, X, y), lambda: seconds(two.fit, X, y), 1 if quick else 5
    )
    yield verdict("GridSearchCV, 25 fits, one process / two", ratio, 1.7, at_least=True)
    scores = [search.cv_results_["mean_test_score"] for search in (one, two)]
    yield Row("the same scores", str(np.array_equal(*scores)), "True", np.array_equal(*scores))


PARTS = {"together": together_rows, "tables": tables_rows, "grid": grid_rows}


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = (row for part in arguments.parts for row in PARTS[part](arguments.quick))
    print_table(Row._fields, rows)


if __name__ == "__main__":
    main()
