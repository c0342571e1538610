"""A training: its epochs, its steps, and all that exists only while a net trains."""

import copy
import math
from contextlib import contextmanager, nullcontext
from functools import partial, reduce
from itertools import islice, repeat

import torch

from .._compat import Interrupts
from .._data.rows import Batches
from .._registry import call_factory
from ..nn import Pool, weighted_mean
from ..nn.dispatch import is_stack
from ..nn.functional import batch_size, batch_weight, mixture_loss
from ..nn.seeding import is_stochastic, use_generator
from .callbacks import StopTraining, WeightedRows, check_callbacks, has_batch_hooks
from .placement import as_many_threads_as_useful, explained_errors, work_of_a_step
from .pool import learns_router
from .process_group import CURRENT_GROUP

_LARGEST_BLOCK = 31 * 2**20  # bytes, just below what glibc maps afresh every time
_RISE = 20  # the rates are full after 1 / 20 of the steps
# Of a step.
_NUMBERS = ("weight", "loss", "router_gradient_norm", "oob_loss", "kind_losses", "score")


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
    anneal : bool, default=True
        Whether the rates of "cosine" fall; without they stay at their highest.
    is_chunk : bool, default=False
        Whether the rows are new to the experts, so that they teach the router of a pool, too.
    callbacks : sequence of skorch callbacks
    checkpoint : Checkpoint or None
        Stores the state of the training, and may know one to go on from.
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
        is_chunk=False,
        callbacks=(),
        checkpoint=None,
    ):
        # glibc maps a block afresh until one of that size has come back, and then keeps what is
        # free up to twice that size: steps with arrays of some megabytes take a third less time.
        torch.empty(_LARGEST_BLOCK, dtype=torch.uint8)
        self.net, self.rows, self.validation, self.epochs = net, rows, validation, epochs
        self.group = CURRENT_GROUP.get()
        self.generator = torch.Generator(net.device).manual_seed(seed)
        self.generators = [self.generator]
        if self.generator.device.type != "cpu":  # transforms of torchvision draw on the CPU
            self.generators.append(torch.Generator().manual_seed(seed))
        self.draws = self.generators
        if self.group is not None:
            self.draws = self.group.own_draws(self.generators, seed)
        self.parameters = [p for group in net.optimizer_.param_groups for p in group["params"]]
        self.is_weighted = rows.is_weighted
        self.is_chunk = is_chunk
        self.checkpoint, self.n_done, self.stopped = checkpoint, 0, False
        self.n_before = len(net.history)
        n_samples = min(net.batch_size, len(rows.y))
        n_steps = epochs * math.ceil(len(rows.y) / n_samples) if anneal else None
        self.schedule = Cosine(net.optimizer_, n_steps) if net.schedule == "cosine" else None
        self.batch_size = n_samples
        self.encodes_once = False
        net.training_ = self
        net.callbacks = check_callbacks(callbacks)
        net._initialize_callbacks()
        # Hooks in every step cost as much as a small expert: they are called where one is set.
        self.has_batch_hooks = any(has_batch_hooks(callback) for _, callback in net.callbacks_)

    def run(self):
        """Train for the epochs that are left.

        Ctrl-C ends the training as it is, and always reaches the caller.
        """
        net = self.net
        self.step = Step(self)
        work = work_of_a_step(net.module_, self.batch_size, self.rows.x.shape[1:])
        try:
            with (
                self.group or nullcontext(),
                Interrupts() as interrupts,
                as_many_threads_as_useful(work),
                explained_errors(self.batch_size, net.device),
            ):
                self._run(interrupts)
                # The last step of all has no loss that would show it.
                if not torch.stack(torch._foreach_norm(self.parameters)).isfinite().all():
                    raise self._divergence("weights became infinite or NaN")
        except BaseException:
            if self.checkpoint:
                self.checkpoint.rewind()
            raise
        finally:
            self.end()

    def _run(self, interrupts):
        known = {"X": self.rows.x, "y": self.rows.y}
        if self.checkpoint:
            self.checkpoint.restore(self)
        self.notify("on_train_begin", **known)
        if self.checkpoint:  # once more: callbacks have begun anew, or loaded weights
            self.checkpoint.restore(self)
        n_epochs = 0 if self.stopped else self.epochs - self.n_done
        if self.group is not None:
            self.group.begin(self, n_epochs, interrupts)
        try:
            self._run_epochs(n_epochs)
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

    def _run_epochs(self, n_epochs):
        net, rows, held_out = self.net, self.rows, None
        known = {"dataset_train": WeightedRows(rows), "dataset_valid": None}
        if self.validation is not None:
            known["dataset_valid"] = WeightedRows(self.validation)
            held_out = net.get_iterator(known["dataset_valid"])
        # Callbacks and transforms of batches are given samples as they are.
        is_raw = self.has_batch_hooks or net.train_transform
        table = None if is_raw else net.encode_once(rows.x)
        self.encodes_once = table is not None
        if self.encodes_once:
            rows = rows._replace(x=table)
        batches = Batches(rows, net.batch_size, net.device, self.generators)
        for _ in range(n_epochs):
            self.notify("on_epoch_begin", **known)
            steps = self._run_batches(batches, training=True)
            self._record_steps(steps, training=True)
            if held_out is not None:
                steps = self._run_batches(held_out, training=False)
                self._record_steps(steps, training=False)
            self.notify("on_epoch_end", **known)

    def end(self):
        """Leave the net as it is when no training is under way."""
        net = self.net
        net.callbacks, net.callbacks_ = None, []
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
            stop = stop if self.group is None else self.group.end_epoch(self, stop)
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

    def _run_batches(self, batches, *, training):
        """Return the numbers of every step, which stay where they were computed."""
        net, group, prefix = self.net, self.group, "train" if training else "valid"
        net._set_training(training)
        run_step = self.step if training else net.validation_step
        steps = []
        for batch, sharding in (
            zip(batches, repeat(nullcontext())) if group is None else group.shards(batches)
        ):
            if self.has_batch_hooks:
                xy = (batch.x, batch.y)  # as skorch's callbacks unpack it
                self.notify("on_batch_begin", batch=xy, training=training)
            with sharding:
                step = run_step(batch)
            steps.append({name: step[name] for name in _NUMBERS if name in step})
            if self.has_batch_hooks:
                if group is not None:
                    (step["loss"],) = group.all_reduce(step["loss"])
                net.history.record_batch(prefix + "_loss", step["loss"].item())
                net.history.record_batch(prefix + "_batch_size", len(batch.y))
                self.notify("on_batch_end", batch=xy, training=training, **step)
        return steps

    def _record_steps(self, steps, *, training):
        """Record the means of the numbers of the steps: the one wait for the device in an epoch."""
        net, numbers = self.net, {}
        for name in steps[0]:
            values = [step[name] for step in steps if name in step]
            is_tensor = isinstance(values[0], torch.Tensor)
            numbers[name] = (
                torch.stack(values) if is_tensor else steps[0]["loss"].new_tensor(values)
            )
        if self.group is not None:
            numbers = self.group.collect(numbers)
        weight = numbers["weight"]
        share = weight / weight.sum()
        loss = float(share @ numbers["loss"])
        epoch, prefix = net.history[-1], "train" if training else "valid"
        if training:
            norms = numbers.get("router_gradient_norm")
            norm = 0.0 if norms is None else float(norms.mean())
            if not math.isfinite(loss):
                raise self._divergence(f"training loss became {loss}")
        if not epoch["batches"]:
            net.history.new_batch()  # some callbacks of skorch want one to be there
        epoch[prefix + "_batch_count"] = len(steps)
        if training:
            epoch["router_gradient_norm"] = norm
        else:
            score = float(numbers["score"].sum() / weight.sum())
            self._record(epoch, f"{prefix}_{net.criterion_.score_name}", score, -1)
        if "kind_losses" in numbers:  # sums of losses and of weights
            losses, weights = numbers["kind_losses"].sum(0).tolist()
            pairs = zip(losses, weights, strict=True)
            found = [loss / weight if weight else math.inf for loss, weight in pairs]
            epoch["kind_oob_losses"] = found
            self._record(epoch, "oob_loss", min(found), 1)
        if "oob_loss" in numbers:
            self._record(epoch, "oob_loss", float(share @ numbers["oob_loss"]), 1)
        self._record(epoch, prefix + "_loss", loss, 1)

    def _record(self, epoch, name, value, sign):
        """Record a value, and whether it is the least yet, or with sign -1 the largest."""
        past = islice(reversed(self.net.history), 1, None)
        best = next((sign * row[name] for row in past if row.get(name + "_best")), math.inf)
        epoch[name] = value
        epoch[name + "_best"] = sign * value < best

    def _divergence(self, what):
        causes = "the steps are too long for the activation ('cubic' and 'linear' are unbounded)"
        if self.net.module_.encoder is None:  # else X was scaled here
            scaled = "for patches, add a scaler first; for others, leave standardize at 'auto'"
            causes = f"X is not scaled ({scaled}), or {causes}"
        if self.net.train_transform is not None:
            causes = f"train_transform returns NaN, {causes}"
        return ValueError(
            f"The {what} in epoch {len(self.net.history)}. Likely causes: {causes}. Lower "
            "learning_rate_init, router__learning_rate and solver__weight_decay, or leave them as "
            "they are by default."
        )


@contextmanager
def undone_if_failed(net, **settings):
    """Change settings of a net, and all of it back if the training in the block fails."""
    parts = copy.deepcopy({name: getattr(net, name).state_dict() for name in net.with_state})
    n_epochs, before = len(net.history), {name: getattr(net, name) for name in settings}
    statistics = net.module.keywords["statistics"]
    try:
        net.change(**settings)
        yield
    except BaseException:  # Ctrl-C included
        net.change(**before)
        net.standardize_by(statistics)
        for name, state in parts.items():
            getattr(net, name).load_state_dict(state)
        del net.history[n_epochs:]
        raise


class Step:
    """A step of training: forward, backward, update.

    Nothing in it waits for the device but the dispatch of samples, and what it returns stays there.

    Parameters
    ----------
    training : Training
    """

    def __init__(self, training):
        self.training, self.net = training, training.net
        self.is_stochastic = is_stochastic(self.net.module_)
        self.pool = self.net.module_.experts if learns_router(self.net) else None
        if self.pool is not None:
            kind_of = torch.tensor(self.pool.kind_of, device=self.net.device)
            self.kind_of, self.active = torch.nn.functional.one_hot(kind_of), (None, None)
        self.router_parameters = self.net.router_parameters()
        # Experts that hold in a region, beside others of their kind.
        gated = getattr(getattr(self.net.module_.router, "network", None), "gated", None)
        self.gated = gated if self.pool is not None and gated is not None and gated.any() else None
        # The router of a pool learns when its experts are trained: until then few ask for gates.
        self.mixes = training.has_batch_hooks or self.net.schedule == "residual"
        asks = self.gated is not None, training.is_chunk, self.mixes
        self.needs_gate = self.pool is None or any(asks)

    def __call__(self, batch):
        """Make a step by a batch of rows; return its numbers."""
        net, training = self.net, self.training
        for parameter in training.parameters:  # faster than zero_grad
            parameter.grad = None
        mixed, losses, unseen = self.forward(batch)
        loss = self.backward(mixed, losses, batch)
        # The length of an expert's step may not follow from its gradient.
        if net.solver.per_expert and (training.is_weighted or net.schedule == "residual"):
            self.scale_steps(mixed, batch)
        net.optimizer_.step()
        if training.schedule is not None:
            training.schedule.step()
        numbers = {"loss": loss, "weight": batch_size(batch.weight)}
        if unseen is not None:
            numbers |= unseen
        if mixed.output is not None:
            numbers["y_pred"] = mixed.output.detach()
        gradients = [p.grad for p in self.router_parameters if p.grad is not None]
        if gradients:  # a router whose gradient is 0 learns nothing
            norms = torch._foreach_norm(gradients)
            norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
            numbers["router_gradient_norm"] = norm
        return numbers

    def forward(self, batch):
        """Return what the mixture makes of a batch, the losses and what is told of unseen rows."""
        net, training, module = self.net, self.training, self.net.module_
        needs_each_expert = net.expert_loss_weight or batch.in_bag is not None
        forward = module
        if needs_each_expert:
            forward = partial(module.forward_experts, routes=self.needs_gate)
        x, spoiled = net.as_input(batch.x), None
        if net.train_transform is not None:
            x = x.clone() if x is batch.x else x  # X is not ours to change
            x, spoiled = self._transform(x)
        draws = use_generator(*training.draws) if self.is_stochastic else nullcontext()
        precision = torch.autocast(x.device.type, torch.bfloat16, enabled=net.precision == "bf16")
        with precision, draws:
            mixed = forward(x, training.generator, training.encodes_once)
            mixed, losses, oob_losses = self._losses(mixed, batch)
        if spoiled is not None:
            losses = losses.masked_fill(spoiled, torch.nan)
        return mixed, losses, oob_losses

    def _transform(self, x):
        """Return the samples of a batch as `train_transform` makes them.

        And for a table, whose NaN stand for missing values, whether there are more of them.
        """
        shape, dtype, missing = x.shape, x.dtype, x.isnan() if x.ndim == 2 else None
        expected = (
            "train_transform must return a tensor of the shape and type of the batch that it is "
            f"given, {tuple(shape)}, {dtype}"
        )
        with use_generator(*self.training.draws):
            x = call_factory(expected, torch.Tensor, self.net.train_transform, x)
        if (x.shape, x.dtype) != (shape, dtype):
            raise ValueError(f"{expected}; it returned {tuple(x.shape)}, {x.dtype}.")
        return x, None if missing is None else (x.isnan() & ~missing).any()

    def _losses(self, mixed, batch):
        """Return the mixture's outputs, in full precision, and the losses, (n_samples,).

        With an out-of-bag mask, also the loss of the samples by the experts that were not trained
        on them, by name; otherwise None.
        """
        net, head, dtype = self.net, self.net.criterion_, batch.weight.dtype
        if mixed.output is not None:
            mixed = mixed._replace(output=mixed.output.to(dtype))
            return mixed, head.loss(mixed.output, batch.y), None
        mixed = mixed._replace(expert_outputs=mixed.expert_outputs.to(dtype))
        losses = head.losses(mixed.expert_outputs, batch.y)
        gate = mixed.route.gate if self.needs_gate else None
        in_bag = torch.ones_like(losses) if batch.in_bag is None else batch.in_bag.to(losses.dtype)
        if self.mixes:
            log_gate = gate.detach().to(losses.dtype).log()
            mixed = mixed._replace(output=head.mix(log_gate, mixed.expert_outputs.detach()))
        if self.pool is not None:
            return mixed, *self._losses_of_kinds(gate, losses, in_bag, batch)
        loss, oob_loss = mixture_loss(gate, losses, in_bag, net.expert_loss_weight)
        if batch.in_bag is None:
            return mixed, loss, None
        return mixed, loss, {"oob_loss": weighted_mean(oob_loss, batch.weight)}

    def _losses_of_kinds(self, gate, losses, in_bag, batch):
        """Return the mean loss of the experts that are trained, and sums of each kind's unseen.

        The rows of a chunk are new to the experts: they teach the router, too.
        """
        pool = self.pool
        if self.active[0] != pool.active:  # a kind has stopped: no copy in every step
            self.active = [*pool.active], losses.new_tensor(pool.active)
        kind_of, active = self.kind_of.to(losses.dtype), self.active[1]
        taught = in_bag
        if self.gated is not None:  # by the responsibility of each among those of its kind
            log_joint = (gate.detach().log() - losses.detach()).masked_fill(~self.gated, -torch.inf)
            taught = torch.where(self.gated, log_joint.softmax(1), in_bag)
        each = (losses * taught) @ kind_of / (taught @ kind_of).clamp(min=1)  # of each kind
        loss = each @ active / active.sum()
        # The gradient of a kind does not depend on how many others are still trained: Adam would
        # take a sudden change of its size for long steps.
        share = active.mean()
        loss = share * loss + (1 - share) * loss.detach()
        if batch.in_bag is None:
            if self.training.is_chunk:
                loss = loss + mixture_loss(gate, losses.detach(), in_bag)[0]
            return loss, None
        unseen = 1 - in_bag
        sums = torch.stack([(losses.detach() * unseen) @ kind_of, unseen @ kind_of * active])
        return loss, {"kind_losses": torch.einsum("snk,n->sk", sums, batch.weight)}

    def backward(self, mixed, losses, batch):
        """Compute the gradients of all processes; return the loss."""
        net, training = self.net, self.training
        # Not over the weight of the batch: see `weighted_mean`.
        loss = batch.weight / batch_size(batch.weight) @ losses
        balance = net.module_.balance_loss(mixed, batch.weight)
        (loss if balance is None else loss + balance).backward()
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
        net, experts, factors = self.net, self.net.module_.experts, []
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
