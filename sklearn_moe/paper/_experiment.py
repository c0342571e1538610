"""An experiment as data: problems, models, what is varied, and what was published."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import ParameterGrid

from ._problem import Problem
from ._published import Published
from ._run import Run, parameters_named

__all__ = ["Cell", "Experiment", "Finding"]


class Finding(NamedTuple):
    """A sentence about the results of an experiment.

    `holds` is True or False for a claim that was put to the test, "undecided" where the runs do not
    tell, None for an observation.
    """

    text: str
    holds: bool | str | None = None


@dataclass(frozen=True, eq=False)
class Cell:
    """A model on a problem, repeated from several seeds."""

    labels: Mapping[str, Any]
    runs: tuple[Run, ...]
    published: Published | None = None


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
    once : tuple of str, default=()
        Models that are fitted from the first seed only, as in the notebooks.
    max_runs : int, default=None
        Seeds of each cell at most, for grids that are large.
    published : mapping of tuple to Published, default={}
        Keys are the labels of a cell in their order: setting, what else varies among the problems,
        model, values of the grid.
    measures : tuple of str, default=("accuracy", "entropy")
        Columns of the table.
    trace : int, default=None
        Steps between two looks at the routing.
    draw : callable, default=None
        `draw(results) -> matplotlib Figure`.
    findings : callable, default=None
        `findings(results)` yields a :class:`Finding` for all that can be said of the results.
    run : type, default=Run
        Its `perform` says how a model is fitted and what is measured.
    kept : tuple of str, default=()
        What else of every run is for the JSON file, such as curves.
    command : callable, default=None
        `command(cell)` returns what makes this cell alone, on the command line.
    """

    name: str
    title: str
    question: str
    problems: tuple[Problem, ...]
    models: Mapping[str, BaseEstimator]
    grid: Mapping[str, Sequence | Mapping] = field(default_factory=dict)
    once: tuple[str, ...] = ()
    max_runs: int | None = None
    published: Mapping[tuple, Published] = field(default_factory=dict)
    measures: tuple[str, ...] = ("accuracy", "entropy")
    trace: int | None = None
    draw: Callable[[Any], Any] | None = None
    findings: Callable[[Any], Iterable[Finding]] | None = None
    run: type[Run] = Run
    kept: tuple[str, ...] = ()
    command: Callable[[Any], str] | None = None

    def cells(self, runs=10, seed=0, device="auto"):
        """Return the cells of the table, in order.

        Parameters
        ----------
        runs : int, default=10
            Seeds of each cell.
        seed : int, default=0
            The first of them.
        device : str, default="auto"
            For the models that have the parameter.
        """
        varied = ["setting", *_varied(self.problems)]
        cells = []
        for problem in self.problems:
            for name, model in self.models.items():
                for chosen, parameters in _combinations(self.grid):
                    labels = {label: getattr(problem, label) for label in varied}
                    labels |= {"model": name, **chosen}
                    estimator = clone(model).set_params(**parameters)
                    devices = parameters_named("device", estimator)
                    estimator.set_params(**dict.fromkeys(devices, device))
                    count = 1 if name in self.once else min(runs, self.max_runs or runs)
                    seeds = range(seed, seed + count)
                    cells.append(
                        Cell(
                            labels,
                            tuple(self.run(problem, estimator, s, self.trace) for s in seeds),
                            self._published(labels),
                        )
                    )
        return cells

    def _published(self, labels):
        """Return what was published of a cell; one with a list among its labels has no key."""
        key = tuple(labels.values())
        try:
            return self.published.get(key)
        except TypeError:
            return None


def _varied(problems):
    """Return the fields by which problems of one setting differ."""
    names = [field.name for field in fields(problems[0]) if field.name != "setting"]
    return [
        name
        for name in names
        if len({(p.setting, getattr(p, name)) for p in problems})
        > len({p.setting for p in problems})
    ]


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
