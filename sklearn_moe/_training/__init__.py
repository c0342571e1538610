"""The training of a mixture. The only folder that knows skorch."""

from skorch.callbacks import Callback, LRScheduler

from .callbacks import Progress, ScikitLearnCallbacks, Stopping, StopTraining
from .checkpoint import Resuming
from .joint import Training, train_together
from .loop import MoENet
from .placement import place
from .process_group import ALONE, CURRENT, ConnectedRanks, Connection

__all__ = [
    "ALONE",
    "CURRENT",
    "Callback",
    "ConnectedRanks",
    "Connection",
    "LRScheduler",
    "MoENet",
    "Progress",
    "Resuming",
    "ScikitLearnCallbacks",
    "StopTraining",
    "Stopping",
    "Training",
    "place",
    "train_together",
]
