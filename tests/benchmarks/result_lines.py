"""Results on disk, a line of JSON per job: a second start goes on with what is missing."""

import json
import sys

from joblib import Parallel, parallel_config

__all__ = ["read_results", "run_missing"]


def read_results(path, key):
    """Return {key: line}, where `key` is the NamedTuple of a job; of several lines the last."""
    lines = path.read_text().splitlines() if path.exists() else ()
    rows = map(json.loads, lines)
    return {key(*(row[name] for name in key._fields)): row for row in rows}


def run_missing(jobs, path, n_jobs):
    """Run delayed jobs, {key: job}, each of which returns a line, and append the lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        rows = Parallel(return_as="generator_unordered")(jobs.values())
        with path.open("a") as file:
            for i, row in enumerate(rows, 1):
                print(json.dumps(row), file=file, flush=True)
                what = " ".join(str(row[name]) for name in next(iter(jobs))._fields[1:])
                print(f"{i} of {len(jobs)}: {what}", file=sys.stderr)
