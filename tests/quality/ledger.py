"""Stored losses of the defaults, and whether today's are worse.

    python tests/quality/ledger.py [--store] [TASK ...]

prints the losses of the tasks whose names contain one of the words, of all without, beside those
that are stored, and with --store stores them. A commit that stores a worse one says why.
"""

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

sys.path.append(str(Path(__file__).parents[1]))
from tasks import TASKS

FILE = Path(__file__).with_name("stored.json")
# A task may be worse by so much, the mean of a family by less; either by less than two errors.
OF_TASK, OF_FAMILY = 0.03, 0.01
N_BLOCKS = 20


def blocks(task):
    """Return the mean losses of blocks of rows, each of one fit."""
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        fits = [*task()]
    n_blocks = -(-N_BLOCKS // len(fits))
    parts = [part for fit in fits for part in np.array_split(fit, min(n_blocks, len(fit)))]
    return [float(part.mean()) for part in parts]


def compare(found, stored):
    """Return by how much the mean is above the stored one, over it, and the standard error."""
    found, stored = np.array(found), np.array(stored)
    change = (found - stored) / stored.mean()
    return change.mean(), change.std(ddof=1) / np.sqrt(len(change))


def verdicts(changes):
    """Yield in words what is worse, of the changes and errors of the tasks of a family."""
    for name, (change, error) in changes.items():
        if not change <= max(OF_TASK, 2 * error):
            yield f"{name}: the loss is {change:+.1%} (error {error:.1%}) from the stored one"
    mean = np.mean([change for change, _ in changes.values()])
    error = np.sqrt(np.sum([error**2 for _, error in changes.values()])) / len(changes)
    if not mean <= max(OF_FAMILY, 2 * error):
        yield f"the mean of the family: {mean:+.1%} (error {error:.1%})"


def load():
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", default=[""], metavar="TASK")
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    stored, start = load(), time.process_time()
    for name in (name for name in TASKS if any(word in name for word in arguments.words)):
        before, begun = stored.get(name), time.process_time()
        found = blocks(TASKS[name])
        # A task that was changed has no stored value.
        is_known = before and len(before) == len(found)
        change, error = compare(found, before) if is_known else (np.nan, np.nan)
        beside = f"{np.mean(found):9.4g}, {change:+.1%} (error {error:.1%})"
        print(f"{name:40} {beside:34} {time.process_time() - begun:5.1f} s", flush=True)
        stored[name] = [float(f"{value:.5g}") for value in found]
    print(f"{time.process_time() - start:.0f} s of CPU")
    if arguments.store:
        lines = [f'"{name}": {json.dumps(stored[name])}' for name in TASKS if name in stored]
        FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    main()
