"""Peak memory of one fit, measured in a process of its own (Linux only); speed.py calls it.

`python memory.py N_SAMPLES BATCH_SIZE` prints JSON: the resident memory that two epochs of
setting-1 training need on top of what is there before `fit`: X, y and a process warmed up by
a small fit.
"""

import json
import sys
from pathlib import Path

import numpy as np

from sklearn_moe import MoEClassifier

N_PATCHES, PATCH_SIZE = 4, 50
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def resident(field):
    """Return a field of /proc/self/status in bytes: VmRSS now, VmHWM at its highest."""
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return 1024 * int(lines[field].split()[0])


def make_samples(n_samples):
    """Fill X in place, so that making it leaves no peak behind."""
    rng = np.random.default_rng(0)
    X = np.empty((n_samples, N_PATCHES, PATCH_SIZE), dtype=np.float32)
    for part in np.array_split(X, max(1, n_samples // 1000)):
        rng.standard_normal(out=part, dtype=np.float32)
    return X, rng.integers(2, size=n_samples)


def peak_of_fit(n_samples, batch_size):
    """Return the bytes of X, of a batch, and of the peak beyond what was there before."""
    options = {"max_iter": 2, "tol": None, "random_state": 0}
    MoEClassifier(batch_size=200, **options).fit(*make_samples(1000))
    X, y = make_samples(n_samples)
    _CLEAR.write_text(_RESET_PEAK)
    before = resident("VmRSS")
    MoEClassifier(batch_size=batch_size, **options).fit(X, y)
    return {
        "X": X.nbytes,
        "batch": X.nbytes * batch_size // n_samples,
        "peak": resident("VmHWM") - before,
    }


if __name__ == "__main__":
    json.dump(peak_of_fit(*map(int, sys.argv[1:])), sys.stdout)
