"""What may end a training: stopping, callbacks of others, Ctrl-C; and a bar of its epochs."""

import math
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from skorch.callbacks import Callback, PassthroughScoring, PrintLog

from .._compat import progress_bar


class StopTraining(Exception):
    """Raised by a callback at the end of an epoch to end the training without an error."""


class Stopping(Callback):
    """Stop a training when its loss, or a score of validation rows, ceases to improve.

    Parameters
    ----------
    tol : float or None
        Least improvement that counts. None: never stop.
    patience : int
        Epochs without improvement that are waited for.
    score : str or None, default=None
        Entry of the history that is maximized, such as "valid_acc", or minimized if its name ends
        with "loss"; the best weights are restored in the end. None: the training loss, whose best
        epoch is the last one.
    share : float, default=0.0
        Part of the epochs run so far that is waited for at least.
    least_steps : int, default=50
        Steps that are waited for at least: with one step per epoch, ten epochs say little about a
        noisy loss.

    Attributes
    ----------
    converged_ : bool
    best_epoch_ : int
        Number of epochs that had been done when the best one ended, 0 if there is none.
    """

    def __init__(self, tol, patience, score=None, share=0.0, least_steps=50):
        self.tol = tol
        self.patience = patience
        self.score = score
        self.share = share
        self.least_steps = least_steps
        self.best_ = -math.inf
        self.best_weights_ = None
        self.n_epochs_ = self.best_epoch_ = 0
        self.waited_ = self.steps_waited_ = 0
        self.converged_ = False

    @torch.no_grad()
    def on_epoch_end(self, net, **kwargs):
        """Compare this epoch with the best one so far."""
        self.n_epochs_ += 1
        if self.score is None:
            score = -net.history[-1, "train_loss"]
            self.best_epoch_ = self.n_epochs_
        else:
            sign = -1 if self.score.endswith("loss") else 1
            score = sign * net.history[-1, self.score]
            if score > self.best_:
                self.best_epoch_ = self.n_epochs_
                # A head may have weights of its own.
                weights = _weights(net)
                if self.best_weights_ is None:
                    self.best_weights_ = [torch.empty_like(weight) for weight in weights]
                torch._foreach_copy_(self.best_weights_, weights)
        before, self.best_ = self.best_, max(self.best_, score)
        if self.tol is None:
            return
        self.waited_ += 1
        self.steps_waited_ += net.history[-1, "train_batch_count"]
        if score > before + self.tol:
            self.waited_ = self.steps_waited_ = 0
        # A training loss below the tolerance leaves nothing to improve by it.
        exhausted = self.score is None and -self.tol < score <= 0
        patience = max(self.patience, self.share * self.n_epochs_)
        is_long = self.waited_ >= patience and self.steps_waited_ >= self.least_steps
        if exhausted or is_long:
            self.converged_ = True
            raise StopTraining

    @torch.no_grad()
    def on_train_end(self, net, **kwargs):
        """Return to the best weights."""
        if self.best_weights_ is not None:
            torch._foreach_copy_(_weights(net), self.best_weights_)
            self.best_weights_ = None


def _weights(net):
    parts = net.training_.module, net.criterion_
    return [weight for part in parts for weight in (*part.parameters(), *part.buffers())]


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


class Progress(Callback):
    """A bar over the epochs of each training; files and pipes get none.

    Parameters
    ----------
    name : str
        What is fitted.
    """

    # It changes nothing, see `sklearn_moe._training.checkpoint`.
    is_observer = True

    def __init__(self, name):
        self.name = name

    def on_train_begin(self, net, **kwargs):
        """Show an empty bar."""
        self.bar = progress_bar(desc=self.name, total=net.training_.epochs, unit="epoch")

    def on_epoch_end(self, net, **kwargs):
        """Show the loss of the epoch."""
        self.bar.set_postfix(loss=f"{net.history[-1, 'train_loss']:.4f}", refresh=False)
        self.bar.update()

    def on_train_end(self, net, **kwargs):
        """Leave the bar as it is."""
        self.bar.close()


def show_progress(name, verbose):
    """Return a callback that shows the epochs: a bar, or with verbose=2 a row for each."""
    return PrintLog() if verbose > 1 else Progress(name)


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
