"""Results as files: the numbers as JSON, tables and findings as Markdown, figures as PNG."""

import json
import math
import re
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from ._experiment import Results
from ._statistics import UNDECIDED

_ALWAYS = ("accuracy", "train_accuracy", "entropy", "test_entropy", "steps", "fit_seconds")


def to_json(results):
    """Return what came out of an experiment, run by run, and what made it.

    Parameters
    ----------
    results : Results

    Returns
    -------
    data : dict
        Plain values; None for what is not a number.
    """
    experiment = results.experiment
    return plain(
        {
            "name": experiment.name,
            "title": experiment.title,
            "question": experiment.question,
            "command": None,
            "findings": [finding._asdict() for finding in results.findings()],
            **_origin(results),
            "cells": [_json_cell(cell, experiment) for cell in results.cells],
        }
    )


def from_json(data, experiment, cells):
    """Return the results that :func:`to_json` has written.

    Parameters
    ----------
    data : dict
    experiment : Experiment
        The one that was run.
    cells : sequence of Cell
        Its cells, with the same number of runs.

    Returns
    -------
    results : Results
    """
    read = []
    for cell, stored in zip(cells, data["cells"], strict=True):
        values = stored["values"] | {"seed": stored["seeds"]}
        rows = zip(*values.values(), strict=True)
        runs = [dict(zip(values, map(_number, row), strict=True)) for row in rows]
        read.append(replace(cell, runs=runs))
    others = ("name", "title", "question", "findings", "cells")
    return Results(experiment, read, {n: value for n, value in data.items() if n not in others})


def _number(value):
    """Return NaN for a number that was none, anything else as it is."""
    if isinstance(value, list):
        return [_number(part) for part in value]
    if isinstance(value, dict):
        return {name: _number(part) for name, part in value.items()}
    return math.nan if value is None else value


def _origin(results):
    """Return what the runs were made by, their number and seconds: as it is stored, if it is."""
    if "runs" in results.origin:
        return results.origin
    # A run that two cells share was computed once, and counts once.
    each = (run for cell in results.cells for run in cell.runs)
    runs = {json.dumps(run, default=str): run for run in each}.values()
    versions = [run.get("versions", {}) for run in runs]
    return {
        **{name: _distinct(runs, name) for name in ("commit", "date", "machine", "device")},
        "versions": {name: _distinct(versions, name) for name in dict.fromkeys(chain(*versions))},
        "runs": len(runs),
        "seconds": float(sum(run.get("seconds", 0) for run in runs)),
        **results.origin,
    }


def _distinct(parts, name):
    return ", ".join(sorted({str(part[name]) for part in parts if part.get(name)}))


def _json_cell(cell, experiment):
    names = dict.fromkeys((*experiment.measures, *_ALWAYS, *experiment.kept))
    measured = [name for name in names if any(name in run for run in cell.runs)]
    data = {
        "labels": cell.labels,
        "runs": len(cell.runs),
        "values": {name: [run.get(name) for run in cell.runs] for name in measured},
    }
    if any("seed" in run for run in cell.runs):
        data["seeds"] = [run.get("seed") for run in cell.runs]
    return data


def plain(value):
    """Return a value as JSON has it: plain, None for what is not a number."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    return _text(value)


_EMPTY = "\u2013"
_INSIDE = {True: "✓ ", False: "✗ ", None: ""}
_VERDICTS = {True: "✓ holds: ", False: "✗ does not hold: ", UNDECIDED: "? undecided: ", None: ""}
_DIGITS = {"accuracy": 2, "entropy": 3, "steps": 0, "adds": 2}  # by the last word of a measure
_POSSIBLE = {"accuracy": (0.0, 100.0), "entropy": (0.0, math.inf)}  # a t-interval knows no bounds
_UNITS = {"accuracy": " (%)", "entropy": " (nats)", "adds": " (millions)"}
_WORDS = {None: "none", True: "yes", False: "no"}
_LEGEND = {  # by what is in a table
    "[": "Ours: mean ± standard deviation, [95 % t-interval of the mean, as far as it is "
    "possible].",
    "✓|✗": "✓ inside, ✗ outside: whether our mean lies within two published standard deviations of "
    "the published one; where a single run was published, within three points of it.",
    "(quoted)": "Quoted: as others cite the paper.",
    "(recorded)": "Recorded: from the authors' notebooks.",
}
_SPECIAL = re.compile(r"([\\|<*`])")


def to_markdown(results):
    """Return the table of an experiment with its question and findings.

    Parameters
    ----------
    results : Results

    Returns
    -------
    markdown : str
        The figure is that of :func:`write_report`, beside the text.
    """
    experiment, origin = results.experiment, results.origin
    table = _table(results)
    signs = "".join(table)
    legend = [t for s, t in _LEGEND.items() if any(sign in signs for sign in s.split("|"))]
    parts = [f"# {_escape(experiment.title)}", _escape(experiment.question), "\n".join(table)]
    findings = [f"- {_VERDICTS[f.holds]}{_escape(f.text)}" for f in results.findings()]
    parts += [" ".join(legend), "\n".join(findings)]
    if experiment.draw:
        parts.append(f"![Figure: {_escape(experiment.title)}]({experiment.name}.png)")
    if origin.get("command"):
        made = {"command": "by `{}`", "commit": "at commit {}", "date": "{}", "machine": "on {}"}
        origin = _origin(results)
        made = [text.format(origin[name]) for name, text in made.items() if origin.get(name)]
        parts.append(f"Made {', '.join(made)}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def _table(results):
    """Return the lines of the table, without the columns that nothing is in."""
    cells = results.cells
    columns = {}
    for name in dict.fromkeys(name for cell in cells for name in cell.labels):
        labels = [cell.labels for cell in cells]
        columns[_title(name)] = [_escape(_text(of[name])) if name in of else None for of in labels]
    columns["runs"] = [str(len(cell.runs)) for cell in cells]
    for measure in results.experiment.measures:
        heading = _title(measure) + _UNITS.get(_kind(measure), "")
        ours = [_ours(cell, measure) for cell in cells]
        paper = [_paper(cell, measure) for cell in cells]
        columns[f"{heading}, ours" if any(paper) else heading] = ours
        columns[f"{heading}, paper"] = paper
    filled = [[_escape(name), *texts] for name, texts in columns.items() if any(texts)]
    rows = [list(row) for row in zip(*filled, strict=True)]
    rows = [[_EMPTY if text is None else text for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]


def _escape(text):
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _text(value):
    """Return the value of a label as it is read, not as it is typed."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return getattr(value, "__name__", None) or " ".join(str(value).split())


def _ours(cell, measure):
    if not cell.has(measure):
        return None
    values, (mean, *ends) = cell.values(measure), cell.interval(measure)
    if len(values) < 2 or not math.isfinite(mean):
        return _digits(mean, measure)
    least, most = _POSSIBLE.get(_kind(measure), (-math.inf, math.inf))
    low, high = (_digits(min(max(end, least), most), measure) for end in ends)
    return f"{_spread(mean, values.std(ddof=1), measure)} [{low}, {high}]"


def _paper(cell, measure):
    published = cell.published and cell.published.value(measure)
    if not published:
        return None
    mark = _INSIDE[cell.inside(measure)]
    return f"{mark}{_spread(*published, measure)} ({cell.published.grade})"


def _spread(mean, std, measure):
    text = _digits(mean, measure)
    return text if std is None else f"{text} ± {_digits(std, measure)}"


def _digits(value, measure):
    if not math.isfinite(value):
        return str(value)
    digits = _DIGITS.get(_kind(measure))
    if digits is None and abs(value) < 1000:
        return f"{value:.4g}"
    digits = digits or 0
    # Plus 0.0: no minus before a zero.
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def _kind(measure):
    return measure.rsplit("_")[-1]


def _title(name):
    return name.replace("_", " ")


# Lists and mappings without others inside are written on one line.
_INNERMOST = re.compile(r"\[[^\[\]{}]*\]|{[^\[\]{}]*}")
_FOLDERS = re.compile(r"""(?<![^\s'"=])(~|[A-Za-z]:)?[/\\]([^\s'"/\\]+[/\\])*""")


def write_report(results, out, command=None):
    """Write the report of some experiments.

    Parameters
    ----------
    results : sequence of Results
    out : path-like
        Folder, made where it is missing. It gets `<name>.md`, `<name>.json` and, if the experiment
        draws something, `<name>.png`.
    command : str, default=None
        How the results were made; None: as they say themselves. Absolute paths in it are shortened,
        because they say more about a machine than about results.

    Returns
    -------
    paths : list of Path
        The Markdown files.

    Raises
    ------
    ValueError
        If two experiments have the same name, and would overwrite each other's files.
    """
    names = [r.experiment.name for r in results]
    if len(set(names)) < len(names):
        raise ValueError(f"Experiments need names of their own, got {names}.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, r in zip(names, results, strict=True):
        if command:
            r = replace(r, origin=r.origin | {"command": _FOLDERS.sub("…/", command)})
        if r.experiment.draw:
            figure = r.experiment.draw(r)
            figure.savefig(out / f"{name}.png", dpi=150, facecolor="white")
        text = json.dumps(to_json(r), indent=1, allow_nan=False, ensure_ascii=False)
        text = _INNERMOST.sub(lambda part: " ".join(part[0].split()), text)
        (out / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
        paths.append(out / f"{name}.md")
        paths[-1].write_text(to_markdown(r), encoding="utf-8")
    return paths
