"""Every router and balancing rule on settings 1 and 2: accuracy, entropy, dead experts, time.

    python tests/benchmarks/routers.py [--runs 5] [--jobs 2] [--out docs/tables/routers.csv]

One new problem per seed, 16,000 samples to train on and 16,000 to test on, every parameter that is
not named at its default. Finished runs are kept in results/routers.jsonl; a second start goes on
with the missing ones.
"""

import csv
import sys
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from joblib import delayed
from measure import command, quiet, read_results, run_missing, seconds, spread

from sklearn_moe import MoEClassifier
from sklearn_moe.callbacks import FreezeRouter
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.exceptions import ExpertCollapseWarning
from sklearn_moe.metrics import dead_experts, dispatch_entropy, expert_load
from sklearn_moe.nn import ROUTERS

RESULTS, N_SAMPLES = Path("results/routers.jsonl"), 16_000
FIRST_SEED = 6000  # no default was chosen on these problems
MODELS = {
    "top1 (default)": {},
    "top1, noise gaussian": {"router__noise": "gaussian"},
    "top1, no noise": {"router__noise": None},
    "top1, gate sigmoid": {"router__gate": "sigmoid"},
    "top1, gate logit": {"router__gate": "logit"},
    "top1, network mlp": {"router__network": "mlp"},
    "top1, dense_gradient": {"router": ROUTERS["top1"].with_options(dense_gradient=True)},
    "top1, frozen after 10 epochs": {"callbacks": [FreezeRouter(after=10)]},
    "topk, 2": {"router": "topk", "top_k": 2},
    "topk, 2, gate renormalized": {"router": "topk", "top_k": 2, "router__gate": "renormalized"},
    "noisy_topk, 2": {"router": "noisy_topk", "top_k": 2},
    "noisy_topk, 1": {"router": "noisy_topk"},
    **{name: {"router": name} for name in ("sampled", "soft", "sigmoid", "relu")},
    "relu, 2": {"router": "relu", "top_k": 2},
    "merge": {"router": "merge"},
    "patch_choice, 1": {"router": "patch_choice", "top_k": 1},
    "patch_choice, 2": {"router": "patch_choice", "top_k": 2},
    "patch_choice, 3": {"router": "patch_choice"},
    **{name: {"router": name} for name in ("random", "kmeans")},
    **{
        f"top1, balance {name}": {"balance": name}
        for name in ("switch", "importance", "load", "bias", "z_loss")
    },
    "noisy_topk, 2, balance load": {"router": "noisy_topk", "top_k": 2, "balance": "load"},
    "single expert": {"n_experts": 1},
}
HEADER = (
    *("model", "setting", "accuracy %", "worst", "dispatch entropy"),
    *("dead experts of 8", "epochs", "ms per step"),
)


class Fit(NamedTuple):
    """What a line of the results is about."""

    model: str
    setting: int
    seed: int


def run(job):
    """Fit one model on one problem and return a line of the results."""
    torch.set_num_threads(1)
    n = N_SAMPLES
    X, y, clusters = make_cluster_patches(
        2 * n, random_state=job.seed, return_clusters=True, **PAPER_SETTINGS[job.setting]
    )
    clf = MoEClassifier(random_state=job.seed).set_params(**MODELS[job.model])
    elapsed = seconds(quiet, clf.fit, X[:n], y[:n], ignored=ExpertCollapseWarning)
    experts = clf.apply(X[n:])
    return job._asdict() | {
        "accuracy": 100 * clf.score(X[n:], y[n:]),
        "entropy": dispatch_entropy(clusters[n:], experts),
        "dead": len(dead_experts(expert_load(experts, n_experts=clf.n_experts))),
        "epochs": clf.n_iter_,
        "ms_per_step": 1e3 * elapsed / (clf.n_iter_ * -(-n // 1024)),
    }


def summary(rows):
    """Return what a line of the table shows of all seeds."""
    names = ("accuracy", "entropy", "dead", "epochs", "ms_per_step")
    accuracy, entropy, dead, epochs, time = ([row[name] for row in rows] for name in names)
    yield from (spread(accuracy), f"{min(accuracy):.2f}", spread(entropy, 3))
    yield from (f"{np.mean(dead):.1f}", f"{np.mean(epochs):.0f}", f"{np.median(time):.1f}")


def main():
    """Run what is missing, then write the table."""
    parser = command(__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + options.runs)
    wanted = [Fit(m, s, seed) for seed, s, m in product(seeds, (1, 2), MODELS)]
    done = read_results(RESULTS, Fit)
    run_missing(
        {fit: delayed(run)(fit) for fit in wanted if fit not in done}, RESULTS, options.jobs
    )
    done = read_results(RESULTS, Fit)
    with options.out.open("w", newline="") if options.out else sys.stdout as file:
        table = csv.writer(file)
        table.writerow(HEADER)
        for setting, model in product((1, 2), MODELS):
            fits = [fit for fit in wanted if fit[:2] == (model, setting)]
            table.writerow([model, setting, *summary([done[fit] for fit in fits])])


if __name__ == "__main__":
    main()
