"""What may end a training: stopping, callbacks of others, Ctrl-C; and its progress."""

import copy
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from skorch.callbacks import Callback, PassthroughScoring

from .._compat import progress_bar
from .out_of_bag import solved_kinds

# Steps that are waited for: with one step per epoch, ten epochs say little about a noisy loss.
_MIN_WAIT = 50
# Wait for a kind of experts by this share of the epochs until its best one.
_KIND_PATIENCE = 0.15


class StopTraining(Exception):
    """Raised by a callback at the end of an epoch to end the training without an error."""


class Stopping(Callback):
    """Stop a training when its loss, or a score of validation rows, ceases to improve.

    Parameters
    ----------
    tol : float or None
        Least improvement that counts. None: never stop.
    patience : int
        Epochs without improvement that are waited for, and 50 steps at least.
    score : str or None, default=None
        Entry of the history that is maximized, such as "valid_acc", or minimized if its name ends
        with "loss"; the best weights are restored in the end. None: the training loss, whose best
        epoch is the last one.
    share : float, default=0.0
        Part of the epochs run so far that is waited for at least.

    Attributes
    ----------
    converged_ : bool
    """

    def __init__(self, tol, patience, score=None, share=0.0):
        self.tol = tol
        self.patience = patience
        self.score = score
        self.share = share
        self.best_ = -math.inf
        self.best_weights_ = None
        self.waited_ = self.steps_waited_ = 0
        self.converged_ = False

    def on_epoch_end(self, net, **kwargs):
        """Compare this epoch with the best one so far."""
        if self.score is None:
            score = -net.history[-1, "train_loss"]
        else:
            sign = -1 if self.score.endswith("loss") else 1
            score = sign * net.history[-1, self.score]
            if score > self.best_:
                self.best_weights_ = _keep(net.module_, self.best_weights_)
        before, self.best_ = self.best_, max(self.best_, score)
        if self.tol is None:
            return
        self.waited_ += 1
        self.steps_waited_ += net.history[-1, "train_batch_count"]
        if score > before + self.tol:
            self.waited_ = self.steps_waited_ = 0
        # A training loss below the tolerance leaves nothing to improve by it.
        exhausted = self.score is None and -self.tol < score <= 0
        patience = max(self.patience, self.share * len(net.history))
        patient = self.waited_ >= patience and self.steps_waited_ >= _MIN_WAIT
        if exhausted or patient:
            self.converged_ = True
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        """Return to the best weights."""
        if self.best_weights_ is not None:
            net.module_.load_state_dict(self.best_weights_)
            self.best_weights_ = None


def _keep(module, kept):
    """Return a copy of the weights of a module, made over a copy that was kept before, if any."""
    state = module.state_dict()
    if kept is None:
        return copy.deepcopy(state)
    torch._foreach_copy_([*kept.values()], [*state.values()])
    return kept


class KindStopping(Stopping):
    """Stop training each kind of experts when its out-of-bag loss ceases to improve.

    In the end each kind has the weights of its best epoch.

    `Stopping` describes the parameters. With tol=None the last weights are kept.

    Attributes
    ----------
    active_ : list of bool
        Whether each kind is still trained.
    best_epochs_ : list of int
        Number of epochs until the best one of each kind.
    converged_ : bool
    """

    def on_train_begin(self, net, **kwargs):
        """Begin with the kinds that are trained in steps: linear ones if there are no others."""
        n_kinds, solved = len(net.module_.experts.kinds), solved_kinds(net)
        # Whether each kind is trained.
        self.active_ = [kind not in solved or len(solved) == n_kinds for kind in range(n_kinds)]
        self.n_epochs_ = 0
        self.best_losses_ = [math.inf] * n_kinds
        self.best_epochs_ = [0] * n_kinds
        self.best_weights_ = [None] * n_kinds

    def on_epoch_begin(self, net, **kwargs):
        """Let the training compute the kinds that are trained."""
        net.training_.step.train_kinds(self.active_)

    def on_epoch_end(self, net, **kwargs):
        """Compare the epoch with the best one of each kind."""
        pool, losses = net.module_.experts, net.history[-1, "kind_oob_losses"]
        self.n_epochs_ += 1
        for kind in (k for k, is_active in enumerate(self.active_) if is_active):
            if self.tol is None or losses[kind] < self.best_losses_[kind] - self.tol:
                self.best_losses_[kind] = losses[kind]
                self.best_epochs_[kind] = self.n_epochs_
                if self.tol is not None:
                    self.best_weights_[kind] = _keep(pool.kinds[kind], self.best_weights_[kind])
            waited = self.n_epochs_ - self.best_epochs_[kind]
            patience = max(self.patience, _KIND_PATIENCE * self.best_epochs_[kind])
            self.active_[kind] = self.tol is None or waited < patience
        self.best_ = -min(self.best_losses_)
        if not any(self.active_):
            self.converged_ = True
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        """Return to the best weights of each kind."""
        for kind, weights in enumerate(self.best_weights_):
            if weights:
                net.module_.experts.kinds[kind].load_state_dict(weights)
        self.best_weights_ = []


class LastEpochs(Callback):
    """Train each kind for a number of epochs, so that all end together.

    Parameters
    ----------
    n_epochs : list of int
        Of each kind.
    """

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs
        self.n_left = max(n_epochs)

    def on_epoch_begin(self, net, **kwargs):
        """Let the kinds be trained whose time has come."""
        net.training_.step.train_kinds([n >= self.n_left for n in self.n_epochs])
        self.n_left -= 1


_BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_grad_computed")


def has_batch_hooks(callback):
    """Whether a callback wants to know of every batch, or what was recorded of them."""
    return isinstance(callback, PassthroughScoring) or any(
        getattr(type(callback), hook, None) is not getattr(Callback, hook) for hook in _BATCH_HOOKS
    )


def check_callbacks(callbacks):
    """Return a list of callbacks, of which skorch takes classes and named ones, too."""
    for callback in callbacks:
        is_named = isinstance(callback, tuple | list) and len(callback) == 2
        if not hasattr(callback[1] if is_named else callback, "on_epoch_end"):
            raise TypeError(
                f"callbacks must be those of skorch (skorch.callbacks.Callback), got {callback!r}."
            )
    return list(callbacks)


# Seconds between two looks at a fit: the bar moves while a phase takes long.
_LOOK = 0.5


class Progress(Callback):
    """A bar over a whole fit, of which a line stays; files and pipes get the line only.

    A thread looks at the fit, which tells its `phase`, and draws the bar.

    Parameters
    ----------
    fit : Fit
    name : str
        What is fitted.
    has_rows : bool, default=False
        Whether to print a row of losses and scores for each epoch.
    """

    def __init__(self, fit, name, has_rows=False):
        self.fit = fit
        self.name = name
        self.has_rows = has_rows

    def __enter__(self):
        self.start, self.training, self.ended = time.perf_counter(), None, threading.Event()
        self.bar = progress_bar(
            desc=f"{self.name}: {self.fit.phase}",
            bar_format="{desc} |{bar}| {elapsed}{postfix}",
            leave=False,
        )
        self.thread = None
        if not self.bar.disable:
            self.thread = threading.Thread(target=self._draw, daemon=True)
            self.thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self.ended.set()
        if self.thread is not None:
            self.thread.join()
        self.bar.close()
        history = getattr(getattr(self.fit, "net", None), "history", None)
        if history and (kind is None or kind is KeyboardInterrupt):
            loss, seconds = history[-1, "train_loss"], time.perf_counter() - self.start
            self._write(
                f"{self.name}, {len(self.fit.learned.expert_kinds_)} experts: "
                f"{len(history)} epochs, training loss {loss:.4f}, {seconds:.1f} s"
            )
        # A Ctrl-C is lost that comes while the garbage collector takes a bar, or a thread.
        self.bar = self.thread = None

    def _draw(self):
        while not self.ended.wait(_LOOK):
            text, training = self.fit.phase, getattr(self.fit, "net", None)
            training = getattr(training, "training_", None)
            if training is None:
                self.bar.n = self.bar.total or 0
            else:
                text += self._describe(training)
            self.bar.set_description_str(f"{self.name}: {text}", refresh=False)
            # `refresh` of tqdm keeps the lock if it fails.
            with self.bar.get_lock():
                self.bar.display()

    def _describe(self, training):
        """Return the epoch of a training, and the time that it takes at most."""
        now, epoch = time.perf_counter(), len(training.net.history) - training.n_before
        self.bar.total = training.epochs
        self.bar.n = max(0, epoch - 1 + len(training.steps) / training.n_batches)
        if training is not self.training:
            self.training, self.began, self.first = training, now, self.bar.n
        text = f" {epoch}/{training.epochs}"
        if self.bar.n > self.first:
            left = (training.epochs - self.bar.n) / (self.bar.n - self.first) * (now - self.began)
            text += f", {self.bar.format_interval(left)} left"
        return text

    def on_train_begin(self, net, **kwargs):
        """Remember what was there before."""
        self.n_before_ = len(net.history)

    def on_epoch_end(self, net, **kwargs):
        """Show the loss of the epoch."""
        self.bar.set_postfix(loss=f"{net.history[-1, 'train_loss']:.4f}", refresh=False)
        if self.has_rows:
            self._print_row(net, time.perf_counter() - self.start)

    def _print_row(self, net, elapsed):
        """Print losses and score of an epoch; a star marks the least loss of unseen rows so far."""
        history, losses = net.history, ("train_loss", "oob_loss", "valid_loss")
        names = [n for n in (*losses, f"valid_{net.criterion_.score_name}") if n in history[-1]]
        *_, judged = [name for name in names if name in losses]
        so_far = history[self.n_before_ :, judged]
        if len(so_far) == 1:
            self._write("  ".join(["epoch", *(f"{name:>10}" for name in names), " seconds"]))
        numbers = (f"{history[-1, name]:10.4f}" for name in names)
        star = " *" * (so_far[-1] == min(so_far))
        self._write("  ".join([f"{len(history):5}", *numbers, f"{elapsed:8.1f}{star}"]))

    def _write(self, text):
        self.bar.write(text, file=sys.stderr)


class Interrupts:
    """Watch for Ctrl-C within a block, and raise KeyboardInterrupt at its end at the latest.

    A callback, a destructor or somebody's `except` may swallow a KeyboardInterrupt, or raise one
    to mean something else: `seen` tells a real one. Where signals do not arrive, outside the main
    thread, nothing is watched.

    Parameters
    ----------
    hold : bool, default=False
        Whether to wait for the end of the block, for one that must not be torn apart. A second
        Ctrl-C does not wait.

    Attributes
    ----------
    seen : bool
        Whether Ctrl-C was pressed within the block.
    """

    def __init__(self, *, hold: bool = False):
        self.hold = hold
        self.seen = False
        self._usual: Callable[[int, FrameType | None], Any] | None = None

    def __enter__(self) -> "Interrupts":
        usual = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(usual):
            self._usual = usual
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if self._usual is not None:
            signal.signal(signal.SIGINT, self._usual)
        if self.seen and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        first, self.seen = not self.seen, True
        if self._usual is not None and not (self.hold and first):
            self._usual(number, frame)
