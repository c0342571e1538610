"""The callbacks of a training: which are taken, and which want to know of every batch."""

from skorch.callbacks import Callback, PassthroughScoring

__all__ = ["checked", "hears_batches"]

_BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_grad_computed")


def hears_batches(callback):
    """Whether a callback wants to know of every batch, or what was recorded of them."""
    return isinstance(callback, PassthroughScoring) or any(
        getattr(type(callback), hook, None) is not getattr(Callback, hook) for hook in _BATCH_HOOKS
    )


def checked(callbacks):
    """Return a list of callbacks, of which skorch takes classes and named ones, too."""
    for callback in callbacks:
        is_named = isinstance(callback, tuple | list) and len(callback) == 2
        if not hasattr(callback[1] if is_named else callback, "on_epoch_end"):
            raise TypeError(
                f"callbacks must be those of skorch (skorch.callbacks.Callback), got {callback!r}. "
                "Those of scikit-learn 1.9 are set by set_callbacks."
            )
    return list(callbacks)
