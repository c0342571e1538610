"""The beginning of a fit that may have begun before."""

from numbers import Integral

import numpy as np

from ._training import Resuming
from ._training.checkpoint import FitFile, identity_of
from .checkpoints import FitCheckpoint

__all__ = ["begin"]


def begin(estimator, samples, resume):
    """Return the data of a fit and, with a checkpoint, what stores it and lets it go on.

    Parameters
    ----------
    estimator : BaseMoE
    samples : Samples
    resume : bool
        Whether it is a warm start, from the weights of `estimator`.
    """
    if estimator.checkpoint is None:
        return estimator._hold_out(samples), None
    before = estimator._random_state.get_state(legacy=False)
    data = estimator._hold_out(samples)
    weights = estimator.net_.module_.state_dict() if resume else None
    file = FitFile(
        FitCheckpoint.of(estimator.checkpoint),
        identity_of(estimator, samples, data.settings, weights),
        data.settings.max_iter,
    )
    if isinstance(estimator.random_state, Integral):
        return data, Resuming(file)
    if file.state is not None:  # draw again what was drawn by the fit that goes on
        before = file.state["random_state"]
        if estimator.random_state is None:
            estimator._random_state = np.random.RandomState()
        estimator._random_state.set_state(before)
        data = estimator._hold_out(samples)
    return data, Resuming(file, before)
