"""Experiments by name."""

from types import MappingProxyType

from .._run import AUTHORS
from .ablations import departures, simplified
from .balance import balance, balance_sweep
from .baselines import baselines
from .basin import basin
from .bound import bound
from .coverage import coverage
from .demo import demo
from .figures import fig1, fig3, fig3_notebook, innerproducts
from .later_balance import loss_free
from .later_training import continual, pruning
from .limit import limit
from .linear import linear
from .phases import phases
from .scaling import covering, scaling
from .sentiment import sentiment
from .shares import shares
from .stages import stages
from .table2 import PROTOCOLS, table2
from .tables import activations, appendix, table1, wide
from .theorem import theorem
from .tight import tight

__all__ = ["EXPERIMENTS", "GROUPS", "get_experiment", "names_of"]

_TABLES = (table1, appendix, wide, balance, balance_sweep, activations)
_FIGURES = (fig1, fig3, fig3_notebook, innerproducts)
_CLAIMS = (
    *(bound, limit, basin, theorem, stages, coverage, scaling, covering),
    *(simplified, linear, phases, departures),
)
_ALL = (*_TABLES, *_FIGURES, *_CLAIMS, baselines)
_LATER = (tight, pruning, continual, loss_free)
# Table 2 needs images, and hours, shares its stored results, the other one texts.
_BUILDERS = (demo, *_ALL, *_LATER, table2, shares, sentiment)
EXPERIMENTS = MappingProxyType({build.__name__: build for build in _BUILDERS})
GROUPS = MappingProxyType(
    {
        name: tuple(build.__name__ for build in builders)
        for name, builders in (("later", _LATER), ("all", _ALL))
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
    data : {"authors", "fixed", "fresh"}, default="fixed"
        The authors' data set for all runs, one of our own, or a new problem for each.

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
    protocols = tuple(PROTOCOLS) if name == "table2" else ("code", "paper")
    kinds = (AUTHORS, "fixed", "fresh")
    for value, known in ((name, EXPERIMENTS), (protocol, protocols), (data, kinds)):
        if value not in known:
            raise ValueError(f"{value!r} is not known, choose from {list(known)}.")
    return EXPERIMENTS[name](protocol, data)
