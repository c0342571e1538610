"""The numbers in tables of the documentation are those of the stored results.

Looked up are all numbers with a decimal point, of rows that name a result, a spread or an interval.
"""

import json
import re
from functools import cache
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from sklearn_moe.paper._statistics import mean_interval

DOCS = Path(__file__).parents[2] / "docs"
TABLES, FOLDERS = ("table1", "appendix"), ("", "protocol-paper/", "data-fresh/")
IMAGES = [f"{path.parent.name}/table2" for path in DOCS.glob("results/*/table2.json")]
# The results of rows that name none, None if only rows that name one are of results, and numbers
# that are of no result.
PAGES = {
    "claims.rst": (
        (),
        "87.5 4.6 4.1 2.8 2.1 .029 .059 .001 .0496 .509 .224 .068 .032 96.2 94.9",
    ),
    "limit_training.rst": (("limit", "basin"), ""),
    "shares.rst": (("shares", *IMAGES), ""),
    "paper.rst": (list(map("".join, product(FOLDERS, TABLES))), ""),
}


def read(name):
    return (DOCS / name).read_text(encoding="utf-8")


def cells_of(name):
    return json.loads(read(f"results/{name}.json"))["cells"]


@cache
def known(name):
    """Return the numbers on the page of a result, and by how much its cells differ, as positive."""
    text = read(f"results/{name}.md").replace(",", "")
    numbers = [float(number) for number in re.findall(r"\d+\.?\d*", text)]
    pairs = product(combinations(cells_of(name), 2), ("accuracy", "best_epoch_accuracy"))
    for (one, other), measure in pairs:
        values = [np.array(cell["values"].get(measure, ())) for cell in (one, other)]
        if all(map(len, values)) and one["labels"]["setting"] == other["labels"]["setting"]:
            numbers.append(values[0].mean() - values[1].mean())
            if len(values[0]) == len(values[1]):
                gain = mean_interval(values[0] - values[1])
                numbers += [*gain, gain.high - gain.mean]
    return np.abs(numbers)


def rows(name):
    """Yield the rows of all tables of a page, and the results that each one, or the last, names."""
    links = []
    # A row of a csv-table is a line, with ; or | between its cells.
    text = re.sub(r"(?m)^( {3,6})(?=[^ :].*(;|\|) )", r"\1* - ", read(name))
    for block in re.split(r"\n(?= *\* - |\|)|\n\n(?=\S)", text):
        if re.match(r" *\* - |\|", block):
            links = links if "the same" in block else []
            for of in re.findall(r":doc:`(?:results/)?([\w/-]+)`", block):
                paths = (of, f"{of}/{of}")  # of a page, and of the page with its results
                links = links + [p for p in paths if (DOCS / f"results/{p}.json").exists()]
            yield block, links
        else:
            links = []


@pytest.mark.parametrize("name", PAGES)
def test_numbers_of_tables(name):
    names, others = PAGES[name]
    wrong, n_numbers = {}, 0
    for row, links in rows(name):
        if links or (names is not None and re.search(r"±|\d to [-.\d]", row)):
            numbers = np.concatenate([known(of) for of in links or names or TABLES])
            written = re.findall(r"(?<![\w.=/-])[-+]?(\d{0,3}\.\d{1,4})(?![\w.])", row)
            n_numbers += len(written)
            for text in {*written} - {*others.split()}:
                half = 0.5 * 0.1 ** len(text.partition(".")[2]) + 1e-9
                if not (np.abs(numbers - float(text)) <= half).any():
                    wrong.setdefault(row.strip(), []).append(text)
    assert not wrong
    assert n_numbers > 5
