"""An experiment as data, and its results: cells, their runs, and what was published."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import ParameterGrid

from ._published import Published
from ._run import Problem, Run, parameters_named
from ._statistics import mean_interval


class Finding(NamedTuple):
    """A sentence about the results of an experiment.

    `holds` is True or False for a claim that was put to the test, "undecided" where the runs do not
    tell, None for an observation.
    """

    text: str
    holds: bool | str | None = None


_SINGLE_RUN = {"accuracy": 3.0}  # points that two single runs may differ by


@dataclass(frozen=True, eq=False)
class Cell:
    """A model on a problem, repeated from several seeds: a row of the table.

    Its runs are those that are to be performed, or what they have found.
    """

    labels: Mapping[str, Any]
    runs: Sequence[Run | Mapping[str, Any]]
    published: Published | None = None

    def values(self, measure):
        """Return a measure of all runs, as an array of shape (n_runs, ...)."""
        return np.array([run[measure] for run in self.runs])

    def has(self, measure):
        """Whether the runs have a measure: a single expert has no entropy."""
        return all(measure in run for run in self.runs)

    def mean(self, measure):
        """Return the mean of a measure over the runs."""
        return self.interval(measure).mean

    def interval(self, measure, over=None):
        """Return the :class:`Interval` of a measure, or of what it exceeds that of a cell by.

        Seed by seed: both have the same.
        """
        return mean_interval(self.values(measure) - (over.values(measure) if over else 0))

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
        return None if margin is None else bool(abs(self.mean(measure) - mean) <= margin)


@dataclass(frozen=True, eq=False)
class Experiment:
    """Every model on every problem with every combination of the grid.

    It is a plain value: :func:`dataclasses.replace` makes another experiment of it. Models whose
    tags say that they take 3-D arrays get X as bags of patches, all others as rows of features.

    Parameters
    ----------
    name : str
        On the command line and of its files.
    title : str
    question : str
        What is asked, and where in the paper.
    problems : tuple of Problem
        Or of anything that has a `setting`, `settings` and what the runs draw from.
    models : mapping of str to estimator
    grid : mapping of str to sequence or mapping, default={}
        Parameters that are varied, of every model, as in GridSearchCV. A mapping is from labels to
        parameters, for what is no single parameter, or has values that nobody wants to read:
        `{"init_scale": {0.1: {"expert": EXPERTS["patch"].with_options(init_scale=0.1)}, ...}}`.
    only : mapping of Problem to set of str, default={}
        Names of the models of a problem that does not get all.
    once : tuple of str, default=()
        Models that are fitted from the first seed only, as in the notebooks.
    n_runs : int, default=10
        Seeds of each cell.
    published : mapping of tuple to Published, default={}
        Keys are the labels of a cell in their order: setting, what else varies among the problems,
        model, values of the grid.
    measures : tuple of str, default=("accuracy", "entropy")
        Columns of the table.
    trace : int, default=None
        Steps between two records of the routing.
    draw : callable, default=None
        `draw(results) -> matplotlib Figure`.
    findings : callable, default=None
        `findings(results)` yields a :class:`Finding` for all that can be said of the results.
    run : type, default=Run
        Its `perform` says how a model is fitted and what is measured.
    kept : tuple of str, default=()
        What else of every run is for the JSON file, such as curves.
    """

    name: str
    title: str
    question: str
    problems: tuple[Problem, ...]
    models: Mapping[str, BaseEstimator]
    grid: Mapping[str, Sequence | Mapping] = field(default_factory=dict)
    only: Mapping[Problem, set[str]] = field(default_factory=dict)
    once: tuple[str, ...] = ()
    n_runs: int = 10
    published: Mapping[tuple, Published] = field(default_factory=dict)
    measures: tuple[str, ...] = ("accuracy", "entropy")
    trace: int | None = None
    draw: Callable[[Any], Any] | None = None
    findings: Callable[[Any], Iterable[Finding]] | None = None
    run: type[Run] = Run
    kept: tuple[str, ...] = ()

    def cells(self, runs=None, seed=0, device="auto"):
        """Return the cells of the table, in order.

        Parameters
        ----------
        runs : int, default=None
            Seeds of each cell; None: `n_runs`.
        seed : int, default=0
            The first of them.
        device : str, default="auto"
            For the models that have the parameter.
        """
        varied = ["setting", *_varied(self.problems)]
        cells = []
        for problem in self.problems:
            names = self.only.get(problem, self.models)
            for name, model in ((n, m) for n, m in self.models.items() if n in names):
                for chosen, parameters in _combinations(self.grid):
                    labels = {label: getattr(problem, label) for label in varied}
                    labels |= {"model": name, **chosen}
                    estimator = clone(model).set_params(**parameters)
                    devices = parameters_named("device", estimator)
                    estimator.set_params(**dict.fromkeys(devices, device))
                    count = 1 if name in self.once else runs or self.n_runs
                    seeds = range(seed, seed + count)
                    found = tuple(self.run(problem, estimator, s, self.trace) for s in seeds)
                    cells.append(Cell(labels, found, self._published(labels)))
        return cells

    def _published(self, labels):
        """Return what was published of a cell, None if there is nothing; labels may be lists."""
        key = tuple(labels.values())
        return next((found for of, found in self.published.items() if of == key), None)


def _varied(problems):
    """Return the fields by which problems of one setting differ."""
    names = [field.name for field in fields(problems[0]) if field.name != "setting"]
    n = len({problem.setting for problem in problems})
    return [name for name in names if len({(p.setting, getattr(p, name)) for p in problems}) > n]


def _combinations(grid):
    """Yield labels and parameters of every combination of a grid."""
    names = {name: list(c) if isinstance(c, Mapping) else c for name, c in grid.items()}
    for combination in ParameterGrid(names):
        labels = {name: combination[name] for name in grid}  # ParameterGrid sorts them
        parameters = {}
        for name, label in labels.items():
            named = isinstance(grid[name], Mapping)
            parameters |= grid[name][label] if named else {name: label}
        yield labels, parameters


@dataclass(frozen=True, eq=False)
class Results:
    """All cells of an experiment.

    Parameters
    ----------
    experiment : Experiment
    cells : sequence of Cell
        Their runs are what was found.
    origin : mapping, default={}
        What made stored results: command, commit, date, machine, versions. Of new ones each run
        says it.
    """

    experiment: Experiment
    cells: Sequence[Cell]
    origin: Mapping[str, Any] = field(default_factory=dict)

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

    def by(self, name, **labels):
        """Return the cells that have these labels, by the value of another label."""
        return {cell.labels[name]: cell for cell in self.select(**labels)}

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
