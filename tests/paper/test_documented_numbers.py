"""The numbers in the documentation are those of the stored results."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
from scipy.stats import t

DOCS = Path(__file__).parents[2] / "docs"
ROOT = DOCS.parent


@cache
def stored(name):
    return json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))


@cache
def page(name):
    """Return a page with single spaces, without markup in the middle of sentences."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return " ".join(re.sub(r"\*\*|\\ :sub:`(\w+)`", r"\1", text).split())


def values(name, measure, **labels):
    """Return a measure of all runs of the one cell with these labels."""
    (cell,) = (c for c in stored(name)["cells"] if labels.items() <= c["labels"].items())
    return np.array(cell["values"][measure], dtype=float)


def plain(value, digits):
    """Return a number as the pages write it: no zero before the point."""
    return re.sub(r"^(-?)0(?=\.)", r"\1", f"{value:.{digits}f}")


def spread(numbers, digits):
    return f"{plain(numbers.mean(), digits)} ± {plain(numbers.std(ddof=1), digits)}"


def interval(numbers, digits):
    """Return mean and 95 % t-interval."""
    half = t.ppf(0.975, len(numbers) - 1) * numbers.std(ddof=1) / np.sqrt(len(numbers))
    low, high = numbers.mean() - half, numbers.mean() + half
    return f"{plain(numbers.mean(), digits)} ({plain(low, digits)} to {plain(high, digits)})"


def finding(name, start):
    """Return the one finding of an experiment that begins so."""
    (text,) = (f["text"] for f in stored(name)["findings"] if f["text"].startswith(start))
    return text
