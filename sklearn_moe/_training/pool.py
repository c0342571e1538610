"""A pool on a table: its kinds are fitted one after the other, then the router that weighs them.

A kind is what can be fitted to rows with weights, and then predicts rows that it has not seen:
networks that are trained in steps, a linear function, copies of an estimator. At the end stand the
out-of-bag rows of all mixtures: from which experts a row is hidden, and what these say of it.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from .._data.router import (
    N_FOLDS,
    NO_WEIGHT,
    fit_router,
    is_clearly_positive,
    mixed_losses,
)
from .._data.rows import Rows, SparseRows
from .._data.statistics import number_measurements
from .._data.tables import draw_rows
from .._data.tables import hash_rows as hash_table
from .._threads import threads_for, work_of_table
from .._validation import warn
from ..nn.encoders import TableEncoder
from ..nn.functional import apply_all, sum_over_shards
from ..nn.mixture import MixtureOutput
from ..nn.seeding import hash_rows
from ..nn.trees import BoostedTrees
from .estimators import fit_members
from .linear import fit_line
from .loop import Step, Training
from .trees import fit_trees

# Rows by which a router is learned, or what a table is like, and numbers in them.
_N_ROUTER_ROWS, _MOST_NUMBERS = 20_000, 2**21
# Rows by which lines are found, and for each column: by 50,000 of 30 columns a line has a log loss
# that is higher by 30 / (2 * 50,000) = .0003 than by all rows.
_N_LINE_ROWS, _N_ROWS_OF_A_COLUMN = 50_000, 1000
# Rows that tell whether a kind is worth its time, and the gain that is, as a share of the loss.
_FEWEST_ROWS, _LEAST_GAIN = 20, 0.005
# Epochs on all rows, as a share of the best epoch, and the weight of a kind that is worth them.
_LAST_EPOCHS, _LEAST_WEIGHT = 0.4, 0.01
# Rows by which the factor of logits is found.
_N_LOOKED_AT = 2000


class PoolFit(NamedTuple):
    """What a fit tells of rows that experts have not seen; None without such."""

    # The rows, those that were held out if there are any.
    rows: Rows
    # What the head predicts of each row, NaN where all members of some kind have seen it.
    predictions: np.ndarray | None = None
    # The mean weight of each kind.
    load: np.ndarray | None = None
    # Mean loss of the mixture.
    loss: float | None = None


def fit_pool(fit):
    """Fit the kinds of a pool and its router; return a `PoolFit`."""
    for kind in _kinds_by(fit, "estimator"):
        # A checkpoint holds weights of networks alone.
        fit.net.module_.experts[kind].members = []
    best_epochs = {kind: train_kind(fit, kind) for kind in _kinds_by(fit, "steps")}
    weights, found = fit.by_few_rows_after_ctrl_c(_fit_others)
    if not fit.hurries:
        _train_last_epochs(fit, best_epochs, weights)
    return found


def _kinds_by(fit, how):
    """Return the kinds that are fitted so, see `ExpertSpec.fitted_by`."""
    return [kind for kind, known in enumerate(fit.plan.model.fitted_by) if known == how]


def _fit_others(fit):
    """Fit what is not trained in steps, and the router; return its weights and a `PoolFit`."""
    model, in_bag, hidden = fit.plan.model, fit.rows.in_bag, None
    if in_bag is not None:
        # For each row the member of the kinds that has not seen it, -1 if there is none.
        trained = [
            n for n, how in zip(model.n_members, model.fitted_by, strict=True) if how != "line"
        ]
        out_of_bag = ~in_bag[:, : min(trained, default=in_bag.shape[1])].cpu()
        hidden = torch.where(out_of_bag.any(1), out_of_bag.int().argmax(1), -1)
    lines = {kind: _fit_line(fit, kind, hidden) for kind in _kinds_by(fit, "line")}
    for kind in _kinds_by(fit, "estimator"):
        fit_members(fit, kind, model.kinds[kind][0].estimator, _bags(fit, kind))
    kept, trees = [*range(model.n_experts)], _kinds_by(fit, "trees")
    for kind in trees:
        others = [k for k in kept if k not in trees]
        is_auto = isinstance(fit.estimator.expert, str) and fit.estimator.expert == "auto"
        is_worth = partial(_is_worth, fit, lines, hidden, others) if is_auto else None
        if not fit_trees(fit, kind, _bags(fit, kind), is_worth):
            kept.remove(kind)
    return _learn_router(fit, lines, hidden, kept)


def _bags(fit, kind):
    """Return the rows of each member, (n_rows, n_members)."""
    n_members = fit.plan.model.n_members[kind]
    if fit.rows.in_bag is None:
        return np.ones((len(fit.rows.y), n_members), dtype=bool)
    in_bag = fit.rows.in_bag[:, :n_members].cpu().numpy()
    # Of a single row, which is out of a bag, the bag would be empty.
    return in_bag | ~in_bag.any(axis=0)


@torch.no_grad()
def _fit_line(fit, kind, hidden):
    """Fit the linear kind; return the coefficients and intercepts of its models."""
    rows, n_rows = fit.rows, len(fit.rows.y)
    folds = np.full(n_rows, -1)
    if hidden is not None:
        folds = np.where(hidden < 0, -1, hidden % N_FOLDS)
    # Penalties depend on the number of rows: a row of weight 2 may be two.
    weighted = rows._replace(weight=torch.from_numpy(rows.counts()).to(rows.y.device))
    n_most = max(_N_LINE_ROWS, _N_ROWS_OF_A_COLUMN * rows.x.shape[1])
    # Rows of a sparse matrix would become dense.
    if n_rows > n_most and not isinstance(rows.x, SparseRows):
        drawn = draw_rows(n_rows, n_most)
        folds = folds[drawn]
        weighted = weighted.take(torch.from_numpy(drawn), rows.y.device)
    with threads_for(work_of_table(rows.x), "blas", "openmp"):
        coef, intercept = map(torch.from_numpy, fit_line(fit, kind, weighted, folds))
    fit.net.module_.experts[kind][0].become_linear(coef[0], intercept[0])
    return coef, intercept


def train_kind(fit, kind):
    """Train the members of a kind in steps; return the number of epochs until the best one.

    After Ctrl-C, which ends the training of another kind, a single epoch with few rows.
    """
    name, plan = fit.learned.expert_kinds_[kind], fit.plan.training
    n_before = len(fit.net.history)
    epochs = 1 if fit.is_chunk or fit.hurries else plan.max_iter
    stopping = fit.stopping = fit.make_stopping()
    in_bag = fit.rows.in_bag
    if in_bag is not None:
        in_bag = in_bag[:, : fit.plan.model.n_members[kind]]
    training = Training(
        fit.net,
        fit.rows._replace(in_bag=in_bag),
        fit.validation,
        epochs,
        seed=fit.learned._predict_seed,
        module=fit.net.module_.bag(kind),
        make_step=BagStep,
        is_chunk=fit.is_chunk,
        callbacks=fit.make_callbacks(stopping, kind),
        # What was trained on few rows is not to be gone on with.
        checkpoint=fit.checkpoint.part(name) if fit.checkpoint and not fit.hurries else None,
    )
    try:
        training.run()
    except KeyboardInterrupt:
        if fit.hurries or fit.is_chunk or len(fit.net.history) == fit.n_before:
            raise
        fit.hurry()
        if len(fit.net.history) == n_before:
            return train_kind(fit, kind)
    finally:
        for row in fit.net.history[n_before:]:
            row["kind"] = name
    return stopping.best_epoch_


class BagStep(Step):
    """A step of the members of a bag, each of which has a loss of its own."""

    def losses(self, x, batch):
        """Return no outputs, the mean losses of members in the bag, and the loss of the others."""
        training = self.training
        x = self.module.read(x, self.module.columns)
        outputs = apply_all(self.module.experts, x)
        losses = self.net.criterion_.losses(outputs, batch.y)
        in_bag = torch.ones_like(losses)
        if batch.in_bag is not None:
            in_bag = batch.in_bag.to(losses.dtype)
        share = in_bag / in_bag.sum(1, keepdim=True)
        mixed = MixtureOutput(None, None, outputs)
        if training.needs_outputs:
            equal = torch.full_like(losses, 1 / losses.shape[1])
            mixed = mixed._replace(output=self.mix(equal, outputs))
        oob_loss = None
        if batch.in_bag is not None:
            # Some rows may be hidden from none.
            weight = batch.weight.unsqueeze(1) * (1 - in_bag)
            total = sum_over_shards(weight.sum()).clamp(min=1e-12)
            oob_loss = (losses.detach() * weight).sum() / total
        return mixed, (losses * share).sum(1), oob_loss


# -- the router, by what members say of rows that they have not seen ------------------------------


@torch.no_grad()
def _predict_unseen(net, rows, lines, hidden, kinds):
    """Return outputs for rows, (n_rows, n_kinds, n_members, n_outputs), in float64.

    They are those of the member of each kind that has not seen a row; of all members, if hidden is
    None. A line has no others: its outputs are repeated.
    """
    pool = net.module_

    def outputs_of_all(x):
        encoded = pool.encode(x)
        each = [pool.outputs_of(kind, x, encoded).double() for kind in kinds]
        n_members = max(outputs.shape[1] for outputs in each)
        return torch.stack([outputs.expand(-1, n_members, -1) for outputs in each], 1)

    def outputs_of(x, hidden):
        encoded, parts = pool.encode(x), []
        for kind in kinds:
            if kind in lines:
                parts.append(_line_outputs(encoded[:, pool.columns_of[kind]], hidden, *lines[kind]))
            elif isinstance(pool.experts[kind], BoostedTrees):
                columns = pool.read(x, pool.columns_of[kind])
                parts.append(pool.experts[kind](columns, hidden.clamp(min=0)).cpu().double())
            else:
                members = pool.outputs_of(kind, x, encoded)
                members = members[torch.arange(len(x)), hidden.clamp(min=0)]
                parts.append(members.cpu().double())
        return torch.stack(parts, 1).unsqueeze(2)

    if hidden is None:
        return torch.from_numpy(net.map_batches(outputs_of_all, rows))
    return torch.from_numpy(net.map_batches(outputs_of, rows, hidden))


def _mixing_parts(head, outputs, y):
    """Return what the loss of a mixture of kinds depends on, and that loss."""
    values, losses = head.mixing_parts(outputs.flatten(1, 2), y)
    return values.unflatten(1, outputs.shape[1:3]).mean(2), losses


def _mix(head, gates, outputs):
    """Return the output of the mixture by gates of the kinds, (n_rows, n_kinds)."""
    gates = torch.from_numpy(gates).unsqueeze(2).expand(outputs.shape[:3])
    return head.mix(gates.flatten(1).log().log_softmax(1), outputs.flatten(1, 2))


def _line_outputs(z, hidden, coef, intercept):
    """Return the outputs of linear models without the fold of each row."""
    z, hidden = z.cpu().double(), hidden.cpu()
    outputs = z @ coef[0].T + intercept[0]
    for fold in range(len(coef) - 1):
        is_new = (hidden % N_FOLDS == fold) & (hidden >= 0)
        outputs[is_new] = z[is_new] @ coef[fold + 1].T + intercept[fold + 1]
    return outputs


def _is_worth(fit, lines, hidden, others, outputs):
    """Tell whether a kind is worth more of its members, by the outputs of its first one.

    The mixture with it is to predict the rows that it has not seen better than without it, by more
    than chance and by half a per cent.
    """
    net, rows, head = fit.net, fit.validation or fit.rows, fit.net.criterion_
    if fit.validation is not None:
        places, hidden = torch.arange(len(rows.y)), None
    elif hidden is None:
        return True
    else:
        # Copies have been drawn the same way.
        places = torch.arange(len(rows.y))[~fit.rows.in_bag[:, 0].cpu()]
        hidden = torch.zeros(len(places), dtype=hidden.dtype)
    if len(places) < _FEWEST_ROWS:
        return True
    drawn = rows.take(places.to(rows.y.device), rows.y.device)
    found = _predict_unseen(net, drawn, lines, hidden, others)
    y, weight = drawn.y.cpu(), rows.counts()[places]
    outputs = outputs[:, None, :1].double().expand(-1, -1, found.shape[2], -1)
    values, losses = _mixing_parts(head, torch.cat([found, outputs], 1), y)
    no_features, mixed = np.zeros((len(y), 0)), []
    for part in (values[:, : len(others)], values):
        weights = fit_router(part, losses, weight, no_features, np.arange(len(y)))
        mixed.append(mixed_losses(part, losses, weights.gates(no_features)))
    gain = mixed[0] - mixed[1]
    least = _LEAST_GAIN * abs(np.average(mixed[0], weights=weight))
    return is_clearly_positive(gain, weight, 0.5) and np.average(gain, weights=weight) > least


@torch.no_grad()
def _learn_router(fit, lines, hidden, kept):
    """Give the router what kinds are worth on unseen rows; return the weights and a `PoolFit`.

    Only kinds that are `kept` have a weight.
    """
    net, rows, head = fit.net, fit.validation or fit.rows, fit.net.criterion_
    pool = net.module_
    places = np.arange(len(rows.y))
    if fit.validation is not None:
        hidden = None
    elif hidden is None:
        return None, PoolFit(rows)
    else:
        places = np.flatnonzero(hidden >= 0)
    # There may be no out-of-bag rows.
    if not len(places):
        return None, PoolFit(rows)
    unseen = _predict_unseen(net, rows, lines, hidden, kept)
    n_most = min(_N_ROUTER_ROWS, max(1, _MOST_NUMBERS // unseen[0].numel()))
    places = places[draw_rows(len(places), n_most)]
    drawn = rows.take(torch.from_numpy(places).to(rows.y.device), rows.y.device)
    y, weight = drawn.y.cpu(), rows.counts()[places]
    values, losses = _mixing_parts(head, unseen[places], y)
    # A line has no end, and few rows tell little of many columns. Of classes in other tables it may
    # be as good by chance: the mean of several kinds is the better guess.
    columns = pool.router_columns.indices(getattr(pool.encoder, "n_outputs", 0))
    is_wide = columns[1] - columns[0] >= len(rows.y)
    alone = [kept.index(kind) for kind in lines] if head.kind == "regression" or is_wide else []
    bags = places if hidden is None else hidden[places].numpy()
    # Weights that depend on the row have gained nothing on 37 of 37 tables: a stack has them.
    weights = fit_router(values, losses, weight, np.zeros((len(places), 0)), bags, alone)
    weights = _leave_out(weights, values, losses, weight, [kept.index(kind) for kind in lines])
    gates = weights.gates(np.zeros((len(rows.y), 0)))
    pool.router.bias.fill_(NO_WEIGHT)
    pool.router.bias[kept] = torch.from_numpy(weights.intercept).to(pool.router.bias)
    if pool.sharpness is not None:
        sharpen(net, _mix(head, gates[places], unseen[places]), y, weight)
    loss = float(np.average(mixed_losses(values, losses, gates[places]), weights=weight))
    if hidden is None:
        return weights, PoolFit(rows, loss=loss)
    mixed = _mix(head, gates, unseen)
    if pool.sharpness is not None:
        mixed = mixed * pool.sharpness.cpu()
    predictions = head.predict(mixed).to(net.dtype).numpy()
    predictions[hidden.numpy() < 0] = np.nan
    load = np.zeros(len(pool.experts))
    load[kept] = rows.weight.cpu().double().numpy() @ gates
    return weights, PoolFit(rows, predictions, load, loss)


def _leave_out(weights, values, losses, weight, lines):
    """Return the weights without kinds of less than 2 % where the loss rises by less than .1 %.

    By the loss, not the weight alone: a line of little weight may keep others from too high
    probabilities.
    """

    def loss(weights):
        gates = weights.gates(np.zeros((len(weight), 0)))
        return np.average(mixed_losses(values, losses, gates), weights=weight)

    before, gates = loss(weights), weights.gates(np.zeros((1, 0)))[0]
    for kind in np.argsort(gates):
        if gates[kind] >= 0.02 or kind in lines:
            continue
        without = weights.intercept.copy()
        without[kind] = NO_WEIGHT
        tried = weights._replace(intercept=without)
        if loss(tried) - before < 0.001 * abs(before):
            weights = tried
    return weights


# -- the last epochs ------------------------------------------------------------------------------


def _train_last_epochs(fit, best_epochs, weights):
    """Train the networks of a pool on all rows, each kind for a share of its best epoch.

    Not after a given number of epochs. These are no part of the history, which says how many epochs
    are best. The rate of each kind goes on from that of its best epoch, and the optimizer with what
    it knows of the gradients: first steps without that would be far too long. Kinds of next to no
    weight have none of these epochs.
    """
    net, training = fit.net, fit.plan.training
    if weights is None or training.tol is None or fit.validation is not None:
        return
    gates = weights.gates(np.zeros((1, 0)))[0]
    n_before, groups = len(net.history), net.optimizer_.param_groups
    highest = [group.get("initial_lr", group["lr"]) for group in groups]
    rows, seed = fit.rows._replace(in_bag=None), fit.learned._predict_seed
    for kind, best in best_epochs.items():
        n_epochs = math.ceil(_LAST_EPOCHS * best) * (gates[kind] >= _LEAST_WEIGHT)
        factor = 1.0
        if net.schedule == "cosine":
            factor = (1 + math.cos(math.pi * min(1, best / training.max_iter))) / 2
        # Of a best epoch that was the last one the rate is 0: no weight would move.
        if not factor * n_epochs:
            continue
        for group, rate in zip(groups, highest, strict=True):
            group["lr"] = group["initial_lr"] = rate * factor
        options = {"module": net.module_.bag(kind), "make_step": BagStep}
        options["callbacks"] = fit.make_callbacks(kind=kind)
        try:
            Training(net, rows, None, n_epochs, seed=seed, **options).run()
        except KeyboardInterrupt:
            fit.hurry()
            return
        finally:
            del net.history[n_before:]


# -- chunks ---------------------------------------------------------------------------------------


def train_pool_further(fit):
    """Train the kinds of a pool for an epoch on a chunk.

    Linear experts are trained in steps, too. Trees and estimators, and the weights of the kinds,
    stay as `fit` has found them.
    """
    specs = [spec for spec, _ in fit.plan.model.kinds]
    stays = np.array([spec.is_fitted for spec in specs])
    names = [spec.name for spec in specs if spec.is_fitted]
    if stays.all() or (stays.any() and not fit.goes_on):
        advice = "Fit all rows anew" if stays.all() else "Call `fit` before, which finds them"
        raise ValueError(
            f"{names}: not trained chunk by chunk. {advice}, or use kinds of networks or 'linear'."
        )
    if stays.any() and (share := fit.learned.expert_load_[stays].sum()) >= _LEAST_WEIGHT:
        warn(
            f"{names}, {share:.0%} of the predictions, stay as `fit` has found them: only the "
            "other kinds learn from chunks. If new rows are unlike those of `fit`, fit all rows "
            "anew, or use kinds of networks or 'linear'.",
            UserWarning,
        )
    for kind in np.flatnonzero(~stays):
        train_kind(fit, kind)


# -- rows that are hidden from experts, of any mixture --------------------------------------------


def hide_rows(net, rows, plan, groups=None):
    """Return the rows with a mask that hides each of them from `n_out_of_bag` experts.

    Of a pool the mask has a column for each bag: member m of every kind is trained on bag m.

    Rows of one group, (n_samples,) numbers of groups, are hidden from the same experts. Without
    groups equal rows are: otherwise an expert would be evaluated on a copy of a row that it was
    trained on. Where they are measurements of the same thing, see `number_measurements`, each is
    hidden on its own: of what no expert has seen, none could tell whether it was learned.

    Parameters
    ----------
    net : MoENet
    rows : Rows
    plan : Plan
    groups : ndarray of int or None
    """
    module, n_out_of_bag = net.module_, plan.training.n_out_of_bag
    generator = torch.Generator().manual_seed(0)
    n_bags = len(module.experts)
    if plan.is_pool:
        n_bags = max(plan.model.n_members)
        # Of few members, each still sees most rows.
        n_bags = n_bags if n_bags >= N_FOLDS else max(n_bags, plan.budget.fewest_bags)
    if groups is not None:
        sizes = np.bincount(groups, rows.counts())
        if plan.is_pool:
            # Each bag that is a member's should lack some group.
            n_bags = max(min(n_bags, len(sizes)), *plan.model.n_members)
        in_bag = _balanced_bags(sizes, n_bags, n_out_of_bag)[groups]
    elif (measured := _find_measurements(rows)) is not None:
        draws = torch.rand(measured.max() + 1, n_bags, generator=generator)
        in_bag = in_bag_mask(draws, n_out_of_bag)[measured]
    else:
        encode = module.encoder or torch.nn.Identity()
        if plan.is_pool and not plan.budget.hashes_pieces:
            encode = partial(module.read, columns=module.router_columns)
        if isinstance(module.encoder, TableEncoder):
            looked_at = rows.sample(_N_LOOKED_AT, rows.y.device).x
            if _loses_values(module.encoder, looked_at):
                encode = partial(_number_rows, module.encoder)
        # In float64 a hash does not depend on how the samples are grouped; on the host it is the
        # same for all devices.
        hashes = net.map_batches(
            lambda x: hash_rows(encode(x).double().cpu(), n_bags, generator.manual_seed(0)), rows.x
        )
        in_bag = in_bag_mask(torch.from_numpy(hashes), n_out_of_bag)
    return rows._replace(in_bag=in_bag.to(rows.y.device))


def _loses_values(encoder, x):
    """Tell whether numbers that differ are nearly the same when they are standardized.

    That is so of columns that span many powers of ten. Nearly equal rows would be hidden together.
    """
    most = 0
    for column in encoder.part(x, encoder.columns["bounded"]).cpu().numpy().T:
        most = max(most, len(np.unique(column.round(4))))
        # As most tables, by their first column of numbers.
        if most > len(x) / 2:
            return False
    return any(len(np.unique(column)) > 2 * most for column in encoder.ordered(x).cpu().numpy().T)


def _number_rows(encoder, x):
    """Return a number in [0, 1) for each row, (n_rows, 1): the same for equal ones alone."""
    bits = hash_table(encoder.ordered(x).cpu().numpy()) >> np.uint64(11)
    return torch.from_numpy(bits.astype(float) / 2**53)[:, None]


def _balanced_bags(sizes, n_bags, n_out_of_bag):
    """Return which bags hold each group, (n_groups, n_bags); about as many rows are out of each."""
    in_bag = torch.ones(len(sizes), n_bags, dtype=torch.bool)
    n_hidden = np.zeros(n_bags)
    random_state = np.random.RandomState(0)
    # Large groups come first: small ones level out the differences that they leave.
    for group in np.argsort(-sizes, kind="stable"):
        out = np.lexsort((random_state.permutation(n_bags), n_hidden))[:n_out_of_bag]
        in_bag[group, out] = False
        n_hidden[out] += sizes[group]
    return in_bag


def in_bag_mask(draws, n_out_of_bag):
    """Return which experts train on a sample, all but those of the `n_out_of_bag` largest draws."""
    largest = draws.topk(n_out_of_bag, dim=1).indices
    return torch.ones_like(draws, dtype=torch.bool).scatter_(1, largest, False)


def _find_measurements(rows):
    """Return a number for each row, (n_samples,), if equal rows are measurements of one thing.

    None if they are copies of a record, or if there is no table.
    """
    if isinstance(rows.x, SparseRows) or rows.x.ndim != 2:
        return None
    # Some rows say enough of most tables.
    some = rows.sample(_N_ROUTER_ROWS, rows.y.device)
    if len(rows.y) > _N_ROUTER_ROWS and number_measurements(*_of_samples(some)) is None:
        return None
    return number_measurements(*_of_samples(rows))


def _of_samples(rows):
    return rows.x[:].cpu().numpy(), rows.y.cpu().numpy(), rows.weight.cpu().numpy()


@torch.no_grad()
def predict_out_of_bag(net, rows):
    """Return what the head predicts by experts that are not trained on a row, and the load.

    Before, logits are scaled so that the loss of some of these predictions is least.
    """
    head, module = net.criterion_, net.module_
    scales = module.sharpness is not None

    def mix(x, in_bag, weight):
        mixed = module.forward_experts(x)
        log_gate = mixed.route.scores.masked_fill(in_bag, -torch.inf).log_softmax(1)
        output = head.mix(log_gate, mixed.expert_outputs)
        if not scales:
            output = head.predict(output)
        return output, mixed.route.per_expert(weight).unsqueeze(0)

    outputs, loads = net.map_batches(mix, rows, rows.in_bag, rows.weight)
    if scales:
        some = torch.from_numpy(draw_rows(len(rows.y), _N_LOOKED_AT))
        logits = torch.from_numpy(outputs)
        sharpen(net, logits[some], rows.y.cpu()[some], rows.counts()[some])
        outputs = head.predict(logits * module.sharpness.cpu()).numpy()
    return outputs, loads.sum(axis=0)


def sharpen(net, outputs, y, weight):
    """Scale the logits of a mixture so that the loss of rows that it has not seen is least."""
    outputs, loss, n_rows = outputs.double(), net.criterion_.loss, weight.sum()
    best = minimize_scalar(
        lambda log_factor: weight @ loss(outputs * math.exp(log_factor), y).numpy(),
        bounds=(-1, 1),
        method="bounded",
        options={"xatol": 1e-3},
    )
    # By few rows the best factor is mostly chance: of 100 rows half of its logarithm is taken.
    net.module_.sharpness.fill_(math.exp(best.x * n_rows / (n_rows + 100)))
