"""The lines of a specialization report: a figure each, with its null and how to read it."""

from typing import NamedTuple

import numpy as np

__all__ = ["NOTES", "ReportLine", "format_figure", "report_lines"]

NOTES = {
    "Exchange": "by one expert per sample; value near null: experts are interchangeable",
    "Clusters": "null: clusters shuffled; k-means: in place of the router",
    "Split": "mutual information with the expert; null: shuffled; %: of H(expert), null left out",
}
_AGREEMENT = {
    "entropy": ("dispatch entropy", "0: one cluster per expert"),
    "normalized_entropy": ("dispatch entropy, 0 to 1", "the same over H(cluster)"),
    "mutual_information": ("mutual information", "H(cluster) - dispatch entropy"),
    "nmi": ("NMI", "1: one expert per cluster, and back"),
    "ari": ("ARI", "the same by pairs of samples, 0 by chance"),
    "ami": ("AMI", "NMI, made 0 by chance"),
    "purity": ("purity", "samples in the main cluster of their expert"),
}
_BLIND = {
    "accuracy": "the most frequent class",
    "right labels": "each label as most samples have it",
    "R2": "the mean of y",
}


class ReportLine(NamedTuple):
    """One line of a report; NaN where there is nothing to compare with."""

    group: str
    name: str
    value: float
    null: float
    reading: str
    kmeans: float = np.nan


def report_lines(report):
    """Return all lines of a SpecializationReport: its text and its table show the same."""
    lines = [
        *_lines_of_all_samples(report),
        *_lines_of_load(report),
        *_lines_of_exchange(report),
    ]
    if report.agreement is not None:
        lines += _lines_of_clusters(report)
    if report.split is not None:
        lines += _lines_of_split(report)
    return lines


def _lines_of_all_samples(report):
    name, reading = report.score_name, f"null: {_BLIND[report.score_name]}"
    yield ReportLine("All samples", name, report.score, report.blind_score, reading)


def _lines_of_load(report):
    group = "Load"
    by_lot = np.sqrt((report.n_experts - 1) / report.n_samples)
    dead = report.dead_experts
    names = ", ".join(map(str, dead[:8])) + (", ..." if len(dead) > 8 else "")
    names = f": {names}" if len(dead) else ""
    yield ReportLine(group, "load CV", report.load_cv, by_lot, "0: even; null: routed by lot")
    reading = "0: one expert answers all, 1: even"
    yield ReportLine(group, "usage entropy", report.usage_entropy, 1.0, reading)
    yield ReportLine(group, "dead experts", len(dead), 0, f"answer no sample{names}")
    reading = "0: cannot decide, 1: sure"
    yield ReportLine(group, "router margin", report.router_margin, np.nan, reading)


def _lines_of_exchange(report):
    group, score_name, first = "Exchange", report.score_name, report.first_score
    worst, reading = 0, "there is no other expert"
    if report.n_experts > 1:
        worst = int(report.knock_out_score.argmin())
        reading = f"without expert {worst}, missed most; null: with it"
    rest = float(report.knock_out_score[worst])
    yield ReportLine(group, f"{score_name}, one expert less", rest, first, reading)
    reading = "by another expert; null: by the own"
    yield ReportLine(group, f"{score_name}, experts swapped", report.swapped_score, first, reading)


def _lines_of_clusters(report):
    group = "Clusters"
    columns = report.agreement, report.null_agreement, report.kmeans_agreement
    for key, (name, reading) in _AGREEMENT.items():
        value, null, kmeans = (getattr(column, key) for column in columns)
        yield ReportLine(group, name, value, null, reading, kmeans)
    own, other = (_mean(errors, report.load) for errors in (report.own_error, report.other_error))
    unit = "in variances of y" if report.score_name == "R2" else "by the experts"
    reading = f"{unit}; null: on other clusters"
    yield ReportLine(group, "error on own cluster", own, other, reading)


def _lines_of_split(report):
    for name, told in report.split.items():
        reading = f"{max(0.0, told.share):.1%}, p = {told.p_value:.2g}"
        yield ReportLine("Split", name, told.information, told.null_mean, reading)


def _mean(values, weight):
    """Return the weighted mean of the entries that are not NaN, NaN if there are none."""
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weight[known])) if known.any() else np.nan


def format_figure(value):
    """Return a figure as it is shown, "-" for NaN."""
    if np.isnan(value):
        return "-"
    if isinstance(value, int):
        return format(value, "d")
    shown = format(value, ".3f")  # an R2 may be any number below 1
    return shown if len(shown) < 8 else format(value, ".0f" if abs(value) < 1e5 else ".0e")
