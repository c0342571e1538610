"""Command line of the experiments: `python -m sklearn_moe.paper demo`, or `table2`."""

import argparse
from pathlib import Path

from .demo import run_demo
from .table2 import add_arguments, run_table2


def main(arguments=None):
    """Parse the command line and run the experiment it names."""
    parser = argparse.ArgumentParser(prog="python -m sklearn_moe.paper", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="setting 1: single experts and mixtures, one table")
    demo.add_argument("--picture", type=Path, default=Path("routing.png"), help="PNG to write")
    demo.add_argument("--n-samples", type=int, default=16_000, help="to train on, and to test on")
    demo.add_argument("--seed", type=int, default=0)
    table2 = commands.add_parser("table2", help="CIFAR-10 and CIFAR-10-Rotate, as in Table 2")
    add_arguments(table2)
    options = parser.parse_args(arguments)
    if options.command == "table2":
        run_table2(options)
        return
    run_demo(options.picture, n_samples=options.n_samples, seed=options.seed)


if __name__ == "__main__":
    main()
