"""Do linear experts specialize? A grid over what might decide it, on setting 1.

    python tests/benchmarks/linear_experts.py [--seeds 5] [--jobs 2] [--out FILE.csv]

The paper's experiment `linear` on one data set, with the margin loss as well: activation, initial
scale, router rate, gate and loss, in the paper's regime of 501 full-batch, normalized steps of
0.001 with 8 experts of 8 filters. Every cell is fitted from several seeds to 16,000 samples and
scored on 16,000 others. The means of each choice over all others, for linear experts, go to stderr.
Finished runs are kept in results/paper; a second start goes on with the missing ones.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pandas
from measure import command, spread

from sklearn_moe.paper import Problem, get_experiment, run_experiment


def main():
    """Run the grid and write the table."""
    parser = command(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    linear = get_experiment("linear")
    experiment = replace(
        linear,
        problems=(Problem(1, n_train=16_000, n_test=16_000, data_seed=12),),
        grid=linear.grid
        | {"init_scale": dict(list(linear.grid["init_scale"].items())[:2])}
        | {"loss": ["log_loss", "margin", "probabilities"]},
    )
    results = run_experiment(
        experiment, Path("results/paper"), runs=options.seeds, jobs=options.jobs
    )
    table, means = [], []
    for cell in results.cells:
        accuracy, entropy = cell.values("accuracy"), cell.values("test_entropy")
        labels = {name: cell.labels[name] for name in experiment.grid}
        shown = {"accuracy %": spread(accuracy), "dispatch entropy": spread(entropy, 3)}
        table.append(labels | shown)
        means.append(labels | {"accuracy %": accuracy.mean(), "dispatch entropy": entropy.mean()})
    pandas.DataFrame(table).to_csv(options.out or sys.stdout, index=False)
    means = pandas.DataFrame(means).query("activation == 'linear'")
    for name in list(experiment.grid)[1:]:
        effect = means.groupby(name)[["accuracy %", "dispatch entropy"]].mean()
        print(effect.round(3).to_string(), file=sys.stderr)


if __name__ == "__main__":
    main()
