"""What a fit is asked for: its parameters and its data, and the defaults that follow from these."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from .._data.tables import row_slices
from .._data.validation import as_row_counts
from .._validation import overrides, refuse_overflow
from ..nn.router_parts import LinearScores
from ..optim import SOLVERS, SolverSpec


@dataclass(frozen=True)
class DataProfile:
    """What the data are, as far as it decides anything."""

    n_samples: int
    # As how many rows the samples count by their weights.
    n_rows: float
    sample_shape: tuple[int, ...]
    dtype: np.dtype
    # Kish's factor of the weights, 1 if they are equal.
    unevenness: float
    # Root mean square norm of patches, 1 for other samples.
    scale: float
    is_table: bool
    is_image: bool

    @classmethod
    def of(cls, X, weight):
        """Describe samples X, (n_samples, *sample_shape), and their weights."""
        scale = _rms_norm(X, weight) if X.ndim == 3 else 1.0
        weight = weight.astype(np.float64)
        unevenness = np.mean(np.square(weight)) / np.mean(weight) ** 2
        is_table, is_image = X.ndim == 2, X.ndim == 4
        n_rows = as_row_counts(weight).sum()
        return cls(X.shape[0], n_rows, X.shape[1:], X.dtype, unevenness, scale, is_table, is_image)


@dataclass(frozen=True)
class ModelDefaults:
    """What the parameters of a model are if they are "auto"."""

    trunk: str | None
    standardize: bool
    expert: str | list[str]
    router: str
    n_experts: int = 8


@dataclass(frozen=True)
class TrainingDefaults:
    """What the parameters of a training are if they are "auto"."""

    own_loss: float
    rate: float
    router_rate: float
    early_stopping: bool | str = False
    # With the schedule "cosine", whatever the number of samples: steps at least, epochs at most.
    fewest_steps: int = 1000
    most_epochs: int = 150
    # By which the batches of the solver grow.
    growth: float = 1


class Request:
    """The parameters of a fit as they were given, and what is known of the fit.

    Attributes
    ----------
    given : dict
        The parameters; those of parts have names such as "router__gate".
    can_mix : bool
        Whether the experts' distributions can be mixed, and nothing has to be added.
    trains_router : bool
        Whether something is set that acts on a router only while it is trained in steps.
    steps_by_expert : bool
        Whether a solver is set that takes steps of each expert by itself, of which all are alike.
    router : RouterSpec or None
        None if it is "auto", until the model is planned.

    The model plan adds what is decided by then: `n_experts`, `trunk`, `solver`, `schedule`, and

    reads_vector : bool
        Whether the experts read a row of a table, or the features of a trunk.
    mixes : bool
        Whether the distributions of several experts are mixed: each has a loss of its own.
    rehearses : bool
        Whether a bag may find out for how many epochs a single network learns.
    is_linear : bool
        Whether all experts are linear.
    is_pool : bool
        Whether the experts are kinds that are fitted one after the other.
    """

    n_experts: int
    trunk: Any
    solver: SolverSpec
    schedule: str
    reads_vector: bool
    mixes: bool
    rehearses: bool
    is_linear: bool
    is_pool: bool

    def __init__(self, params, data, head, is_chunk):
        self.given, self.data, self.head, self.is_chunk = params, data, head, is_chunk
        self.can_mix = not params["router__n_shared_experts"] and overrides(head, nn.Head, "mix")
        self.trains_router = params["balance__kind"] is not None
        self.trains_router |= not self.is_auto("router__learning_rate")
        network = nn.NETWORKS.resolve(self.get("router__network", "linear"))
        self.trains_router |= network is not LinearScores
        self.router = None
        if not self.is_auto("router__kind"):
            self.router = nn.RouterSpec.of(params["router__kind"])
        self.steps_by_expert = False
        if not self.is_auto("solver__kind"):
            self.steps_by_expert = SolverSpec.of(SOLVERS.resolve(params["solver__kind"])).per_expert

    def is_auto(self, name):
        """Tell whether a parameter is to be chosen."""
        # Arrays are compared by entry.
        return isinstance(self.given[name], str) and self.given[name] == "auto"

    def get(self, name, default):
        """Return a parameter as it was given, the default if it is "auto"."""
        return default if self.is_auto(name) else self.given[name]

    def own_loss(self, share):
        """Return the share of the losses of single experts, 0 where the mixture has none of them.

        Linear experts learn a part of the samples only: the mixture decides which.
        """
        if self.is_pool:
            return 1.0
        return share if self.reads_vector and self.mixes and not self.is_linear else 0.0

    def rates_of_solver(self):
        """Return the learning rates of experts and router, for samples of this scale.

        If they are in proportion to it, multiplying X by a constant changes nothing.
        """
        rate, router_rate = self.solver.learning_rate, self.solver.router_learning_rate
        if self.solver.scale_by_input_norm:
            return rate / self.data.scale, router_rate / self.data.scale**2
        return rate, router_rate


@np.errstate(over="ignore", invalid="ignore")
def _rms_norm(X, weight):
    """Return the root mean square of the Euclidean norms of the patches, 1 if all are zero."""
    squares = np.empty(len(X), X.dtype)
    for rows in row_slices(X):
        flat = X[rows].reshape(-1, math.prod(X.shape[1:]))
        np.einsum("nf,nf->n", flat, flat, out=squares[rows])
    squares /= X.shape[1]
    norm = float(np.sqrt(np.average(squares, weights=weight)))
    refuse_overflow("X", norm)
    if norm == 0 and X.any():
        raise ValueError(
            f"X holds numbers so small that their squares are 0 in {X.dtype}. Multiply X by a "
            "constant."
        )
    return norm or 1.0
