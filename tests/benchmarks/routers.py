"""Every router and balancing rule on settings 1 and 2: accuracy, entropy, dead experts, time.

    python tests/benchmarks/routers.py [--runs 5] [--jobs 2] [--out docs/tables/routers.csv]

One new problem per seed, 16,000 samples to train on and 16,000 to test on, every parameter that is
not named at its default. Finished runs are kept in results/routers.jsonl; a second start goes on
with the missing ones.
"""

import sys
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas
from joblib import delayed
from measure import command, run_missing, spread
from patches import fit_patches

from sklearn_moe.callbacks import FreezeRouter

RESULTS, N_SAMPLES = Path("results/routers.jsonl"), 16_000
FIRST_SEED = 6000  # no default was chosen on these problems
MODELS = {
    "top1 (default)": {},
    "top1, noise gaussian": {"router__noise": "gaussian"},
    "top1, no noise": {"router__noise": None},
    "top1, gate sigmoid": {"router__gate": "sigmoid"},
    "top1, gate logit": {"router__gate": "logit"},
    "top1, frozen after 10 epochs": {"callbacks": [FreezeRouter(after=10)]},
    "topk, 2": {"router": "topk", "top_k": 2},
    "topk, 2, gate renormalized": {"router": "topk", "top_k": 2, "router__gate": "renormalized"},
    **{name: {"router": name} for name in ("sampled", "soft", "sigmoid")},
    "random": {"router": "random"},
    **{f"top1, balance {name}": {"balance": name} for name in ("switch", "bias")},
    "single expert": {"n_experts": 1},
}


class Fit(NamedTuple):
    """What a line of the results is about."""

    model: str
    setting: int
    seed: int


def run(fit):
    """Fit one model on one problem and return a line of the results."""
    found = fit_patches(fit.setting, N_SAMPLES, fit.seed, **MODELS[fit.model])
    n_steps = found["epochs"] * -(-N_SAMPLES // 1024)
    return fit._asdict() | found | {"ms_per_step": 1e3 * found["seconds"] / n_steps}


def summary(of):
    """Return what a line of the table shows of all seeds."""
    return {
        "accuracy %": spread(of["accuracy"]),
        "worst": f"{of['accuracy'].min():.2f}",
        "dispatch entropy": spread(of["entropy"], 3),
        "dead experts of 8": f"{of['dead'].mean():.1f}",
        "epochs": f"{of['epochs'].mean():.0f}",
        "ms per step": f"{of['ms_per_step'].median():.1f}",
    }


def main():
    """Run what is missing, then write the table."""
    parser = command(__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + options.runs)
    wanted = [Fit(m, s, seed) for seed, s, m in product(seeds, (1, 2), MODELS)]
    done = run_missing({fit: delayed(run)(fit) for fit in wanted}, RESULTS, options.jobs)
    table = [
        {"model": model, "setting": setting}
        | summary(pandas.DataFrame([done[Fit(model, setting, seed)] for seed in seeds]))
        for setting, model in product((1, 2), MODELS)
    ]
    pandas.DataFrame(table).to_csv(options.out or sys.stdout, index=False)


if __name__ == "__main__":
    main()
