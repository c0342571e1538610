"""The loop of a training, and its step."""

import copy
import math
from contextlib import contextmanager, nullcontext
from functools import reduce
from itertools import islice

import torch

from .._compat import Interrupts
from .._data.rows import Batches
from .._registry import make
from ..nn import OwnGenerator, expert_means, may_draw, mixture_loss, upcycle, weighted_mean
from ..nn.dispatch import is_stack
from ..nn.ranks import batch_size, batch_weight
from .callbacks import StopTraining, checked, hears_batches
from .checkpoint import Unstored
from .net import WITH_STATE, PredictingNet, WeightedRows
from .placement import (
    as_many_threads_as_useful,
    keep_freed_memory,
    saying_what_to_lower,
    work_of_a_step,
)
from .process_group import ALONE, CURRENT

__all__ = ["MoENet", "TrainingLoop"]

_RISE = 20  # the rates are full after 1 / 20 of the steps
_NUMBERS = ("weight", "loss", "router_gradient_norm", "oob_loss", "score")  # of a step
# What a net has while it trains only.
_OF_TRAINING = (
    "ranks_",
    "generator_",
    "generators_",
    "draws_",
    "schedule_",
    "trained_",
    "is_weighted_",
    "routing_",
    "validation_",
    "n_united_",
    "resuming_",
    "n_done_",
)


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
        self.n_done = 0
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"])
        self._set_rates()

    def step(self):
        """Go on to the rates of the next step."""
        self.n_done += 1
        self._set_rates()

    def _set_rates(self):
        if self.n_steps is None:
            return
        rise = min(1, _RISE * (self.n_done + 1) / self.n_steps)
        factor = rise * (1 + math.cos(math.pi * min(1, self.n_done / self.n_steps))) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def _are_uneven(rows):
    """Tell whether weights of samples differ from 1, their mean; the one look at them."""
    return bool((rows.weight != 1).any())


class Diverged(ValueError):
    """The weights, or the loss, are no numbers any more."""


class TrainingLoop(PredictingNet):
    """The half of a net that runs epochs; what a step is, `MoENet` says."""

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train for `max_epochs`; no part of the estimators, which call `train`."""
        if not self.initialized_:
            self.initialize()
        rows = self.get_dataset(X, y).rows
        seed, callbacks = len(self.history), self.callbacks
        try:
            return self.train(rows, epochs=self.max_epochs, seed=seed, callbacks=callbacks or ())
        finally:
            self.callbacks = callbacks

    def train(
        self,
        rows,
        validation=None,
        *,
        epochs,
        seed,
        anneal=True,
        n_united=0,
        callbacks=(),
        resuming=None,
        chunks=None,
    ):
        """Train for at most `epochs`; shuffling, noise and transforms draw from `seed`.

        Without `anneal` the rates of "cosine" stay what they are at their highest. In the first
        `n_united` epochs all samples go through the first expert, of which the others then are
        copies. `resuming` stores the state of the training, and may know one to go on from.
        `chunks` are what a single epoch consists of, see `run_chunks`, the rows the first of them.

        Ctrl-C ends the training as it is, and always reaches the caller.
        """
        ranks = CURRENT.get()
        work = self.begin(
            rows, validation, epochs, seed, anneal, n_united, callbacks, resuming, ranks
        )
        explained = saying_what_to_lower(min(self.batch_size, len(rows.y)), self.device)
        try:
            with ranks, Interrupts() as interrupts, as_many_threads_as_useful(work), explained:
                self._train(rows, epochs, interrupts, chunks)
                self._refuse_divergence()
        finally:
            self.end()
        return self

    def begin(
        self,
        rows,
        validation,
        epochs,
        seed,
        anneal=True,
        n_united=0,
        callbacks=(),
        resuming=None,
        ranks=ALONE,
    ):
        """Make what a training needs, as `train` is given it; return the work of a step."""
        keep_freed_memory()
        self.ranks_ = ranks
        self.generator_ = torch.Generator(self.device).manual_seed(seed)
        self.generators_ = [self.generator_]
        if self.generator_.device.type != "cpu":  # transforms of torchvision draw on the CPU
            self.generators_.append(torch.Generator().manual_seed(seed))
        self.draws_ = ranks.own_draws(self.generators_, seed)
        self.draws_inside_ = may_draw(self.module_)
        self.trained_ = [p for group in self.optimizer_.param_groups for p in group["params"]]
        self.routing_ = self._router_parameters()
        self.is_weighted_ = _are_uneven(rows)
        self.validation_ = validation
        self.n_united_ = n_united
        self.resuming_, self.n_done_ = resuming or Unstored(), 0
        self.module_.united = n_united > 0
        self.callbacks = checked(callbacks)
        self._initialize_callbacks()
        # Hooks in every step cost as much as a small expert: call them where somebody listens.
        self.has_batch_listeners_ = any(hears_batches(cb) for _, cb in self.callbacks_)
        batch_size = min(self.batch_size, len(rows.y))
        n_steps = epochs * math.ceil(len(rows.y) / batch_size) if anneal else None
        self.schedule_ = Cosine(self.optimizer_, n_steps) if self.pace == "cosine" else None
        return work_of_a_step(self.module_, batch_size, rows.x.shape[1:])

    def end(self):
        """Leave the net as it is when no training is under way."""
        self.callbacks, self.callbacks_ = None, []
        self._split()
        for parameter in self.trained_:
            parameter.grad = None  # as large as the model
        for name in _OF_TRAINING:
            delattr(self, name)
        self.module_.eval()

    def _train(self, rows, epochs, interrupts, chunks):
        self.n_done_, _ = self.resuming_.restore(self)
        self.notify("on_train_begin", X=rows.x, y=rows.y)
        # Once more: callbacks have begun anew, or loaded weights.
        self.n_done_, stopped = self.resuming_.restore(self)
        n_epochs = 0 if stopped else epochs - self.n_done_
        self.ranks_.begin(self, rows, n_epochs, interrupts)
        try:
            if chunks is None:
                self.fit_loop(WeightedRows(rows), epochs=n_epochs)
            else:
                self.run_chunks(rows, chunks)
        except StopTraining:
            stopped = not interrupts.seen
        except KeyboardInterrupt:
            self._end_epoch()
            self.resuming_.write()  # of the last epoch that was whole
            self.notify("on_train_end", X=rows.x, y=rows.y)
            raise
        self._end_epoch()
        self.resuming_.ended(self, stopped=stopped)
        self.notify("on_train_end", X=rows.x, y=rows.y)

    def notify(self, method_name, **cb_kwargs):
        """Call the callbacks; one that stops the training does so when all have been called.

        skorch's EarlyStopping raises KeyboardInterrupt to stop. A real Ctrl-C stops, too, and is
        raised again by `Interrupts` when the training has ended.
        """
        getattr(self, method_name)(self, **cb_kwargs)
        stop = None
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except (StopTraining, KeyboardInterrupt) as error:
                stop = error
                if method_name != "on_epoch_end":
                    raise
        if method_name == "on_epoch_end":
            stop = self.ranks_.end_epoch(self, stop)
        if stop is not None:
            raise StopTraining from stop

    def on_epoch_begin(self, net, **kwargs):
        """Begin an entry of the history."""
        self._end_epoch()
        self.resuming_.epoch_ended(self)
        if len(self.history) >= self.n_united_:
            self._split()
        super().on_epoch_begin(net, **kwargs)

    def _split(self):
        """Let the router choose among experts that were one."""
        if self.module_.united:
            upcycle(self.module_, self.optimizer_)
            self.module_.united = False

    def _end_epoch(self):
        """Drop an epoch that was not finished, and the batches of the one before.

        Callbacks have seen the batches, and they would be most of a pickle.
        """
        done = "valid_loss" if self.validation_ is not None else "train_loss"
        if self.history and done not in self.history[-1]:
            self.history.pop()
        if self.history:
            self.history[-1]["batches"][:] = [{}]

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run an epoch over rows that are all there."""
        if iterator is not None:
            self._record_steps(self._run_batches(iterator, training, prefix), training, prefix)

    def run_chunks(self, rows, chunks):
        """Run an epoch over rows that come little by little, as `fit_loop` does over others.

        Parameters
        ----------
        rows : Rows
            What callbacks see of them.
        chunks : iterable of Rows
        """
        known = {"dataset_train": WeightedRows(rows), "dataset_valid": None}
        self.notify("on_epoch_begin", **known)
        steps = []
        for chunk in chunks:
            self.is_weighted_ = _are_uneven(chunk)
            iterator = self.get_iterator(WeightedRows(chunk), training=True)
            steps += self._run_batches(iterator, True, "train")
            self._set_training(False)
        self._record_steps(steps, True, "train")
        self.notify("on_epoch_end", **known)

    def _run_batches(self, iterator, training, prefix):
        """Return the numbers of every step, which stay where they were computed."""
        self._set_training(training)
        run_step = self.train_step if training else self.validation_step
        steps = []
        for batch in self.ranks_.parts(iterator):
            if self.has_batch_listeners_:
                xy = (batch.x, batch.y)  # as skorch's callbacks unpack it
                self.notify("on_batch_begin", batch=xy, training=training)
            with self.ranks_.holding(batch):
                step = run_step(batch)
            steps.append({name: step[name] for name in _NUMBERS if name in step})
            if self.has_batch_listeners_:
                (step["loss"],) = self.ranks_.add_up(step["loss"])
                self.history.record_batch(prefix + "_loss", step["loss"].item())
                self.history.record_batch(prefix + "_batch_size", len(batch.y))
                self.notify("on_batch_end", batch=xy, training=training, **step)
        return steps

    def _record_steps(self, steps, training, prefix):
        """Look at the numbers of the steps once, at the end of an epoch."""
        numbers = self.ranks_.collect(steps)
        weight = numbers["weight"]
        share = weight / weight.sum()
        means = {"loss": float(share @ numbers["loss"])}
        if training:
            slopes = numbers.get("router_gradient_norm")
            means["slope"] = 0.0 if slopes is None else float(slopes.mean())
            if "oob_loss" in numbers:
                means["oob_loss"] = float(share @ numbers["oob_loss"])
        else:
            means["score"] = float(numbers["score"].sum() / weight.sum())
        self.record_pass(prefix, len(steps), **means)

    def record_pass(self, prefix, n_batches, *, loss, slope=None, oob_loss=None, score=None):
        """Note the means of an epoch's pass through the rows; `slope` is that of training."""
        training = slope is not None
        if training and not math.isfinite(loss):
            raise self._divergence(f"training loss became {loss}")
        if training and self.module_.united:
            upcycle(self.module_)  # so that a state kept now is whole
        if not self.history[-1]["batches"]:
            self.history.new_batch()  # some callbacks of skorch want one to be there
        self.history.record(prefix + "_batch_count", n_batches)
        if training:
            self.history.record("router_gradient_norm", slope)
        if oob_loss is not None:
            self._record("oob_loss", oob_loss, 1)
        if score is not None:
            self._record(f"{prefix}_{self.criterion_.score_name}", score, -1)
        self._record(prefix + "_loss", loss, 1)

    @torch.no_grad()
    def _refuse_divergence(self):
        """Look at the weights: the last step of all has no loss that would show it."""
        if not torch.stack(torch._foreach_norm(self.trained_)).isfinite().all():
            raise self._divergence("weights grew beyond all bounds")

    def _divergence(self, what):
        causes = "the steps are too long for the activation ('cubic' and 'linear' are unbounded)"
        if self.module_.encoder is None:  # else X was scaled here
            scaled = "put a scaler in front of patches, leave standardize at 'auto' for others"
            causes = f"X is not scaled ({scaled}), or {causes}"
        return Diverged(
            f"The {what} in epoch {len(self.history)}. Likely causes: {causes}. Lower "
            "learning_rate_init, router_learning_rate_init and weight_decay, or leave them as they "
            "are by default."
        )

    @contextmanager
    def undone_if_diverged(self):
        """Bring the net back to what it was before the block if the training in it diverges."""
        parts = copy.deepcopy({name: getattr(self, name).state_dict() for name in WITH_STATE})
        n_epochs = len(self.history)
        try:
            yield
        except Diverged:
            for name, state in parts.items():
                getattr(self, name).load_state_dict(state)
            del self.history[n_epochs:]
            raise

    def _record(self, name, value, sign):
        """Record a value, and whether it is the least yet, or with sign -1 the largest."""
        past = islice(reversed(self.history), 1, None)
        best = next((sign * row[name] for row in past if row.get(name + "_best")), math.inf)
        self.history.record(name, value)
        self.history.record(name + "_best", sign * value < best)


class MoENet(TrainingLoop):
    """skorch net over a `MixtureOfExperts`, with tensors sliced in place of a DataLoader.

    It knows no labels and no units: classes are their indices in `classes_`, numbers are in
    standard deviations from their mean, X has the shape that the experts take.

    Parameters
    ----------
    module, criterion, **kwargs
        As in skorch; `module()` builds the mixture, `criterion()` its head.
    solver : SolverSpec
    router_lr : float
        Learning rate of the router.
    pace : {"constant", "cosine", "residual"}
        `"cosine"` lets the rates rise over a twentieth of the steps of a training and fall to 0
        by half a period of the cosine. `"residual"` multiplies an expert's step by the mean error
        of its own samples of the batch, in units of that of a blind guess, 1 at most.
    expert_loss_weight : float, default=0.0
        Share of the experts' own losses in that which is minimized.
    train_transform : callable or None
        Applied to the samples of each training batch.
    precision : {"float32", "bf16"}
        Of training: `"bf16"` computes the experts in mixed precision. Routes, losses and
        everything at prediction stay in the precision of the weights.
    """

    def __init__(
        self,
        module,
        criterion,
        *,
        solver,
        router_lr,
        pace="constant",
        expert_loss_weight=0.0,
        train_transform=None,
        precision="float32",
        **kwargs,
    ):
        defaults = {"optimizer": solver.build, "train_split": None}
        super().__init__(module, criterion, **(defaults | kwargs))
        self.solver = solver
        self.router_lr = router_lr
        self.pace = pace
        self.expert_loss_weight = expert_loss_weight
        self.train_transform = train_transform
        self.precision = precision

    # -- what skorch asks for -------------------------------------------------------------

    def get_default_callbacks(self):
        """Return none: the history holds the losses without them."""
        return []

    def initialize_optimizer(self, triggered_directly=None):
        """Give the router its own learning rate and, where the solver asks for it, each expert."""
        _, options = self.get_params_for_optimizer("optimizer", [])
        module = self.module_
        units = [module.experts, *module.shared, *([] if module.trunk is None else [module.trunk])]
        groups = [{"params": list(unit.parameters())} for unit in units]
        if not self.solver.per_expert:
            groups = [{"params": [p for group in groups for p in group["params"]]}]
        elif is_stack(module.experts):
            groups[0]["units"] = len(module.experts)
        else:
            groups[:1] = [{"params": list(expert.parameters())} for expert in module.experts]
        groups = [group for group in groups if group["params"]]
        for parameters in (self._router_parameters(), list(self.criterion_.parameters())):
            if parameters:
                own = {"lr": self.router_lr, **self.solver.router_options}
                groups.append({"params": parameters, **own})
        self.optimizer_ = self.optimizer(groups, **options)
        return self

    def _router_parameters(self):
        return [] if self.module_.router is None else list(self.module_.router.parameters())

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the rows to train on, and those held out."""
        validation = getattr(self, "validation_", None)
        return self.get_dataset(X, y), validation and WeightedRows(validation)

    def get_iterator(self, dataset, training=False):
        """Return the batches of an epoch, shuffled if for training."""
        rows, device = dataset.rows, torch.device(self.device)
        if not training:
            return Batches(rows, self._predict_size(rows.x), None, device)
        order = self.generator_ if rows.y.device.type == device.type else self.generators_[-1]
        return Batches(rows, self.batch_size, order, device)

    # -- a step ---------------------------------------------------------------------------

    def train_step(self, batch, **fit_params):
        """Forward, backward, step; nothing here waits for the device but the dispatch of samples.

        What it returns stays on the device, too.
        """
        x = self._as_input(batch.x)
        if self.train_transform is not None:
            x = self._transform(x.clone() if x is batch.x else x)  # X is not ours to change
        n_samples = batch_size(batch.weight)
        # Not over the weight of the batch: see `weighted_mean`.
        share = batch.weight / n_samples
        for parameter in self.trained_:  # zero_grad would look through the groups, and at more
            parameter.grad = None
        with self._autocast(), OwnGenerator(*self.draws_) if self.draws_inside_ else nullcontext():
            mixed, losses, oob_losses = self.losses(self._forward(x, batch), batch)
        loss = share @ losses
        balance = self.module_.balance_loss(mixed, batch.weight)
        (loss if balance is None else loss + balance).backward()
        self.ranks_.add_up_gradients(self.trained_)
        if self.has_batch_listeners_:
            self.notify(
                "on_grad_computed",
                named_parameters=self.get_all_learnable_params(),
                batch=(batch.x, batch.y),
                training=True,
            )
        if self.solver.per_expert and (self.is_weighted_ or self.pace == "residual"):
            self._set_pace(mixed, batch)
        self.optimizer_.step()
        if self.schedule_ is not None:
            self.schedule_.step()
        more = {}
        if oob_losses is not None:
            more["oob_loss"] = weighted_mean(oob_losses, batch.weight)
        if mixed.output is not None:
            more["y_pred"] = mixed.output.detach()
        if (slope := self.router_gradient_norm()) is not None:
            more["router_gradient_norm"] = slope
        return {"loss": loss.detach(), "weight": n_samples, **more}

    def _forward(self, x, batch):
        """Return what the mixture says of a training batch, or each of its experts."""
        if self.expert_loss_weight or batch.shown is not None:
            return self.module_.forward_apart(x, self.generator_)
        return self.module_(x, self.generator_)

    def losses(self, mixed, batch):
        """Return the mixture's outputs, in full precision, and the losses, (n_samples,).

        With an out-of-bag mask, also the loss of each sample by the experts that did not see it;
        otherwise None.
        """
        dtype = batch.weight.dtype  # mixed precision ends here
        if mixed.output is not None:
            mixed = mixed._replace(output=mixed.output.to(dtype))
            return mixed, self.criterion_.loss(mixed.output, batch.y), None
        mixed = mixed._replace(answers=mixed.answers.to(dtype))
        losses = self.criterion_.losses(mixed.answers, batch.y)
        gate = mixed.route.gate
        shown = torch.ones_like(losses) if batch.shown is None else batch.shown.to(losses.dtype)
        loss, hidden_loss = mixture_loss(gate, losses, shown, self.expert_loss_weight)
        if self.has_batch_listeners_ or self.pace == "residual":
            log_gate = gate.detach().to(losses.dtype).log()
            output = self.criterion_.mix(log_gate, mixed.answers.detach())
            mixed = mixed._replace(output=output)
        return mixed, loss, None if batch.shown is None else hidden_loss

    @torch.no_grad()
    def validation_step(self, batch, **fit_params):
        """Return the loss of held-out rows, and the sum of their scores."""
        output = self.infer(batch.x)
        weight = batch_weight(batch.weight)
        loss = batch.weight @ self.criterion_.loss(output, batch.y) / weight
        # In float64 a sum of hits is exact, however they fall into batches.
        score = batch.weight.double() @ self.criterion_.score(output, batch.y).double()
        return {"loss": loss, "weight": weight, "y_pred": output, "score": score}

    def _transform(self, x):
        """Return the samples of a batch as `train_transform` makes them."""
        shape, dtype = x.shape, x.dtype
        must = (
            "train_transform must return a tensor of the shape and type of the batch that it is "
            f"given, {tuple(shape)}, {dtype}"
        )
        with OwnGenerator(*self.draws_):
            x = make(must, torch.Tensor, self.train_transform, x)
        if (x.shape, x.dtype) != (shape, dtype):
            raise ValueError(f"{must}; it returned {tuple(x.shape)}, {x.dtype}.")
        return x

    def _autocast(self):
        device = torch.device(self.device).type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16")

    def router_gradient_norm(self):
        """Return the norm of the router's gradient: a router at 0 learns nothing. None without."""
        gradients = [p.grad for p in self.routing_ if p.grad is not None]
        if not gradients:
            return None
        norms = torch._foreach_norm(gradients)
        return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))

    @torch.no_grad()
    def _set_pace(self, mixed, batch):
        """Set the length of each expert's step, which does not follow from its gradient.

        A batch of twice the mean weight makes a step of twice the length. With "residual" the
        steps become shorter as the expert's own mistakes become rare.
        """
        factors = []
        if self.is_weighted_:
            factors.append(batch_weight(batch.weight) / batch_size(batch.weight))
        if self.pace == "residual":
            error = self.criterion_.error(mixed.output, batch.y)
            residual = expert_means(error, batch.weight, mixed.route)
            factors.append((residual / self.criterion_.blind_error).clamp(max=1))
        pace = reduce(torch.mul, factors)
        self.set_pace(pace.expand(len(self.module_.experts)))

    def set_pace(self, pace):
        """Multiply the rates of the experts, in the coming step, by (n_experts,) factors."""
        paces = [pace] if is_stack(self.module_.experts) else pace
        for group, value in zip(self.optimizer_.param_groups, paces, strict=False):
            group["pace"] = value
