"""Record which functions the runs of stored results call today, where these come out the same.

    python tests/benchmarks/renew_results.py docs/results docs/results/*/ --cores 2

Of each result, and of each of its models with each value of the grid, the quickest run is repeated
and traced. Where all of them have the stored numbers, to the last digit, the result gets the
functions that they called, by their code of today, and says which runs were repeated; else nothing
is changed, and `python -m sklearn_moe.paper check` goes on calling it stale. Results that are fresh
are left as they are. Finished runs are kept in `results/renewed`: a second start goes on from them.
All of `docs/results` takes about half an hour of two idle cores.

Last digits depend on the instructions of the processor. The results of 2026 were made with AVX2: on
a newer processor set `ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2`.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from sklearn_moe.paper.__main__ import reasons_of, stored_results
from sklearn_moe.paper._provenance import merged, origin
from sklearn_moe.paper._report import from_json, write_texts
from sklearn_moe.paper._runner import RunStore, perform_missing


def sample(data, cells):
    """Return {(cell, run): run} of the quickest run of each model, grid value and size of data."""
    quickest = {}
    for i, (cell, stored) in enumerate(zip(cells, data["cells"], strict=True)):
        names = list(stored["labels"])
        fitted = [stored["labels"][name] for name in names[names.index("model") :]]
        for j, run in enumerate(cell.runs):
            problem = type(run.problem), getattr(run.problem, "n_train", None)
            seconds = stored["values"].get("fit_seconds", [0] * len(cell.runs))[j]
            place = quickest.setdefault(repr((problem, fitted)), (seconds, i, j))
            quickest[repr((problem, fitted))] = min(place, (seconds, i, j))
    return {(i, j): cells[i].runs[j] for _, i, j in quickest.values()}


def differences(stored, found):
    """Return the measures whose numbers differ, of all that are stored but for times."""
    names = (name for name in stored if name != "key" and "seconds" not in name)
    return [name for name in names if not equal(stored[name], found.get(name))]


def equal(a, b):
    """Return whether numbers, or lists and mappings of them, are the same; NaN is itself."""
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b or (a != a and b != b)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--cores", type=int, default=-1)
    parser.add_argument("--only", nargs="+", help="names of experiments")
    parser.add_argument("--out", type=Path, default=Path("results/renewed"))
    options = parser.parse_args()
    plans, store = [], RunStore(options.out)
    for path, data, experiment, cells in stored_results(filter(Path.is_dir, options.folders)):
        if options.only and data["name"] not in options.only:
            continue
        if not reasons_of(data, experiment, cells):
            print(f"{path}: fresh")
        elif [len(cell.runs) for cell in cells] != [cell["runs"] for cell in data["cells"]]:
            print(f"{path}: its command makes other cells now, run it again")
        elif data["name"] in ("table2", "sentiment"):
            print(f"{path}: needs images or texts, run it again")
        else:
            plans.append((path, data, experiment, cells, sample(data, cells)))
    runs = {run.key: run for *_, chosen in plans for run in chosen.values()}
    perform_missing([*runs.values()], store, options.cores)
    for path, data, experiment, cells, chosen in plans:
        results = from_json(data, experiment, cells)
        differing = {}
        for (i, j), run in chosen.items():
            names = differences(results.cells[i].runs[j], store.get(run))
            if names:
                differing[i, j] = names
        if differing:
            print(f"{path}: stale, {len(differing)} of {len(chosen)} repeated runs differ:")
            for (i, j), names in differing.items():
                print(f"    cell {i}, run {j} {dict(cells[i].labels)}: {', '.join(names)}")
            continue
        for cell, today in zip(results.cells, cells, strict=True):
            for run, of_today in zip(cell.runs, today.runs, strict=True):
                run["key"] = of_today.key
        repeated = {name: value for name, value in origin().items() if name != "versions"}
        repeated |= {"runs": len(chosen), "cells and runs": [list(place) for place in chosen]}
        results.origin["repeated"] = repeated
        results.origin["functions"] = merged(store.functions(run) for run in chosen.values())
        write_texts(results, path.parent)
        print(f"{path}: recorded, {len(chosen)} runs of {data['runs']} are the same")


if __name__ == "__main__":
    main()
