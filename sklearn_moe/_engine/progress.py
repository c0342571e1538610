"""A bar that shows how far training has come."""

import sys

from skorch.callbacks import Callback

from .._progress import progress_bar

__all__ = ["Progress"]


class Progress(Callback):
    """A progress bar over the epochs, with the loss of the last one; a line in files and pipes.

    Parameters
    ----------
    epochs : int or None
        None: training ends by itself, and nobody knows when.
    name : str
        What is trained.
    """

    def __init__(self, epochs, name):
        self.epochs = epochs
        self.name = name

    def on_train_begin(self, net, **kwargs):
        """Open the bar."""
        self.bar_ = progress_bar(
            total=self.epochs, initial=net.n_done_, unit="epoch", desc=self.name
        )

    def on_epoch_end(self, net, **kwargs):
        """Advance the bar."""
        self.bar_.set_postfix(loss=f"{net.history[-1, 'train_loss']:.4f}", refresh=False)
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        """Close the bar: all epochs that were needed are done."""
        if self.bar_.disable:
            loss = net.history[-1, "train_loss"]
            line = f"{self.name}: {len(net.history)} epochs, training loss {loss:.4f}"
            print(line, file=sys.stderr)
        self.bar_.total = self.bar_.n
        self.bar_.refresh()
        self.bar_.close()
