"""Results as plain JSON values, and where they come from."""

import json
import math

import numpy as np

from .table import label_text

__all__ = ["origin", "to_json"]

_ALWAYS = ("accuracy", "train_accuracy", "entropy", "test_entropy", "steps", "fit_seconds")


def to_json(results, command=None):
    """Return what came out of an experiment, run by run.

    Parameters
    ----------
    results : Results
    command : str, default=None
        How they were made.

    Returns
    -------
    data : dict
        Plain values, six digits of each; None for what is not a number.
    """
    experiment = results.experiment
    return {
        "name": experiment.name,
        "title": experiment.title,
        "question": experiment.question,
        "command": command,
        "findings": [
            {name: _plain(value) for name, value in finding._asdict().items()}
            for finding in results.findings()
        ],
        **origin([results]),
        "cells": [_cell(cell, experiment) for cell in results.cells],
    }


def origin(all_results):
    """Return versions, devices, number and seconds of the runs of some experiments.

    A run that two cells share was computed once, and counts once.
    """
    cells = [cell for results in all_results for cell in results.cells]
    distinct = {json.dumps(run, default=str): run for cell in cells for run in cell.runs}
    runs = distinct.values()
    versions = {}
    for run in runs:
        for name, version in run.get("versions", {}).items():
            versions.setdefault(name, set()).add(version)
    return {
        "versions": {name: ", ".join(sorted(found)) for name, found in versions.items()},
        "device": ", ".join(sorted({run["device"] for run in runs if "device" in run})),
        "runs": len(runs),
        "seconds": _plain(float(sum(run.get("seconds", 0) for run in runs))),
    }


def _cell(cell, experiment):
    names = tuple(dict.fromkeys((*experiment.measures, *_ALWAYS, *experiment.kept)))
    data = {
        "labels": {name: _plain(value) for name, value in cell.labels.items()},
        "runs": len(cell.runs),
        "values": {
            name: [_plain(run.get(name)) for run in cell.runs]
            for name in names
            if _anywhere(cell, name)
        },
        "published": {name: _published(cell, name) for name in names if _was_published(cell, name)},
    }
    if _anywhere(cell, "seed"):
        data["seeds"] = [run.get("seed") for run in cell.runs]
    return data | {"command": experiment.command(cell)} if experiment.command else data


def _was_published(cell, measure):
    return cell.published is not None and cell.published.value(measure) is not None


def _published(cell, measure):
    value, std = cell.published.value(measure)
    return {
        "value": _plain(value),
        "std": _plain(std),
        "grade": cell.published.grade,
        "inside": cell.inside(measure),
    }


def _anywhere(cell, measure):
    return any(measure in run for run in cell.runs)


def _plain(value):
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return label_text(value)
