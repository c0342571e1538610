"""Callbacks for the `callbacks` parameter, beside those of skorch.

A callback of your own subclasses :class:`skorch.callbacks.Callback`; at the end of an epoch it
may raise :class:`StopTraining`.
"""

from ._engine import Callback, StopTraining

__all__ = ["FreezeRouter", "StopTraining"]


class FreezeRouter(Callback):
    """Train the router, and what balances it, in the first epochs only; the experts go on.

    Parameters
    ----------
    after : int, default=0
        Epochs after which the router stays as it is; 0: from the start.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.callbacks import FreezeRouter
    >>> clf = MoEClassifier(callbacks=[FreezeRouter(after=10)])
    """

    def __init__(self, after=0):
        self.after = after

    def on_epoch_begin(self, net, **kwargs):
        """Freeze the router, or not yet."""
        if net.module_.router is not None:
            net.module_.router.freeze(len(net.history) > self.after)

    def on_train_end(self, net, **kwargs):
        """Leave the router as it was found: another training may not have this callback."""
        if net.module_.router is not None:
            net.module_.router.freeze(False)
