"""A training: its epochs, its steps, and all that exists only while a net trains."""

import copy
import math
from contextlib import contextmanager, nullcontext
from functools import reduce
from itertools import islice

import torch

from .._compat import Interrupts
from .._registry import make
from ..nn import weighted_mean
from ..nn.functional import batch_size, batch_weight
from ..nn.mixture import upcycle
from ..nn.seeding import OwnGenerator, is_stochastic
from .callbacks import StopTraining, WeightedRows, checked, has_batch_hooks
from .placement import as_many_threads_as_useful, explained_memory_errors, work_of_a_step
from .process_group import current_group

_LARGEST_BLOCK = 31 * 2**20  # bytes, just below what glibc maps afresh every time
_RISE = 20  # the rates are full after 1 / 20 of the steps
_NUMBERS = ("weight", "loss", "router_gradient_norm", "oob_loss", "score")  # of a step


class Cosine:
    """Let the rates of an optimizer rise over a twentieth of the steps, then fall to 0.

    Those of torch do the same, wrapped around every step of the optimizer.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its rates are the highest ones; they are kept as "initial_lr" of each group, as by torch.
    n_steps : int or None
        None: the rates stay at their highest.
    """

    def __init__(self, optimizer, n_steps):
        self.optimizer = optimizer
        self.n_steps = n_steps
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"])
        self.n_done = -1
        self.step()  # to the first rates

    def step(self):
        """Go on to the rates of the next step."""
        self.n_done += 1
        if self.n_steps is None:
            return
        rise = min(1, _RISE * (self.n_done + 1) / self.n_steps)
        factor = rise * (1 + math.cos(math.pi * min(1, self.n_done / self.n_steps))) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


class Diverged(ValueError):
    """The weights, or the loss, are not finite any more."""


class Training:
    """One training of a net, from the first epoch or from where it was stopped.

    It is `training_` of the net while it lasts.

    Parameters
    ----------
    net : MoENet
    rows : Rows
        What it is trained on.
    validation : Rows or None
        What is held out.
    epochs : int
        How many at most.
    seed : int
        Of shuffling, noise and transforms.
    anneal : bool, default=True
        Whether the rates of "cosine" fall; without they stay at their highest.
    n_dense_epochs : int, default=0
        First epochs in which all samples go through the first expert, of which the others then are
        copies.
    callbacks : sequence of skorch callbacks
    checkpoint : Checkpoint or None
        Stores the state of the training, and may know one to go on from.
    group : ProcessGroup or None
        The processes that train together; None: those of `data_parallel`, if it is entered.
    """

    def __init__(
        self,
        net,
        rows,
        validation=None,
        *,
        epochs,
        seed,
        anneal=True,
        n_dense_epochs=0,
        callbacks=(),
        checkpoint=None,
        group=None,
    ):
        # glibc maps a block afresh until one of that size has come back, and then keeps what is
        # free up to twice that size: steps with arrays of some megabytes take a third less time.
        torch.empty(_LARGEST_BLOCK, dtype=torch.uint8)
        self.net, self.rows, self.validation, self.epochs = net, rows, validation, epochs
        self.group = current_group() if group is None else group
        self.generator = torch.Generator(net.device).manual_seed(seed)
        self.generators = [self.generator]
        if self.generator.device.type != "cpu":  # transforms of torchvision draw on the CPU
            self.generators.append(torch.Generator().manual_seed(seed))
        self.draws = self.group.own_draws(self.generators, seed)
        self.parameters = [p for group in net.optimizer_.param_groups for p in group["params"]]
        self.is_weighted = rows.is_weighted
        self.n_dense_epochs = n_dense_epochs
        self.checkpoint, self.n_done, self.stopped = checkpoint, 0, False
        n_samples = min(net.batch_size, len(rows.y))
        n_steps = epochs * math.ceil(len(rows.y) / n_samples) if anneal else None
        self.schedule = Cosine(net.optimizer_, n_steps) if net.schedule == "cosine" else None
        self.batch_size = n_samples
        self.work = work_of_a_step(net.module_, n_samples, rows.x.shape[1:])
        net.module_.dense_phase = n_dense_epochs > 0
        net.training_ = self
        net.callbacks = checked(callbacks)
        net._initialize_callbacks()
        # Hooks in every step cost as much as a small expert: they are called where one is set.
        self.has_batch_hooks = any(has_batch_hooks(callback) for _, callback in net.callbacks_)

    @property
    def scales_steps(self):
        """Whether the length of an expert's step does not follow from its gradient."""
        is_uneven = self.is_weighted or self.net.schedule == "residual"
        return self.net.solver.per_expert and is_uneven

    def run(self, streamed=None):
        """Train for the epochs that are left, or on streamed batches for one epoch.

        `streamed` is an iterable of Rows, the first of them those of the training.
        """
        # Callbacks and transforms of batches are given samples as they are.
        is_raw = streamed is not None or self.has_batch_hooks or self.net.train_transform
        self.encodes_once = not is_raw and self.net.may_encode(self.rows.x)
        self.step = OneNetStep(self)
        explained = explained_memory_errors(self.batch_size, self.net.device)
        try:
            with (
                self.group,
                Interrupts() as interrupts,
                as_many_threads_as_useful(self.work),
                explained,
            ):
                self._run(interrupts, streamed)
                self.refuse_divergence()
        finally:
            self.end()

    def _run(self, interrupts, streamed):
        known = {"X": self.rows.x, "y": self.rows.y}
        if self.checkpoint:
            self.checkpoint.restore(self)
        self.notify("on_train_begin", **known)
        if self.checkpoint:  # once more: callbacks have begun anew, or loaded weights
            self.checkpoint.restore(self)
        n_epochs = 0 if self.stopped else self.epochs - self.n_done
        self.group.begin(self, n_epochs, interrupts)
        try:
            self._run_epochs(n_epochs, streamed)
        except StopTraining:
            self.stopped = not interrupts.seen
        except KeyboardInterrupt:
            self.drop_unfinished()
            if self.checkpoint:
                self.checkpoint.write()  # of the last epoch that was whole
            self.notify("on_train_end", **known)
            raise
        self.drop_unfinished()
        if self.checkpoint:
            self.checkpoint.ended(self)
        self.notify("on_train_end", **known)

    def _run_epochs(self, n_epochs, streamed):
        net = self.net
        data, held_out = WeightedRows(self.rows), self.validation and WeightedRows(self.validation)
        known = {"dataset_train": data, "dataset_valid": held_out}
        if streamed is None:
            if self.encodes_once:
                data = WeightedRows(self.rows._replace(x=net.encoded(self.rows.x)))
            parts = [net.get_iterator(data, training=True)]
        else:
            parts = self._cut(streamed)
        held_out = held_out and net.get_iterator(held_out)
        for _ in range(n_epochs):
            self.notify("on_epoch_begin", **known)
            steps = []
            for batches in parts:
                steps += self.run_batches(batches, training=True)
            self.record_steps(steps, training=True)
            self.validate(held_out)
            self.notify("on_epoch_end", **known)

    def _cut(self, streamed):
        """Yield the training batches of each streamed batch."""
        for rows in streamed:
            self.is_weighted = rows.is_weighted
            self.step.scales_steps = self.scales_steps
            yield self.net.get_iterator(WeightedRows(rows), training=True)
            self.net._set_training(False)

    def validate(self, batches):
        """Record loss and score of held-out batches, if there are any."""
        if batches is not None:
            self.record_steps(self.run_batches(batches, training=False), training=False)

    def end(self):
        """Leave the net as it is when no training is under way."""
        net = self.net
        net.callbacks, net.callbacks_ = None, []
        self._split()
        for parameter in self.parameters:
            parameter.grad = None  # as large as the model
        del net.training_
        net.module_.eval()

    def notify(self, method_name, **known):
        """Call the callbacks; one that stops the training does so when all have been called.

        skorch's EarlyStopping raises KeyboardInterrupt to stop. A real Ctrl-C stops, too, and is
        raised again by `Interrupts` when the training has ended.
        """
        if method_name == "on_epoch_begin":
            self.drop_unfinished()
            if self.checkpoint:
                self.checkpoint.epoch_ended(self)
            if len(self.net.history) >= self.n_dense_epochs:
                self._split()
        getattr(self.net, method_name)(self.net, **known)
        stop = None
        for _, callback in self.net.callbacks_:
            try:
                getattr(callback, method_name)(self.net, **known)
            except (StopTraining, KeyboardInterrupt) as error:
                stop = error
                if method_name != "on_epoch_end":
                    raise
        if method_name == "on_epoch_end":
            stop = self.group.end_epoch(self, stop)
        if stop is not None:
            raise StopTraining from stop

    def _split(self):
        """Let the router choose among experts that were one."""
        if self.net.module_.dense_phase:
            upcycle(self.net.module_, self.net.optimizer_)
            self.net.module_.dense_phase = False

    def drop_unfinished(self):
        """Drop an epoch that was not finished, and the batches of the one before.

        Callbacks have seen the batches, and they would be most of a pickle.
        """
        history = self.net.history
        done = "valid_loss" if self.validation is not None else "train_loss"
        if history and done not in history[-1]:
            history.pop()
        if history:
            history[-1]["batches"][:] = [{}]

    def run_batches(self, batches, *, training):
        """Return the numbers of every step, which stay where they were computed."""
        net, prefix = self.net, "train" if training else "valid"
        net._set_training(training)
        run_step = net.train_step if training else net.validation_step
        steps = []
        for batch, sharding in self.group.shards(batches):
            if self.has_batch_hooks:
                xy = (batch.x, batch.y)  # as skorch's callbacks unpack it
                self.notify("on_batch_begin", batch=xy, training=training)
            with sharding:
                step = run_step(batch)
            steps.append({name: step[name] for name in _NUMBERS if name in step})
            if self.has_batch_hooks:
                (step["loss"],) = self.group.all_reduce(step["loss"])
                net.history.record_batch(prefix + "_loss", step["loss"].item())
                net.history.record_batch(prefix + "_batch_size", len(batch.y))
                self.notify("on_batch_end", batch=xy, training=training, **step)
        return steps

    def record_steps(self, steps, *, training):
        """Record the means of the numbers of the steps: the one wait for the device in an epoch."""
        numbers = self.group.collect(steps)
        weight = numbers["weight"]
        share = weight / weight.sum()
        means = {"loss": float(share @ numbers["loss"])}
        if training:
            norms = numbers.get("router_gradient_norm")
            means["grad_norm"] = 0.0 if norms is None else float(norms.mean())
            if "oob_loss" in numbers:
                means["oob_loss"] = float(share @ numbers["oob_loss"])
        else:
            means["score"] = float(numbers["score"].sum() / weight.sum())
        self.record_pass(len(steps), **means)

    def record_pass(self, n_batches, *, loss, grad_norm=None, oob_loss=None, score=None):
        """Record the means of an epoch's pass; `grad_norm`, of the router, is that of training."""
        net, training = self.net, grad_norm is not None
        if training and not math.isfinite(loss):
            raise self._divergence(f"training loss became {loss}")
        if training and net.module_.dense_phase:
            upcycle(net.module_)  # so that a state kept now is whole
        epoch = net.history[-1]
        if not epoch["batches"]:
            net.history.new_batch()  # some callbacks of skorch want one to be there
        prefix = "train" if training else "valid"
        epoch[prefix + "_batch_count"] = n_batches
        if training:
            epoch["router_gradient_norm"] = grad_norm
        if oob_loss is not None:
            self._record(epoch, "oob_loss", oob_loss, 1)
        if score is not None:
            self._record(epoch, f"{prefix}_{net.criterion_.score_name}", score, -1)
        self._record(epoch, prefix + "_loss", loss, 1)

    def _record(self, epoch, name, value, sign):
        """Record a value, and whether it is the least yet, or with sign -1 the largest."""
        past = islice(reversed(self.net.history), 1, None)
        best = next((sign * row[name] for row in past if row.get(name + "_best")), math.inf)
        epoch[name] = value
        epoch[name + "_best"] = sign * value < best

    @torch.no_grad()
    def refuse_divergence(self):
        """Check the weights: the last step of all has no loss that would show it."""
        if not torch.stack(torch._foreach_norm(self.parameters)).isfinite().all():
            raise self._divergence("weights became infinite or NaN")

    def _divergence(self, what):
        causes = "the steps are too long for the activation ('cubic' and 'linear' are unbounded)"
        if self.net.module_.encoder is None:  # else X was scaled here
            scaled = "for patches, add a scaler first; for others, leave standardize at 'auto'"
            causes = f"X is not scaled ({scaled}), or {causes}"
        return Diverged(
            f"The {what} in epoch {len(self.net.history)}. Likely causes: {causes}. Lower "
            "learning_rate_init, router__learning_rate and solver__weight_decay, or leave them as "
            "they are by default."
        )


@contextmanager
def undone_if_diverged(net):
    """Bring a net back to what it was before the block if the training in it diverges."""
    parts = copy.deepcopy({name: getattr(net, name).state_dict() for name in net.with_state})
    n_epochs = len(net.history)
    try:
        yield
    except Diverged:
        for name, state in parts.items():
            getattr(net, name).load_state_dict(state)
        del net.history[n_epochs:]
        raise


class Step:
    """A step of training: forward, backward, update; of one net or, in subclasses, of several.

    Nothing in it waits for the device but the dispatch of samples, and what it returns stays there.
    """

    def __call__(self, batch):
        """Make a step by a batch of rows; return its numbers."""
        for parameter in self.parameters:  # faster than zero_grad
            parameter.grad = None
        mixed, losses, oob_losses = self.forward(batch)
        self.backward(mixed, losses, batch)
        if self.scales_steps:
            self.scale_steps(mixed, batch)
        self.optimizer.step()
        for schedule in self.schedules:
            schedule.step()
        return self.numbers(mixed, losses, oob_losses, batch)


def router_gradient_norm(parameters):
    """Return the norm of the router's gradient: a router at 0 learns nothing. None without."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return None
    norms = torch._foreach_norm(gradients)
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


class OneNetStep(Step):
    """The step of one net."""

    def __init__(self, training):
        net = training.net
        self.training, self.net = training, net
        self.parameters, self.optimizer = training.parameters, net.optimizer_
        self.router_parameters = net.router_parameters()
        self.schedules = [] if training.schedule is None else [training.schedule]
        self.is_stochastic = is_stochastic(net.module_)
        self.scales_steps = training.scales_steps

    def forward(self, batch):
        """Return what the mixture makes of a batch, and the losses, (n_samples,)."""
        net, training = self.net, self.training
        forward = net.module_.forward_experts if net.needs_each_expert(batch) else net.module_
        x = net.as_input(batch.x)
        if net.train_transform is not None:
            x = self._transform(x.clone() if x is batch.x else x)  # X is not ours to change
        with net.autocast(), OwnGenerator(*training.draws) if self.is_stochastic else nullcontext():
            return net.losses(forward(x, training.generator, training.encodes_once), batch)

    def _transform(self, x):
        """Return the samples of a batch as `train_transform` makes them."""
        shape, dtype = x.shape, x.dtype
        expected = (
            "train_transform must return a tensor of the shape and type of the batch that it is "
            f"given, {tuple(shape)}, {dtype}"
        )
        with OwnGenerator(*self.training.draws):
            x = make(expected, torch.Tensor, self.net.train_transform, x)
        if (x.shape, x.dtype) != (shape, dtype):
            raise ValueError(f"{expected}; it returned {tuple(x.shape)}, {x.dtype}.")
        return x

    def backward(self, mixed, losses, batch):
        """Compute the gradients of all processes."""
        net, training = self.net, self.training
        # Not over the weight of the batch: see `weighted_mean`.
        self.loss = batch.weight / batch_size(batch.weight) @ losses
        balance = net.module_.balance_loss(mixed, batch.weight)
        (self.loss if balance is None else self.loss + balance).backward()
        training.group.all_reduce_gradients(self.parameters)
        if training.has_batch_hooks:
            training.notify(
                "on_grad_computed",
                named_parameters=net.get_all_learnable_params(),
                batch=(batch.x, batch.y),
                training=True,
            )

    @torch.no_grad()
    def scale_steps(self, mixed, batch):
        """Set the length of each expert's step.

        A batch of twice the mean weight makes a step of twice the length. With "residual" the
        steps become shorter as the expert's own mistakes become rare.
        """
        net, factors = self.net, []
        if self.training.is_weighted:
            factors.append(batch_weight(batch.weight) / batch_size(batch.weight))
        if net.schedule == "residual":
            error = net.criterion_.error(mixed.output, batch.y)
            residual = mixed.route.expert_means(error, batch.weight)
            factors.append((residual / net.criterion_.chance_level_error).clamp(max=1))
        net.set_lr_multipliers(reduce(torch.mul, factors).expand(len(net.module_.experts)))

    def numbers(self, mixed, losses, oob_losses, batch):
        """Return what is recorded of the step, by name."""
        numbers = {"loss": self.loss.detach(), "weight": batch_size(batch.weight)}
        if oob_losses is not None:
            numbers["oob_loss"] = weighted_mean(oob_losses, batch.weight)
        if mixed.output is not None:
            numbers["y_pred"] = mixed.output.detach()
        if (norm := router_gradient_norm(self.router_parameters)) is not None:
            numbers["router_gradient_norm"] = norm
        return numbers
