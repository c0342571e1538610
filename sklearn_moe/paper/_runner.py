"""Run what is not there yet, side by side, and put results together."""

from joblib import Parallel, delayed

from .._compat import Interrupts, progress_bar
from ._results import CellResult, Results
from ._store import RunStore

__all__ = ["run_experiment", "run_experiments"]


def run_experiment(experiment, out, **options):
    """Run one experiment; see :func:`run_experiments`."""
    return run_experiments([experiment], out, **options)[0]


def run_experiments(experiments, out, *, runs=10, seed=0, jobs=1, device="auto", progress=True):
    """Run experiments, but no run twice: neither one that two of them share, nor one of before.

    Parameters
    ----------
    experiments : sequence of Experiment
    out : path-like
        Folder in which finished runs are kept, in `runs/`. A second start goes on from them;
        a run of other settings is another run.
    runs : int, default=10
        Seeds of each cell.
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
    store = RunStore(f"{out}/runs")
    tables = [experiment.cells(runs, seed, device) for experiment in experiments]
    # The first seed of every cell comes first: a table takes shape early.
    queue = [(i, run) for cells in tables for cell in cells for i, run in enumerate(cell.runs)]
    wanted = {store.path(run.settings): run for _, run in sorted(queue, key=lambda item: item[0])}
    missing = [run for path, run in wanted.items() if not path.exists()]
    bar = progress_bar(
        total=len(wanted),
        initial=len(wanted) - len(missing),
        unit="run",
        disable=not progress,
        smoothing=0,  # runs differ in length: the mean of all says best how long the rest takes
    )
    failures = []
    with bar, Parallel(jobs, return_as="generator_unordered") as parallel:
        for failure in parallel(delayed(_perform)(run, store) for run in missing):
            failures += failure
            bar.update()
    if failures:
        raise RuntimeError(
            f"{len(failures)} of {len(wanted)} runs failed; the others are kept in {store.folder}. "
            f"The first: {failures[0]}"
        )
    return [
        Results(
            experiment,
            [
                CellResult(c.labels, [store.get(r.settings) for r in c.runs], c.published)
                for c in cells
            ],
        )
        for experiment, cells in zip(experiments, tables, strict=True)
    ]


def _perform(run, store):
    """Return nothing, or why the run failed, in a list."""
    try:
        with Interrupts():
            result = run.perform()
    except Exception as error:
        return [f"{run}: {type(error).__name__}: {error}"]
    store.put(run.settings, result)
    return []
