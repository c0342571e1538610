"""Whether CNNs on CIFAR-10-Rotate fail the task, or fail on images sharper than those of training.

    python tests/benchmarks/sharpness.py --data FOLDER --seeds 3 4 --out sharpness.jsonl

Runs of Table 2 as it is published, in bfloat16. Each is tested on test images as they are, and
blurred as in training. The same command goes on where it stopped.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from joblib import delayed
from measure import command, run_missing

from sklearn_moe.paper._image_runs import paper_blur
from sklearn_moe.paper._run import seeded
from sklearn_moe.paper.experiments.table2 import table2


class Fit(NamedTuple):
    """A run of Table 2."""

    model: str
    seed: int


def measured(fit, run):
    """Return the accuracy on all test images, and on the rotated ones, sharp and blurred."""
    model, result = run.fit(seeded(run.estimator, run.seed))
    test = model.callbacks[-1]  # the learning curve has the test images, as the network gets them
    row = fit._asdict() | {"loss": result["loss_curve"][-1]}
    torch.manual_seed(run.seed)
    blurred = paper_blur(torch.from_numpy(test.X)).numpy()
    for name, images in (("sharp", test.X), ("blurred", blurred)):
        right = 100 * (model.predict(images) == test.y)
        row |= {name: right.mean(), f"{name}, rotated": right[test.y == 1].mean()}
    return row


def main():
    parser = command(__doc__)
    parser.add_argument("--data", help="images in train/<class>/ and test/<class>/")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--out", type=Path, default=Path("sharpness.jsonl"))
    parser.add_argument("--resume", type=Path, default=Path("results/paper/unfinished"))
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    how = {"task": ["rotate-paper"], "arch": ["cnn"], "precision": "bf16"}
    experiment = table2(folder=options.data, unfinished=options.resume, **how)
    jobs = {}
    for seed in options.seeds:
        for cell in experiment.cells(1, seed):
            fit = Fit(cell.labels["model"], seed)
            jobs[fit] = delayed(measured)(fit, cell.runs[0])
    for row in run_missing(jobs, options.out, options.jobs).values():
        print(row)


if __name__ == "__main__":
    main()
