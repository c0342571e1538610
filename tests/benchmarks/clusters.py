"""How often `metrics.cluster_test` finds clusters: where there are none, and in settings 1 to 4.

    python tests/benchmarks/clusters.py --out clusters.jsonl

Each set has 500 bags. Those without clusters are of setting 1, but for feature noise of size .01,
which misleads nobody; a tenth of their labels are wrong. The same command goes on where it stopped.
"""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import delayed
from measure import command, quiet, run_missing
from scipy.stats import binomtest

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.metrics import cluster_test

N_BAGS, NO_CLUSTERS = 500, "none"


class Set(NamedTuple):
    """A set of bags: a setting of the paper, or NO_CLUSTERS."""

    setting: int | str
    seed: int


def draw(setting, seed):
    """Return bags and labels of a set."""
    if setting != NO_CLUSTERS:
        return make_cluster_patches(N_BAGS, random_state=seed, **PAPER_SETTINGS[setting])
    without = PAPER_SETTINGS[1] | {"gamma": 0.01}
    X, y = make_cluster_patches(N_BAGS, random_state=seed, **without)
    return X, np.where(np.random.default_rng(seed).random(N_BAGS) < 0.1, 1 - y, y)


def tested(job):
    """Return what the test says of a set, and its seconds."""
    X, y = draw(job.setting, job.seed)
    start = time.process_time()  # of one thread: others may use the machine, too
    test = quiet(cluster_test, MoEClassifier(random_state=job.seed), X, y)
    row = job._asdict() | {"p": test.p_value, "effect": test.effect}
    return row | {"seconds": time.process_time() - start}


def main():
    parser = command(__doc__)
    parser.add_argument("--out", type=Path, default=Path("clusters.jsonl"))
    parser.add_argument("--level", type=int, default=100, help="sets without clusters")
    parser.add_argument("--power", type=int, default=25, help="sets of each setting")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    counts = {NO_CLUSTERS: options.level} | dict.fromkeys((1, 2, 3, 4), options.power)
    for setting, n_sets in counts.items():
        jobs = {job: delayed(tested)(job) for job in (Set(setting, s) for s in range(n_sets))}
        done = run_missing(jobs, options.out, options.jobs)
        rows = [done[job] for job in jobs]
        n = sum(row["p"] < 0.05 for row in rows)
        low, high = binomtest(n, n_sets).proportion_ci(method="wilson")
        median = np.median([row["seconds"] for row in rows])
        print(f"{setting}: {n} of {n_sets} ({low:.2f} to {high:.2f}), {median:.1f} s", flush=True)


if __name__ == "__main__":
    main()
