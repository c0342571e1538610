"""Many nets of one architecture trained at once: every step is one computation for all."""

from collections import defaultdict
from itertools import accumulate

import torch
from torch.optim import SGD, Adam, AdamW

from .._compat import Interrupts
from .._data.rows import Rows
from ..nn.seeding import is_stochastic
from ..nn.stacked import StackedMixtures, router_inputs
from ..optim import NormalizedSGD, group_by
from .callbacks import StopTraining, WeightedRows
from .loop import Step, Training, router_gradient_norm
from .placement import as_many_threads_as_useful
from .process_group import SINGLE_PROCESS

_BY_ENTRY = (SGD, Adam, AdamW)  # every weight by itself: groups of equal options are one group


class JointOptimizer:
    """Step the optimizers of many nets as one.

    Each optimizer keeps its parameter groups, whose options are read in every step. Optimizers of
    other types are stepped one after the other.

    Parameters
    ----------
    optimizers : sequence of Optimizer
        All of one kind, with one state.
    """

    def __init__(self, optimizers):
        self.optimizers, self.rates = optimizers, []
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        kind = type(optimizers[0])
        if kind in _BY_ENTRY:
            for alike in group_by(groups, lambda group: group | {"params": None}):
                parameters = [p for group in alike for p in group["params"]]
                self.rates.append((alike[0] | {"params": parameters}, alike[0]))
            groups = [merged for merged, _ in self.rates]
        if kind in (*_BY_ENTRY, NormalizedSGD):
            self.optimizers = [kind(groups)]
            self.optimizers[0].state = optimizers[0].state

    def step(self):
        """Make a step of each."""
        for merged, first in self.rates:
            merged["lr"] = first["lr"]  # of a schedule
        for optimizer in self.optimizers:
            optimizer.step()


# With more nets the overhead of a step is no smaller, but its arrays leave the caches of a CPU.
_AT_ONCE = 16


def needs_own_training(net):
    """Return why a net cannot be trained jointly with others, None if it can."""
    for part in (net.module_, net.criterion_):
        if is_stochastic(part):
            return f"{part}, which may draw at random"
    if any(True for _ in (*net.criterion_.parameters(), *net.criterion_.buffers())):
        return f"a loss with weights of its own, {net.criterion_}"
    return None


def train_jointly(fits):
    """Train the nets of fits side by side; each stops by itself, the others go on without it.

    Parameters
    ----------
    fits : list of Fit
        Those of equal architectures, and equally many batches in an epoch, are trained jointly.

    Yields
    ------
    place : int
        Of a fit in the list, once its training has ended.
    failure : ValueError or None
        What ended it too early, if anything did.
    """
    for places in group_by(range(len(fits)), lambda place: _kind(fits[place])):
        yield from zip(places, _train_group([fits[place] for place in places]), strict=True)


def _kind(fit):
    """Return what fits that are trained side by side have in common."""
    net, rows, plan = fit.net, fit.rows, fit.plan.training
    states = (*net.module_.state_dict().items(), *net.module_.named_buffers())
    return (
        fit.working._architecture,
        [(name, value.shape, value.dtype) for name, value in states],
        (type(net.criterion_), net.criterion_.n_targets, net.criterion_.kind),
        (type(net.optimizer_), plan.solver.per_expert, plan.schedule),
        (plan.expert_loss_weight, plan.n_out_of_bag),
        (net.precision, net.device, rows.x.dtype, rows.y.device),
        -(-len(rows.y) // plan.batch_size),
        plan.max_iter if plan.schedule == "cosine" else None,
    )


def _train_group(fits):
    runs, known = [], {}
    try:
        for fit in fits:
            runs.append(_Run(fit, known))
        with Interrupts(), as_many_threads_as_useful(runs[0].training.work):
            _train(runs)
        for run in runs:
            run.check_weights()
    finally:
        for run in runs:
            run.training.end()
    return [run.failure for run in runs]


def _train(runs):
    state = defaultdict(dict)  # of all weights, whatever group of nets they are trained in
    for run in runs:
        run.net.optimizer_.state = state
        run.training.notify("on_train_begin")
    try:
        while going := [run for run in runs if run.epochs_left][:_AT_ONCE]:
            step = JointStep(going)
            while all(run.epochs_left for run in going):
                _train_epoch(going, step)
    finally:
        for run in runs:
            run.training.drop_unfinished()
            run.training.notify("on_train_end")


def _train_epoch(runs, step):
    for run in runs:
        run.training.notify("on_epoch_begin")
    batches = zip(*(run.batches.indices() for run in runs), strict=True)
    weight, loss, oob_loss, norm = torch.stack([step(batch) for batch in batches], 1)
    share = weight / weight.sum(0)  # (n_batches, n_nets), as the others
    means = torch.stack([(share * loss).sum(0), (share * oob_loss).sum(0), norm.mean(0)])
    is_out_of_bag = step.rows.in_bag is not None
    for run, (loss, oob_loss, norm) in zip(runs, means.T.tolist(), strict=True):
        run.end_epoch(loss=loss, grad_norm=norm, oob_loss=oob_loss if is_out_of_bag else None)


class _Run:
    """One of the fits, and how far it has come; `known` is what was computed of a shared X."""

    def __init__(self, fit, known):
        net = self.net = fit.net
        self.training = Training(
            net,
            fit.rows,
            fit.validation,
            epochs=fit.plan.training.max_iter,
            seed=fit.working._predict_seed,
            callbacks=(fit.stopping,),
            group=SINGLE_PROCESS,
        )
        self.epochs_left = self.training.epochs
        self.failure = None
        self.batches = net.get_iterator(WeightedRows(self.training.rows), training=True)
        net._set_training(True)
        held_out = self.training.validation
        self.held_out = held_out and net.get_iterator(WeightedRows(held_out))
        self.x = self.batches.rows.x  # what the router reads of the samples
        place = self.x.data_ptr() if isinstance(self.x, torch.Tensor) else id(self)
        if place not in known:
            known[place] = router_inputs(net.module_, self.x)
        if known[place] is not None:
            self.x = known[place]

    def router_input(self, rows):
        """Return what the router reads of some of the rows."""
        x = self.x.index_select(0, rows)
        return x if x.dtype == self.net.dtype else self.net.as_input(x)

    def end_epoch(self, **means):
        """Record an epoch, and note whether it was the last one."""
        self.epochs_left -= 1
        try:
            self.training.record_pass(len(self.batches), **means)
            self.training.validate(self.held_out)
            self.net._set_training(True)
            self.training.notify("on_epoch_end")
        except StopTraining:
            self.epochs_left = 0
        except ValueError as error:
            self.failure, self.epochs_left = error, 0

    def check_weights(self):
        """Fail if they are not finite."""
        try:
            self.training.refuse_divergence()
        except ValueError as error:
            self.failure = self.failure or error


class JointStep(Step):
    """The step of several nets, each with its own rows."""

    def __init__(self, runs):
        self.runs = runs
        nets = self.nets = [run.net for run in runs]
        rows = [run.batches.rows for run in runs]
        self.mixtures = StackedMixtures([net.module_ for net in nets], [part.x for part in rows])
        self.optimizer = JointOptimizer([net.optimizer_ for net in nets])
        self.rows = _join(rows)
        self.starts = [0, *accumulate(len(part.y) for part in rows)][: len(runs)]
        trainings = [run.training for run in runs]
        self.generators = [training.generator for training in trainings]
        self.parameters = [parameter for t in trainings for parameter in t.parameters]
        self.router_parameters = [net.router_parameters() for net in nets]
        self.schedules = [t.schedule for t in trainings if t.schedule is not None]
        self.scales_steps = any(training.scales_steps for training in trainings)

    def forward(self, index):
        """Return what the mixtures make of the rows of an index, and the losses."""
        first, self.sizes = self.nets[0], [len(rows) for rows in index]
        places = [rows + start for rows, start in zip(index, self.starts, strict=True)]
        batch = self.batch = self.rows.take(torch.cat(places)).to(torch.device(first.device))
        with first.autocast():
            mixed = self.mixtures.forward(
                [run.router_input(rows) for run, rows in zip(self.runs, index, strict=True)],
                index,
                self.generators,
                experts_only=first.needs_each_expert(batch),
            )
            return first.losses(mixed, batch)

    def backward(self, mixed, losses, index):
        """Compute the gradients of all nets."""
        weight = self.batch.weight
        self.n_samples = weight.new_tensor(self.sizes)
        self.share = weight / self.n_samples.repeat_interleave(self.n_samples.long())
        balances = self.mixtures.balance_losses(mixed, weight.split(self.sizes))
        # The sum of the weighted means, without nodes of the graph for each net.
        torch.autograd.backward(
            [losses, *balances], [self.share.to(losses.dtype), *map(torch.ones_like, balances)]
        )

    @torch.no_grad()
    def scale_steps(self, mixed, index):
        """Set the length of each expert's step, as for one net."""
        first, batch, sizes = self.nets[0], self.batch, self.sizes
        factors = torch.stack([weight.mean() for weight in batch.weight.split(sizes)])
        factors = factors[:, None].expand(-1, len(first.module_.experts))
        if first.schedule == "residual":
            error = batch.weight * first.criterion_.error(mixed.output, batch.y)
            shares = mixed.route.shares()
            load = _sums(batch.weight.to(shares.dtype), shares, sizes)
            error = _sums(error.to(shares.dtype), shares, sizes)
            residual = error / load.clamp(min=torch.finfo(load.dtype).tiny)
            factors = factors * (residual / first.criterion_.chance_level_error).clamp(max=1)
        for net, multipliers in zip(self.nets, factors, strict=True):
            net.set_lr_multipliers(multipliers)

    def numbers(self, mixed, losses, oob_losses, index):
        """Return samples, losses, out-of-bag losses and gradient norms, (4, n_nets)."""
        loss = _sums(self.share, losses.detach(), self.sizes)
        oob_loss = loss if oob_losses is None else _sums(self.share, oob_losses, self.sizes)
        norms = [router_gradient_norm(parameters) for parameters in self.router_parameters]
        norm = torch.zeros_like(loss) if norms[0] is None else torch.stack(norms)
        return torch.stack([self.n_samples, loss, oob_loss, norm])


def _join(parts):
    """Return y and weights of the rows of many nets, one after the other, without x."""
    y, weight, in_bag = zip(*(part[1:] for part in parts), strict=True)
    y = torch.cat(y)
    in_bag = None if in_bag[0] is None else torch.cat(in_bag)
    return Rows(y.new_empty(len(y), 0), y, torch.cat(weight), in_bag)


def _sums(weight, values, sizes):
    """Return the weighted sums of the samples of each net, whose numbers are `sizes`."""
    split = torch.split_with_sizes  # less Python than Tensor.split
    parts = zip(split(weight, sizes), split(values, sizes), strict=True)
    return torch.stack([of_net @ values for of_net, values in parts])
