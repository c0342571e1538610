"""Repeat a cheap run of each stored result, and compare what it finds with what is stored."""

import time
from dataclasses import replace
from math import isclose, nan

from ._image_runs import ImageRun
from ._report import from_json, plain, to_markdown

_ROUNDING = 1e-5  # relative: processors add in another order
# By how much figures may differ on another processor, relative to the stored ones, by experiment.
# Training amplifies the rounding where it is long, where it may stop early, where experts are on
# the edge between specializing and not, and in bfloat16. In all other experiments the figures may
# differ by the rounding itself, and accuracies not at all.
_TOLERANCES = {
    "activations": 0.05,
    "balance_sweep": 0.05,
    "continual": 0.25,
    "phases": 0.1,
    "sentiment": 0.05,
    "table2": 0.05,
    "wide": 0.25,
}
_FOLDERS = {  # what is not in a checkout
    "table2": "name the folder of the images by --images or SKLEARN_MOE_CIFAR10",
    "sentiment": "name the folder of the texts by --texts",
}


def check(stored, longest):
    """Repeat a run of each of some stored results, and print a line for each.

    Parameters
    ----------
    stored : iterable of (path, data, experiment, cells)
    longest : float
        Seconds that a run may have taken to be repeated.

    Returns
    -------
    complaints : list of str
        The lines of results that are wrong, or that came out otherwise.
    """
    complaints, performed = [], {}
    for path, data, experiment, cells in stored:
        start = time.perf_counter()
        text = _complaint(path, data, experiment, cells)
        is_right = not text
        if is_right:
            is_right, text = _repeat(data, experiment, cells, longest, performed)
        line = f"{path}: {text} ({time.perf_counter() - start:.1f} s)"
        print(line, flush=True)
        complaints += [] if is_right else [line]
    return complaints


def is_made_by(cells, data):
    """Return whether stored results are of these cells, and of the seeds of their runs."""
    of_today = [(plain(cell.labels), [run.seed for run in cell.runs]) for cell in cells]
    return of_today == [(cell["labels"], cell["seeds"]) for cell in data["cells"]]


def _complaint(path, data, experiment, cells):
    """Return what is wrong with a stored result before any run, empty if nothing is."""
    if experiment is None:
        return "its command has an option, or a name, that is not known"
    if not is_made_by(cells, data):
        return "its command makes other runs here, run it again"
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    if to_markdown(from_json(data, experiment, cells)) != text:
        return "its texts are not those of its numbers, redraw it"
    return ""


def _repeat(data, experiment, cells, longest, performed):
    """Return whether the quickest run comes out again, or cannot be repeated, and a text."""
    cell, run, values, seconds = _quickest(data, cells)
    if seconds > longest:
        return True, f"not repeated, as its quickest run took {seconds:.0f} s: raise --longest"
    try:
        if run.key not in performed:
            performed[run.key] = run.perform()
    except FileNotFoundError as error:
        return True, f"not repeated, {_FOLDERS[experiment.name]}: {error}"
    except Exception as error:  # the other results are checked nevertheless
        return False, f"FAILS: {type(error).__name__}: {error}; {_named(cell, run)}"
    tolerance = _TOLERANCES.get(experiment.name, _ROUNDING)
    old, new = (_figures(experiment, of) for of in (values, performed[run.key]))
    new = dict.fromkeys(old, nan) | new
    differ = [name for name in old if not isclose(old[name], new[name], rel_tol=_ROUNDING)]
    far = [name for name in differ if not isclose(old[name], new[name], rel_tol=tolerance)]
    verdict = "OTHERWISE" if far else f"within {tolerance:.0%}" if differ else "equal"
    shown = [f"{name} {new[name]:.6g}, stored {old[name]:.6g}" for name in far or differ]
    return not far, "; ".join([verdict, *shown, _named(cell, run)])


def _named(cell, run):
    labels = ", ".join(f"{name} {label}" for name, label in plain(cell.labels).items())
    return f"{labels}, seed {run.seed}"


def _quickest(data, cells):
    """Return cell, run, its stored values and seconds of the quickest run; of images one epoch."""
    runs = []
    for cell, stored in zip(cells, data["cells"], strict=True):
        for i, run in enumerate(cell.runs):
            values = {name: of_runs[i] for name, of_runs in stored["values"].items()}
            seconds = values.get("fit_seconds", data["seconds"] / data["runs"])
            if isinstance(run, ImageRun):
                run = replace(run, unfinished=None, n_epochs=1)
                seconds /= len(values["accuracy_curve"])
            runs.append((cell, run, values, seconds))
    return min(runs, key=lambda of: of[-1])


def _figures(experiment, values):
    """Return the measures of the table that a run has, and its sizes; of images one epoch."""
    names = {*experiment.measures, "n_train", "n_test"}
    if "accuracy_curve" in values:
        values = values | {"accuracy": values["accuracy_curve"][0]}
        names -= {"best_epoch_accuracy", "test_entropy"}
    known = (name for name in sorted(names - {"fit_seconds"}) if values.get(name) is not None)
    return {name: values[name] for name in known}
