"""Results of an experiment: cells with their runs, summaries and what was published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ._experiment import Experiment
from ._published import Published
from ._statistics import mean_interval

__all__ = ["CellResult", "Results", "Summary"]

_SINGLE_RUN = {"accuracy": 3.0}  # points that two single runs may differ by


class Summary(NamedTuple):
    """Mean, standard deviation and 95 % t-interval of the mean; NaN where one run tells none."""

    mean: float
    std: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, eq=False)
class CellResult:
    """A cell of the table: its labels, the result of each run, and what was published."""

    labels: Mapping[str, Any]
    runs: Sequence[Mapping[str, Any]]
    published: Published | None = None

    def values(self, measure):
        """Return a measure of all runs, as an array of shape (n_runs, ...)."""
        return np.array([run[measure] for run in self.runs])

    def has(self, measure):
        """Whether the runs have a measure: a single expert has no entropy."""
        return all(measure in run for run in self.runs)

    def summary(self, measure):
        """Return the :class:`Summary` of a measure over the runs."""
        values = self.values(measure)
        mean, low, high = mean_interval(values)
        std = float(values.std(ddof=1)) if len(values) > 1 else np.nan
        return Summary(mean, std, low, high, len(values))

    def interval(self, measure, minus=0):
        """Return the :class:`Interval` of a measure, or of what it exceeds another one by."""
        return mean_interval(self.values(measure) - minus)

    def inside(self, measure):
        """Whether our mean lies within two published standard deviations, None if none was given.

        Of a published single run: within three points of accuracy. None, too, if ours was run
        otherwise.
        """
        published = self.published and self.published.value(measure)
        if not published or not self.published.alike or not self.has(measure):
            return None
        mean, std = published
        margin = _SINGLE_RUN.get(measure) if std is None else 2 * std
        return None if margin is None else bool(abs(self.summary(measure).mean - mean) <= margin)


@dataclass(frozen=True, eq=False)
class Results:
    """All cells of an experiment."""

    experiment: Experiment
    cells: Sequence[CellResult]

    @property
    def settings(self):
        """Return the settings of the problems, in order."""
        return list(dict.fromkeys(cell.labels["setting"] for cell in self.cells))

    def select(self, **labels):
        """Return the cells that have these labels, in order."""
        return [
            cell
            for cell in self.cells
            if all(name in cell.labels and cell.labels[name] == v for name, v in labels.items())
        ]

    def cell(self, **labels):
        """Return the one cell that has these labels."""
        found = self.select(**labels)
        if len(found) != 1:
            raise KeyError(f"{len(found)} cells have the labels {labels}, expected one.")
        return found[0]

    def outside(self):
        """Return (cell, measure) of all that lies outside of what was published."""
        return [
            (cell, measure)
            for cell in self.cells
            for measure in self.experiment.measures
            if cell.inside(measure) is False
        ]

    def findings(self):
        """Return the findings of the experiment."""
        return list(self.experiment.findings(self)) if self.experiment.findings else []
