"""Searches of small models: many fits at once, and two processes, over one fit after the other.

    python tests/benchmarks/searches.py [together | tables | grid ...]

`together` and `tables` compare 25 seeds by `fit_together` with one fit after the other, on one
thread; the models are compared, too. `grid` is a GridSearchCV of 5 counts of experts on 5 folds
with n_jobs=2 over n_jobs=1; it wants two cores that are idle. Prints a Markdown table.
"""

import warnings
from functools import partial

import numpy as np
import torch
from measure import Row, command, compare, print_table, seconds
from patches import setting_1
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier
from sklearn_moe.model_selection import fit_together


def seeds_rows(what, X, y, target, pairs, **parameters):
    """Yield rows on 25 seeds of a model that are fitted together."""
    alone, joint = (
        [MoEClassifier(**parameters, random_state=seed) for seed in range(25)] for _ in range(2)
    )

    def one_by_one():
        return sum(seconds(model.fit, X, y) for model in alone)

    at_once = partial(seconds, fit_together, joint, X, y)
    yield compare(f"25 seeds of {what}, at once / one by one", at_once, one_by_one, target, pairs)
    models = list(zip(joint, alone, strict=True))
    difference = max(np.abs(a.predict_proba(X) - b.predict_proba(X)).max() for a, b in models)
    ok = bool(difference <= 1e-5) and all(a.n_iter_ == b.n_iter_ for a, b in models)
    yield Row("largest difference of a probability", f"{difference:.1e}", "<= 1e-5", ok)


def together_rows():
    """Compare bags of patches, with all defaults."""
    yield from seeds_rows("setting 1", *setting_1(2000), 1 / 3, 5)


def tables_rows():
    """Compare a table, with all defaults but few epochs."""
    yield from seeds_rows("digits", *load_digits(return_X_y=True), 1, 3, max_iter=20)


def grid_rows():
    """Compare two processes with one."""
    X, y = setting_1(2000)
    model, grid = MoEClassifier(random_state=0), {"n_experts": [1, 2, 4, 8, 16]}
    one, two = (GridSearchCV(model, grid, cv=5, n_jobs=n_jobs, refit=False) for n_jobs in (1, 2))
    fits = (partial(seconds, search.fit, X, y) for search in (one, two))
    yield compare("GridSearchCV, 25 fits, one process / two", *fits, 1.7, 5, at_least=True)
    same = np.array_equal(*(search.cv_results_["mean_test_score"] for search in (one, two)))
    yield Row("the same scores", str(same), "True", same)


ROWS = {"together": together_rows, "tables": tables_rows, "grid": grid_rows}


def main():
    """Print the table."""
    options = command(__doc__, ROWS).parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    print_table(Row._fields, (row for name in options.rows for row in ROWS[name]()))


if __name__ == "__main__":
    main()
