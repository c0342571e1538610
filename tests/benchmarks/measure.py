"""Ratios measured side by side, and the Markdown tables that show them."""

import os
import subprocess
import sys
import time
from itertools import chain, pairwise
from statistics import median
from typing import NamedTuple

from skorch.callbacks import Callback

__all__ = [
    "Ratio",
    "Row",
    "StepClock",
    "paired",
    "print_table",
    "ratio_of",
    "run_python",
    "seconds",
    "verdict",
]


class Row(NamedTuple):
    """A line of a report; `ok` is None where nothing is asked for."""

    what: str
    measured: str
    target: str
    ok: bool | None


class Ratio(NamedTuple):
    """A over B: median and range of the pairs, and the median of A and of B themselves."""

    median: float
    low: float
    high: float
    first: float
    second: float

    def __str__(self):
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


class StepClock(Callback):
    """Collect the time of every epoch but the first two, which warm up."""

    def on_train_begin(self, net, **kwargs):
        """Start the clock."""
        self.ticks = [time.perf_counter()]

    def on_epoch_end(self, net, **kwargs):
        """Note the time."""
        self.ticks.append(time.perf_counter())

    def median(self):
        """Return the median time of an epoch."""
        ticks = self.ticks[2:]
        return median(after - before for before, after in pairwise(ticks))


def seconds(function, *args, **kwargs):
    """Return the wall time of a call."""
    start = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - start


def paired(first, second, pairs):
    """Return the ratio of two clocks, functions that return seconds, run A B A B after one each.

    Neighbours share the state of the machine, so the median of their ratios survives a noisy
    neighbour that would spoil the ratio of the medians.
    """
    first(), second()
    times = [(first(), second()) for _ in range(pairs)]
    return ratio_of(*zip(*times, strict=True))


def ratio_of(first, second):
    """Return the ratio of paired times."""
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios), median(first), median(second))


def verdict(what, ratio, target, *, at_least=False):
    """Return the row of a ratio that must not pass (or with `at_least`, must reach) a target."""
    ok = ratio.median >= target if at_least else ratio.median <= target
    return Row(what, str(ratio), f"{'>=' if at_least else '<='} {target:g}", ok)


def run_python(*args, **environment):
    """Run a fresh interpreter, with more environment variables, and return what it prints."""
    return subprocess.run(
        [sys.executable, *args],
        check=True,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def markdown(cells):
    """Return a line of a Markdown table; True, False and None read yes, NO and nothing."""
    words = {True: "yes", False: "**NO**", None: ""}
    cells = [words[c] if c is None or isinstance(c, bool) else str(c) for c in cells]
    return f"| {' | '.join(cells)} |"


def print_table(header, rows):
    """Print a Markdown table, each row as soon as it is there."""
    for row in chain([header, ["---"] * len(header)], rows):
        print(markdown(row), flush=True)
