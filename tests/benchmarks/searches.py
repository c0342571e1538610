"""Searches of small models: many fits at once, and two processes, over one fit after the other.

    python tests/benchmarks/searches.py [--quick] [together | tables | grid ...]

`together` and `tables` compare 25 seeds by `fit_together` with one fit after the other, on one
thread; the models are compared, too. `grid` is a GridSearchCV of 5 counts of experts on 5 folds
with n_jobs=2 over n_jobs=1; it wants two cores that are idle. Prints a Markdown table.
"""

import warnings
from functools import partial

import numpy as np
import torch
from measure import Row, command, paired, print_table, seconds, verdict
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.model_selection import fit_together

setting_1 = partial(make_cluster_patches, 2000, random_state=0, **PAPER_SETTINGS[1])


def compare(what, X, y, target, pairs, **parameters):
    """Yield rows on 25 seeds of a model that are fitted together."""
    alone, joint = (
        [MoEClassifier(**parameters, random_state=seed) for seed in range(25)] for _ in range(2)
    )
    ratio = paired(
        lambda: seconds(fit_together, joint, X, y),
        lambda: sum(seconds(model.fit, X, y) for model in alone),
        pairs,
    )
    yield verdict(f"25 seeds of {what}, at once / one by one", ratio, target)
    models = list(zip(joint, alone, strict=True))
    difference = max(np.abs(a.predict_proba(X) - b.predict_proba(X)).max() for a, b in models)
    ok = bool(difference <= 1e-5) and all(a.n_iter_ == b.n_iter_ for a, b in models)
    yield Row("largest difference of a probability", f"{difference:.1e}", "<= 1e-5", ok)


def together_rows(quick):
    """Compare bags of patches, with all defaults."""
    few = {"max_iter": 10, "tol": None} if quick else {}
    yield from compare("setting 1", *setting_1(), 1 / 3, 1 if quick else 5, **few)


def tables_rows(quick):
    """Compare a table, with all defaults but few epochs."""
    X, y = load_digits(return_X_y=True)
    yield from compare("digits", X, y, 1, 1 if quick else 3, max_iter=3 if quick else 20)


def grid_rows(quick):
    """Compare two processes with one."""
    X, y = setting_1()
    few = {"max_iter": 10, "tol": None} if quick else {}
    model, grid = MoEClassifier(**few, random_state=0), {"n_experts": [1, 2, 4, 8, 16]}
    one, two = (GridSearchCV(model, grid, cv=5, n_jobs=n_jobs, refit=False) for n_jobs in (1, 2))
    ratio = paired(*(partial(seconds, s.fit, X, y) for s in (one, two)), 1 if quick else 5)
    yield verdict("GridSearchCV, 25 fits, one process / two", ratio, 1.7, at_least=True)
    same = np.array_equal(*(search.cv_results_["mean_test_score"] for search in (one, two)))
    yield Row("the same scores", str(same), "True", same)


ROWS = {"together": together_rows, "tables": tables_rows, "grid": grid_rows}


def main():
    """Print the table."""
    parser = command(__doc__, ROWS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    print_table(Row._fields, (row for name in options.rows for row in ROWS[name](options.quick)))


if __name__ == "__main__":
    main()
