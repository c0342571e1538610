"""When training ends."""

import copy
import math

from skorch.callbacks import Callback

__all__ = ["StopTraining", "Stopping"]

_MIN_WAIT = 50  # steps: with one step per epoch, ten epochs say little about a noisy loss


class StopTraining(Exception):
    """Raised by a callback at the end of an epoch: training is over, as intended."""


class Stopping(Callback):
    """Stop when the training loss, or a score of validation rows, ceases to improve.

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

    def initialize(self):
        """Forget earlier trainings."""
        self.best_ = -math.inf
        self.best_weights_ = None
        self.waited_ = self.steps_waited_ = 0
        self.converged_ = False
        return self

    def on_epoch_end(self, net, **kwargs):
        """Compare this epoch with the best one so far."""
        if self.score is None:
            score = -net.history[-1, "train_loss"]
        else:
            sign = -1 if self.score.endswith("loss") else 1
            score = sign * net.history[-1, self.score]
            if score > self.best_:
                self._keep(net.module_)
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

    def _keep(self, module):
        """Copy the weights, over those of the last best epoch."""
        state = module.state_dict()
        if self.best_weights_ is None:
            self.best_weights_ = copy.deepcopy(state)
            return
        for kept, value in zip(self.best_weights_.values(), state.values(), strict=True):
            kept.copy_(value)

    def on_train_end(self, net, **kwargs):
        """Return to the best weights."""
        if self.best_weights_ is not None:
            net.module_.load_state_dict(self.best_weights_)
            self.best_weights_ = None
