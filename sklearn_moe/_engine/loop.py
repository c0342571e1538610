"""The loop of a training, from the first epoch or from where it was stopped."""

import copy
import math
from contextlib import contextmanager
from itertools import islice

import torch

from .._interrupt import Interrupts
from ..nn import may_draw, upcycle
from .cosine import Cosine
from .listeners import checked, hears_batches
from .memory import keep_freed_memory, saying_what_to_lower
from .predicting import PredictingNet, WeightedRows
from .ranks import ALONE, CURRENT
from .resuming import Unstored
from .stopping import StopTraining
from .stored import WITH_STATE
from .threads import as_many_threads_as_useful, work_of_a_step

__all__ = ["TrainingLoop"]

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
