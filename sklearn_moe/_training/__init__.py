"""The training of a mixture. The only folder that knows skorch."""

from skorch.callbacks import Callback, LRScheduler

from .callbacks import Progress, ScikitLearnCallbacks, Stopping, StopTraining
from .checkpoint import Checkpoint, FitFile, identity_of
from .diagnostics import warn_of
from .joint import needs_own_training, train_jointly
from .loop import undone_if_diverged
from .net import MoENet, with_in_bag_mask
from .placement import place
from .process_group import SINGLE_PROCESS, Connection, DataParallelGroup, current_group, entered

__all__ = [
    "SINGLE_PROCESS",
    "Callback",
    "Checkpoint",
    "Connection",
    "DataParallelGroup",
    "FitFile",
    "LRScheduler",
    "MoENet",
    "Progress",
    "ScikitLearnCallbacks",
    "StopTraining",
    "Stopping",
    "current_group",
    "entered",
    "identity_of",
    "needs_own_training",
    "place",
    "train_jointly",
    "undone_if_diverged",
    "warn_of",
    "with_in_bag_mask",
]
