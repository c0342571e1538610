"""Run what is not stored yet, several runs at a time, and collect the results."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from joblib import Parallel, delayed
from tqdm import tqdm

from .. import __version__
from .._training.callbacks import Interrupts
from ._experiment import Results
from ._provenance import origin

_PAUSE = 60  # seconds, at least, between two lines of progress in a log


class RunStore:
    """A folder with one file per finished run, by its settings and by the commit that made it.

    A half-written file is never read: it gets its name when it is complete.

    Parameters
    ----------
    folder : path-like
        Made when the first run is put.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.commit = origin()["commit"] or __version__

    def path(self, run):
        """Return the file of a run."""
        return self.folder / "runs" / f"{run.key}-{self.commit}.json"

    def get(self, run):
        """Return what a finished run has found, None if it is not there."""
        path = self.path(run)
        return json.loads(path.read_text()) if path.exists() else None

    def put(self, run, result):
        """Keep what a run has found, all of it or nothing."""
        path = self.path(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(result))
        part.replace(path)


def run_experiment(experiment, out, **options):
    """Run one experiment, but no run twice: runs that are stored are not repeated.

    Parameters
    ----------
    experiment : Experiment
    out : path-like
        Folder in which finished runs are kept. A second start goes on from them.
    **options : dict
        `runs`, the number of seeds of each cell (as the experiment says); `seed`, the first of them
        (0); `jobs`, runs side by side, each with one thread (1); `device` ("auto"); `progress`, a
        bar (True).

    Returns
    -------
    results : Results
    """
    return run_experiments([experiment], out, **options)[0]


def run_experiments(experiments, out, *, runs=None, seed=0, jobs=1, device="auto", progress=True):
    """Run experiments, but no run twice: neither one that two of them share, nor one of before.

    Parameters
    ----------
    experiments : sequence of Experiment
    out : path-like
        Folder in which finished runs are kept. A second start goes on from them; a run of other
        settings, or of another commit, is another run. What was edited since the commit is not
        seen: empty the folder after a change.
    runs : int, default=None
        Seeds of each cell; None: as many as each experiment says.
    seed : int, default=0
        The first of them.
    jobs : int, default=1
        Runs side by side, each with one thread; -1 for one per core.
    device : str, default="auto"
        For the models that have the parameter.
    progress : bool, default=True
        Whether to show a bar; where there is no terminal, at most a line a minute on stderr.

    Returns
    -------
    results : list of Results
        One per experiment.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C. What is finished stays.
    RuntimeError
        If runs failed, once all others are finished.
    """
    store = RunStore(out)
    tables = [experiment.cells(runs, seed, device) for experiment in experiments]
    # The first seed of every cell comes first: a table takes shape early.
    queue = [(i, run) for cells in tables for cell in cells for i, run in enumerate(cell.runs)]
    wanted = {run.key: run for _, run in sorted(queue, key=lambda item: item[0])}
    _perform_missing([*wanted.values()], store, jobs, progress)
    return [
        Results(
            experiment,
            [replace(cell, runs=[store.get(run) for run in cell.runs]) for cell in cells],
        )
        for experiment, cells in zip(experiments, tables, strict=True)
    ]


def _perform_missing(runs, store, jobs, progress):
    """Perform runs that are not stored."""
    missing = [run for run in runs if store.get(run) is None]
    # Runs differ in length: their mean predicts best how long the rest takes.
    how = {"unit": "run", "smoothing": 0, "disable": not progress}
    # A log keeps every line: it gets one a minute.
    if not sys.stderr.isatty():
        how |= {"ncols": 0, "mininterval": _PAUSE, "maxinterval": _PAUSE}
    failures = []
    with (
        tqdm(total=len(runs), initial=len(runs) - len(missing), **how) as bar,
        Parallel(jobs, return_as="generator_unordered", batch_size=1) as parallel,
    ):
        for failure in parallel(delayed(_perform)(run, store) for run in missing):
            failures += failure
            bar.update()
    if failures:
        raise RuntimeError(
            f"{len(failures)} of {len(runs)} runs failed; the others are kept in {store.folder}. "
            f"The first: {failures[0]}"
        )


def _perform(run, store):
    """Return nothing, or why the run failed, in a list."""
    try:
        with Interrupts():
            result = run.perform()
    except Exception as error:
        return [f"{run}: {type(error).__name__}: {error}"]
    store.put(run, result)
    return []
