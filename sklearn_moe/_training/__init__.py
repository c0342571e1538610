"""The training of a mixture, and what callbacks are made of. The only folder that knows skorch."""

from skorch.callbacks import Callback, LRScheduler

from .callbacks import StopTraining

__all__ = ["Callback", "LRScheduler", "StopTraining"]
