"""What a fitted mixture of experts says of some samples, as metrics and inspection read it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

# Gates that differ by less are the same.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class ExpertView:
    """The gates and the outputs of a fitted mixture for some samples, and what is known of it.

    Attributes
    ----------
    mixture, X : estimator and its samples
    experts : ndarray of int of shape (n_samples, k)
        The experts that are used, the one of largest gate first.
    gates : ndarray of shape (n_samples, n_experts)
        Ones and zeros of a mixture without `gate_proba`.
    names : tuple of n_experts str
        The kinds or models, if these differ.
    classes : ndarray or None
        None of numbers.
    is_log : bool
        Whether rates are predicted, so that their logarithms are explained.
    responsibilities : method or None
    has_groups : bool
        Whether the samples of a group belong to one expert.
    out_of_fold : tuple or None
        Of a stack gates and outputs by models that were not fitted to the sample.
    doubt : str
        A sentence if the samples of the fit do not show that there are regimes.
    categorical : array-like, str or None
        As `categorical_features`.
    """

    mixture: Any
    X: Any
    experts: np.ndarray
    gates: np.ndarray
    names: tuple
    classes: np.ndarray | None = None
    is_log: bool = False
    responsibilities: Any = None
    has_groups: bool = False
    out_of_fold: tuple | None = None
    doubt: str = ""
    categorical: Any = None

    @cached_property
    def outputs(self):
        """What each expert predicts of each sample, see `expert_outputs`."""
        return expert_outputs(self.mixture, self.X)

    @property
    def n_experts(self):
        return len(self.names)

    @property
    def is_stack(self):
        return self.out_of_fold is not None

    @property
    def are_kinds(self):
        """Whether the experts are models or bags of several kinds, each fitted to all samples."""
        return are_kinds(self.names)

    @property
    def is_constant(self):
        """Whether the gates of several experts do not depend on the sample."""
        return self.n_experts > 1 and np.ptp(self.gates, axis=0).max() <= _ROUNDING


def view_of(mixture, X, kinds=(), **known):
    """Return the view of a mixture by its public methods, and what else is known of it.

    Parameters
    ----------
    mixture : estimator instance
        With the method `apply`, and perhaps `gate_proba`, `expert_proba` or `expert_predict`.
    X : array-like of shape (n_samples, ...)
        Samples, as the mixture takes them.
    kinds : sequence of str
        Of each expert. They are its name, without options if it is the only one of them.
    **known : dict
        Attributes of the view.
    """
    experts = np.asarray(mixture.apply(X))
    experts = experts.reshape(len(experts), -1)
    if hasattr(mixture, "gate_proba"):
        gates = np.ascontiguousarray(mixture.gate_proba(X))
    else:
        gates = np.eye(experts.max() + 1)[experts[:, 0]]
    names = tuple(f"expert {m}" for m in range(gates.shape[1]))
    if 1 < len({*kinds}) == len(kinds):
        short = tuple(kind.split("(")[0] if "=" in kind else kind for kind in kinds)
        names = short if len({*short}) == len(kinds) else tuple(kinds)
    classes = mixture.classes_ if hasattr(mixture, "expert_proba") else None
    known["responsibilities"] = getattr(mixture, "responsibilities", None)
    return ExpertView(mixture, X, experts, gates, names, classes, **known)


def expert_outputs(mixture, X):
    """Return what each expert predicts, (n_samples, n_experts, n_outputs), None if it is not told.

    These are probabilities of a classifier, and else numbers.
    """
    for method in ("expert_proba", "expert_predict"):
        if hasattr(mixture, method):
            outputs = np.asarray(getattr(mixture, method)(X))
            return outputs.reshape(*outputs.shape[:2], -1)
    return None


def are_kinds(names):
    """Tell names of kinds from those of experts by their numbers."""
    return not names[0].startswith("expert ")
