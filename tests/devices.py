"""The device of the device tests, and what a training step costs on it.

`SKLEARN_MOE_PRETEND_DEVICE` names a folder with `pretend.py`, a torch device without hardware whose
memory, generators and kernels are apart from the CPU's, and which notes every operation and every
moment in which the host waits. `SKLEARN_MOE_DEVICE` names any other device to run the tests on,
where nothing is counted.
"""

import os
import sys
import traceback
from collections import Counter
from contextlib import contextmanager
from typing import NamedTuple

from sklearn_moe._training.loop import Step

__all__ = ["DEVICE", "FOLDER", "PRETEND", "StepCost", "step_cost"]

FOLDER = os.environ.get("SKLEARN_MOE_PRETEND_DEVICE")
DEVICE = os.environ.get("SKLEARN_MOE_DEVICE") or ("pretend" if FOLDER else None)


def _load_pretend():
    """Make the pretend device known to torch, which must be before the first backward pass."""
    sys.path.append(FOLDER)
    try:
        import pretend  # compiles it, if PRETEND_BUILD does not hold it yet
    finally:
        sys.path.remove(FOLDER)
    return pretend


PRETEND = _load_pretend() if DEVICE == "pretend" else None


class StepCost(NamedTuple):
    """What a training step costs on a GPU, its batch and its share of the epoch's loop included."""

    operations: int  # kernels and copies
    waits: int  # moments in which the host waits for the device
    log: Counter  # how often each operation came
    waiting: list  # "operation, file:line" of the package, for each wait


def step_cost(estimator, X, y):
    """Fit on the pretend device; return the cost of a step in the middle of the last epoch.

    Its batches must be three at least: with the first and the last step go those of an epoch.
    """
    core, waiting = PRETEND.core, []
    with _labelled_steps(core) as labels:
        core.start(lambda op: waiting.append((labels[-1] if labels else None, op, _line())))
        try:
            estimator.set_params(device="pretend").fit(X, y)
        finally:
            log = core.stop()
    middle = labels[-2]
    assert middle[1] > 0, "an epoch of three batches at least has a step in its middle"
    entries = [(op, waits) for op, label, waits in log if label == str(middle)]
    return StepCost(
        len(entries),
        sum(waits for _, waits in entries),
        Counter(op for op, _ in entries),
        [f"{op}, {line}" for label, op, line in waiting if label == middle],
    )


def _line():
    """Return the line of the package that is being run; "backward" in torch's own thread."""
    lines = [
        f"{frame.filename.partition('sklearn_moe/')[2]}:{frame.lineno}"
        for frame in traceback.extract_stack()
        if "sklearn_moe/" in frame.filename
    ]
    return lines[-1] if lines else "backward"


@contextmanager
def _labelled_steps(core):
    """Label the operations from a step to the next one; yield (epoch, step) of all steps."""
    labels, make_step = [], Step.__call__

    def labelled(self, batch):
        epoch = len(self.net.history)
        step = 0 if not labels or labels[-1][0] != epoch else labels[-1][1] + 1
        labels.append((epoch, step))
        core.label(str(labels[-1]))
        return make_step(self, batch)

    Step.__call__ = labelled
    try:
        yield labels
    finally:
        Step.__call__ = make_step
        core.label("")
