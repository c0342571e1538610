"""Experiments by name."""

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

from .ablations import departures, simplified
from .balance import balance, balance_sweep
from .baselines import baselines
from .bound import bound
from .coverage import coverage
from .figures import fig1, fig3, innerproducts
from .linear import linear
from .patch_routing import patch_routing
from .scaling import scaling
from .sentiment import sentiment
from .single_index import single_index
from .stages import stages
from .table2 import PROTOCOLS, table2
from .tables import activations, appendix, table1, wide
from .theorem import theorem

__all__ = ["EXPERIMENTS", "GROUPS", "get_experiment", "names_of"]

_CLAIMS = (bound, theorem, stages, coverage, scaling, simplified, linear)
_BUILDERS = (
    *(table1, appendix, wide, balance, balance_sweep, activations, fig1, fig3, innerproducts),
    *(*_CLAIMS, departures, baselines, patch_routing, single_index),
)


class Entry(NamedTuple):
    """How to build an experiment, in which protocols, and whether "all" has it."""

    build: Callable
    protocols: tuple[str, ...] = ("code", "paper")
    in_all: bool = True


_ENTRIES = (
    *map(Entry, _BUILDERS),
    Entry(table2, tuple(PROTOCOLS), in_all=False),  # it needs images, and hours
    Entry(sentiment, in_all=False),  # it needs texts
)
EXPERIMENTS = MappingProxyType({entry.build.__name__: entry for entry in _ENTRIES})
GROUPS = MappingProxyType(
    {
        "theory": tuple(builder.__name__ for builder in _CLAIMS),
        "all": tuple(name for name, entry in EXPERIMENTS.items() if entry.in_all),
    }
)


def names_of(names):
    """Return names of experiments, groups replaced by their members, each name once."""
    return list(dict.fromkeys(n for name in names for n in GROUPS.get(name, (name,))))


def get_experiment(name, protocol="code", data="fixed"):
    """Return an experiment by name.

    Parameters
    ----------
    name : str
        A key of `EXPERIMENTS`.
    protocol : {"code", "paper", "ours"}, default="code"
        The form of the paper's mixtures, see :func:`~sklearn_moe.paper.paper_classifier`. Of
        "table2" training as in the authors' code, or "ours".
    data : {"fixed", "fresh"}, default="fixed"
        One data set for all runs, that of the authors' notebooks, or a new problem for each.

    Returns
    -------
    experiment : Experiment

    Raises
    ------
    ValueError
        If one of them is not known.

    Examples
    --------
    >>> from sklearn_moe.paper import get_experiment
    >>> get_experiment("table1").title
    'Table 1: settings 1 and 2'
    """
    entry = EXPERIMENTS.get(name)
    for value, known in (
        (name, EXPERIMENTS),
        (protocol, entry.protocols if entry else ()),
        (data, ("fixed", "fresh")),
    ):
        if value not in known:
            raise ValueError(f"{value!r} is not known, choose from {list(known)}.")
    return entry.build(protocol, data)
