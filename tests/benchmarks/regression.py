"""Regions that a mixture should find: a target that is linear in each of four quadrants.

    python tests/benchmarks/regression.py [--seeds N]

Prints R2 of MoERegressor, fitted to 2,000 samples, on 4,000 others, and how well it finds the
regions: the dispatch entropy is log 4 = 1.386 if it does not. Real tables are for tables.py.
"""

import numpy as np
from measure import command, print_table, quiet, spread
from threadpoolctl import threadpool_limits

from sklearn_moe import MoERegressor
from sklearn_moe.metrics import dispatch_entropy

OPTIONS = {
    "default": {},
    "top1": {"router": "top1"},
    "one expert": {"n_experts": 1},
    "for regions": {"expert_loss_weight": 0, "router__learning_rate": 0.1, "max_iter": 300},
}


def make_regions(n_samples, seed):
    """Return X, y and the region of a target that is linear in each of four quadrants."""
    problem, rng = np.random.default_rng(7), np.random.default_rng(seed)
    slopes, levels = problem.normal(0, 2, size=(4, 4)), np.array([0, 3, -3, 1])
    X = rng.uniform(-1, 1, size=(n_samples, 4))
    regions = 2 * (X[:, 0] > 0) + (X[:, 1] > 0)
    y = (X * slopes[regions]).sum(1) + levels[regions] + rng.normal(0, 0.05, n_samples)
    return X, y, regions


def rows(n_seeds):
    """Yield a row per model."""
    X, y, regions = make_regions(4000, seed=999)
    for name, options in OPTIONS.items():
        models = [MoERegressor(random_state=s).set_params(**options) for s in range(n_seeds)]
        fitted = [quiet(m.fit, *make_regions(2000, 200 + s)[:2]) for s, m in enumerate(models)]
        entropies = [dispatch_entropy(regions, reg.apply(X)) for reg in fitted]
        yield name, spread((reg.score(X, y) for reg in fitted), 3), spread(entropies, 3)


if __name__ == "__main__":
    parser = command(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    with threadpool_limits(1):
        print_table(("options", "R2", "dispatch entropy"), rows(parser.parse_args().seeds))
