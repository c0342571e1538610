"""How often `metrics.cluster_test` finds clusters: where there are none, and in settings 1 to 4.

    python tests/benchmarks/clusters.py --out clusters.jsonl

Each set has 500 bags. Those without clusters are of setting 1, but for feature noise of size .01,
which misleads nobody; a tenth of their labels are wrong. The same command goes on where it stopped.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from measure import quiet
from scipy.stats import binomtest

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.metrics import cluster_test

N_BAGS, NO_CLUSTERS = 500, "none"


def draw(setting, seed):
    """Return bags and labels of a set."""
    if setting != NO_CLUSTERS:
        return make_cluster_patches(N_BAGS, random_state=seed, **PAPER_SETTINGS[setting])
    without = PAPER_SETTINGS[1] | {"gamma": 0.01}
    X, y = make_cluster_patches(N_BAGS, random_state=seed, **without)
    return X, np.where(np.random.default_rng(seed).random(N_BAGS) < 0.1, 1 - y, y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("clusters.jsonl"))
    parser.add_argument("--level", type=int, default=100, help="sets without clusters")
    parser.add_argument("--power", type=int, default=25, help="sets of each setting")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    found = {(row["setting"], row["seed"]): row for row in map(json.loads, lines)}
    counts = {NO_CLUSTERS: options.level} | dict.fromkeys((1, 2, 3, 4), options.power)
    for setting, n_sets in counts.items():
        for seed in range(n_sets):
            if (setting, seed) in found:
                continue
            X, y = draw(setting, seed)
            start = time.process_time()  # of one thread: others may use the machine, too
            test = quiet(cluster_test, MoEClassifier(random_state=seed), X, y)
            row = {"setting": setting, "seed": seed, "p": test.p_value, "effect": test.effect}
            row["seconds"] = time.process_time() - start
            found[setting, seed] = row
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
        rows = [found[setting, seed] for seed in range(n_sets)]
        n = sum(row["p"] < 0.05 for row in rows)
        low, high = binomtest(n, n_sets).proportion_ci(method="wilson")
        median = np.median([row["seconds"] for row in rows])
        print(f"{setting}: {n} of {n_sets} ({low:.2f} to {high:.2f}), {median:.1f} s", flush=True)


if __name__ == "__main__":
    main()
