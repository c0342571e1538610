"""Warnings at the end of a fit: it was too short, its steps were too long, few experts are used."""

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches

from .._compat import warn
from ..exceptions import ExpertCollapseWarning
from ..nn import RouterSpec
from ..nn.seeding import OwnGenerator

_COLLAPSED = 0.95  # share of the samples beyond which one expert computes "nearly all"
_RUINED = 1.0  # what is worse by this than outputs of 0: of numbers an R2 below -2
_START = 0.05  # of the epochs, in which the rates of "cosine" rise
_LEARNED = 0.9  # of the loss of outputs of 0: what has more on new rows has learned little
_AT_ONCE = 2**16  # samples whose loss is computed at a time


def warn_of(fit, target, load):
    """Warn of a fit that ended early or badly, or in which few experts are used.

    Parameters
    ----------
    fit : Fit
        Which was trained.
    target : ClassTarget, LabelTarget or NumberTarget
        What y means.
    load : ndarray of shape (n_experts,)
        Share of the training samples that each expert computes.
    """
    _warn_of_length(fit)
    _warn_of_width(fit, target)
    _warn_of_ruin(fit)
    _warn_of_load(fit, load)


def _warn_of_length(fit):
    """Warn if the training could have gone on."""
    max_iter, stopping = fit.plan.training.max_iter, fit.stopping
    stopped = stopping.converged_ or len(fit.net.history) - fit.n_before < max_iter
    if not (stopped or stopping.tol is None or fit.net.schedule == "cosine"):
        warn(
            f"The training loss was still changing after max_iter={max_iter} epochs. "
            "Raise max_iter, or set tol=None to train for a fixed number of epochs.",
            ConvergenceWarning,
        )


def _warn_of_width(fit, target):
    """Warn if early stopping found next to nothing in a table that has more columns than rows."""
    X, epochs, max_iter = fit.rows.x, _epochs(fit), fit.plan.training.max_iter
    if not epochs or fit.stopping.score is None or X.ndim != 2 or X.shape[1] <= X.shape[0]:
        return
    kept = _kept(fit, epochs)
    n_epochs = 1 + next(i for i, epoch in enumerate(epochs) if epoch is kept)
    nothing = _loss_of_nothing(fit) if n_epochs <= _START * max_iter else None
    if nothing is not None and _unseen_loss(kept) > _LEARNED * nothing > 0:
        warn(
            f"X has more columns ({X.shape[1]}) than rows ({X.shape[0]}), and what was learned of "
            "it did not help on rows that were not trained on: the model is that of epoch "
            f"{n_epochs} of {max_iter}, and has learned little. Reduce the columns before, such as "
            f"by make_pipeline({_reducer(target)}, model), or take a linear model.",
            ConvergenceWarning,
        )


def _reducer(target):
    """Return a transformer that leaves fewer columns, as code."""
    if target.n_targets > 1 and target.kind != "classes":
        return "PCA(20)"
    return "SelectKBest(k=20)" if target.kind == "classes" else "SelectKBest(f_regression, k=20)"


def _unseen_loss(epoch):
    """Return the loss of an epoch on rows that were out-of-bag or held out."""
    return epoch["oob_loss" if "oob_loss" in epoch else "valid_loss"]


def _warn_of_ruin(fit):
    """Warn if steps that were too long left a model of a table that is worse than none.

    Of standardized tables only: there the outputs of a new network are small; elsewhere its loss
    may be large before the first step.
    """
    training, epochs = fit.plan.training, _epochs(fit)
    if not (epochs and fit.plan.model.standardize and fit.rows.x.ndim == 2):
        return
    rates = zip(
        training.auto_rates.items(),
        (training.learning_rate, training.router_learning_rate),
        strict=True,
    )
    raised = [
        f"{name}={rate:g} ('auto' is {auto:.3g})" for (name, auto), rate in rates if rate > auto
    ]
    loss = _kept(fit, epochs)["train_loss"]
    # Weights as they are drawn may be worse than none, too: then it was no step.
    if not raised and loss <= epochs[0]["train_loss"]:
        return
    nothing = _loss_of_nothing(fit)
    if nothing is not None and loss > nothing + _RUINED:
        too_long = " and ".join(raised) or f"learning_rate_init={training.learning_rate:.3g}"
        warn(
            f"The training ended with a loss of {loss:.3g}, where outputs of 0 for all samples "
            f"have {nothing:.3g}: its steps were too long. Lower {too_long}.",
            ConvergenceWarning,
        )


def _epochs(fit):
    """Return what was recorded of each whole epoch of this fit."""
    names = {"train_loss", fit.stopping.score} - {None}
    return [row for row in fit.net.history[fit.n_before :] if names <= row.keys()]


def _kept(fit, epochs):
    """Return the epoch whose weights the model has: the last one, or the best one."""
    name = fit.stopping.score
    if name is None:
        return epochs[-1]
    return (min if name.endswith("loss") else max)(epochs, key=lambda row: row[name])


def _loss_of_nothing(fit):
    """Return the mean loss of outputs that are all 0; None if the head has none for them."""
    net, rows = fit.net, fit.rows
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


def _warn_of_load(fit, load):
    """Warn if few experts are used."""
    busiest = load.argmax()
    if not load[busiest]:
        warn(
            "No expert is used for any training sample: all scores are negative. Lower "
            "router__learning_rate, or use another router than 'relu'.",
            ExpertCollapseWarning,
        )
    if len(load) > 1 and load[busiest] > _COLLAPSED:
        warn(
            f"Expert {busiest} computes {load[busiest]:.1%} of the training "
            f"samples (load: {np.round(load, 3).tolist()}): the mixture has "
            f"collapsed to a single expert. Try {_against_collapse(fit)}.",
            ExpertCollapseWarning,
        )


def _against_collapse(fit):
    """Return what may help, without what would change nothing or be refused."""
    remedies, model = [], fit.plan.model
    rule = RouterSpec.of(model.router).router_class
    if not model.standardize:
        is_bag = fit.rows.x.ndim == 3
        remedies.append("a scaler in front of the patches" if is_bag else "standardize='auto'")
    if any(True for _ in fit.net.module_.router.parameters()):
        remedies += ["a smaller router__learning_rate", "balance='switch'"]
    if rule.sparse:
        remedies.append("balance='bias'")
    if rule.noisy:
        remedies.append("more noise (router__noise='gumbel')")
    return ", ".join([*remedies, "or fewer experts"])
