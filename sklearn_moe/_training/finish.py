"""What happens after the last epoch.

1. Of a pool: linear experts are solved, and the router is learned from rows that the experts did
   not see; the experts are trained for some last epochs on all rows (`learn_router`).
2. Out-of-bag rows are predicted; logits are scaled so that their loss is least (`sharpen`).
3. The density around predictions of numbers is measured (`measure_density`).
4. The load of each expert is counted, in the pass over the rows that predicts them if there is one.
5. A fit that ended early or badly, or in which few experts are used, is warned of (`warn_of`).
"""

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import entropy
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches

from .._data.indexing import draw_rows
from .._data.router import N_FOLDS, fit_router, is_clearly_positive, mixed_losses
from .._data.rows import SparseRows
from .._threads import threads_for, work_of_table
from .._validation import warn
from ..exceptions import ExpertCollapseWarning
from ..nn.heads import SoftmaxHead, SquaredErrorHead
from ..nn.router_parts import PoolScores
from ..nn.seeding import drawing_from
from .callbacks import Interrupts, LastEpochs
from .curves import find_curves
from .density import density_of
from .linear_models import solve_kind
from .loop import Training
from .out_of_bag import MOST_NUMBERS, UnseenOutputs, solved_kinds
from .regimes import seek_regimes

# Rows by which a router is learned, a density is measured, to one or two percent, and the factor of
# logits is found.
_N_ROUTER_ROWS, _N_DENSITY_ROWS, _N_SHARPNESS_ROWS = 20_000, 4000, 2000
# Rows by which lines and regimes are found, and for each column: by 50,000 of 30 columns a line has
# a log loss that is higher by 30 / (2 * 50,000) = .0003 than by all rows.
_N_LINE_ROWS, _N_ROWS_OF_A_COLUMN = 50_000, 1000
# Classes of which regimes are sought.
_MOST_CLASSES = 5
# Epochs on all rows, as a share of the best epoch, and the weight of a kind that is worth them.
_LAST_EPOCHS, _LEAST_WEIGHT = 0.4, 0.01
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


def finish(fit):
    """Learn what is learned after the last epoch, as fitted attributes in `fit.learned`.

    Return the mean loss of a pool on rows that its experts have not seen, None of other mixtures.
    """
    learned = fit.learned
    is_regression = learned._target.kind == "regression"
    oob, load, oob_loss = _by_few_rows_after_ctrl_c(fit, _predict_unseen)
    rows = fit.validation or fit.rows
    if fit.plan.training.learns_router and not fit.hurries and _train_last_epochs(fit):
        fit.hurry()
    # The state of the optimizer is as large as the weights, or twice as large.
    fit.net.initialize_optimizer()
    if oob is not None and is_regression:
        oob = learned._target.decode(oob)
    if is_regression:
        fit.phase = "calibration"
        found = _by_few_rows_after_ctrl_c(
            fit, lambda fit: measure_density(fit, describe_density(fit, rows), {}, oob)
        )
        vars(learned).update(found)
    _by_few_rows_after_ctrl_c(fit, lambda fit: _describe_training(fit, load))
    n_rows = len(fit.samples.y)
    if oob is not None and len(oob) < n_rows:
        every = np.full((n_rows, *oob.shape[1:]), np.nan, oob.dtype)
        every[draw_rows(n_rows, len(oob))] = oob
        oob = every
    if oob is not None:
        name = "oob_prediction_" if is_regression else "oob_decision_function_"
        setattr(learned, name, oob)
    return oob_loss


def _by_few_rows_after_ctrl_c(fit, step):
    """Return what a step returns; Ctrl-C lets it begin anew with few rows, a second one ends it."""
    if not fit.hurries:
        try:
            with Interrupts():
                return step(fit)
        except KeyboardInterrupt:
            fit.hurry()
    return step(fit)


def _predict_unseen(fit):
    """Return predictions of rows that experts have not seen, the load, and the loss of a pool."""
    fit.learned._bends = None
    if fit.plan.training.learns_router:
        return learn_router(fit)
    if fit.rows.in_bag is not None:
        fit.phase = "out-of-bag predictions"
        return *predict_out_of_bag(fit.net, fit.rows), None
    return None, None, None


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
        lambda x, weight, encoded: route(x, generator, encoded).per_expert(weight).unsqueeze(0),
        fit.rows,
        fit.rows.weight,
    )
    return loads.sum(axis=0)


# -- a pool: its solved experts, its router, its last epochs -----------------------------------


@torch.no_grad()
def learn_router(fit):
    """Give a pool its solved experts, and its router what each kind is worth on unseen rows.

    A linear kind is one rule, or regimes if these alone predict unseen rows clearly better than
    the pool does without them: a smooth function is not cut into pieces.

    Returns
    -------
    predictions : ndarray of shape (n_rows, n_targets) or None
        What the mixture predicts of each row by experts that have not seen it, NaN where all have.
        None if all have seen all rows, or other rows were held out.
    load : ndarray of shape (n_experts,) or None
        Weight of the rows that each expert computes, None without predictions.
    oob_loss : float or None
        Mean loss of the mixture on unseen rows, None if there are none.
    """
    net, rows, validation = fit.net, fit.rows, fit.validation
    module, head, hidden = net.module_, net.criterion_, None
    # The fold of each row, -1 for none.
    folds = np.full(len(rows.y), -1)
    if rows.in_bag is not None:
        hidden = _find_hidden(net, rows.in_bag)
        folds = np.where(hidden < 0, -1, hidden % N_FOLDS)
    # Penalties depend on the number of rows: a row of weight 2 may be two.
    weighted = rows._replace(weight=torch.from_numpy(rows.counts()).to(rows.y.device))
    line_folds = folds
    n_most = max(_N_LINE_ROWS, _N_ROWS_OF_A_COLUMN * rows.x.shape[1])
    # Rows of a sparse matrix would become dense.
    if len(folds) > n_most and not isinstance(rows.x, SparseRows):
        drawn = draw_rows(len(folds), n_most)
        line_folds = folds[drawn]
        weighted = weighted.take(torch.from_numpy(drawn), rows.y.device)
    fit.phase = "line"
    with threads_for(work_of_table(rows.x), "blas", "openmp"):
        lines = {kind: solve_kind(fit, kind, weighted, line_folds) for kind in solved_kinds(net)}
    if validation is None:
        unseen_rows, places = rows, np.flatnonzero(folds >= 0)
    else:
        unseen_rows, places = validation, np.arange(len(validation.y))
    # There may be no out-of-bag rows.
    if module.router is None or not len(places):
        _write(module, lines)
        return None, None, None
    fit.phase = "router"
    unseen = UnseenOutputs(net, unseen_rows, hidden, lines)
    n_numbers = head.n_outputs * len(module.experts) + module.router.network.weight.shape[1]
    n_most = min(_N_ROUTER_ROWS, max(1, MOST_NUMBERS // n_numbers))
    places = torch.from_numpy(places[draw_rows(len(places), n_most)])
    some = unseen.some(places)
    y = some.rows.y.cpu()
    weight = unseen_rows.counts()[places.numpy()]
    features, outputs, shares = some.parts()
    every = torch.arange(len(y))
    # A line has no end, and few rows tell little of many columns. Of classes in other tables it may
    # be as good by chance: the mean of several kinds is the better guess.
    is_wide = features.shape[1] >= len(rows.y)
    alone = [*lines] if head.kind == "regression" or is_wide else []
    bags = places if hidden is None else some.hidden
    known = weight, features.numpy(), bags.numpy(), alone
    values, losses = some.values(outputs, shares, y)
    weights = fit_router(values, losses, *known)
    of_pool = mixed_losses(values, losses, weights.gates(known[1]))
    for kind, one in [*lines.items()]:
        of_kind = losses(values[:, kind], every).numpy()
        may_gain = not fit.hurries and _may_hold_regimes(net, kind)
        if not may_gain or not _is_clearly_less(of_pool, of_kind, weight, head):
            continue
        means = np.average([of_pool, of_kind], axis=1, weights=weight)
        regimes = seek_regimes(net, kind, weighted, line_folds, means)
        if regimes is None:
            continue
        lines[kind] = regimes
        _, *parts = some.parts()
        new, new_losses = some.values(*parts, y)
        of_regimes = new_losses(new[:, kind], every).numpy()
        if _is_clearly_less(of_regimes, of_pool, weight, head):
            both = of_kind, of_regimes
            fit.learned._bends = find_curves(net, weighted, line_folds, some, both)
            outputs, shares = parts
            values, losses = new, new_losses
            weights = fit_router(values, losses, *known)
            of_pool = mixed_losses(values, losses, weights.gates(known[1]))
        else:
            lines[kind] = one
    _write(module, lines, weights)
    if module.sharpness is not None:
        sharpen(net, some.mix(features, outputs, shares, weights), y, weight)
    oob_loss = float(np.average(of_pool, weights=weight))
    if validation is not None:
        return None, None, oob_loss
    # The solved experts have seen all rows that were trained on.
    return *unseen.predict(weights), oob_loss


def _find_hidden(net, in_bag):
    """Return for each row which member of the kinds has not seen it.

    -1 if some kind has no such member: there are few experts, or the kinds are of unequal size.
    """
    pool, solved = net.module_.experts, solved_kinds(net)
    trained = [kind for kind in range(len(pool.kinds)) if kind not in solved] or solved
    fewest = min(map(pool.members, trained), key=len)
    out_of_bag = ~in_bag[:, fewest].cpu()
    return torch.where(out_of_bag.any(1), out_of_bag.int().argmax(1), -1)


def _may_hold_regimes(net, kind):
    """Tell whether experts of a linear kind can be rules of regions, chosen by the router."""
    module, head = net.module_, net.criterion_
    return (
        type(head) in (SquaredErrorHead, SoftmaxHead)
        and (head.kind != "classes" or head.n_targets <= _MOST_CLASSES)
        and isinstance(module.router.network, PoolScores)
        and getattr(module.encoder, "adds_linear", False)
        and len(module.experts.kinds[kind]) > 1
    )


def _is_clearly_less(losses, others, weight, head):
    """Tell whether losses of rows are less than others, on average and by three standard errors.

    For numbers these are of the errors, not of their squares, and none counts more than three times
    the usual one: few rows at borders would have most of the loss.
    """
    gain = others - losses
    if head.kind == "regression":
        most = 9 * np.average(others, weights=weight)
        losses, others = (np.minimum(each, most) for each in (losses, others))
        gain = np.sqrt(others) - np.sqrt(losses)
    return weight @ losses < weight @ others and is_clearly_positive(gain, weight)


def _write(module, lines, weights=None):
    """Give solved experts their rules, and the router the weights of kinds and of these rules."""
    pool, network = module.experts, getattr(module.router, "network", None)
    if isinstance(network, PoolScores):
        if weights is not None:
            network.weight.copy_(torch.from_numpy(weights.slopes))
            network.bias.copy_(torch.from_numpy(weights.intercept).unsqueeze(1))
        network.gated.zero_()
    for kind, (rules, *_) in lines.items():
        n_members = len(pool.kinds[kind])
        parts = (part.expand(n_members, *part.shape[1:]) for part in rules[:2])
        for expert, *function in zip(pool.kinds[kind], *parts, strict=True):
            expert.become_linear(*function)
        if rules.gate is not None:
            members = pool.members(kind)
            network.own_weight[members] = rules.gate[:, :-1].to(network.own_weight)
            network.own_bias[members] = rules.gate[:, -1:].to(network.own_bias)
            network.gated[members] = True


def _train_last_epochs(fit):
    """Train the experts of a pool on all rows; return whether Ctrl-C ended it.

    Not after a given number of epochs. These are no part of the history, which says how many epochs
    are best. The rate of each kind goes on from that of its best epoch, and the optimizer with what
    it knows of the gradients: first steps without that would be far too long. Kinds of next to no
    weight have none of these epochs.
    """
    net, max_iter, n_before = fit.net, fit.plan.training.max_iter, len(fit.net.history)
    best_epochs = getattr(fit.stopping, "best_epochs_", [])
    if not any(best_epochs) or fit.stopping.tol is None:
        return False
    weights, network = [1.0] * len(best_epochs), getattr(net.module_.router, "network", None)
    if isinstance(network, PoolScores) and not network.weight.any():
        weights = network.bias.flatten().softmax(0).tolist()
    n_epochs = [
        math.ceil(_LAST_EPOCHS * best) * (weight >= _LEAST_WEIGHT)
        for best, weight in zip(best_epochs, weights, strict=True)
    ]
    if not any(n_epochs):
        return False
    rates = []
    for group, best in zip(net.optimizer_.param_groups, best_epochs, strict=False):
        highest = group.get("initial_lr", group["lr"])
        if net.schedule == "cosine":
            highest *= (1 + math.cos(math.pi * min(1, best / max_iter))) / 2
        group["lr"] = group["initial_lr"] = highest
        rates.append(highest)
    # Of a best epoch that was the last one the rate is 0: no weight would move, unless the head
    # has some.
    if not (np.multiply(rates, n_epochs).any() or any(True for _ in net.criterion_.parameters())):
        return False
    fit.phase = "last epoch"
    rows, callbacks = fit.rows._replace(in_bag=None), [LastEpochs(n_epochs)]
    options = {"seed": fit.learned._predict_seed, "by_kind": True, "callbacks": callbacks}
    try:
        Training(net, rows, None, max(n_epochs), **options).run()
    except KeyboardInterrupt:
        return True
    finally:
        del net.history[n_before:]
    return False


# -- other mixtures: out-of-bag predictions, and how sure they are ------------------------------


@torch.no_grad()
def predict_out_of_bag(net, rows):
    """Return what the head predicts by experts that are not trained on a row, and the load.

    Before, logits are scaled so that the loss of some of these predictions is least.
    """
    head, module = net.criterion_, net.module_
    scales = module.sharpness is not None

    def mix(x, in_bag, weight, *, encoded):
        mixed = module.forward_experts(x, encoded=encoded)
        log_gate = mixed.route.scores.masked_fill(in_bag, -torch.inf).log_softmax(1)
        output = head.mix(log_gate, mixed.expert_outputs)
        if not scales:
            output = head.predict(output)
        return output, mixed.route.per_expert(weight).unsqueeze(0)

    outputs, loads = net.map_batches(mix, rows, rows.in_bag, rows.weight)
    if scales:
        some = torch.from_numpy(draw_rows(len(rows.y), _N_SHARPNESS_ROWS))
        logits = torch.from_numpy(outputs)
        sharpen(net, logits[some], rows.y.cpu()[some], rows.weight.cpu()[some])
        outputs = head.predict(logits * module.sharpness.cpu()).numpy()
    return outputs, loads.sum(axis=0)


def sharpen(net, outputs, y, weight):
    """Scale the logits of a mixture so that the loss of rows that it has not seen is least."""
    outputs, loss = outputs.double(), net.criterion_.loss
    weight = torch.as_tensor(weight).double().numpy()

    best = minimize_scalar(
        lambda log_factor: weight @ loss(outputs * math.exp(log_factor), y).numpy(),
        bounds=(-1, 1),
        method="bounded",
        options={"xatol": 1e-3},
    )
    net.module_.sharpness.fill_(math.exp(best.x))


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
    parts = net.map_batches(
        lambda x, encoded: head.parts(module(x, generator, encoded).output), some
    )
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
    stopped = stopping.converged_ or len(history) - fit.n_before < max_iter
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
        with torch.no_grad(), drawing_from(generator, net.criterion_):
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
        if (is_start or training.learns_router) and unseen_loss > _LEARNED * constant > 0:
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
    if len(load) == 1 or load[busiest] <= _COLLAPSED or plan.training.learns_router:
        return
    remedies = []
    if not plan.standardize:
        is_bag = fit.rows.x.ndim == 3
        remedies.append("a scaler before the patches" if is_bag else "standardize='auto'")
    if any(True for _ in fit.net.module_.router.parameters()):
        remedies += ["a smaller router__learning_rate", "balance='switch'"]
    if router_class.sparse:
        remedies.append("balance='bias'")
    if router_class.noisy:
        remedies.append("more noise (router__noise='gumbel')")
    warn(
        f"Expert {busiest} computes {load[busiest]:.1%} of the training samples (load: "
        f"{np.round(load, 3).tolist()}): the mixture has collapsed to a single expert. Try "
        f"{', '.join([*remedies, 'or fewer experts'])}.",
        ExpertCollapseWarning,
    )
