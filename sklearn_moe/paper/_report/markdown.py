"""Results as Markdown, to be read in a terminal as well."""

import re

from .table import EMPTY, INSIDE, VERDICTS, commands, legend, tabulate

__all__ = ["to_markdown"]

_SPECIAL = re.compile(r"([\\|<*`])")


def to_markdown(results, command=None):
    """Return the table of an experiment with its question, findings and picture.

    Parameters
    ----------
    results : Results
    command : str, default=None
        How they were made.

    Returns
    -------
    markdown : str
        The picture is that of :func:`write_report`, beside the text.
    """
    experiment = results.experiment
    table = tabulate(results)
    parts = [f"# {_escape(experiment.title)}", _escape(experiment.question), _grid(table)]
    parts.append(" ".join(legend(table)))
    parts.append("\n".join(map(_finding, results.findings())))
    if experiment.draw:
        parts.append(f"![Picture: {_escape(experiment.title)}]({experiment.name}.png)")
    parts.append("\n".join(f"- {_escape(what)}: `{how}`" for what, how in commands(results)))
    if command:
        parts.append(f"Made by `{command}`.")
    return "\n\n".join(filter(None, parts)) + "\n"


def _grid(table):
    head = [column.name for column in table.labels] + [
        f"{heading}, {column.name}" if heading else column.name
        for heading, columns in table.groups
        for column in columns
    ]
    rows = [list(map(_escape, head))]
    rows += [[_cell(entry) for entry in (*labels, *entries)] for labels, entries in table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


def _cell(entry):
    if entry is None:
        return EMPTY
    note = entry.note if entry.note.startswith("[") else entry.note and f"({entry.note})"
    return " ".join(filter(None, [INSIDE[entry.inside], _escape(entry.text), note]))


def _finding(finding):
    text = _escape(finding.text)
    return f"- {text}" if finding.holds is None else f"- {VERDICTS[finding.holds]}: {text}"


def _escape(text):
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
