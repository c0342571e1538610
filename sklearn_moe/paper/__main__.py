"""Command line of the experiments: `python -m sklearn_moe.paper --help`."""

import argparse
import json
import os
import shlex
import sys
from contextlib import redirect_stderr
from functools import partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

from ._check import check, is_made_by
from ._report import from_json, write_report
from ._runner import run_experiments
from .experiments import EXPERIMENTS, GROUPS, get_experiment, names_of
from .experiments.sentiment import add_arguments as add_sentiment
from .experiments.table2 import add_arguments as add_table2

_PROG = "python -m sklearn_moe.paper"
_OWN_OPTIONS = {"table2": add_table2, "sentiment": add_sentiment}
_NAMES = (*(name for name in EXPERIMENTS if name not in _OWN_OPTIONS), *GROUPS)


def main(arguments=None):
    """Run experiments of Chen et al. (2022), and put the published numbers beside ours."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name, rest = (arguments or [""])[0], arguments[1:]
    if name in _STORED:
        parser = argparse.ArgumentParser(f"{_PROG} {name}", description=_STORED[name].__doc__)
        parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of results")
        if name == "check":
            _add_check(parser)
        _STORED[name](parser.parse_args(rest))
    else:
        builders, options = _requested(arguments)
        try:
            experiments = [build() for build in builders.values()]
        except ValueError as error:  # options that do not go together
            sys.exit(f"{_PROG}: {error}")
        _run(experiments, options, f"{_PROG} {shlex.join(arguments)}")


def _requested(arguments):
    """Return what builds the experiments that a command asks for, by name, and its options."""
    name = (arguments or [""])[0]
    if name in _OWN_OPTIONS:
        parser = _parser(f"{_PROG} {name}")
        _OWN_OPTIONS[name](parser)
        options = parser.parse_args(arguments[1:])
        build = EXPERIMENTS[name]
        own = {option: getattr(options, option) for option in build.__kwdefaults__}
        return {name: partial(build, options.protocol, **own)}, options
    parser = _parser(_PROG)
    text = f"one of {', '.join(_NAMES)}"
    parser.add_argument("names", nargs="+", metavar="NAME", choices=_NAMES, help=text)
    text = "the paper's mixtures as its code runs them, or as its text describes them"
    parser.add_argument("--protocol", choices=("code", "paper"), default="code", help=text)
    text = "the authors' data set for all runs, one of our own, or a new one for each"
    kinds = ("authors", "fixed", "fresh")
    parser.add_argument("--data", choices=kinds, default="fixed", help=text)
    options = parser.parse_args(arguments)
    return {
        name: partial(get_experiment, name, options.protocol, options.data)
        for name in names_of(options.names)
    }, options


def _parser(prog):
    parser = argparse.ArgumentParser(
        prog,
        description=f"{main.__doc__} `table2`, `sentiment`, `check` and `redraw` "
        "have an own --help. Finished runs are kept: the same command resumes where it was "
        "interrupted.",
    )
    text = "seeds of each cell; by default as each experiment says"
    parser.add_argument("--runs", type=int, help=text)
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=-1, help="runs side by side; -1 for all cores")
    parser.add_argument("--device", default="auto", help="of the mixtures")
    parser.add_argument("--out", type=Path, default=Path("results/paper"))
    return parser


def _run(experiments, options, command):
    if find_spec("matplotlib") is None:
        sys.exit("This needs matplotlib. Install with `pip install 'sklearn_moe[paper]'`.")
    try:
        how = {name: getattr(options, name) for name in ("runs", "seed", "jobs", "device")}
        results = run_experiments(experiments, options.out, **how)
    except KeyboardInterrupt:
        sys.exit(f"Stopped. What is finished is in {options.out}/runs; the same command resumes.")
    paths = write_report(results, options.out, command)
    print(*paths, sep="\n")
    if len(paths) == 1:
        print(f"\n{paths[0].read_text(encoding='utf-8')}")


def stored_results(folders, **data):
    """Yield path, data, experiment and cells of today of all results in some folders, and below."""
    for path in sorted(path for folder in folders for path in folder.rglob("*.json")):
        if "command" in (found := json.loads(path.read_text(encoding="utf-8"))):
            yield path, *stored_result(found, **data)


def stored_result(data, **folders):
    """Return data, experiment and cells of today of a stored result.

    The experiment is None if the command that made it is not understood.

    Parameters
    ----------
    data : dict
    **folders : path-like
        Of images and texts, by the name of the experiment, in place of that of the command.
    """
    arguments = shlex.split(data["command"].removeprefix(_PROG))
    if folders.get(data["name"]):
        arguments += ["--data", str(folders[data["name"]])]
    try:
        with redirect_stderr(StringIO()):
            builders, options = _requested(arguments)
    except SystemExit:
        return data, None, []
    experiment = builders[data["name"]]()
    return data, experiment, experiment.cells(options.runs, options.seed, options.device)


def _redraw(options):
    """Write findings, tables and figures of stored results anew: nothing is run."""
    for path, data, experiment, cells in stored_results(options.folders):
        if is_made_by(cells, data):
            print(*write_report([from_json(data, experiment, cells)], path.parent))
        else:
            print(f"{path}: its cells are not those of today, run it again.")


def _check(options):
    """Repeat the quickest run of each stored result, and compare its figures with the stored ones.

    Of images the first epoch is repeated. Other processors round differently: the line of a result
    says what is equal, what is as close as they differ, and what came out otherwise.
    """
    stored = stored_results(options.folders, table2=options.images, sentiment=options.texts)
    complaints = check(stored, options.longest)
    if complaints:
        sys.exit("\n".join(["", "These are not what this code makes:", *complaints]))
    print("\nWhat was repeated is what this code makes.")


def _add_check(parser):
    text = "images, for table2: train/<class>/*.jpg and test/; default: SKLEARN_MOE_CIFAR10"
    known = os.environ.get("SKLEARN_MOE_CIFAR10")
    parser.add_argument("--images", type=Path, metavar="FOLDER", default=known, help=text)
    parser.add_argument("--texts", type=Path, metavar="FOLDER", help="archives, for sentiment")
    text = "seconds that a run, or an epoch on images, may have taken to be repeated"
    parser.add_argument("--longest", type=float, default=20, metavar="SECONDS", help=text)


_STORED = {"check": _check, "redraw": _redraw}


if __name__ == "__main__":
    # Of glibc in the workers: keep large blocks that are freed. New ones of the system take half of
    # the time of single experts with 512 filters.
    os.environ |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
    main()
