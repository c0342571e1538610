"""Command line of the experiments: `python -m sklearn_moe.paper --help`."""

import argparse
import difflib
import json
import os
import shlex
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import torch

from . import demo
from ._command import positive, require_extra, require_folder
from ._output import from_json, to_markdown, write_again, write_report
from ._runner import run_experiments
from ._text_runs import require_texts
from .experiments import EXPERIMENTS, GROUPS, get_experiment, names_of
from .experiments.sentiment import add_arguments as add_sentiment
from .experiments.table2 import add_arguments as add_table2

_PROG = "python -m sklearn_moe.paper"
_NAMES = (*GROUPS["all"], *GROUPS["later"], *GROUPS)
_OWN_OPTIONS = {"table2": add_table2, "sentiment": add_sentiment}


def main(arguments=None):
    """Run experiments of Chen et al. (2022), and put the published numbers beside ours."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command = f"{_PROG} {shlex.join(arguments)}"
    name, rest = (arguments or [""])[0], arguments[1:]
    if name == "list":
        _list()
    elif name == "demo":
        demo.run_command(_parsed(name, rest, demo.add_arguments))
    elif name in _STORED:
        run = _STORED[name]
        run(_parsed(name, rest, _add_folders, description=run.__doc__).folders)
    else:
        _run(*_requested(arguments), command)


def _parsed(name, arguments, *add_arguments, **options):
    """Return the options of a command that has its own."""
    parser = argparse.ArgumentParser(prog=f"{_PROG} {name}", **options)
    for add in add_arguments:
        add(parser)
    return parser.parse_args(arguments)


def _requested(arguments):
    """Return the experiments that a command asks for, and its options."""
    name, rest = (arguments or [""])[0], arguments[1:]
    if name in _OWN_OPTIONS:
        options, build = _parsed(name, rest, _add_common, _OWN_OPTIONS[name]), EXPERIMENTS[name]
        own = {option: getattr(options, option) for option in build.__kwdefaults__}
        return [build(options.protocol, **own)], options
    options = _parser().parse_args(arguments)
    names = names_of(options.names)
    return [get_experiment(name, options.protocol, options.data) for name in names], options


def _stored(folders):
    """Yield path, data, experiment and cells of today of all results that lie in some folders."""
    for path in sorted(path for folder in folders for path in folder.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        try:
            with redirect_stderr(StringIO()):
                experiments, options = _requested(shlex.split(data["command"].removeprefix(_PROG)))
        except SystemExit:  # it has an option, or a name, that is no more
            yield path, data, None, []
            continue
        experiment = next(e for e in experiments if e.name == data["name"])
        yield path, data, experiment, experiment.cells(options.runs, options.seed, options.device)


def _redraw(folders):
    """Write findings, tables and figures of stored results anew: nothing is run."""
    for path, data, experiment, cells in _stored(folders):
        if len(cells) == len(data["cells"]):
            write_again(from_json(data, experiment, cells), data, path.parent)
            print(path.with_suffix(".md"))
        else:
            print(f"{path}: its cells are not those of today, run it again.")


def _check(folders):
    """Say which stored results this code would make otherwise, and whose texts are out of date."""
    complaints = []
    for path, data, experiment, cells in _stored(folders):
        keys = [[run.key for run in cell.runs] for cell in cells]
        if keys != [cell.get("keys") for cell in data["cells"]]:
            now = {run.settings["code"] for cell in cells for run in cell.runs}
            made, is_old = data.get("commit") or "unknown", data.get("code") not in now
            what = f"the {'code that makes runs' if is_old else 'command'} has changed since"
            complaints.append(f"{path}: stale, made by commit {made}; {what}: run it again.")
            continue
        text = path.with_suffix(".md").read_text(encoding="utf-8")
        if to_markdown(from_json(data, experiment, cells), data) != text:
            complaints.append(f"{path}: its texts are not those of its numbers: redraw it.")
    if complaints:
        sys.exit("\n".join(complaints))
    print("All results are those that this code makes.")


_STORED = {"check": _check, "redraw": _redraw}


def _list():
    for name in EXPERIMENTS:
        print(f"{name:15} {get_experiment(name).title}")
    for name, members in GROUPS.items():
        print(f"{name:15} = {' '.join(members)}")
    print("demo            Setting 1 in a minute: single experts and mixtures")
    for name, function in _STORED.items():
        print(f"{name:15} {function.__doc__}")


def _parser():
    parser = argparse.ArgumentParser(
        prog=_PROG,
        description=f"{main.__doc__} `list` names all; `demo`, `table2`, `sentiment`, `check` "
        "and `redraw` have an own --help. "
        "Finished runs are kept: the same command goes on where it was interrupted.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", type=_name, help=", ".join(_NAMES))
    text = "the paper's mixtures as its code runs them, or as its text describes them"
    parser.add_argument("--protocol", choices=("code", "paper"), default="code", help=text)
    text = "one data set for all runs, as in the authors' notebooks, or a new one for each"
    parser.add_argument("--data", choices=("fixed", "fresh"), default="fixed", help=text)
    _add_common(parser)
    return parser


def _name(text):
    """Return the name of an experiment or a group; say which may be meant by another."""
    if text in _NAMES:
        return text
    close = difflib.get_close_matches(text, [*_NAMES, "demo", "list", *_OWN_OPTIONS, *_STORED], 1)
    hint = f"did you mean {close[0]}?" if close else "`list` names all"
    raise argparse.ArgumentTypeError(f"no experiment is called {text!r}: {hint}")


def _add_folders(parser):
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")


def _add_common(parser):
    parser.add_argument(
        "--runs", type=positive, help="seeds of each cell; by default as each experiment says"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=-1, help="runs side by side; -1 for all cores")
    parser.add_argument("--device", default="auto", help="of the mixtures")
    parser.add_argument("--out", type=Path, default=Path("results/paper"))
    parser.set_defaults(threads=None)


def _run(experiments, options, command):
    require_extra("paper")
    names = {experiment.name for experiment in experiments}
    if "baselines" in names:
        require_extra("baselines")
    if "sentiment" in names:
        require_texts(options.folder)
    require_folder(options.out)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        how = {name: getattr(options, name) for name in ("runs", "seed", "jobs", "device")}
        results = run_experiments(experiments, options.out, **how)
    except KeyboardInterrupt:
        sys.exit(f"Stopped. What is finished is in {options.out}/runs; the same command goes on.")
    print(f"Report: {write_report(results, options.out, command)}")


if __name__ == "__main__":
    # Of glibc in the workers: keep large blocks that are freed. New ones of the system take half of
    # the time of single experts with 512 filters.
    os.environ |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
    main()
