"""The experiments, one file per question; `get_experiment` makes them by name."""

from .registry import EXPERIMENTS, GROUPS, get_experiment, names_of

__all__ = ["EXPERIMENTS", "GROUPS", "get_experiment", "names_of"]
