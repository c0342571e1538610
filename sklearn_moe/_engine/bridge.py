"""scikit-learn's callbacks, told of epochs."""

from skorch.callbacks import Callback

from .stopping import StopTraining

__all__ = ["ScikitLearnCallbacks"]


class ScikitLearnCallbacks(Callback):
    """Pass the epochs on to the callbacks of `estimator.set_callbacks` (scikit-learn 1.9).

    Parameters
    ----------
    estimator : estimator
        The one that the callbacks were set on.
    context : sklearn.callback.CallbackContext
        Of its fit.
    data : dict
        X, y and metadata as `fit` was given them.
    attributes : callable
        `attributes(net)` returns the fitted attributes as of now.
    """

    def __init__(self, estimator, context, data, attributes):
        self.estimator = estimator
        self.context = context
        self.data = data
        self.attributes = attributes

    def on_epoch_begin(self, net, **kwargs):
        """Begin a task."""
        self.epoch_ = self.context.subcontext(task_name="epoch")
        self.epoch_.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def on_epoch_end(self, net, **kwargs):
        """End it, with an estimator that predicts if a callback wants one."""
        net.module_.eval()
        stop = self.epoch_.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=lambda: self.attributes(net),
            **self.data,
        )
        if stop:
            raise StopTraining

    def end(self):
        """End the fit itself."""
        self.context.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes={}, **self.data
        )
