"""Experiments by name."""

from types import MappingProxyType

from .tables import appendix, table1

__all__ = ["EXPERIMENTS", "GROUPS", "get_experiment", "names_of"]

EXPERIMENTS = MappingProxyType({builder.__name__: builder for builder in (table1, appendix)})
GROUPS = MappingProxyType({"all": tuple(EXPERIMENTS)})


def names_of(names):
    """Return names of experiments, groups replaced by their members, each name once."""
    return list(dict.fromkeys(n for name in names for n in GROUPS.get(name, (name,))))


def get_experiment(name, protocol="code", data="fixed"):
    """Return an experiment by name.

    Parameters
    ----------
    name : str
        A key of `EXPERIMENTS`.
    protocol : {"code", "paper"}, default="code"
        The form of the paper's mixtures, see :func:`~sklearn_moe.paper.paper_classifier`.
    data : {"fixed", "fresh"}, default="fixed"
        One data set for all runs, that of the authors' notebooks, or a new problem for each.

    Raises
    ------
    ValueError
        If the name is not known.

    Examples
    --------
    >>> from sklearn_moe.paper import get_experiment
    >>> get_experiment("table1").title
    'Table 1: settings 1 and 2'
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"Experiment {name!r} is not known, choose from {list(EXPERIMENTS)}.")
    return EXPERIMENTS[name](protocol, data)
