"""What the results of tables.py say: means, ranks, ratios and paired differences."""

import csv
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from itertools import combinations
from textwrap import indent
from typing import NamedTuple

import numpy as np
import pandas
from measure import print_table
from scipy.stats import t
from tables_models import MLP, MODELS, MOE, ONE
from tables_picture import draw

from sklearn_moe.paper._statistics import Interval, mean_interval

__all__ = ["N_FOLDS", "print_report", "results_by_kind", "write_report"]

N_FOLDS = 5  # a fold trains on 4 times as many rows as it tests on


class Score(NamedTuple):
    """A column of the results, and how it is shown."""

    column: str
    title: str
    larger_is_better: bool
    scale: int
    digits: int

    def text(self, value, sign=""):
        """Return a value as text, or nothing of a model that has none."""
        return number(self.scale * value, self.digits, sign)

    def interval(self, interval):
        """Return a difference and its interval."""
        mean, *ends = (self.text(value, "+") for value in interval)
        return f"{mean} [{', '.join(ends)}]" if all(ends) else mean


SCORES = {
    "classification": (
        Score("accuracy", "accuracy %", True, 100, 2),
        Score("log_loss", "log loss", False, 1, 3),
    ),
    "regression": (Score("r2", "R2", True, 1, 3),),
}
ERRORS = {"classification": "log loss", "regression": "(1 - R2)"}  # whose ratios are shown


@dataclass
class Results:
    """The fits of one kind, of the same folds for all models."""

    kind: str
    models: list
    first_half: set  # names of tables
    frame: pandas.DataFrame

    def parts(self):
        """Yield all tables and their halves, by name; a half alone if there is no other."""
        first = self.frame["table"].isin(self.first_half)
        parts = {"first": first, "second": ~first}
        parts = {name: rows for name, rows in parts.items() if rows.any()}
        if len(parts) > 1:
            yield "all", self
        for name, rows in parts.items():
            yield name, replace(self, frame=self.frame[rows])

    def folds(self, column):
        """Return a column, models beside each other, without those that do not have it."""
        keys = ["table", "repeat", "fold"]
        folds = self.frame.pivot(index=keys, columns="model", values=column)
        return folds[self.models].dropna(axis=1, how="all")

    def means(self, column):
        """Return the means over the folds, tables below each other."""
        return self.folds(column).groupby("table").mean()

    def differences(self, score, first, second):
        """Return {table: differences of two models on its folds}."""
        folds = self.folds(score.column)
        return dict(iter((folds[first] - folds[second]).groupby("table")))

    def pairs(self):
        """Return the pairs whose differences are shown."""
        return list(combinations([name for name in (MOE, ONE, MLP) if name in self.models], 2))


def number(value, digits, sign=""):
    """Return a number as text, or nothing for NaN."""
    return "" if np.isnan(value) else f"{round(value, digits) + 0.0:{sign}.{digits}f}"  # no -0


def corrected_interval(differences):
    """Return mean and 95 % interval of differences on the folds of one table.

    Folds share training rows, so their differences are not independent: the corrected resampled
    t-test of Nadeau and Bengio (2003) widens the interval.
    """
    n, mean = len(differences), np.mean(differences)
    variance = (1 / n + 1 / (N_FOLDS - 1)) * np.var(differences, ddof=1)
    half = t.ppf(0.975, n - 1) * np.sqrt(variance)
    return Interval(mean, mean - half, mean + half)


def scores(results, score):
    """Yield a row per table, the best in bold."""
    means = results.means(score.column)
    yield "table", "half", *means.columns
    for name, row in means.iterrows():
        best = score.text(row.max() if score.larger_is_better else row.min())
        cells = [f"**{text}**" if text == best else text for text in map(score.text, row)]
        yield name, "first" if name in results.first_half else "second", *cells


def rows_of_parts(results, columns):
    """Yield the header and a row per part and model of `columns(part)`, a dict of series."""
    for i, (name, part) in enumerate(results.parts()):
        table = pandas.DataFrame(columns(part), index=part.models).fillna("")
        if not i:
            yield "half", "model", *table.columns
        yield from ((name, model, *row) for model, row in table.T.items())


def summary(part):
    """Return means over the tables, ranks, and ratios to the MLP."""
    errors, columns = part.means("error"), {}
    for score in SCORES[part.kind]:
        means = part.means(score.column)
        # Of the models with probabilities, so that the ranks of both scores are comparable.
        ranks = means[errors.columns].rank(axis=1, ascending=not score.larger_is_better)
        columns[score.title] = means.mean().map(score.text)
        columns[f"rank, {score.title}"] = ranks.mean().map("{:.2f}".format)
    if part.kind == "classification":
        columns["Brier score"] = part.means("brier").mean().map("{:.3f}".format)
    if MLP in errors:
        ratios, of_means = errors.div(errors[MLP], axis=0), errors.mean() / errors[MLP].mean()
        columns[f"{ERRORS[part.kind]} / MLP"] = of_means.map("{:.3f}".format)
        columns["the same on the worst table"] = (
            ratios.max().map("{:.2f}, ".format) + ratios.idxmax()
        )
    return columns


def costs(part):
    """Return times, beside the MLP's and in seconds, and how training went."""
    columns = {}
    if MLP in part.models:
        for step in ("fit", "predict"):
            times = part.folds(f"{step}_seconds")
            ratios = times.div(times[MLP], axis=0).median()
            columns[f"time of {step} / MLP"] = ratios.map("{:.2f}".format)
    means = part.frame.groupby("model").mean(numeric_only=True)
    columns["seconds a fit"] = means["fit_seconds"].map("{:.2f}".format)
    facts = {"n_iter": ("iterations", 0), "experts_in_use": ("experts in use", 1)}
    for column, (title, digits) in facts.items():
        if column in means:
            columns[title] = means[column].map(partial(number, digits=digits))
    return columns


def wins(score, tables):
    """Return on how many tables a model is better and worse, and on how many of them surely."""
    sign = 1 if score.larger_is_better else -1
    found = [corrected_interval(sign * folds) for folds in tables]
    better, worse = sum(i.mean > 0 for i in found), sum(i.mean < 0 for i in found)
    surely = sum(i.low > 0 for i in found), sum(i.high < 0 for i in found)
    return f"{better} : {worse} ({surely[0]} : {surely[1]})"


def differences(results):
    """Yield a row per pair and part: mean differences over the tables, and wins."""
    columns = SCORES[results.kind]
    titles = [title for score in columns for title in (score.title, "better : worse (surely)")]
    yield "difference", "half", *titles
    for first, second in results.pairs():
        for name, part in results.parts():
            cells = []
            for score in columns:
                tables = part.differences(score, first, second).values()
                mean = mean_interval([folds.mean() for folds in tables])
                cells += [score.interval(mean), wins(score, tables)]
            yield f"{first} - {second}", name, *cells


def differences_by_table(results):
    """Yield a row per table: the differences of the pairs, with corrected intervals."""
    columns = [(score, pair) for score in SCORES[results.kind] for pair in results.pairs()]
    yield "table", *(f"{score.title}, {first} - {second}" for score, (first, second) in columns)
    found = [results.differences(score, *pair) for score, pair in columns]
    for name in sorted(set(results.frame["table"])):
        intervals = [corrected_interval(differences[name]) for differences in found]
        cells = [s.interval(i) for (s, _), i in zip(columns, intervals, strict=True)]
        yield name, *cells


def results_by_kind(frame, models, first_half):
    """Yield the results of either kind, if there are any."""
    # Columns that no model has are of no value, not missing.
    frame = frame.reindex(columns=frame.columns.union(["log_loss", "brier", "r2"]))
    for kind, of_kind in MODELS.items():
        rows = frame[frame["kind"] == kind]
        if len(rows):
            error = rows["log_loss"] if kind == "classification" else 1 - rows["r2"]
            names = {name for of, name in first_half if of == kind}
            present = [model for model in models if model in of_kind]
            yield Results(kind, present, names, rows.assign(error=error))


def tables(results):
    """Yield titles and rows, a header first, of all that there is to say."""
    kind = results.kind.capitalize()
    yield f"{kind}: means over the tables", rows_of_parts(results, summary)
    yield f"{kind}: time and training", rows_of_parts(results, costs)
    pairs = bool(results.pairs())
    if pairs:
        yield f"{kind}: mean differences over the tables, 95 % t-intervals", differences(results)
    for score in SCORES[results.kind]:
        yield f"{kind}: {score.title}", scores(results, score)
    if pairs:
        yield (
            f"{kind}: differences per table, corrected 95 % t-intervals",
            differences_by_table(results),
        )


def print_report(found):
    """Print everything as Markdown."""
    for results in found:
        for title, rows in tables(results):
            print(f"\n## {title}\n")
            print_table(next(rows), rows)


def csv_table(title, rows):
    """Return a table as reStructuredText."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return f".. csv-table:: {title}\n   :header-rows: 1\n\n{indent(text.getvalue(), '   ')}"


def write_report(folder, found):
    """Write tables.rst, for a page to include, and tables.png."""
    folder.mkdir(parents=True, exist_ok=True)
    comment = ".. Written by tests/benchmarks/tables.py --report."
    blocks = [csv_table(*table) for results in found for table in tables(results)]
    (folder / "tables.rst").write_text("\n".join([comment + "\n", *blocks]))
    draw(found).savefig(folder / "tables.png", dpi=150)
