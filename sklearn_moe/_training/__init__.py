"""The training of a mixture. The only folder that knows skorch."""

from skorch.callbacks import Callback, LRScheduler

from .callbacks import Progress, ScikitLearnCallbacks, Stopping, StopTraining
from .checkpoint import FitFile, Resuming, identity_of
from .diagnostics import warn_of
from .joint import Training, train_together
from .loop import MoENet
from .out_of_bag import hide_rows
from .placement import place
from .process_group import ALONE, CURRENT, ConnectedRanks, Connection

__all__ = [
    "ALONE",
    "CURRENT",
    "Callback",
    "ConnectedRanks",
    "Connection",
    "FitFile",
    "LRScheduler",
    "MoENet",
    "Progress",
    "Resuming",
    "ScikitLearnCallbacks",
    "StopTraining",
    "Stopping",
    "Training",
    "hide_rows",
    "identity_of",
    "place",
    "train_together",
    "warn_of",
]
