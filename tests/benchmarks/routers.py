"""Every router and balancing rule on settings 1 and 2: accuracy, entropy, dead experts, time.

    python tests/benchmarks/routers.py [--runs 5] [--jobs 2] [--out docs/tables/routers.csv]

One new problem per seed, 16,000 samples to train on and 16,000 to test on, every parameter that is
not named at its default. Finished runs are kept in results/routers.jsonl; a second start goes on
with the missing ones.
"""

import argparse
import csv
import json
import statistics
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from joblib import Parallel, delayed

from sklearn_moe import MoEClassifier
from sklearn_moe.callbacks import FreezeRouter
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.exceptions import ExpertCollapseWarning
from sklearn_moe.metrics import dead_experts, dispatch_entropy, expert_load
from sklearn_moe.nn import ROUTERS

FIRST_SEED = 6000  # no default was chosen on these problems
N_SAMPLES = 16_000

MODELS = {
    "top1 (default)": {},
    "top1, noise gaussian": {"router_noise": "gaussian"},
    "top1, no noise": {"router_noise": None},
    "top1, gate sigmoid": {"gate": "sigmoid"},
    "top1, gate logit": {"gate": "logit"},
    "top1, network mlp": {"router_network": "mlp"},
    "top1, dense_gradient": {"router": replace(ROUTERS["top1"], dense_gradient=True)},
    "top1, frozen after 10 epochs": {"callbacks": [FreezeRouter(after=10)]},
    "topk, 2": {"router": "topk", "top_k": 2},
    "topk, 2, gate renormalized": {"router": "topk", "top_k": 2, "gate": "renormalized"},
    "noisy_topk, 2": {"router": "noisy_topk", "top_k": 2},
    "noisy_topk, 1": {"router": "noisy_topk"},
    "sampled": {"router": "sampled"},
    "soft": {"router": "soft"},
    "sigmoid": {"router": "sigmoid"},
    "relu": {"router": "relu"},
    "relu, 2": {"router": "relu", "top_k": 2},
    "merge": {"router": "merge"},
    "patch_choice, 1": {"router": "patch_choice", "top_k": 1},
    "patch_choice, 2": {"router": "patch_choice", "top_k": 2},
    "random": {"router": "random"},
    "kmeans": {"router": "kmeans"},
    "top1, balance switch": {"balance": "switch"},
    "top1, balance importance": {"balance": "importance"},
    "top1, balance load": {"balance": "load"},
    "top1, balance bias": {"balance": "bias"},
    "top1, balance z_loss": {"balance": "z_loss"},
    "noisy_topk, 2, balance load": {"router": "noisy_topk", "top_k": 2, "balance": "load"},
    "single expert": {"n_experts": 1},
}


def run(name, setting, seed, n_samples):
    """Fit one model on one problem and return what there is to say."""
    torch.set_num_threads(1)
    X, y, clusters = make_cluster_patches(
        2 * n_samples, random_state=seed, return_clusters=True, **PAPER_SETTINGS[setting]
    )
    clf = MoEClassifier(random_state=seed, **MODELS[name])
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExpertCollapseWarning)
        clf.fit(X[:n_samples], y[:n_samples])
    elapsed = time.perf_counter() - start
    X, y, clusters = X[n_samples:], y[n_samples:], clusters[n_samples:]
    experts = clf.apply(X)
    load = expert_load(experts, n_experts=clf.n_experts)
    return {
        "model": name,
        "setting": setting,
        "seed": seed,
        "n_samples": n_samples,
        "accuracy": 100 * clf.score(X, y),
        "entropy": dispatch_entropy(clusters, experts),
        "dead": len(dead_experts(load)),
        "epochs": clf.n_iter_,
        "ms_per_step": 1e3 * elapsed / (clf.n_iter_ * -(-n_samples // 1024)),
    }


def summary(rows):
    """Return a line of the table: mean and standard deviation over the seeds."""

    def spread(column, digits):
        values = [row[column] for row in rows]
        std = statistics.stdev(values) if len(values) > 1 else 0.0
        return f"{statistics.mean(values):.{digits}f} ± {std:.{digits}f}"

    return [
        rows[0]["model"],
        rows[0]["setting"],
        spread("accuracy", 2),
        f"{min(row['accuracy'] for row in rows):.2f}",
        spread("entropy", 3),
        f"{statistics.mean(row['dead'] for row in rows):.1f}",
        f"{statistics.mean(row['epochs'] for row in rows):.0f}",
        f"{statistics.median(row['ms_per_step'] for row in rows):.1f}",
    ]


HEADER = [
    "model",
    "setting",
    "accuracy %",
    "worst",
    "dispatch entropy",
    "dead experts of 8",
    "epochs",
    "ms per step",
]


def main():
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--n-samples", type=int, default=N_SAMPLES)
    parser.add_argument("--results", type=Path, default=Path("results/routers.jsonl"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    if options.results.exists():
        rows = [json.loads(line) for line in options.results.read_text().splitlines()]
    wanted = [
        (name, setting, FIRST_SEED + i, options.n_samples)
        for i in range(options.runs)
        for setting in (1, 2)
        for name in MODELS
    ]
    done = {(r["model"], r["setting"], r["seed"], r["n_samples"]) for r in rows}
    missing = [key for key in wanted if key not in done]
    runs = Parallel(options.jobs, return_as="generator_unordered")(
        delayed(run)(*key) for key in missing
    )
    with options.results.open("a") as file:
        for row in runs:
            rows.append(row)
            print(json.dumps(row), file=file, flush=True)
            print(row["model"], row["setting"], f"{row['accuracy']:.2f}", file=sys.stderr)
    table = []
    for setting in (1, 2):
        for name in MODELS:
            group = [r for r in rows if (r["model"], r["setting"]) == (name, setting)]
            group = [r for r in group if (name, setting, r["seed"], r["n_samples"]) in wanted]
            table.append(summary(group))
    with options.out.open("w", newline="") if options.out else sys.stdout as file:
        csv.writer(file).writerows([HEADER, *table])


if __name__ == "__main__":
    main()
