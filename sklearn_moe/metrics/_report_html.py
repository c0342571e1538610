"""A specialization report as HTML, which notebooks show in place of its one line."""

from html import escape
from itertools import groupby

from ._report_lines import NOTES, format_figure, report_lines

__all__ = ["report_html"]

# No colors of its own but shades: it is read in light and in dark notebooks.
_STYLE = (
    "<style>.moe-report{overflow-x:auto}"
    ".moe-report table{border-collapse:collapse;margin:.5em 0;font-size:inherit}"
    ".moe-report td,.moe-report th{padding:.15em .7em;text-align:right;border:0}"
    ".moe-report td:first-child,.moe-report td:last-child{text-align:left}"
    ".moe-report .group{text-align:left;padding-top:.7em;font-weight:bold}"
    ".moe-report .note{font-weight:normal;opacity:.7}</style>"
)
_SHADE = "rgba(0, 114, 178, {:.2f})"


def report_html(report, title, sentences, with_matrix):
    """Return the figures, each beside its null, then `sentences` and the routing matrix."""
    has_kmeans = report.agreement is not None
    columns = ["", "value", "null", *(["k-means"] if has_kmeans else []), ""]
    rows = [_row("th", columns)]
    for group, figures in groupby(report_lines(report), key=lambda figure: figure.group):
        note = f' <span class="note">{escape(NOTES[group])}</span>' if group in NOTES else ""
        rows.append(
            f'<tr><td class="group" colspan="{len(columns)}">{escape(group)}{note}</td></tr>'
        )
        for figure in figures:
            values = [figure.value, figure.null, *([figure.kmeans] if has_kmeans else [])]
            cells = [figure.name, *map(format_figure, values), figure.reading]
            rows.append(_row("td", cells))
    parts = [f"<b>{escape(title)}</b>", f"<table>{''.join(rows)}</table>"]
    parts += [f"<p>{escape(sentence)}</p>" for sentence in sentences]
    if with_matrix:
        parts.append(_matrix(report.routing_matrix, report.cluster_labels))
    return f'{_STYLE}<div class="moe-report">{"".join(parts)}</div>'


def _row(tag, cells):
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"


def _matrix(matrix, labels):
    """Return the routing matrix, each cell shaded by its share of its row."""
    rows = [_row("th", ["cluster", *(f"expert {m}" for m in range(matrix.shape[1]))])]
    for label, counts in zip(labels, matrix, strict=True):
        total = max(counts.sum(), 1)
        cells = "".join(
            f'<td style="background:{_SHADE.format(0.6 * count / total)};text-align:right">'
            f"{count:g}</td>"
            for count in counts
        )
        rows.append(f"<tr><td>{escape(str(label))}</td>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"
