"""Run what is not stored yet, several runs at a time, and collect the results."""

import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from joblib import Parallel, delayed

from .._compat import progress_bar
from .._training.callbacks import Interrupts
from ._experiment import Results
from ._provenance import changes_since, digest, merged, traced


class RunStore:
    """A folder with one file per finished run, and one per kind of run with the functions it calls.

    Runs of one kind differ in their seeds; the first one is traced. Its functions, by their code,
    are part of the names of the files: a changed setting or other code is another file. A
    half-written file is never read: it gets its name when it is complete.

    Parameters
    ----------
    folder : path-like
        Made when the first run is put.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def functions(self, run):
        """Return the functions that runs of this kind call, None if not known or changed since."""
        functions = _read(self.folder / "functions" / f"{run.kind}.json")
        return None if functions is None or changes_since(functions) else functions

    def path(self, run, functions):
        """Return the file of a run that calls these functions."""
        return self.folder / "runs" / f"{run.key}-{digest(functions)}.json"

    def get(self, run):
        """Return what a finished run has found, and its key; None if it is not there."""
        functions = self.functions(run)
        stored = functions and _read(self.path(run, functions))
        return stored and stored["result"] | {"key": run.key}

    def put(self, run, result, functions):
        """Keep what a run has found, all of it or nothing, and which functions its kind calls."""
        _write(self.folder / "functions" / f"{run.kind}.json", functions)
        _write(self.path(run, functions), {"settings": run.settings, "result": result})


def _read(path):
    return json.loads(path.read_text()) if path.exists() else None


def _write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(data))
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
        settings, or by other code, is another run.
    runs : int, default=None
        Seeds of each cell; None: as many as each experiment says.
    seed : int, default=0
        The first of them.
    jobs : int, default=1
        Runs side by side, each with one thread; -1 for one per core.
    device : str, default="auto"
        For the models that have the parameter.
    progress : bool, default=True
        Whether to show a bar.

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
    perform_missing([*wanted.values()], store, jobs, progress)
    results = []
    for experiment, cells in zip(experiments, tables, strict=True):
        functions = merged(store.functions(cell.runs[0]) for cell in cells)
        found = [replace(cell, runs=[store.get(run) for run in cell.runs]) for cell in cells]
        results.append(Results(experiment, found, {"functions": functions}))
    return results


def perform_missing(runs, store, jobs, progress=True):
    """Perform runs that are not stored, of every kind that is not known one by itself before."""
    missing = [run for run in runs if store.get(run) is None]
    firsts = {run.kind: run for run in reversed(missing) if not store.functions(run)}
    bar = progress_bar(
        total=len(runs),
        initial=len(runs) - len(missing),
        unit="run",
        disable=not progress,
        # Runs differ in length: their mean predicts best how long the rest takes.
        smoothing=0,
    )
    failures = []
    with bar, Parallel(jobs, return_as="generator_unordered", batch_size=1) as parallel:
        others = [run for run in missing if run is not firsts.get(run.kind)]
        for part in ([*firsts.values()], others):
            for failure in parallel(delayed(_perform)(run, store) for run in part):
                failures += failure
                bar.update()
    if not failures and any(store.get(run) is None for run in runs):
        raise RuntimeError("The code of the library has changed meanwhile: start again.")
    if failures:
        raise RuntimeError(
            f"{len(failures)} of {len(runs)} runs failed; the others are kept in {store.folder}. "
            f"The first: {failures[0]}"
        )


def _perform(run, store):
    """Return nothing, or why the run failed, in a list."""
    known = store.functions(run)
    try:
        with Interrupts(), nullcontext(known) if known else traced() as functions:
            result = run.perform()
    except Exception as error:
        return [f"{run}: {type(error).__name__}: {error}"]
    store.put(run, result, functions)
    return []
