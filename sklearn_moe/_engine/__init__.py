"""The net that trains a mixture. The only folder that knows skorch."""

from skorch.callbacks import Callback, LRScheduler

from .bridge import ScikitLearnCallbacks
from .connection import Connection
from .net import MoENet
from .placement import place
from .progress import Progress
from .ranks import ALONE, CURRENT, ConnectedRanks
from .resuming import Resuming
from .stopping import Stopping, StopTraining
from .together import Training, train_together

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
