"""Command line of the experiments: `python -m sklearn_moe.paper demo`."""

import argparse
from pathlib import Path

from .demo import run_demo


def main(arguments=None):
    """Parse the command line and run the experiment it names."""
    parser = argparse.ArgumentParser(prog="python -m sklearn_moe.paper", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="setting 1: single experts and mixtures, one table")
    demo.add_argument("--picture", type=Path, default=Path("routing.png"), help="PNG to write")
    demo.add_argument("--n-samples", type=int, default=16_000, help="to train on, and to test on")
    demo.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    run_demo(options.picture, n_samples=options.n_samples, seed=options.seed)


if __name__ == "__main__":
    main()
