"""A training: its epochs, its steps, and all that exists only while a net trains."""

import copy
import math
from contextlib import contextmanager, nullcontext
from functools import reduce
from itertools import islice, repeat

import torch
from skorch.dataset import Dataset

from .._data.tables import IndexedView
from .._devices import OutOfMemoryError, is_out_of_memory
from .._threads import threads_for
from .._validation import call_factory
from ..nn import MixtureOfExperts, Pool, weighted_mean
from ..nn.functional import batch_size, batch_weight, is_stack, mixture_loss
from ..nn.seeding import fixed_draws, is_stochastic, use_generator
from .callbacks import Interrupts, StopTraining, check_callbacks, has_batch_hooks
from .process_group import CURRENT_GROUP

# Largest block that glibc keeps for reuse, in bytes.
_LARGEST_BLOCK = 31 * 2**20
# What a step returns that is recorded of an epoch.
_STEP_METRICS = ("weight", "loss", "oob_loss", "score")


def set_cosine_rates(optimizer, n_done, n_steps):
    """Let the rates rise over a twentieth of the steps, then fall to 0; the highest are kept.

    A schedule of torch does the same, wrapped around every step of the optimizer.
    """
    rise = min(1, 20 * (n_done + 1) / n_steps)
    factor = rise * (1 + math.cos(math.pi * min(1, n_done / n_steps))) / 2
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


class Training:
    """One training of a net, from the first epoch or from where it was stopped.

    It is `training_` of the net while it lasts. Within `data_parallel` it is shared by the
    processes of `group`, which is None otherwise.

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
    module : MixtureOfExperts or None, default=None
        What is trained of the net, with weights of its module: a bag of a pool. None: all.
    make_step : callable or None, default=None
        `make_step(training)` returns what makes the steps. None: `Step`.
    n_epochs_alone : int, default=0
        Epochs in which the first expert alone is trained; then the others begin as copies of it.
    is_chunk : bool, default=False
        Whether the rows are one of many chunks, for which the rates of "cosine" stay at their
        highest.
    callbacks : sequence of skorch callbacks
    checkpoint : Checkpoint or None
        Stores the state of the training, and may know one to go on from.
    """

    def __init__(
        self,
        net,
        rows,
        validation,
        epochs,
        *,
        seed,
        module=None,
        make_step=None,
        n_epochs_alone=0,
        is_chunk=False,
        callbacks=(),
        checkpoint=None,
    ):
        # glibc maps a block afresh until one of that size has come back, and then keeps what is
        # free up to twice that size: steps with arrays of some megabytes take a third less time.
        torch.empty(_LARGEST_BLOCK, dtype=torch.uint8)
        self.net = net
        self.module = self.whole = net.module_ if module is None else module
        self.make_step = make_step or Step
        self.n_epochs_alone = n_epochs_alone if len(self.module.experts) > 1 else 0
        self.rows = rows
        self.validation = validation
        self.epochs = epochs
        self.checkpoint = checkpoint
        self.group = CURRENT_GROUP.get()
        # Transforms of torchvision draw on the CPU.
        devices = dict.fromkeys((str(net.device), "cpu"))
        self.generators = [torch.Generator(device).manual_seed(seed) for device in devices]
        self.generator, group = self.generators[0], self.group
        self.draws = self.generators if group is None else group.own_draws(self.generators, seed)
        self.parameters = [p for group in net.optimizer_.param_groups for p in group["params"]]
        self.is_weighted = rows.is_weighted
        self.n_done, self.stopped = 0, False
        self.n_before = len(net.history)
        self.batch_size = min(net.batch_size, len(rows.y))
        n_batches = math.ceil(len(rows.y) / self.batch_size)
        # Steps over which the rates fall, 0 if they stay.
        self.n_steps = epochs * n_batches if net.schedule == "cosine" and not is_chunk else 0
        self.n_steps_done = 0
        if self.n_steps:
            set_cosine_rates(net.optimizer_, 0, self.n_steps)
        net.training_ = self
        net.callbacks = check_callbacks(callbacks)
        net._initialize_callbacks()
        # Hooks in every step cost as much as a small expert: they are called where one is set.
        self.has_batch_hooks = any(has_batch_hooks(callback) for _, callback in net.callbacks_)
        # They are given the outputs of the mixture, which else need not be computed.
        self.needs_outputs = self.has_batch_hooks or net.schedule == "residual"

    @property
    def n_epochs(self):
        """Number of epochs so far, those of a stored part included."""
        return len(self.net.history) - self.n_before

    def run(self):
        """Train for the epochs that are left.

        Ctrl-C ends the training as it is, and always reaches the caller.
        """
        net, self.step = self.net, self.make_step(self)
        try:
            with (
                self.group or nullcontext(),
                Interrupts() as interrupts,
                threads_for(net.work_of_a_row_ * self.batch_size, "openmp"),
                explained_errors(self.batch_size, net.device),
            ):
                self._run(interrupts)
                # The last step of all has no loss that would show it.
                if not torch.stack(torch._foreach_norm(self.parameters)).isfinite().all():
                    raise self._divergence("weights became infinite or NaN")
        finally:
            # Leave the net as it is when no training is under way.
            net.callbacks = None
            net.callbacks_ = []
            for parameter in self.parameters:
                # As large as the model; zero_grad would import the compiler of torch.
                parameter.grad = None
            del net.training_
            net.module_.eval()

    def _run(self, interrupts):
        known = {"X": self.rows.x, "y": self.rows.y}
        if self.checkpoint:
            self.checkpoint.restore(self)
        self.notify("on_train_begin", **known)
        n_epochs = (self.epochs - self.n_done) * (not self.stopped)
        if self.group is not None:
            self.group.begin(self, n_epochs, interrupts)
        try:
            self._run_epochs(n_epochs)
        except StopTraining:
            self.stopped = not interrupts.seen
        except KeyboardInterrupt:
            self.drop_unfinished()
            self._copy_expert()
            self.notify("on_train_end", **known)
            raise
        self.drop_unfinished()
        self._copy_expert()
        if self.checkpoint:
            self.checkpoint.ended(self)
        self.notify("on_train_end", **known)

    def _run_epochs(self, n_epochs):
        rows, held_out = self.rows, self.validation
        known = {"dataset_train": Dataset(rows.x, rows.y), "dataset_valid": None}
        if held_out is not None:
            known["dataset_valid"] = Dataset(held_out.x, held_out.y)
        if self.batch_size == len(rows.y) and isinstance(rows.x, IndexedView):
            # Gathered once.
            rows = rows._replace(x=rows.x[:])
        # The generator of the device on which the rows are draws their order.
        by_device = {generator.device.type: generator for generator in self.generators}
        generator = by_device.get(rows.y.device.type)
        if n_epochs and self.n_epochs < self.n_epochs_alone:
            whole = self.whole
            alone = MixtureOfExperts(None, whole.experts[:1], whole.encoder, shared=whole.shared)
            self.module = self.step.module = alone.train(whole.training)
        for _ in range(n_epochs):
            if self.n_epochs == self.n_epochs_alone:
                self._copy_expert()
            self.notify("on_epoch_begin", **known)
            steps = self._run_batches(rows, rows.cuts(self.net.batch_size, generator))
            self._record_steps(steps, training=True)
            if held_out is not None:
                cuts = held_out.cuts(self.net._predict_size(held_out.x))
                steps = self._run_batches(held_out, cuts, training=False)
                self._record_steps(steps, training=False)
            self.notify("on_epoch_end", **known)

    @torch.no_grad()
    def _copy_expert(self):
        """Let all experts go on as copies of the first one, if it was trained alone."""
        if self.module is self.whole:
            return
        state, (first, *others) = self.net.optimizer_.state, self.whole.experts
        for other in others:
            other.load_state_dict(first.state_dict())
            for own, copied in zip(other.parameters(), first.parameters(), strict=True):
                state[own] = copy.deepcopy(state[copied])
        self.module = self.step.module = self.whole

    def notify(self, method_name, **known):
        """Call the callbacks; one that stops the training does so when all have been called.

        skorch's EarlyStopping raises KeyboardInterrupt to stop. A real Ctrl-C stops, too, and is
        raised again by `Interrupts` when the training has ended.
        """
        if method_name == "on_epoch_begin":
            self.drop_unfinished()
            if self.checkpoint:
                self.checkpoint.epoch_ended(self)
        getattr(self.net, method_name)(self.net, **known)
        stop = None
        for _, callback in self.net.callbacks_:
            try:
                getattr(callback, method_name)(self.net, **known)
            except (StopTraining, KeyboardInterrupt) as error:
                stop = error
                if method_name != "on_epoch_end":
                    raise
        if method_name == "on_epoch_end" and self.group is not None:
            stop = self.group.end_epoch(self, stop)
        if stop is not None:
            raise StopTraining from stop

    def drop_unfinished(self):
        """Drop an epoch that was not finished, and the batches of the one before.

        Callbacks have seen the batches, and they would be most of a pickle.
        """
        history = self.net.history
        done = "valid_loss" if self.validation is not None else "train_loss"
        if len(history) > self.n_before and done not in history[-1]:
            history.pop()
        if history:
            history[-1]["batches"][:] = [{}]

    def _run_batches(self, rows, cuts, *, training=True):
        """Return the metrics of every step, which stay where they were computed."""
        net, group, prefix = self.net, self.group, "train" if training else "valid"
        if self.module.training != training:
            net._set_training(training)
            self.module.train(training)
        run_step = self.step if training else self._validate
        device = torch.device(net.device)
        if group is None:
            batches = zip((rows.take(cut, device) for cut in cuts), repeat(nullcontext()))
        else:
            batches = group.shards(rows, cuts, device)
        steps = []
        for batch, sharding in batches:
            if self.has_batch_hooks:
                # As skorch's callbacks unpack it.
                xy = (batch.x, batch.y)
                self.notify("on_batch_begin", batch=xy, training=training)
            with sharding:
                step = run_step(batch)
            steps.append({name: step[name] for name in _STEP_METRICS if name in step})
            if self.has_batch_hooks:
                if group is not None:
                    (step["loss"],) = group.all_reduce(step["loss"])
                net.history.record_batch(prefix + "_loss", step["loss"].item())
                net.history.record_batch(prefix + "_batch_size", len(batch.y))
                self.notify("on_batch_end", batch=xy, training=training, **step)
        return steps

    @torch.no_grad()
    def _validate(self, batch):
        """Return the loss of held-out rows, and the sum of their scores."""
        net, head = self.net, self.net.criterion_
        with fixed_draws(self.module, net.device) if net.draws_ else nullcontext():
            output = self.module(net.as_input(batch.x)).output
        weight = batch_weight(batch.weight)
        loss = batch.weight @ head.loss(output, batch.y) / weight
        # In float64 a sum of hits is exact, however they fall into batches.
        score = batch.weight.double() @ head.score(output, batch.y).double()
        return {"loss": loss, "weight": weight, "y_pred": output, "score": score}

    def _record_steps(self, steps, *, training):
        """Record the means of the metrics of the steps: the one wait for the device in an epoch."""
        net, metrics, losses = self.net, {}, steps[0]["loss"]
        for name in steps[0]:
            values = [step[name] for step in steps if name in step]
            are_tensors = isinstance(values[0], torch.Tensor)
            metrics[name] = torch.stack(values) if are_tensors else losses.new_tensor(values)
        if self.group is not None:
            metrics = self.group.collect(metrics)
        weight = metrics["weight"]
        share = weight / weight.sum()
        loss = float(share @ metrics["loss"])
        epoch, prefix = net.history[-1], "train" if training else "valid"
        if training and not math.isfinite(loss):
            raise self._divergence(f"training loss became {loss}")
        if not epoch["batches"]:
            # Some callbacks of skorch want one to be there.
            net.history.new_batch()
        epoch[prefix + "_batch_count"] = len(steps)
        if not training:
            score = float(metrics["score"].sum() / weight.sum())
            self._record(epoch, f"{prefix}_{net.criterion_.score_name}", score, -1)
        if "oob_loss" in metrics:
            self._record(epoch, "oob_loss", float(share @ metrics["oob_loss"]), 1)
        self._record(epoch, prefix + "_loss", loss, 1)

    def _record(self, epoch, name, value, sign):
        """Record a value, and whether it is the least yet, or with sign -1 the largest."""
        past = islice(reversed(self.net.history), 1, None)
        best = next((sign * row[name] for row in past if row.get(name + "_best")), math.inf)
        epoch[name] = value
        epoch[name + "_best"] = sign * value < best

    def _divergence(self, what):
        causes = ["the steps are too long for the activation ('cubic' and 'linear' are unbounded)"]
        # With an encoder X was scaled here.
        if self.net.module_.encoder is None:
            causes.append("X is not scaled: scale patches before, else leave standardize at 'auto'")
        if self.net.train_transform is not None:
            causes.append("train_transform returns NaN")
        return ValueError(
            f"The {what} in epoch {len(self.net.history)}. Likely causes: {'; '.join(causes)}. "
            "Lower learning_rate_init, router__learning_rate and solver__weight_decay, or leave "
            "them as they are by default."
        )


class Step:
    """A step of training: forward, backward, update.

    Nothing in it waits for the device but the dispatch of samples, and what it returns stays there.

    Parameters
    ----------
    training : Training
    """

    def __init__(self, training):
        self.training, self.net = training, training.net
        self.module = training.module
        self.is_stochastic = is_stochastic(self.module)

    def __call__(self, batch):
        """Make a step by a batch of rows; return its metrics."""
        net, training = self.net, self.training
        for parameter in training.parameters:
            # Faster than zero_grad.
            parameter.grad = None
        mixed, losses, oob_loss = self.forward(batch)
        loss = self.backward(mixed, losses, batch)
        # The length of an expert's step may not follow from its gradient.
        if net.solver.per_expert and (training.is_weighted or net.schedule == "residual"):
            self.scale_steps(mixed, batch)
        net.optimizer_.step()
        if training.n_steps:
            training.n_steps_done += 1
            set_cosine_rates(net.optimizer_, training.n_steps_done, training.n_steps)
        metrics = {"loss": loss, "weight": batch_size(batch.weight)}
        if oob_loss is not None:
            metrics["oob_loss"] = oob_loss
        if mixed.output is not None:
            metrics["y_pred"] = mixed.output.detach()
        return metrics

    def forward(self, batch):
        """Return what the mixture makes of a batch, the losses, and the out-of-bag loss or None."""
        net = self.net
        x, has_new_nan = net.as_input(batch.x), None
        if net.train_transform is not None:
            # X is not ours to change.
            x, has_new_nan = self._transform(x.clone() if x is batch.x else x)
        draws = use_generator(*self.training.draws) if self.is_stochastic else nullcontext()
        is_mixed = net.precision == "bf16"
        precision = torch.autocast(x.device.type, torch.bfloat16) if is_mixed else nullcontext()
        with precision, draws:
            mixed, losses, oob_loss = self.losses(x, batch)
        if has_new_nan is not None:
            losses = losses.masked_fill(has_new_nan, torch.nan)
        return mixed, losses, oob_loss

    def _transform(self, x):
        """Return the samples of a batch as `train_transform` makes them.

        And for a table, whose NaN stand for missing values, whether there are more of them.
        """
        shape, dtype, missing = x.shape, x.dtype, x.isnan()
        expected = (
            "train_transform must return a tensor of the shape and type of the batch that it is "
            f"given, {tuple(shape)}, {dtype}"
        )
        with use_generator(*self.training.draws):
            x = call_factory(expected, torch.Tensor, self.net.train_transform, x)
        if (x.shape, x.dtype) != (shape, dtype):
            raise ValueError(f"{expected}; it returned {tuple(x.shape)}, {x.dtype}.")
        return x, (x.isnan() & ~missing).any() if x.ndim == 2 else None

    def losses(self, x, batch):
        """Return the mixture's outputs, in full precision, and the losses, (n_samples,).

        With an out-of-bag mask, also the mean loss of the samples by the experts that were not
        trained on them; otherwise None.
        """
        net, training, head = self.net, self.training, self.net.criterion_
        module, dtype = self.module, batch.weight.dtype
        is_each = net.expert_loss_weight or batch.in_bag is not None
        forward = module.forward_experts if is_each else module
        mixed = forward(x, training.generator)
        if mixed.output is not None:
            mixed = mixed._replace(output=mixed.output.to(dtype))
            return mixed, head.loss(mixed.output, batch.y), None
        mixed = mixed._replace(expert_outputs=mixed.expert_outputs.to(dtype))
        losses, gate = head.losses(mixed.expert_outputs, batch.y), mixed.route.gate
        if training.needs_outputs:
            mixed = mixed._replace(output=self.mix(gate, mixed.expert_outputs))
        in_bag = torch.ones_like(losses) if batch.in_bag is None else batch.in_bag.to(dtype)
        loss, oob_loss = mixture_loss(gate, losses, in_bag, net.expert_loss_weight)
        oob_loss = None if batch.in_bag is None else weighted_mean(oob_loss, batch.weight)
        return mixed, loss, oob_loss

    def mix(self, gate, outputs):
        """Return the outputs of the mixture of experts, for those who only look at them."""
        log_gate = gate.detach().to(outputs.dtype).log()
        return self.net.criterion_.mix(log_gate, outputs.detach())

    def backward(self, mixed, losses, batch):
        """Compute the gradients of all processes; return the loss."""
        net, training = self.net, self.training
        # Not over the weight of the batch, see `weighted_mean`.
        loss = batch.weight / batch_size(batch.weight) @ losses
        total = loss
        if self.module.router is not None and mixed.route is not None:
            balance = self.module.router.balance_loss(mixed.route, batch.weight)
            total = loss if balance is None else loss + balance
        # Not so where the gradients are set already.
        if total.requires_grad:
            total.backward()
        if training.group is not None:
            training.group.all_reduce_gradients(training.parameters)
        if training.has_batch_hooks:
            training.notify(
                "on_grad_computed",
                named_parameters=net.get_all_learnable_params(),
                batch=(batch.x, batch.y),
                training=True,
            )
        return loss.detach()

    @torch.no_grad()
    def scale_steps(self, mixed, batch):
        """Set the length of each expert's step.

        A batch of twice the mean weight makes a step of twice the length. With "residual" the
        steps become shorter as the expert's own mistakes become rare.
        """
        net, experts, factors = self.net, self.module.experts, []
        if self.training.is_weighted:
            factors.append(batch_weight(batch.weight) / batch_size(batch.weight))
        if net.schedule == "residual":
            error = net.criterion_.error(mixed.output, batch.y)
            residual = mixed.route.expert_means(error, batch.weight)
            factors.append((residual / net.criterion_.chance_level_error).clamp(max=1))
        multipliers = reduce(torch.mul, factors).expand(len(experts))
        stacked = is_stack(experts) and not isinstance(experts, Pool)
        values = [multipliers] if stacked else multipliers
        for group, value in zip(net.optimizer_.param_groups, values, strict=False):
            group["lr_multiplier"] = value


# -- around a training -----------------------------------------------------------------------------


@contextmanager
def explained_errors(batch_size, device):
    """Name the parameters that help if training runs out of memory, or of samples of a batch."""
    try:
        yield
    except ValueError as error:
        # This is a message of torch.
        if not str(error).startswith("Expected more than 1 value per channel"):
            raise
        raise ValueError(
            "A layer such as BatchNorm, which normalizes over the samples of a batch, cannot be "
            f"trained on a batch of one sample, got batch_size={batch_size}. Raise batch_size, "
            "pass several samples to each call of partial_fit, or use GroupNorm or LayerNorm."
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        kind = type(error) if isinstance(error, OutOfMemoryError) else MemoryError
        raise kind(
            f"A training step of {batch_size} samples ran out of memory on {device}. Lower "
            "batch_size, expert_width or n_experts, or choose a router that selects few "
            f"experts, such as 'top1'. The error of torch: {error}"
        ) from error
