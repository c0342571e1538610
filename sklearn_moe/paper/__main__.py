"""Command line of the experiments: `python -m sklearn_moe.paper --help`."""

import argparse
import shlex
import sys
from pathlib import Path

from . import demo, table2
from ._arguments import positive
from ._report import write_report
from ._runner import run_experiments
from .experiments import EXPERIMENTS, GROUPS, get_experiment, names_of

_PROG = "python -m sklearn_moe.paper"
_COMMANDS = {"demo": demo, "table2": table2}  # with options of their own


def main(arguments=None):
    """Run experiments of Chen et al. (2022), and put the published numbers beside ours."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["list"]:
        _list()
    elif arguments and arguments[0] in _COMMANDS:
        command = _COMMANDS[arguments[0]]
        parser = argparse.ArgumentParser(prog=f"{_PROG} {arguments[0]}")
        command.add_arguments(parser)
        command.run_command(parser.parse_args(arguments[1:]))
    else:
        _run(_parser().parse_args(arguments), f"{_PROG} {shlex.join(arguments)}")


def _list():
    for name in EXPERIMENTS:
        print(f"{name:15} {get_experiment(name).title}")
    for name, members in GROUPS.items():
        print(f"{name:15} = {' '.join(members)}")
    print("demo            Setting 1 in a minute: single experts and mixtures")
    print("table2          Table 2: CIFAR-10 and CIFAR-10-Rotate")


def _parser():
    names = [*EXPERIMENTS, *GROUPS]
    parser = argparse.ArgumentParser(
        prog=_PROG,
        description=f"{main.__doc__} `list` names all; `demo` and `table2` have an own --help. "
        "Finished runs are kept: the same command goes on where it was interrupted.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", choices=names, help=", ".join(names))
    parser.add_argument(
        "--protocol",
        choices=("code", "paper"),
        default="code",
        help="the paper's mixtures as its code runs them, or as its text describes them",
    )
    parser.add_argument(
        "--data",
        choices=("fixed", "fresh"),
        default="fixed",
        help="one data set for all runs, as in the authors' notebooks, or a new one for each",
    )
    parser.add_argument(
        "--runs", type=positive, default=10, help="seeds of each cell, fewer in large experiments"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=-1, help="runs side by side; all cores")
    parser.add_argument("--device", default="auto", help="of the mixtures")
    parser.add_argument("--out", type=Path, default=Path("results/paper"))
    return parser


def _run(options, command):
    experiments = [
        get_experiment(name, options.protocol, options.data) for name in names_of(options.names)
    ]
    try:
        results = run_experiments(
            experiments,
            options.out,
            runs=options.runs,
            seed=options.seed,
            jobs=options.jobs,
            device=options.device,
        )
    except KeyboardInterrupt:
        sys.exit(f"Stopped. What is finished is in {options.out}/runs; the same command goes on.")
    print(f"Report: {write_report(results, options.out, command)}")


if __name__ == "__main__":
    main()
