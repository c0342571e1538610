"""Whether CNNs on CIFAR-10-Rotate fail the task, or fail on images sharper than those of training.

    python tests/benchmarks/sharpness.py --data FOLDER --seeds 3 4 --out sharpness.jsonl

Runs of Table 2 as it is published, in bfloat16. Each is tested on images as they are and blurred as
in training, for test and training images. The same command goes on where it stopped.
"""

import argparse
import json
from pathlib import Path

import torch
from torchvision.transforms import v2

from sklearn_moe.paper._image_runs import _MEAN, _STD, paper_blur
from sklearn_moe.paper._run import seeded
from sklearn_moe.paper.experiments.table2 import table2

_SCALE = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(_MEAN, _STD)])


def measured(run):
    """Return the accuracy, and that of rotated images alone, by images, as they are and blurred."""
    model, result = run.fit(seeded(run.estimator, run.seed))
    found = {"last epoch": result["accuracy"], "loss": result["loss_curve"][-1]}
    for split in ("test", "train"):
        X, y, _ = run.problem.draw(split, run.seed)
        sharp = _SCALE(torch.from_numpy(X[:20_000]))
        torch.manual_seed(run.seed)
        for name, images in (("sharp", sharp), ("blurred", paper_blur(sharp))):
            right = model.predict(images.numpy()) == y[:20_000]
            rotated = right[y[:20_000] == 1]
            found[f"{split}, {name}"] = [100 * float(part.mean()) for part in (right, rotated)]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="images in train/<class>/ and test/<class>/")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--out", type=Path, default=Path("sharpness.jsonl"))
    parser.add_argument("--resume", type=Path, default=Path("results/paper/unfinished"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    known = {(row["model"], row["seed"]) for row in map(json.loads, lines)}
    how = {"task": ["rotate-paper"], "arch": ["cnn"], "precision": "bf16"}
    experiment = table2(folder=options.data, unfinished=options.resume, **how)
    for seed in options.seeds:
        for cell in experiment.cells(1, seed):
            row = {"model": cell.labels["model"], "seed": seed}
            if (row["model"], seed) not in known:
                row |= measured(cell.runs[0])
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)


if __name__ == "__main__":
    main()
