"""What the results of tables.py say: means, ranks, ratios and paired differences, and a figure."""

import csv
from dataclasses import dataclass, replace
from io import StringIO
from itertools import combinations
from textwrap import indent

import numpy as np
import pandas
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator
from measure import number, print_table, shown
from models import BETTER, MIXTURE, MLP, MODELS, MOE, ONE, STOPPED
from scipy.stats import t

from sklearn_moe.inspection._plotting import expert_colors
from sklearn_moe.paper._statistics import Interval, mean_interval

N_FOLDS = 5  # a fold trains on 4 times as many rows as it tests on
DIGITS = {"accuracy %": 2, "log loss": 3, "R2": 3}
SCORES = {"classification": ("accuracy %", "log loss"), "regression": ("R2",)}
SIGN = {"accuracy %": 1, "log loss": -1, "R2": 1}  # -1 where less is better
ERRORS = {"classification": "log loss", "regression": "(1 - R2)"}  # whose ratios are shown
TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50)
BAND = "0.94"  # behind the first half


def beside(fits, column):
    """Return a column of fits, models beside each other, folds below each other."""
    return fits.pivot(index=["table", "repeat", "fold"], columns="model", values=column)


@dataclass
class Results:
    """The fits of one kind."""

    kind: str
    models: list  # those with all folds
    all_models: list  # and those with some
    first_half: set  # names of tables
    frame: pandas.DataFrame

    def parts(self):
        """Yield all tables and their halves, by name; a half alone if there is no other."""
        first = self.frame["table"].isin(self.first_half)
        parts = {name: rows for name, rows in (("first", first), ("second", ~first)) if rows.any()}
        if len(parts) > 1:
            yield "all", self
        for name, rows in parts.items():
            yield name, replace(self, frame=self.frame[rows])

    def folds(self, column):
        """Return a column, models beside each other, without those that do not have it."""
        return beside(self.frame, column)[self.models].dropna(axis=1, how="all")

    def means(self, column):
        """Return the means over the folds, tables below each other."""
        return self.folds(column).groupby("table").mean()

    def pair(self, column, first, second):
        """Return a column of two models, on the folds that both have."""
        return beside(self.frame, column)[[first, second]].dropna()

    def reference(self):
        """Return the model that is compared with each other one, None if it is not there."""
        return next((model for model in (MOE, MLP) if model in self.all_models), None)

    def ratios(self):
        """Return the errors on every table over those of the MLP."""
        errors = self.means("error")
        return errors.div(errors[MLP], axis=0)

    def differences(self, score, first, second):
        """Return {table: differences of two models on its folds}."""
        folds = self.folds(score)
        return dict(iter((folds[first] - folds[second]).groupby("table")))

    def pairs(self):
        """Return the pairs whose differences are shown."""
        shown = (MIXTURE, MOE, ONE, MLP)
        return list(combinations([name for name in shown if name in self.models], 2))


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
    means = results.means(score)
    yield "table", "half", *means.columns
    for name, row in means.iterrows():
        texts = [number(value, DIGITS[score]) for value in row]
        best = number(SIGN[score] * (SIGN[score] * row).max(), DIGITS[score])
        half = "first" if name in results.first_half else "second"
        yield name, half, *(f"**{text}**" if text == best else text for text in texts)


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
        means = part.means(score)
        # Of the models with probabilities, so that the ranks of both scores are comparable.
        ranks = means[errors.columns].rank(axis=1, ascending=SIGN[score] < 0)
        columns[score] = means.mean().map(lambda value, n=DIGITS[score]: number(value, n))
        columns[f"rank, {score}"] = ranks.mean().map("{:.2f}".format)
    if part.kind == "classification":
        columns["Brier score"] = part.means("brier").mean().map("{:.3f}".format)
    if MLP in errors:
        ratios, of_means = part.ratios(), errors.mean() / errors[MLP].mean()
        columns[f"{ERRORS[part.kind]} / MLP"] = of_means.map("{:.3f}".format)
        worst = ratios.max().map("{:.2f}, ".format) + ratios.idxmax()
        columns["the same on the worst table"] = worst
    return columns


def costs(part):
    """Return times, beside the MLP's and in seconds, and how training went."""
    columns = {}
    for step in ("fit", "predict") if MLP in part.models else ():
        times = part.folds(f"{step}_seconds")
        ratios = times.div(times[MLP], axis=0).median()
        columns[f"time of {step} / MLP"] = ratios.map("{:.2f}".format)
    means = part.frame.groupby("model").mean(numeric_only=True)
    facts = {"fit_seconds": ("seconds a fit", 2), "n_iter": ("iterations", 0)}
    for column, (title, n) in (facts | {"experts_in_use": ("experts in use", 1)}).items():
        if column in means:
            columns[title] = means[column].map(lambda value, n=n: number(value, n))
    return columns


def wins(score, tables):
    """Return on how many tables a model is better and worse, and on how many of them surely."""
    found = [corrected_interval(SIGN[score] * folds) for folds in tables]
    better, worse = sum(i.mean > 0 for i in found), sum(i.mean < 0 for i in found)
    surely = sum(i.low > 0 for i in found), sum(i.high < 0 for i in found)
    return f"{better} : {worse} ({surely[0]} : {surely[1]})"


def differences(results):
    """Yield a row per pair and part: mean differences over the tables, and wins."""
    columns = SCORES[results.kind]
    titles = [title for score in columns for title in (score, "better : worse (surely)")]
    yield "difference", "half", *titles
    for first, second in results.pairs():
        for name, part in results.parts():
            cells = []
            for score in columns:
                tables = part.differences(score, first, second).values()
                mean = mean_interval([folds.mean() for folds in tables])
                cells += [shown(mean, DIGITS[score]), wins(score, tables)]
            yield f"{first} - {second}", name, *cells


def differences_by_table(results):
    """Yield a row per table: the differences of the pairs, with corrected intervals."""
    columns = [(score, *pair) for score in SCORES[results.kind] for pair in results.pairs()]
    yield "table", *(f"{score}, {first} - {second}" for score, first, second in columns)
    found = [(column[0], results.differences(*column)) for column in columns]
    for name in sorted(set(results.frame["table"])):
        yield name, *(shown(corrected_interval(of[name]), DIGITS[score]) for score, of in found)


def geometric_mean(ratios):
    """Return the geometric mean of ratios and its 95 % t-interval as text."""
    return shown(np.exp(mean_interval(np.log(ratios))), 3, "")


def beside_each(results):
    """Yield a row per model: the reference beside it, on the folds that both have."""
    first, score = results.reference(), SCORES[results.kind][0]
    halves = f"{ERRORS[results.kind]}, ratio", "second half, ratio"
    yield "model", "fits", "better on", *halves, f"{score}, more", "time of fit, predict"
    for model in results.all_models:
        if model == first or not len(errors := results.pair("error", first, model)):
            continue
        means = errors.groupby("table").mean()
        ratios = means[first] / means[model]
        second = ratios[~ratios.index.isin(results.first_half)]
        scores = results.pair(score, first, model).groupby("table").mean()
        times = (results.pair(f"{step}_seconds", first, model) for step in ("fit", "predict"))
        yield (
            *(model, len(errors), f"{sum(ratios < 1)} of {len(means)}"),
            *(geometric_mean(ratios), geometric_mean(second)),
            shown(mean_interval(scores[first] - scores[model]), DIGITS[score]),
            ", ".join(f"{(seconds[first] / seconds[model]).median():.2f}" for seconds in times),
        )


def better_of_both(rows):
    """Return the fits of the MLP, on each table those of the stopping with less error there."""
    errors = beside(rows, "error").reindex(columns=[MLP, STOPPED]).dropna().groupby("table").mean()
    best = errors.idxmin(axis=1)
    return rows[rows["model"] == rows["table"].map(best)].assign(model=BETTER)


def results_by_kind(frame, models, first_half):
    """Yield the results of either kind, if there are any."""
    names = {"accuracy": "accuracy %", "log_loss": "log loss", "r2": "R2"}
    # Columns that no model has are of no value, not missing.
    frame = frame.reindex(columns=frame.columns.union([*names, "brier"])).rename(columns=names)
    frame["accuracy %"] *= 100
    for kind in MODELS:
        rows = frame[frame["kind"] == kind]
        if len(rows):
            error = rows["log loss"] if kind == "classification" else 1 - rows["R2"]
            first = {name for of, name in first_half if of == kind}
            fits = rows["model"].value_counts()
            present = [model for model in models if model in fits]
            complete = [model for model in present if fits[model] == fits.max()]
            rows = rows.assign(error=error)
            rows = pandas.concat([rows, better := better_of_both(rows)])
            yield Results(kind, complete, [*present, *better["model"].unique()], first, rows)


def tables(results):
    """Yield titles and rows, a header first, of all that there is to say."""
    kind, pairs = results.kind.capitalize(), results.pairs()
    yield f"{kind}: means over the tables", rows_of_parts(results, summary)
    yield f"{kind}: time and training", rows_of_parts(results, costs)
    if first := results.reference():
        yield f"{kind}: {first} over each model, on the folds that both have", beside_each(results)
    if pairs:
        yield f"{kind}: mean differences over the tables, 95 % t-intervals", differences(results)
    for score in SCORES[results.kind]:
        yield f"{kind}: {score}", scores(results, score)
    if pairs:
        title = f"{kind}: differences per table, corrected 95 % t-intervals"
        yield title, differences_by_table(results)


def print_report(found):
    """Print everything as Markdown."""
    for results in found:
        for title, rows in tables(results):
            print(f"\n## {title}\n")
            print_table(next(rows), rows)


def csv_table(title, rows):
    """Return a table as reStructuredText."""
    text = StringIO()
    cells = ([cell if cell != "" else "n/a" for cell in row] for row in rows)
    csv.writer(text, lineterminator="\n").writerows(cells)
    return f".. csv-table:: {title}\n   :header-rows: 1\n\n{indent(text.getvalue(), '   ')}"


def write_report(folder, found):
    """Write tables.inc, for a page to include, and tables.png."""
    folder.mkdir(parents=True, exist_ok=True)
    comment = ".. Written by tests/benchmarks/tables.py --report."
    blocks = [csv_table(*table) for results in found for table in tables(results)]
    (folder / "tables.inc").write_text("\n".join([comment + "\n", *blocks]))
    draw(found).savefig(folder / "tables.png", dpi=150)


def draw_kind(ax, results):
    """Draw a row per table and a dot per model: its error beside the MLP's."""
    ratios = results.ratios()
    # From below: first half, then second, each from worst ratio to best.
    by = ratios[MOE] if MOE in ratios else ratios.min(axis=1)
    names = list(by.sort_values(ascending=False, kind="stable").index)
    names.sort(key=lambda name: name not in results.first_half)
    ax.axvline(1, color="0.3", linewidth=1.2, label=MLP)
    others = [name for name in MODELS["classification"] if name != MLP]
    colors = np.delete(expert_colors(len(others) + 1), 6, axis=0)  # no yellow: too pale for a dot
    for model, color, marker in zip(others, colors, "oDsPv^Xh<>*pdH8oDs", strict=False):
        if model in ratios:
            style = {"color": color, "marker": marker, "edgecolors": "white", "linewidths": 0.6}
            style |= {"s": 75, "zorder": 4} if model == MOE else {"s": 38, "zorder": 3}
            ax.scatter(ratios[model][names], range(len(names)), label=model, **style)
    n_first = sum(name in results.first_half for name in names)
    if n_first:
        ax.axhspan(-0.6, n_first - 0.5, color=BAND, zorder=0)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.grid(color="0.87", linewidth=0.7)
    ax.set_axisbelow(True)
    error = ERRORS[results.kind]
    ax.set_title(f"{error} / {error} of MLP", fontsize=10)


def draw(found):
    """Return the figure of all results, for the width of a page."""
    found = [results for results in found if MLP in results.models]
    rows = [results.frame["table"].nunique() for results in found]
    figure = Figure(figsize=(8, 1.2 + 0.25 * sum(rows) + 0.6 * len(rows)), layout="constrained")
    heights = {"height_ratios": [n + 0.2 for n in rows]}
    axes = figure.subplots(len(found), sharex=True, squeeze=False, gridspec_kw=heights)[:, 0]
    handles = {}
    for ax, results in zip(axes, found, strict=True):
        draw_kind(ax, results)
        of_kind, names = ax.get_legend_handles_labels()
        handles |= dict(zip(names, of_kind, strict=True))
    handles["first half of the tables"] = Patch(color=BAND)
    axes[-1].set_xscale("log")
    axes[-1].xaxis.set_major_locator(FixedLocator(TICKS))
    axes[-1].xaxis.set_major_formatter("{x:g}")
    axes[-1].xaxis.set_minor_locator(NullLocator())
    where = {"loc": "outside upper center", "ncols": 5, "fontsize": 9, "frameon": False}
    figure.legend(handles.values(), handles, **where)
    return figure
