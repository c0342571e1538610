"""Table 2: a single network against a mixture of four, on CIFAR-10 and CIFAR-10-Rotate."""

import hashlib
import json
import math
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import torch

from .._interrupt import Interrupts
from ._arguments import positive
from ._pictures import ARCHITECTURES, TASKS, PictureRun, run_pictures
from ._published import TABLE_2
from ._store import RunStore

__all__ = ["add_arguments", "run_command"]

_PUBLISHED = {"cifar10": "cifar10", "rotate-paper": "rotate"}  # other rotations are other tasks
_DEFAULT_EPOCHS = {"cnn": 20, "mobilenet_v2": 30, "resnet18": 10}


def add_arguments(parser):
    """Add the options of `table2` to a parser."""
    parser.add_argument(
        "--data", help="image folder with train/<class>/*.jpg and test/; without it, downloaded"
    )
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS)[:2])
    parser.add_argument("--arch", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--runs", type=positive, default=5)
    parser.add_argument("--epochs", type=positive, help="as published by default")
    parser.add_argument(
        "--subset", type=positive, help="pictures of CIFAR-10 to train on, before they are rotated"
    )
    parser.add_argument(
        "--no-blur", action="store_true", help="leave training pictures of the rotation task sharp"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=positive, help="of torch, all by default")
    parser.add_argument("--out", default="results/table2")


def run_command(options):
    """Run what is missing, then write the tables of all runs asked for."""
    if options.threads:
        torch.set_num_threads(options.threads)
    store = RunStore(f"{options.out}/runs")
    runs = [
        PictureRun(
            task=task,
            architecture=architecture,
            n_experts=n_experts,
            seed=options.seed + i,
            epochs=options.epochs or _DEFAULT_EPOCHS[architecture],
            subset=options.subset,
            blur=not options.no_blur,
        )
        for i in range(options.runs)
        for architecture, task, n_experts in product(options.arch, options.task, (1, 4))
    ]
    data = _where(options.data)
    results = {}
    for done, run in enumerate(runs):
        result = store.get(run.settings | data)
        if result is None:
            print(f"{done + 1} of {len(runs)}: {run}", flush=True)
            with Interrupts():
                result = run_pictures(run, options.data, device=options.device, verbose=1)
            store.put(run.settings | data, result)
        results[run] = result
    report = tabulate(results)
    with open(f"{options.out}/table2.md", "w") as file:
        file.write(report)
    with open(f"{options.out}/table2.json", "w") as file:
        json.dump([{**run.settings, **result} for run, result in results.items()], file, indent=1)
    draw(results, f"{options.out}/table2.png")
    print(report)
    return results


def _where(folder):
    """Return what tells pictures from those of another folder, without naming it."""
    path = folder and str(Path(folder).resolve())
    return {"data": path and hashlib.sha256(path.encode()).hexdigest()[:8]}


def _spread(values):
    values = list(values)
    return f"{mean(values):.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"


def _groups(results):
    """Return {(task, architecture, n_experts): results of its runs}."""
    groups = {}
    for run, result in results.items():
        key = run.task, run.architecture, run.n_experts
        groups.setdefault(key, []).append((run, result))
    return groups


def tabulate(results):
    """Return the results as Markdown: accuracies, who answered which class, the picture."""
    tasks = ", ".join(dict.fromkeys(run.task for run in results))
    lines = [
        f"# Table 2: {tasks}{'' if all(run.blur for run in results) else ', without blur'}",
        "",
        "Test accuracy in percent, mean ± standard deviation over the runs. The last epoch is the "
        "result; the best test epoch, which the published numbers are, flatters.",
        "",
        "| task | expert | model | pictures | epochs | runs | last epoch | best epoch | paper "
        "| dispatch entropy | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (task, architecture, n_experts), rows in _groups(results).items():
        run, first = rows[0]
        kind = "single" if n_experts == 1 else f"mixture of {n_experts}"
        of = _PUBLISHED.get(task) if run.blur else None
        published = TABLE_2.get((architecture, of, n_experts > 1))
        paper = "" if published is None else f"{published.accuracy} ± {published.accuracy_std}"
        entropy = "" if n_experts == 1 else _spread(r["entropy"] for _, r in rows)
        cells = [
            task,
            architecture,
            kind,
            f"{first['n_train']:,}",
            run.epochs,
            len(rows),
            _spread(r["accuracy"] for _, r in rows),
            _spread(r["best_accuracy"] for _, r in rows),
            paper,
            entropy,
            f"{mean(r['seconds'] for _, r in rows) / 60:.1f}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for (task, architecture, n_experts), rows in _groups(results).items():
        if n_experts > 1:
            run, first = rows[0]
            lines += ["", f"Dispatch of the classes, {task}, {architecture}, seed {run.seed}:", ""]
            lines.append(f"| class | {' | '.join(f'expert {m}' for m in range(n_experts))} |")
            lines.append("|---" * (n_experts + 1) + "|")
            for name, row in enumerate(first["dispatch"]):
                shares = [f"{count / max(1, sum(row)):.2f}" for count in row]
                lines.append(f"| {name} | {' | '.join(shares)} |")
    lines += ["", "![Test accuracy by epoch](table2.png)"]
    return "\n".join(lines) + "\n"


def draw(results, path):
    """Draw the learning curves: test accuracy by epoch, a panel per task and architecture."""
    from matplotlib.figure import Figure

    groups = _groups(results)
    panels = list(dict.fromkeys((task, architecture) for task, architecture, _ in groups))
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, ax in zip(panels, axes, strict=False):
        for n_experts, color in ((1, "#0072B2"), (4, "#D55E00")):
            for i, (_, result) in enumerate(groups.get((*panel, n_experts), [])):
                label = "single" if n_experts == 1 else f"mixture of {n_experts}"
                curve = result["accuracy_curve"]
                epochs = range(1, len(curve) + 1)
                ax.plot(epochs, curve, color=color, lw=1.2, label=None if i else label)
        ax.set(title=", ".join(panel), xlabel="Epoch", ylabel="Test accuracy (%)")
        ax.legend(frameon=False, loc="lower right")
    for ax in axes[len(panels) :]:
        ax.remove()
    figure.savefig(path, dpi=150)
