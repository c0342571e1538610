"""The device of the device tests, and what a training step costs on it.

`SKLEARN_MOE_PRETEND_DEVICE` names a folder with `pretend.py`, a torch device without hardware whose
memory, generators and kernels are apart from the CPU's, and which notes every operation and every
moment in which the host waits. `SKLEARN_MOE_DEVICE` names any other device to run the tests on,
where nothing is counted.
"""

import os
import sys
from collections import Counter
from unittest.mock import patch

from sklearn_moe._training.loop import Step

__all__ = ["DEVICE", "PRETEND", "step_cost"]

FOLDER = os.environ.get("SKLEARN_MOE_PRETEND_DEVICE")
DEVICE = os.environ.get("SKLEARN_MOE_DEVICE") or ("pretend" if FOLDER else None)


def _load_pretend():
    """Make the pretend device known to torch, which must be before the first backward pass."""
    with patch("sys.path", [*sys.path, FOLDER]):
        import pretend  # compiles it, if PRETEND_BUILD does not hold it yet
    return pretend


PRETEND = _load_pretend() if DEVICE == "pretend" else None


def step_cost(estimator, X, y):
    """Fit on the pretend device; count the operations of a step, and those the host waits for.

    The step is in the middle of the last epoch, its share of the epoch's loop included. Batches
    must be three at least: with the first and the last step go the operations of an epoch.
    """
    core, labels, make_step = PRETEND.core, [], Step.__call__

    def labelled(step, batch):
        epoch = len(step.net.history)
        place = 0 if not labels or labels[-1][0] != epoch else labels[-1][1] + 1
        labels.append((epoch, place))
        core.label(str(labels[-1]))
        return make_step(step, batch)

    with patch.object(Step, "__call__", labelled):
        core.start(None)
        try:
            estimator.set_params(device="pretend").fit(X, y)
        finally:
            log = core.stop()
            core.label("")
    assert labels[-2][1] > 0, "an epoch of three batches at least has a step in its middle"
    of_step = [(op, n_waits) for op, label, n_waits in log if label == str(labels[-2])]
    return Counter(op for op, _ in of_step), [op for op, n_waits in of_step for _ in range(n_waits)]
