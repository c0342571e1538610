"""Results as files: three for each experiment, and one HTML page of all."""

import json
import re
from base64 import b64encode
from collections import Counter
from importlib.resources import files
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import NamedTuple

from .._statistics import UNDECIDED
from .data import origin, to_json
from .markdown import to_markdown
from .table import EMPTY, INSIDE, VERDICTS, commands, legend, tabulate

__all__ = ["write_report"]

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
    pictures = {r.experiment.name: _draw(r) for r in results if r.experiment.draw}
    for name, r in zip(names, results, strict=True):
        (out / f"{name}.md").write_text(to_markdown(r, command), encoding="utf-8")
        data = json.dumps(to_json(r, command), indent=1, allow_nan=False, ensure_ascii=False)
        (out / f"{name}.json").write_text(f"{data}\n", encoding="utf-8")
        if name in pictures:
            (out / f"{name}.png").write_bytes(pictures[name].png)
    path = out / "report.html"
    path.write_text(_to_html(results, pictures, command), encoding="utf-8")
    return path


class _Picture(NamedTuple):
    png: bytes
    width: int  # on the page

    @property
    def url(self):
        return f"data:image/png;base64,{b64encode(self.png).decode()}"


def _draw(results):
    figure = results.experiment.draw(results)
    file = BytesIO()
    figure.savefig(file, format="png", dpi=150, facecolor="white")
    return _Picture(file.getvalue(), round(96 * figure.get_figwidth()))


def _to_html(results, pictures, command):
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = (files(__package__) / "report.html.jinja").read_text(encoding="utf-8")
    sections = [_section(r, pictures.get(r.experiment.name)) for r in results]
    return environment.from_string(template).render(
        sections=sections,
        tally=_tally(*results),
        origin=_readable(origin(results)),
        command=command,
        EMPTY=EMPTY,
        INSIDE=INSIDE,
        VERDICTS=VERDICTS,
    )


def _section(results, picture):
    table = tabulate(results)
    return {
        "experiment": results.experiment,
        "table": table,
        "legend": legend(table),
        "findings": results.findings(),
        "picture": picture,
        "commands": commands(results),
        "tally": _tally(results),
        "origin": _readable(origin([results])),
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


def _readable(origin):
    return origin | {"time": _duration(origin["seconds"])}


def _duration(seconds):
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
