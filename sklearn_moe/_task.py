"""A fit between its preparation and its end, and what is to be said of it then."""

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches

from ._compat import warn
from ._data.rows import Rows, storage_device
from ._data.validation import Samples
from ._defaults import Settings
from .exceptions import ExpertCollapseWarning
from .nn import OwnGenerator, preset_of

__all__ = ["Task", "TrainingData", "as_rows", "warn_of"]

_COLLAPSED = 0.95  # share of the samples beyond which one expert answers "nearly all"
_RUINED = 1.0  # what is worse by this than no answer at all: of numbers an R2 below -2
_START = 0.05  # of the epochs, in which the rates of "cosine" rise
_LEARNED = 0.9  # of the loss of outputs of 0: what has more on new rows has learned little
_AT_ONCE = 2**16  # samples whose loss is computed at a time


class TrainingData(NamedTuple):
    """The checked samples of a fit, and those held out of it."""

    training: Samples  # with y as codes
    validation: Samples | None
    settings: Settings
    dtype: str  # of float, in which they are trained

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
    """Warn of a fit that ended early or in ruins, or in which few experts have a say."""
    _warn_of_length(task)
    _warn_of_width(task)
    _warn_of_ruin(task)
    _warn_of_load(task, fitted)


def _warn_of_length(task):
    """Warn if the training could have gone on."""
    max_iter, stopping = task.data.settings.max_iter, task.stopping
    stopped = stopping.converged_ or len(task.net.history) - task.n_before < max_iter
    if not (stopped or stopping.tol is None or task.net.pace == "cosine"):
        warn(
            f"The training loss was still changing after max_iter={max_iter} epochs. "
            "Raise max_iter, or set tol=None to train for a fixed number of epochs.",
            ConvergenceWarning,
        )


def _warn_of_width(task):
    """Warn if early stopping found next to nothing in a table that has more columns than rows."""
    X, epochs, max_iter = task.data.training.x, _epochs(task), task.data.settings.max_iter
    if not epochs or task.stopping.score is None or X.ndim != 2 or X.shape[1] <= X.shape[0]:
        return
    kept = _kept(task, epochs)
    n_epochs = 1 + next(i for i, epoch in enumerate(epochs) if epoch is kept)
    nothing = _loss_of_nothing(task) if n_epochs <= _START * max_iter else None
    if nothing is not None and _unseen_loss(kept) > _LEARNED * nothing > 0:
        warn(
            f"X has more columns ({X.shape[1]}) than rows ({X.shape[0]}), and what was learned of "
            "it did not help on rows that were not shown: the model is that of epoch "
            f"{n_epochs} of {max_iter}, and has learned little. Reduce the columns before, such as "
            f"by make_pipeline({_reducer(task.draft._target)}, model), or take a linear model.",
            ConvergenceWarning,
        )


def _reducer(target):
    """Return a transformer that leaves fewer columns, as code."""
    if target.n_targets > 1 and target.kind != "classes":
        return "PCA(20)"
    return "SelectKBest(k=20)" if target.kind == "classes" else "SelectKBest(f_regression, k=20)"


def _unseen_loss(epoch):
    """Return the loss of an epoch on rows that were hidden or held out."""
    return epoch["oob_loss" if "oob_loss" in epoch else "valid_loss"]


def _warn_of_ruin(task):
    """Warn if steps that were too long left a model of a table that is worse than none.

    Of standardized tables only: there the outputs of a new network are small; elsewhere its loss
    may be large before the first step.
    """
    settings, epochs = task.data.settings, _epochs(task)
    if not (epochs and settings.standardize and task.data.training.x.ndim == 2):
        return
    rates = zip(
        settings.auto_rates.items(),
        (settings.learning_rate, settings.router_learning_rate),
        strict=True,
    )
    raised = [
        f"{name}={rate:g} ('auto' is {auto:.3g})" for (name, auto), rate in rates if rate > auto
    ]
    loss = _kept(task, epochs)["train_loss"]
    # Weights as they are drawn may be worse than none, too: then it was no step.
    if not raised and loss <= epochs[0]["train_loss"]:
        return
    nothing = _loss_of_nothing(task)
    if nothing is not None and loss > nothing + _RUINED:
        too_long = " and ".join(raised) or f"learning_rate_init={settings.learning_rate:.3g}"
        warn(
            f"The training ended with a loss of {loss:.3g}, where outputs of 0 for all samples "
            f"have {nothing:.3g}: its steps were too long. Lower {too_long}.",
            ConvergenceWarning,
        )


def _epochs(task):
    """Return what was recorded of each whole epoch of this fit."""
    names = {"train_loss", task.stopping.score} - {None}
    return [row for row in task.net.history[task.n_before :] if names <= row.keys()]


def _kept(task, epochs):
    """Return the epoch whose weights the model has: the last one, or the best one."""
    name = task.stopping.score
    if name is None:
        return epochs[-1]
    return (min if name.endswith("loss") else max)(epochs, key=lambda row: row[name])


def _loss_of_nothing(task):
    """Return the mean loss of outputs that are all 0; None if the head has none for them."""
    net, rows = task.net, task.data.training
    total = 0.0
    try:
        with torch.no_grad(), OwnGenerator(torch.Generator().manual_seed(0)):
            for part in gen_batches(len(rows.y), _AT_ONCE):
                y, weight = (column[part].to(net.device) for column in (rows.y, rows.weight))
                outputs = weight.new_zeros(len(y), net.criterion_.n_outputs)
                total += float(weight @ net.criterion_.loss(outputs, y))
    except Exception:  # a loss of one's own may take no other outputs than those of its experts
        return None
    return total / float(rows.weight.sum())


def _warn_of_load(task, fitted):
    """Warn if few experts answer."""
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
