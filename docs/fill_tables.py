"""Fill tables of pages from stored results, as each build of the documentation does at first.

`python docs/fill_tables.py` does only this. "Filled by docs/fill_tables.py: NAME" stands above such
a table. If a row begins with the name of a model, or of data, that the results of this name have,
its other cells are theirs; other rows stay as they are.
"""

import csv
import json
import re
from pathlib import Path

import numpy as np

from sklearn_moe.paper._statistics import mean_interval

DOCS = Path(__file__).parent
PAGES = ("../README.md", "when.rst", "images.rst", "measurements.rst")
BESIDE = "MoE over each model, on the folds that both have"
PEERS = "MoE", "plain mixture", "MLP", "HistGradientBoosting", "LightGBM", "CatBoost", "RealMLP"
IMAGES = {
    "single network": "cnn single",
    "mixture, shared convolutions": "cnn trunk",
    "single network, wider layer": "cnn wide",
    "mixture of whole networks": "cnn mixture",
}


def report(name):
    """Return what a benchmark has written, {title: {model: row}}; of halves only both together."""
    found = {}
    for block in (DOCS / "tables" / name).read_text("utf-8").split(".. csv-table:: ")[1:]:
        title, *lines = block.splitlines()
        rows = csv.DictReader(line.strip() for line in lines if re.match(" +[^ :]", line))
        found[title] = {row.get("model"): row for row in rows if row.get("half", "all") == "all"}
    return found


def real_tables():
    """Yield names of tables and their cells, {model: cells}, of the comparisons on real tables."""
    found, both = report("tables.inc"), {}
    for kind, error in (("Classification", "log loss"), ("Regression", "(1 - R2)")):
        for of, row in found[f"{kind}: {BESIDE}"].items():
            row["time"] = row["time of fit, predict"].split(",")[0]
            both.setdefault(of, []).extend([row[f"{error}, ratio"], row["time"]])
        columns = (f"{error}, ratio", "second half, ratio", "better on", "time")
        rows = found[f"{kind}: {BESIDE}"].items()
        yield kind, {of: [row[column] for column in columns] for of, row in rows}
    yield "Both", {of: cells for of, cells in both.items() if len(cells) == 4}
    costs = found["Classification: time and training"]
    columns = "log loss", "accuracy %", "rank, log loss", "time of fit / MLP"
    rows = found["Classification: means over the tables"].items()
    yield "Means", {of: [(row | costs[of])[column] for column in columns] for of, row in rows}


def small_data():
    """Return the log loss, or R2, of each model, {name of the data: cells}."""
    return {
        title.split(",")[0]: [
            (rows[of].get("log loss") or rows[of]["R2"]).split(" ")[0] for of in PEERS
        ]
        for title, rows in report("peers.inc").items()
        if "MoE" in rows
    }


def images():
    """Return work, accuracies in % and differences to the single network, {model: cells}."""
    cells = {name: [] for name in IMAGES}
    for folder in ("table2-trunk", "table2-trunk-10000"):
        stored = json.loads((DOCS / "results" / folder / "table2.json").read_text("utf-8"))
        values = {cell["labels"]["model"]: cell["values"] for cell in stored["cells"]}
        for name, of in IMAGES.items():
            found = values.get(of, {"accuracy": []})
            if not cells[name]:  # the work is the same for all images
                cells[name].append(f"{np.mean(found['multiply_adds']):.2f}")
            text = f"{np.mean(found['accuracy']):.2f}" if found["accuracy"] else "not run"
            if found["accuracy"] and of != "cnn single":
                gains = np.subtract(found["accuracy"], values["cnn single"]["accuracy"])
                gain = mean_interval(gains)
                text += f", {gain.mean:+.2f} ± {gain.high - gain.mean:.2f}"
            cells[name].append(text)
    return cells


def filled(text, tables):
    """Return the text of a page with the cells of its tables."""
    lines, cells = [], {}
    for line in text.splitlines():
        if mark := re.search(r"Filled by docs/fill_tables.py: (\w+)", line):
            cells = tables[mark[1]]
        start, *others = line.split(" | ")
        if others and (name := start.strip(" |*")) in cells:
            # .75 (.66 to .85), not 0.75 [0.66, 0.85].
            text = re.sub(r"\b0(?=\.)", "", " | ".join([start, *cells[name]]))
            text = re.sub(r"\[(\S+), (\S+)\]", r"(\1 to \2)", text)
            line = text + " |" * line.startswith("|")
        elif re.match("[A-Za-z]", line):  # the text that follows
            cells = {}
        lines.append(line)
    return "\n".join(lines) + "\n"


def stored():
    """Return the cells of all tables, {name: {model or data: cells}}."""
    return dict(real_tables()) | {"Small": small_data(), "Images": images()}


def main():
    """Fill the tables of all pages."""
    tables = stored()
    for page in PAGES:
        text = (DOCS / page).read_text("utf-8")
        if (new := filled(text, tables)) != text:
            (DOCS / page).write_text(new, "utf-8")


if __name__ == "__main__":
    main()
