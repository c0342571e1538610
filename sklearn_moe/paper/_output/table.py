"""A table of results as columns of short texts: what Markdown and HTML have in common."""

import math
from typing import NamedTuple

import numpy as np

from .._statistics import UNDECIDED

EMPTY = "\u2013"
INSIDE = {True: "✓", False: "✗", None: ""}
# Of a finding:
VERDICTS = {True: "✓ holds", False: "✗ does not hold", UNDECIDED: "? undecided", None: "•"}

_DIGITS = {"accuracy": 2, "entropy": 3, "steps": 0, "adds": 2}  # by the last word of a measure
_POSSIBLE = {"accuracy": (0.0, 100.0), "entropy": (0.0, math.inf)}  # a t-interval knows no bounds
_UNITS = {"accuracy": " (%)", "entropy": " (nats)", "adds": " (millions)"}
_WORDS = {None: "none", True: "yes", False: "no"}
_GRADES = {
    "quoted": "Quoted: as others cite the paper.",
    "recorded": "Recorded: from the authors' notebooks.",
}


class Entry(NamedTuple):
    """A number as text, what stands beside it in small print, and whether the two agree."""

    text: str
    note: str = ""
    inside: bool | None = None


class Column(NamedTuple):
    """A column; None where an entry is empty."""

    name: str
    entries: list[Entry | None]


class Group(NamedTuple):
    """Columns under a common heading; without one each speaks for itself."""

    heading: str
    columns: list[Column]


class Table(NamedTuple):
    """Columns that say what was run, and groups of what came out."""

    labels: list[Column]
    groups: list[Group]

    @property
    def rows(self):
        """Return (labels, entries) of every row."""
        columns = [column for group in self.groups for column in group.columns]
        parts = ([column.entries for column in part] for part in (self.labels, columns))
        return list(zip(*(zip(*entries, strict=True) for entries in parts), strict=True))


def tabulate(results):
    """Return the table of an experiment, without the columns that nothing is in."""
    cells = results.cells
    names = dict.fromkeys(name for cell in cells for name in cell.labels)
    texts = [{n: Entry(label_text(value)) for n, value in cell.labels.items()} for cell in cells]
    labels = [Column(_title(name), [of.get(name) for of in texts]) for name in names]
    runs = Group("", [Column("runs", [Entry(str(len(cell.runs))) for cell in cells])])
    groups = [_measure(measure, cells) for measure in results.experiment.measures]
    return Table(labels, [runs, *(group for group in groups if group.columns)])


def legend(table):
    """Return sentences on what the signs in a table mean, of those that are there."""
    columns = [column for group in table.groups for column in group.columns]
    entries = [entry for column in columns for entry in column.entries if entry]
    sentences = []
    if any(entry.note.startswith("[") for entry in entries):
        sentences.append(
            "Ours: mean ± standard deviation, [95 % t-interval of the mean, as far as it is "
            "possible]."
        )
    if any(entry.inside is not None for entry in entries):
        sentences.append(
            "✓ inside, ✗ outside: whether our mean lies within two published standard deviations "
            "of the published one; where a single run was published, within three points of it."
        )
    notes = {entry.note for entry in entries}
    return sentences + [meaning for grade, meaning in _GRADES.items() if grade in notes]


def commands(results):
    """Return (cell, command) of all cells that can be made alone, as texts."""
    make = results.experiment.command
    return [
        (", ".join(map(label_text, cell.labels.values())), make(cell))
        for cell in (results.cells if make else [])
    ]


def label_text(value):
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
        return ", ".join(map(label_text, value))
    return getattr(value, "__name__", None) or " ".join(str(value).split())


def _measure(measure, cells):
    ours = [_ours(cell, measure) for cell in cells]
    paper = [_paper(cell, measure) for cell in cells]
    heading = _title(measure) + _UNITS.get(_kind(measure), "")
    if not any(paper):
        return Group("", [Column(heading, ours)] if any(ours) else [])
    columns = [Column("ours", ours), Column("paper", paper)]
    return Group(heading, columns if any(ours) else columns[1:])


def _ours(cell, measure):
    if not cell.has(measure):
        return None
    ours = cell.summary(measure)
    if not math.isfinite(ours.std):
        return Entry(_number(ours.mean, measure))
    least, most = _POSSIBLE.get(_kind(measure), (-math.inf, math.inf))
    low, high = _number(max(ours.low, least), measure), _number(min(ours.high, most), measure)
    return Entry(_spread(ours.mean, ours.std, measure), f"[{low}, {high}]")


def _paper(cell, measure):
    published = cell.published and cell.published.value(measure)
    if not published:
        return None
    return Entry(_spread(*published, measure), cell.published.grade, cell.inside(measure))


def _spread(mean, std, measure):
    text = _number(mean, measure)
    return text if std is None else f"{text} ± {_number(std, measure)}"


def _number(value, measure):
    if not math.isfinite(value):
        return str(value)
    digits = _DIGITS.get(_kind(measure))
    if digits is None and abs(value) < 1000:
        return f"{value:.4g}"
    digits = digits or 0
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no minus before a zero


def _kind(measure):
    return measure.rsplit("_")[-1]


def _title(name):
    return name.replace("_", " ")
