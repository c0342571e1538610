"""A fit between its preparation and its end, and what is to be said of it then."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ._data import Rows, storage_device
from ._inputs import Samples
from ._settings import Settings
from ._warnings import warn
from .exceptions import ExpertCollapseWarning
from .nn import preset_of

__all__ = ["Task", "TrainingData", "as_rows", "warn_of"]

_COLLAPSED = 0.95  # share of the samples beyond which one expert answers "nearly all"


class TrainingData(NamedTuple):
    """The checked samples of a fit, and those held out of it."""

    training: Samples  # with y as codes
    validation: Samples | None
    settings: Settings
    dtype: np.dtype  # of float, in which they are trained

    def on(self, device):
        """Return the same as tensors, where a fit on that device keeps its samples.

        The weights of either have mean 1, see `weighted_mean`.
        """
        training, validation = (
            samples and as_rows(samples, samples.weight.mean(), self.dtype, device)
            for samples in (self.training, self.validation)
        )
        return self._replace(training=training, validation=validation)


def as_rows(samples, mean_weight, dtype, device):
    """Return samples as tensors, where a training on a device keeps them; y are their codes."""
    X, y, weight, _ = samples
    weight = (weight / mean_weight).astype(dtype)
    return Rows.from_arrays(X, y, weight, storage_device(X, device))


class Task(NamedTuple):
    """A fit that was prepared: what is trained by what, and what ends it."""

    draft: Any  # takes the place of the estimator in the end
    net: Any
    data: TrainingData
    stopping: Any
    n_united: int
    n_before: int  # epochs of earlier fits
    context: tuple | None  # of scikit-learn's callbacks
    resuming: Any  # what stores the training, if anything does


def warn_of(task, fitted):
    """Warn of a fit that ended early, or in which few experts have a say."""
    max_iter, stopping = task.data.settings.max_iter, task.stopping
    stopped = stopping.converged_ or len(task.net.history) - task.n_before < max_iter
    if not (stopped or stopping.tol is None or task.net.pace == "cosine"):
        warn(
            f"The training loss was still changing after max_iter={max_iter} epochs. "
            "Raise max_iter, or set tol=None to train for a fixed number of epochs.",
            ConvergenceWarning,
        )
    load = fitted.expert_load_
    busiest = load.argmax()
    if not load[busiest]:
        warn(
            "No expert answers any training sample: all scores are negative. Lower "
            "router_learning_rate_init, or use another router than 'relu'.",
            ExpertCollapseWarning,
        )
    if fitted.n_experts > 1 and load[busiest] > _COLLAPSED:
        warn(
            f"Expert {busiest} answers {load[busiest]:.1%} of the training "
            f"samples (load: {np.round(load, 3).tolist()}): the mixture has "
            f"collapsed to a single expert. Try {_against_collapse(task)}.",
            ExpertCollapseWarning,
        )


def _against_collapse(task):
    """Return what may help, without what would change nothing or be refused."""
    settings, remedies = task.data.settings, []
    rule = preset_of(settings.router).rule
    if not settings.standardize:
        is_bag = task.data.training.x.ndim == 3
        remedies.append("a scaler in front of the patches" if is_bag else "standardize='auto'")
    if any(True for _ in task.net.module_.router.parameters()):
        remedies += ["a smaller router_learning_rate_init", "balance='switch'"]
    if rule.sparse:
        remedies.append("balance='bias'")
    if rule.noisy:
        remedies.append("more noise (router_noise='gumbel')")
    return ", ".join([*remedies, "or fewer experts"])
