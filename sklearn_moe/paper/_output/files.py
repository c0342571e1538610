"""Results as JSON, as Markdown, and as one HTML page."""

import json
import math
import re
from base64 import b64encode
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from io import BytesIO
from itertools import chain, product
from pathlib import Path

import numpy as np

from .._experiment import Results
from .._statistics import UNDECIDED
from .table import EMPTY, INSIDE, VERDICTS, commands, label_text, legend, tabulate

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
        Plain values; None for what is not a number.
    """
    experiment = results.experiment
    return _plain(
        {
            "name": experiment.name,
            "title": experiment.title,
            "question": experiment.question,
            "command": command,
            "findings": [finding._asdict() for finding in results.findings()],
            **_origin(results),
            "cells": [_json_cell(cell, experiment) for cell in results.cells],
        }
    )


def from_json(data, experiment, cells):
    """Return the results that :func:`to_json` has written: what the tables and figures show.

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
    found = []
    for cell, stored in zip(cells, data["cells"], strict=True):
        values = stored["values"] | {"seed": stored["seeds"]}
        rows = zip(*values.values(), strict=True)
        runs = [dict(zip(values, map(_number, row), strict=True)) for row in rows]
        found.append(replace(cell, runs=runs))
    return Results(experiment, found)


def _number(value):
    """Return NaN for a number that was none, anything else as it is."""
    if isinstance(value, list):
        return [_number(part) for part in value]
    if isinstance(value, dict):
        return {name: _number(part) for name, part in value.items()}
    return math.nan if value is None else value


def _origin(*all_results):
    """Return what the runs of some experiments were made by, their number and seconds.

    A run that two cells share was computed once, and counts once.
    """
    cells = [cell for results in all_results for cell in results.cells]
    distinct = {json.dumps(run, default=str): run for cell in cells for run in cell.runs}
    runs = distinct.values()
    versions = [run.get("versions", {}) for run in runs]
    return {
        **{name: _distinct(runs, name) for name in ("commit", "code", "date", "machine", "device")},
        "versions": {name: _distinct(versions, name) for name in dict.fromkeys(chain(*versions))},
        "runs": len(runs),
        "seconds": float(sum(run.get("seconds", 0) for run in runs)),
    }


def _distinct(parts, name):
    return ", ".join(sorted({str(part[name]) for part in parts if part.get(name)}))


def _json_cell(cell, experiment):
    names = dict.fromkeys((*experiment.measures, *_ALWAYS, *experiment.kept))
    found = [name for name in names if any(name in run for run in cell.runs)]
    published = {
        name: dict(zip(("value", "std"), pair, strict=True))
        | {"grade": cell.published.grade, "inside": cell.inside(name)}
        for name in names
        if (pair := cell.published and cell.published.value(name))
    }
    data = {
        "labels": cell.labels,
        "runs": len(cell.runs),
        "values": {name: [run.get(name) for run in cell.runs] for name in found},
        "published": published,
    }
    for name in ("seed", "key"):
        if any(name in run for run in cell.runs):
            data[f"{name}s"] = [run.get(name) for run in cell.runs]
    return data | {"command": experiment.command(cell)} if experiment.command else data


def _plain(value):
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    return label_text(value)


_SPECIAL = re.compile(r"([\\|<*`])")


def to_markdown(results, data=None):
    """Return the table of an experiment with its question, findings and figure.

    Parameters
    ----------
    results : Results
    data : dict, default=None
        What :func:`to_json` has made of them: says by what they were made.

    Returns
    -------
    markdown : str
        The figure is that of :func:`write_report`, beside the text.
    """
    experiment = results.experiment
    table = tabulate(results)
    parts = [f"# {_escape(experiment.title)}", _escape(experiment.question), _grid(table)]
    parts.append(" ".join(legend(table)))
    parts.append("\n".join(map(_finding, results.findings())))
    if experiment.draw:
        parts.append(f"![Figure: {_escape(experiment.title)}]({experiment.name}.png)")
    parts.append("\n".join(f"- {_escape(what)}: `{how}`" for what, how in commands(results)))
    if data and data["command"]:
        made = {"command": "by `{}`", "commit": "at commit {}", "date": "{}", "machine": "on {}"}
        made = [text.format(data[name]) for name, text in made.items() if data.get(name)]
        parts.append(f"Made {', '.join(made)}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def _grid(table):
    head = [column.name for column in table.labels] + [
        f"{heading}, {column.name}" if heading else column.name
        for heading, columns in table.groups
        for column in columns
    ]
    rows = [list(map(_escape, head))]
    rows += [list(map(_markdown_cell, (*labels, *entries))) for labels, entries in table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


def _markdown_cell(entry):
    if entry is None:
        return EMPTY
    note = entry.note if entry.note.startswith("[") else entry.note and f"({entry.note})"
    return " ".join(filter(None, [INSIDE[entry.inside], _escape(entry.text), note]))


def _finding(finding):
    text = _escape(finding.text)
    return f"- {text}" if finding.holds is None else f"- {VERDICTS[finding.holds]}: {text}"


def _escape(text):
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


_LISTS = re.compile(r"\[[^\[\]{}]*\]")  # without lists inside: on one line
_FOLDERS = re.compile(r"""(?<![^\s'"=])(~|[A-Za-z]:)?[/\\]([^\s'"/\\]+[/\\])*""")


def write_report(results, out, command=None):
    """Write the report of some experiments.

    Parameters
    ----------
    results : sequence of Results
    out : path-like
        Folder, made where it is missing. It gets `report.html`, which needs no other file, and for
        each experiment `<name>.md`, `<name>.json` and, if it draws something, `<name>.png`.
    command : str, default=None
        How the results were made. Absolute paths in it are shortened, because they say more about
        a machine than about results.

    Returns
    -------
    path : Path
        The HTML file.

    Raises
    ------
    ValueError
        If two experiments have the same name, and would overwrite each other's files.
    """
    command = command and _FOLDERS.sub("…/", command)
    names = [r.experiment.name for r in results]
    if len(set(names)) < len(names):
        raise ValueError(f"Experiments need names of their own, got {names}.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    figures = {r.experiment.name: _draw(r) for r in results if r.experiment.draw}
    for name, r in zip(names, results, strict=True):
        _write(r, to_json(r, command), out, figures.get(name))
    path = out / "report.html"
    path.write_text(_to_html(results, figures, command), encoding="utf-8")
    return path


def _write(results, data, out, figure):
    """Write the files of one experiment."""
    name = results.experiment.name
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    text = _LISTS.sub(lambda numbers: " ".join(numbers[0].split()), text)
    (out / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    (out / f"{name}.md").write_text(to_markdown(results, data), encoding="utf-8")
    if figure:
        (out / f"{name}.png").write_bytes(figure[0])


def write_again(results, data, out):
    """Write findings, table and figure anew, of results as :func:`from_json` has read them.

    Parameters
    ----------
    results : Results
    data : dict
        The stored ones: all but the texts stays.
    out : Path
        Folder of the files.
    """
    texts = to_json(results)
    data = data | {name: texts[name] for name in ("title", "question", "findings")}
    _write(results, data, out, _draw(results) if results.experiment.draw else None)


def _draw(results):
    """Return the figure of an experiment as the bytes of a PNG, and its width on the page."""
    figure = results.experiment.draw(results)
    file = BytesIO()
    figure.savefig(file, format="png", dpi=150, facecolor="white")
    return file.getvalue(), round(96 * figure.get_figwidth())


def _to_html(results, figures, command):
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"base64": lambda png: b64encode(png).decode(), "time": _duration}
    template = (files(__package__) / "report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        sections=[_section(r, figures.get(r.experiment.name)) for r in results],
        tally=_tally(*results),
        origin=_origin(*results),
        command=command,
        EMPTY=EMPTY,
        INSIDE=INSIDE,
        VERDICTS=VERDICTS,
    )


def _section(results, figure):
    table = tabulate(results)
    return {
        "experiment": results.experiment,
        "table": table,
        "legend": legend(table),
        "findings": results.findings(),
        "figure": figure,
        "commands": commands(results),
        "tally": _tally(results),
        "origin": _origin(results),
    }


def _tally(*all_results):
    """Count published values that we are inside and outside of, and claims that hold or fail.

    A published value that several experiments show counts for the first of them.
    """
    inside = {}
    for results in all_results:
        for cell, measure in product(results.cells, results.experiment.measures):
            inside.setdefault((id(cell.published), measure), cell.inside(measure))
    inside = list(inside.values())
    holds = [finding.holds for results in all_results for finding in results.findings()]
    return Counter(
        inside=inside.count(True),
        outside=inside.count(False),
        holds=holds.count(True),
        fails=holds.count(False),
        undecided=holds.count(UNDECIDED),
    )


def _duration(seconds):
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
