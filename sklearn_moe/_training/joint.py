"""Many nets of one architecture trained at once: every step is one computation for all."""

from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch.optim import SGD, Adam, AdamW

from .._alike import alike
from .._compat import Interrupts
from .._data.rows import Rows
from ..nn.many import Mixtures, sum_patches
from ..optim import NormalizedSGD
from .callbacks import StopTraining
from .net import WeightedRows
from .placement import as_many_threads_as_useful

__all__ = ["JointOptimizer", "Training", "train_together"]

_BY_ENTRY = (SGD, Adam, AdamW)  # every weight by itself: groups of equal options are one group


class JointOptimizer:
    """Step the optimizers of many nets as one.

    Each optimizer keeps its parameter groups, whose options are read in every step; `release`
    copies the state back to them. Optimizers of other types are stepped one after the other.

    Parameters
    ----------
    optimizers : sequence of Optimizer
        All of one kind.
    """

    def __init__(self, optimizers):
        self.optimizers = optimizers
        self.one = None
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        kind = type(optimizers[0])
        if kind in _BY_ENTRY:
            groups = alike(groups, _options)
        elif kind is NormalizedSGD:
            groups = [[group] for group in groups]
        else:
            return
        self.groups = groups
        self.one = kind([_merged(members) for members in groups])
        for optimizer in optimizers:
            self.one.state.update(optimizer.state)

    def step(self):
        """Make a step of each."""
        if self.one is None:
            for optimizer in self.optimizers:
                optimizer.step()
            return
        for group, (first, *_) in zip(self.one.param_groups, self.groups, strict=True):
            group["lr"] = first["lr"]  # of a schedule
        self.one.step()

    def release(self):
        """Give every optimizer the state of its weights."""
        if self.one is None:
            return
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter in self.one.state:
                        optimizer.state[parameter] = self.one.state[parameter]


def _options(group):
    return {name: value for name, value in group.items() if name != "params"}


def _merged(members):
    """Return one group in the place of many, a sole one as it is."""
    if len(members) == 1:
        return members[0]
    return members[0] | {"params": [p for group in members for p in group["params"]]}


# With more nets the overhead of a step is no smaller, but its arrays leave the caches of a CPU.
_AT_ONCE = 16


class Training(NamedTuple):
    """What one of the nets is trained with, as in `MoENet.train`."""

    net: Any
    rows: Rows
    validation: Rows | None
    epochs: int
    seed: int
    callbacks: tuple = ()


def train_together(trainings):
    """Train nets side by side; each stops by itself, and the others go on without it.

    They have equal architectures, and equally many batches in an epoch.

    Returns
    -------
    failures : list
        For each net the ValueError that ended its training, None if nothing did.
    """
    runs, known = [], {}
    try:
        for training in trainings:
            runs.append(_Run(training, known))
        with Interrupts(), as_many_threads_as_useful(runs[0].work):
            _train(runs)
        for run in runs:
            run.look_at_weights()
    finally:
        for run in runs:
            run.net.end()
    return [run.failure for run in runs]


def _train(runs):
    for run in runs:
        run.net.notify("on_train_begin")
    try:
        while going := [run for run in runs if run.epochs_left][:_AT_ONCE]:
            fleet = _Fleet(going)
            try:
                while all(run.epochs_left for run in going):
                    fleet.train_epoch()
            finally:
                fleet.optimizer.release()
    finally:
        for run in runs:
            run.net._end_epoch()
            run.net.notify("on_train_end")


class _Run:
    """One of the nets, and how far it has come; `known` is what was computed of a shared X."""

    def __init__(self, training, known):
        net, rows, validation, epochs, seed, callbacks = training
        self.net = net
        self.epochs_left = epochs
        self.failure = None
        self.work = net.begin(rows, validation, epochs, seed, callbacks=callbacks)
        self.batches = net.get_iterator(WeightedRows(rows), training=True)
        net._set_training(True)
        self.dtype = next(net.module_.parameters()).dtype
        self.held_out = validation and net.get_iterator(WeightedRows(validation))
        self.x = self.batches.rows.x  # what the router sees of the samples
        place = self.x.data_ptr() if isinstance(self.x, torch.Tensor) else id(self)
        if place not in known:
            known[place] = sum_patches(net.module_, self.x)
        if known[place] is not None:
            self.x = known[place]

    def see(self, rows):
        """Return what the router sees of some of the rows."""
        x = self.x.index_select(0, rows)
        return x if x.dtype == self.dtype else self.net._as_input(x)

    def end_epoch(self, **means):
        """Record an epoch, and look whether it was the last one."""
        net = self.net
        self.epochs_left -= 1
        try:
            net.record_pass("train", len(self.batches), **means)
            if self.held_out is not None:
                net.run_single_epoch(self.held_out, False, "valid", net.validation_step)
                net._set_training(True)
            net.notify("on_epoch_end")
        except StopTraining:
            self.epochs_left = 0
        except ValueError as error:
            self.failure, self.epochs_left = error, 0

    def look_at_weights(self):
        """Fail if they are not finite."""
        try:
            self.net._refuse_divergence()
        except ValueError as error:
            self.failure = self.failure or error


class _Fleet:
    """The nets that are still in training, and the step that they make together."""

    def __init__(self, runs):
        self.runs = runs
        self.nets = [run.net for run in runs]
        self.mixtures = Mixtures(
            [net.module_ for net in self.nets], [r.batches.rows.x for r in runs]
        )
        self.optimizer = JointOptimizer([net.optimizer_ for net in self.nets])
        self.rows = _join([run.batches.rows for run in runs])
        lengths = [len(run.batches.rows.y) for run in runs]
        self.starts = [0, *accumulate(lengths)][: len(runs)]
        self.trained = [parameter for net in self.nets for parameter in net.trained_]
        self.is_weighted = any(net.is_weighted_ for net in self.nets)

    def train_epoch(self):
        """Train all for an epoch."""
        for net in self.nets:
            net.notify("on_epoch_begin")
        steps = [
            self._step(index)
            for index in zip(*(run.batches.indices() for run in self.runs), strict=True)
        ]
        weight, loss, oob_loss, slope = torch.stack(steps, 1)  # (n_batches, n_nets) each
        share = weight / weight.sum(0)
        means = torch.stack([(share * loss).sum(0), (share * oob_loss).sum(0), slope.mean(0)])
        hides = self.rows.shown is not None
        for run, (loss, oob_loss, slope) in zip(self.runs, means.T.tolist(), strict=True):
            run.end_epoch(loss=loss, slope=slope, oob_loss=oob_loss if hides else None)

    def _step(self, index):
        """Make a step of each net, with its own rows."""
        first = self.nets[0]
        for parameter in self.trained:
            parameter.grad = None
        sizes = [len(rows) for rows in index]
        batch = self.rows.take(torch.cat([i + s for i, s in zip(index, self.starts, strict=True)]))
        batch = batch.to(torch.device(first.device))
        with first._autocast():
            mixed = self.mixtures.forward(
                [run.see(rows) for run, rows in zip(self.runs, index, strict=True)],
                index,
                [net.generator_ for net in self.nets],
                apart=bool(first.expert_loss_weight) or batch.shown is not None,
            )
            mixed, losses, oob_losses = first.losses(mixed, batch)
        weights = batch.weight.split(sizes)
        n_samples = batch.weight.new_tensor(sizes)
        share = batch.weight / n_samples.repeat_interleave(n_samples.long())
        balances = self.mixtures.balance_losses(mixed, weights)
        # The sum of the weighted means, without nodes of the graph for each net.
        torch.autograd.backward(
            [losses, *balances], [share.to(losses.dtype), *map(torch.ones_like, balances)]
        )
        if first.solver.per_expert and (self.is_weighted or first.pace == "residual"):
            self._set_paces(mixed, batch, weights)
        self.optimizer.step()
        for net in self.nets:
            if net.schedule_ is not None:
                net.schedule_.step()
        loss = _sums(share, losses.detach(), sizes)
        oob_loss = loss if oob_losses is None else _sums(share, oob_losses, sizes)
        slopes = [net.router_gradient_norm() for net in self.nets]
        slope = torch.zeros_like(loss) if slopes[0] is None else torch.stack(slopes)
        return torch.stack([n_samples, loss, oob_loss, slope])

    @torch.no_grad()
    def _set_paces(self, mixed, batch, weights):
        """Set the length of each expert's step, as `MoENet` does for one net."""
        criterion, n_experts = self.nets[0].criterion_, len(self.nets[0].module_.experts)
        sizes = [len(weight) for weight in weights]
        paces = torch.stack([weight.mean() for weight in weights])[:, None].expand(-1, n_experts)
        if self.nets[0].pace == "residual":
            error = batch.weight * criterion.error(mixed.output, batch.y)
            shares = mixed.route.shares()
            load = _sums(batch.weight.to(shares.dtype), shares, sizes)
            error = _sums(error.to(shares.dtype), shares, sizes)
            residual = error / load.clamp(min=torch.finfo(load.dtype).tiny)
            paces = paces * (residual / criterion.blind_error).clamp(max=1)
        for net, pace in zip(self.nets, paces, strict=True):
            net.set_pace(pace)


def _join(parts):
    """Return y and weights of the rows of many nets, one after the other, without x."""
    y, weight, shown = zip(*(part[1:] for part in parts), strict=True)
    y = torch.cat(y)
    shown = None if shown[0] is None else torch.cat(shown)
    return Rows(y.new_empty(len(y), 0), y, torch.cat(weight), shown)


def _sums(weight, values, sizes):
    """Return the weighted sums of the samples of each net, whose numbers are `sizes`."""
    split = torch.split_with_sizes  # less Python than Tensor.split
    parts = zip(split(weight, sizes), split(values, sizes), strict=True)
    return torch.stack([of_net @ values for of_net, values in parts])
