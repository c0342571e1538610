"""Warnings at the end of a fit: it was too short, its steps were too long, few experts are used."""

import numpy as np
import torch
from scipy.stats import entropy
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches

from .._compat import warn
from ..exceptions import ExpertCollapseWarning
from ..nn.seeding import drawing_from
from .pool import learns_router

_COLLAPSED = 0.95  # share of the samples beyond which one expert computes "nearly all"
_RUINED = 1.0  # what is worse by this than outputs of 0: of numbers an R2 below -2
_START = 0.05  # of the epochs, in which the rates of "cosine" rise
_LEARNED = 0.9  # of the loss of outputs of 0: what has more on new rows has learned little
_OVERFIT = 0.1  # by which a loss of unseen rows may be above that of a constant, by chance
_AT_ONCE = 2**16  # samples whose loss is computed at a time


def warn_of(fit, target, load):
    """Warn of a fit, a `Fit`, that ended early or badly, or in which few experts are used.

    `target` is what y means, `load` the share of the training samples of each expert.
    """
    history, max_iter, stopping = fit.net.history, fit.plan.training.max_iter, fit.stopping
    stopped = stopping.converged_ or len(history) - fit.n_before < max_iter
    if not (stopped or stopping.tol is None or fit.net.schedule == "cosine"):
        warn(
            f"The training loss was still changing after max_iter={max_iter} epochs. "
            "Raise max_iter, or set tol=None to train for a fixed number of epochs.",
            ConvergenceWarning,
        )
    names = {"train_loss", stopping.score} - {None}
    epochs = [row for row in history[fit.n_before :] if names <= row.keys()]
    if epochs:
        kept, is_table = epochs[-1], fit.rows.x.ndim == 2
        if stopping.score is not None:
            best = min if stopping.score.endswith("loss") else max
            kept = best(epochs, key=lambda row: row[stopping.score])
            unseen = kept["oob_loss" if "oob_loss" in kept else "valid_loss"]
            unseen = history[-1].get("mixture_oob_loss", unseen)  # weighs the kinds
            if is_table and fit.rows.x.shape[1] > fit.rows.x.shape[0]:
                _warn_of_width(fit, target, unseen, 1 + epochs.index(kept))
            else:
                _warn_of_overfit(fit, target, unseen, kept["train_loss"])
        if is_table and fit.plan.standardize:
            _warn_of_ruin(fit, epochs, kept)
    _warn_of_load(fit, load)


def _warn_of_width(fit, target, unseen_loss, n_epochs):
    """Warn if early stopping found next to nothing in a table that has more columns than rows.

    `n_epochs` is the number of the epoch whose weights the model has.
    """
    X, max_iter = fit.rows.x, fit.plan.training.max_iter
    is_start = n_epochs <= _START * max_iter or learns_router(fit.net)
    nothing = _constant_loss(fit, target) if is_start else None
    if nothing is not None and unseen_loss > _LEARNED * nothing > 0:
        warn(
            f"X has more columns ({X.shape[1]}) than rows ({X.shape[0]}), and what was learned "
            "did not help on held-out or out-of-bag rows: the model is little more than a "
            "constant. Reduce the columns before, such as by "
            f"make_pipeline({_reducer(target)}, model).",
            ConvergenceWarning,
        )


def _warn_of_overfit(fit, target, unseen, train_loss):
    """Warn if a prediction that ignores X is better on samples that were not trained on."""
    null = _constant_loss(fit, target)
    if null is not None and unseen > null + _OVERFIT > train_loss + _OVERFIT:
        warn(
            f"On samples that were not trained on the loss is {unseen:.3g}, that of a prediction "
            f"which ignores X is {null:.3g}: the model overfits. Use fewer experts"
            f"{', a larger expert_loss_weight' * (fit.plan.training.expert_loss_weight < 1)}, or "
            "more samples.",
            ConvergenceWarning,
        )


def _reducer(target):
    """Return a transformer that leaves fewer columns, as code."""
    if target.n_targets > 1 and target.kind != "classes":
        return "PCA(20)"
    return "SelectKBest(k=20)" if target.kind == "classes" else "SelectKBest(f_regression, k=20)"


def _warn_of_ruin(fit, epochs, kept):
    """Warn if steps that were too long left a model of a table that is worse than none.

    Of standardized tables only: there the outputs of a new network are small; elsewhere its loss
    may be large before the first step.
    """
    # A pool of kinds is not ruined by one of them.
    training, loss = fit.plan.training, kept["train_loss"]
    loss = fit.net.history[-1].get("mixture_oob_loss", loss)
    rates = (training.learning_rate, training.router_learning_rate)
    raised = [
        f"{name}={rate:g} ('auto' is {auto:.3g})"
        for (name, auto), rate in zip(training.auto_rates.items(), rates, strict=True)
        if rate > auto
    ]
    # Initial weights may be worse than outputs of 0: a bad start is not a step that was too long.
    if not raised and loss <= epochs[0]["train_loss"]:
        return
    nothing = _null_loss(fit)
    if nothing is not None and loss > nothing + _RUINED:
        too_long = " and ".join(raised) or f"learning_rate_init={training.learning_rate:.3g}"
        warn(
            f"The training ended with a loss of {loss:.3g}, where outputs of 0 for all samples "
            f"have {nothing:.3g}: its steps were too long. Lower {too_long}.",
            ConvergenceWarning,
        )


def _constant_loss(fit, target):
    """Return the mean loss of a prediction that ignores X; None if the head has none for it."""
    rows, null = fit.validation or fit.rows, _null_loss(fit)
    if null is None or target.kind != "classes":
        return null
    shares = np.bincount(rows.y.cpu(), rows.weight.cpu(), target.n_targets)
    return null * entropy(shares) / np.log(target.n_targets)  # outputs of 0 stand for equal shares


def _null_loss(fit):
    """Return the mean loss of outputs that are all 0; None if the head has none for them."""
    net, rows = fit.net, fit.rows
    generator, total = torch.Generator().manual_seed(0), 0.0
    try:
        with torch.no_grad(), drawing_from(generator, net.criterion_):
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
    # A router that was learned from unseen rows knows that one expert is the best.
    if len(load) > 1 and load[busiest] > _COLLAPSED and not learns_router(fit.net):
        warn(
            f"Expert {busiest} computes {load[busiest]:.1%} of the training "
            f"samples (load: {np.round(load, 3).tolist()}): the mixture has "
            f"collapsed to a single expert. Try {_against_collapse(fit)}.",
            ExpertCollapseWarning,
        )


def _against_collapse(fit):
    """Return what may help, without what would change nothing or be refused."""
    remedies, router_class = [], fit.plan.model.router.router_class
    if not fit.plan.standardize:
        is_bag = fit.rows.x.ndim == 3
        remedies.append("a scaler before the patches" if is_bag else "standardize='auto'")
    if any(True for _ in fit.net.module_.router.parameters()):
        remedies += ["a smaller router__learning_rate", "balance='switch'"]
    if router_class.sparse:
        remedies.append("balance='bias'")
    if router_class.noisy:
        remedies.append("more noise (router__noise='gumbel')")
    return ", ".join([*remedies, "or fewer experts"])
