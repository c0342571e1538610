"""What a fit has learned, and what happens after the last epoch.

1. The experts of a pool, or its out-of-bag rows, have told what new rows are like (`pool`).
2. The density around predictions of numbers is measured (`measure_density`).
3. The load of each expert is counted, in the pass over the rows that predicts them if there is one.
4. A fit that ended early or badly, or in which few experts are used, is warned of (`warn_of`).
"""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from scipy.stats import entropy
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches

from .._data.tables import draw_rows
from .._validation import warn
from ..exceptions import ExpertCollapseWarning
from ..nn.encoders import FeatureStatistics
from ..nn.seeding import use_generator
from .density import density_of
from .pool import PoolFit, predict_out_of_bag

# Rows by which a density is measured, to one or two percent.
_N_DENSITY_ROWS = 4000
# Share of the samples beyond which one expert computes "nearly all".
_COLLAPSED = 0.95
# What is worse by this than outputs of 0 is ruined: of numbers an R2 below -2.
_RUINED = 1.0
# The share of the epochs in which the rates of "cosine" rise.
_START = 0.05
# What has more on new rows than this share of the loss of outputs of 0 has learned little.
_LEARNED = 0.9
# A loss of unseen rows may be above that of a constant by this, by chance.
_OVERFIT = 0.1
# Samples whose loss is computed at a time.
_AT_ONCE = 2**16


@dataclass
class Fitted:
    """What a fit has learned: attributes of an estimator by their names, once it has ended.

    Those without a default are known of every fitted estimator; it cannot predict without them.
    """

    n_features_in_: int = field(init=False)
    input_shape_: tuple[int, ...] = field(init=False)
    resolved_params_: dict = field(init=False)
    expert_kinds_: np.ndarray = field(init=False)
    expert_load_: np.ndarray = field(init=False)
    n_iter_: int = field(init=False)
    net_: Any = field(init=False)
    # What y means, and how X is read.
    _target: Any = field(init=False)
    _format: Any = field(init=False)
    _dtype: str = field(init=False)
    _scales: Any = field(init=False)
    _weights_seen: Any = field(init=False)
    # Seeds of the noise at prediction, and of a training that goes on.
    _predict_seed: int = field(init=False)
    _next_seed: int = field(init=False)
    _noise_at_predict: bool = field(init=False)
    # What cannot change while it is trained further.
    _architecture: dict = field(init=False)

    # Depending on the data and on the kind of fit.
    _split_seed: int | None = None
    classes_: Any = None
    feature_names_in_: Any = None
    oob_loss_curve_: Any = None
    validation_scores_: Any = None
    oob_prediction_: Any = None
    oob_decision_function_: Any = None
    # The density of numbers.
    scale_: Any = None
    scale_slope_: Any = None
    dispersion_: Any = None
    _n_measured: Any = None
    _levels: Any = None

    @classmethod
    def of(cls, estimator):
        """Return what a training that goes on keeps of a fitted estimator."""
        fitted = cls()
        for name in (*cls.always(), "classes_", "feature_names_in_"):
            setattr(fitted, name, vars(estimator).get(name))
        return fitted

    @classmethod
    def always(cls):
        """Return the names of what every fitted estimator has."""
        return [part.name for part in fields(cls) if not part.init]

    def give_to(self, estimator):
        """Set the attributes of an estimator; those of its last fit are gone."""
        for part in fields(self):
            vars(estimator).pop(part.name, None)
        known = {name: value for name, value in vars(self).items() if value is not None}
        # Columns that are not standardized have no scales.
        vars(estimator).update({"_scales": None} | known)


def finish(fit, found=None):
    """Learn what is learned after the last epoch, as fitted attributes in `fit.learned`.

    `found` is the `PoolFit` of a pool, None of other mixtures. Return the mean loss of a pool on
    rows that its experts have not seen, None of other mixtures.
    """
    learned = fit.learned
    is_regression = learned._target.kind == "regression"
    if found is None:
        predictions = load = None
        if fit.rows.in_bag is not None:
            predictions, load = fit.by_few_rows_after_ctrl_c(
                lambda fit: predict_out_of_bag(fit.net, fit.rows)
            )
        found = PoolFit(fit.validation or fit.rows, predictions, load)
    oob = found.predictions
    # The state of the optimizer is as large as the weights, or twice as large.
    fit.net.initialize_optimizer()
    if oob is not None and is_regression:
        oob = learned._target.decode(oob)
    if is_regression:
        measured = fit.by_few_rows_after_ctrl_c(
            lambda fit: measure_density(fit, describe_density(fit, found.rows), {}, oob)
        )
        vars(learned).update(measured)
    fit.by_few_rows_after_ctrl_c(lambda fit: _describe_training(fit, found.load))
    n_rows = len(fit.samples.y)
    if oob is not None and len(oob) < n_rows:
        every = np.full((n_rows, *oob.shape[1:]), np.nan, oob.dtype)
        every[draw_rows(n_rows, len(oob))] = oob
        oob = every
    if oob is not None:
        name = "oob_prediction_" if is_regression else "oob_decision_function_"
        setattr(learned, name, oob)
    return found.loss


def finish_chunk(fit, said, before):
    """Learn what is learned after a chunk.

    `said` is what the net has said of the chunk before it was trained on it, None of the first one;
    `before` has what was measured of the density by then.
    """
    said = said or describe_density(fit, fit.rows)
    vars(fit.learned).update(measure_density(fit, said, before))
    _describe_training(fit)


def _describe_training(fit, load=None):
    """Set the net, the curves of its losses, and the load of its experts."""
    net, learned, history = fit.net, fit.learned, fit.net.history
    if load is None:
        load = _count_load(fit)
    learned.net_ = net
    learned.n_iter_ = len(history)
    learned.expert_load_ = load / max(load.sum(), np.finfo(load.dtype).tiny)
    if oob_losses := [row["oob_loss"] for row in history if "oob_loss" in row]:
        learned.oob_loss_curve_ = oob_losses
    name = f"valid_{net.criterion_.score_name}"
    scores = [row[name] for row in history if name in row]
    if scores and fit.plan.training.holds_out:
        learned.validation_scores_ = scores


def _count_load(fit):
    """Return the weight of the rows that each expert computes, or of its part in them."""
    if fit.net.module_.router is None:
        return fit.rows.weight.sum(0, True).cpu().numpy()
    route = fit.net.module_.route
    generator = fit.make_generator()
    loads = fit.net.map_batches(
        lambda x, weight: route(x, generator).per_expert(weight).unsqueeze(0),
        fit.rows,
        fit.rows.weight,
    )
    return loads.sum(axis=0)


# -- the density of numbers ----------------------------------------------------------------------


def describe_density(fit, rows):
    """Return what the net says of some rows: parts of densities, y and numbers of rows.

    None if its loss belongs to no density.
    """
    net, head, module = fit.net, fit.net.criterion_, fit.net.module_
    if density_of(head, fit.learned._target, {}) is None:
        return None
    generator = fit.make_generator()
    some = rows.sample(_N_DENSITY_ROWS, torch.device(net.device))
    y = some.y.double().cpu().numpy()
    parts = net.map_batches(lambda x: head.parts(module(x, generator).output), some)
    return parts, y, some.counts()


def measure_density(fit, said, before, oob=None):
    """Return the fitted attributes of the density: its scale, and the levels of its quantiles.

    On held-out rows or, by out-of-bag predictions, as if the mixture erred in the same way as the
    experts that are not trained on a row. What was measured `before` changes by as much as these
    rows are worth.
    """
    target, oob_mean = fit.learned._target, None
    density = density_of(fit.net.criterion_, target, before)
    if density is None:
        return {}
    if oob is not None:
        some = draw_rows(len(oob), _N_DENSITY_ROWS)
        oob_mean = target.encode(oob[some], np.float64)
    return density.measure(*said, oob_mean)


# -- warnings --------------------------------------------------------------------------------------


def warn_of(fit, oob_loss=None):
    """Warn of a fit that ended early or badly, or in which few experts are used.

    `oob_loss` is what `finish` has returned.
    """
    history, max_iter, stopping = fit.net.history, fit.plan.training.max_iter, fit.stopping
    # Of a pool, those of the last kind.
    kind = history[-1].get("kind") if history else None
    n_epochs = sum(row.get("kind") == kind for row in history[fit.n_before :])
    stopped = stopping.converged_ or n_epochs < max_iter
    if not (stopped or stopping.tol is None or fit.net.schedule == "cosine"):
        warn(
            f"The training loss was still changing after max_iter={max_iter} epochs. "
            "Raise max_iter, or set tol=None to train for a fixed number of epochs.",
            ConvergenceWarning,
        )
    names = {"train_loss", stopping.score} - {None}
    epochs = [row for row in history[fit.n_before :] if names <= row.keys()]
    null_loss = _null_loss(fit)
    if epochs and null_loss is not None:
        kept = epochs[-1]
        if stopping.score is not None:
            sign = -1 if stopping.score.endswith("loss") else 1
            kept = max(epochs, key=lambda row: sign * row[stopping.score])
            # The loss of a pool on unseen rows weighs its kinds.
            unseen_loss = oob_loss or kept.get("oob_loss", kept.get("valid_loss"))
            is_start = epochs.index(kept) < _START * max_iter
            _warn_of_overfit(fit, null_loss, unseen_loss, kept["train_loss"], is_start)
        if fit.rows.x.ndim == 2 and fit.plan.standardize:
            # A pool of kinds is not ruined by one of them.
            loss = oob_loss or kept["train_loss"]
            _warn_of_ruin(fit, null_loss, epochs[0]["train_loss"], loss)
    _warn_of_load(fit)


def _null_loss(fit):
    """Return the mean loss of outputs that are all 0; None if the head has none for them."""
    net, rows = fit.net, fit.rows
    generator, total = torch.Generator().manual_seed(0), 0.0
    try:
        with torch.no_grad(), use_generator(generator):
            for part in gen_batches(len(rows.y), _AT_ONCE):
                y, weight = (column[part].to(net.device) for column in (rows.y, rows.weight))
                outputs = weight.new_zeros(len(y), net.criterion_.n_outputs)
                total += float(weight @ net.criterion_.loss(outputs, y))
    except Exception:
        # A loss of one's own may take no other outputs than those of its experts.
        return None
    return total / float(rows.weight.sum())


def _warn_of_overfit(fit, null_loss, unseen_loss, train_loss, is_start=False):
    """Warn if a prediction that ignores X is about as good on samples that were not trained on.

    Or better; of a table with more columns than rows, if little was learned from the start on.
    """
    training, target, X = fit.plan.training, fit.learned._target, fit.rows.x
    constant = null_loss
    if target.kind == "classes":
        # Outputs of 0 stand for equal shares.
        rows = fit.validation or fit.rows
        shares = np.bincount(rows.y.cpu(), rows.weight.cpu(), target.n_targets)
        constant = null_loss * entropy(shares) / np.log(target.n_targets)
    if X.ndim == 2 and X.shape[1] > X.shape[0]:
        reducer = "SelectKBest(k=20)" if target.kind == "classes" else "PCA(20)"
        if target.kind == "regression" and target.n_targets == 1:
            reducer = "SelectKBest(f_regression, k=20)"
        if (is_start or fit.plan.is_pool) and unseen_loss > _LEARNED * constant > 0:
            warn(
                f"X has more columns ({X.shape[1]}) than rows ({X.shape[0]}), and what was learned "
                "did not help on held-out or out-of-bag rows: the model is little more than a "
                f"constant. Reduce the columns before, such as by make_pipeline({reducer}, model).",
                ConvergenceWarning,
            )
    elif unseen_loss > constant + _OVERFIT > train_loss + _OVERFIT:
        warn(
            f"On samples that were not trained on the loss is {unseen_loss:.3g}, that of a "
            f"prediction which ignores X is {constant:.3g}: the model overfits. Use fewer experts"
            f"{', a larger expert_loss_weight' * (training.expert_loss_weight < 1)}, or "
            "more samples.",
            ConvergenceWarning,
        )


def _warn_of_ruin(fit, null_loss, first_loss, loss):
    """Warn if steps that were too long left a model of a table that is worse than none.

    Of standardized tables only: there the outputs of a new network are small; elsewhere its loss
    may be large before the first step.
    """
    training = fit.plan.training
    rates = (training.learning_rate, training.router_learning_rate)
    raised = [
        f"{name}={rate:g} ('auto' is {auto:.3g})"
        for (name, auto), rate in zip(training.auto_rates.items(), rates, strict=True)
        if rate > auto
    ]
    # Initial weights may be worse than outputs of 0: a bad start is not a step that was too long.
    if (raised or loss > first_loss) and loss > null_loss + _RUINED:
        too_long = " and ".join(raised) or f"learning_rate_init={training.learning_rate:.3g}"
        warn(
            f"The training ended with a loss of {loss:.3g}, where outputs of 0 for all samples "
            f"have {null_loss:.3g}: its steps were too long. Lower {too_long}.",
            ConvergenceWarning,
        )


def _warn_of_load(fit):
    """Warn if few experts are used, and say what may help: nothing that would be refused."""
    load, plan = fit.learned.expert_load_, fit.plan
    busiest, router_class = load.argmax(), plan.model.router.router_class
    # A router that was learned from unseen rows knows that one expert is the best.
    if len(load) == 1 or load[busiest] <= _COLLAPSED or plan.is_pool:
        return
    remedies = []
    if not plan.standardize:
        is_bag = fit.rows.x.ndim == 3
        remedies.append("a scaler before the patches" if is_bag else "standardize='auto'")
    if any(True for _ in fit.net.module_.router.parameters()):
        remedies += ["a smaller router__learning_rate", "balance='switch'"]
    if router_class.sparse:
        remedies += ["balance='bias'", "more noise (router__noise='gumbel')"]
    warn(
        f"Expert {busiest} computes {load[busiest]:.1%} of the training samples (load: "
        f"{np.round(load, 3).tolist()}): the mixture has collapsed to a single expert. Try "
        f"{', '.join([*remedies, 'or fewer experts'])}.",
        ExpertCollapseWarning,
    )


def warn_of_constants(fit):
    """Warn of what has a single value in the first chunk, as others will have no effect."""
    learned, found = fit.learned, []
    if single := learned._format.single_categories():
        found.append(f"Columns {single} hold a single category: all others will count as missing")
    if isinstance(learned._scales, FeatureStatistics):
        numeric, n_columns = np.array(learned._scales.numeric), learned.n_features_in_
        # Behind the columns of the table are products of means with numbers.
        constant = numeric[np.isinf(learned._scales.scale) & (numeric < n_columns)]
        names = learned.feature_names_in_
        names = np.arange(n_columns) if names is None else names
        means = learned._format.means
        is_coded = np.isin(constant, [] if means is None else means.columns)
        for what, part in (
            ("hold a single value: they have no effect until a chunk holds another", ~is_coded),
            (
                "hold many categories, whose means of y differ by no more than chance: they will "
                "have no effect",
                is_coded,
            ),
        ):
            if part.any():
                named = names[constant[part]].tolist()
                found.append(f"Columns {named} {what}")
    if not np.all(getattr(learned._target, "varies", True)):
        found.append("y holds a single value: it will be predicted for all samples")
    for what in found:
        warn(
            f"{what}. The first chunk sets categories and scales: let it hold a thousand "
            "random samples or more.",
            UserWarning,
        )
