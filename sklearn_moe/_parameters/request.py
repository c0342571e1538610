"""What a fit is asked for: its parameters and its data, and what each "auto" becomes for these.

Each kind of data has a class, whose docstring lists its defaults.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .. import nn
from .._data.tables import row_slices
from .._data.validation import as_row_counts
from .._validation import overrides, refuse_overflow, warn
from ..nn.router_parts import LinearScores, patches_shape
from ..optim import SOLVERS, SolverSpec

# Kinds that fail on different tables: networks on few rows and heavy tails, lines on curved
# effects, both on an effect of many steps. Together they have .91 of the log loss of eight copies
# of one network.
_KINDS = ["deep", "piecewise", "linear"]
_N_EXPERTS = 8
# Rows from which on trees pay for their time, and columns up to which they do.
_N_ROWS_OF_TREES, _MOST_COLUMNS_OF_TREES = 300, 300


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


@dataclass(frozen=True)
class ModelDefaults:
    """What the parameters of a model are if they are "auto"."""

    trunk: str | None
    standardize: bool
    expert: str | list[str]
    router: str
    n_experts: int = 8


class Request:
    """The parameters of a fit as they were given, and what is known of the fit.

    Parameters
    ----------
    params : dict
        With those of parts, by names such as "router__gate".
    data : DataProfile
    head : Head
    known : dict
        What "auto" became before, in a training that goes on.
    is_chunk : bool

    Attributes
    ----------
    given : dict
        The parameters as they were given.
    chosen : dict
        The same with no "auto" left, as far as they are chosen.
    resolved : dict
        Those that might have been "auto".
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
    is_linear : bool
        Whether all experts are linear.
    is_pool : bool
        Whether the experts are kinds that are fitted one after the other.
    """

    # With the schedule "cosine", whatever the number of samples: steps at least, epochs at most; by
    # what the batches of the solver grow; what "early_stopping" is.
    fewest_steps, most_epochs, growth, early_stopping = 1000, 150, 1, False

    def __init__(self, params, data, head, known, is_chunk):
        self.given, self.data, self.head, self.is_chunk = params, data, head, is_chunk
        self.chosen, self.known, self.resolved = dict(params), dict(known), {}
        self.can_mix = not params["router__n_shared_experts"] and overrides(head, nn.Head, "mix")
        network = nn.NETWORKS.resolve(self.get("router__network", "linear"))
        self.trains_router = (
            params["balance__kind"] is not None
            or not self.is_auto("router__learning_rate")
            or network is not LinearScores
        )
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

    def choose(self, name, default):
        """Return and record a parameter; if it is "auto", what was chosen before or the default."""
        short = name.removesuffix("__kind")
        self.chosen[name] = self.get(name, self.known.get(short, default))
        self.resolved[short] = self.chosen[name]
        return self.chosen[name]

    def why_no_pool(self):
        """Return what keeps kinds of experts from being a pool, None if nothing does."""
        return "X"

    def choose_model(self):
        """Return the defaults of the model: experts behind a trunk, or whole networks."""
        # A whole network has layers of its own.
        trunk = self.usual_trunk if self.is_auto("expert") else None
        has_trunk = self.get("trunk", trunk) is not None
        return ModelDefaults(
            trunk=trunk,
            standardize=self.standardizes,
            expert="mlp" if has_trunk else self.whole_network,
            router="soft" if has_trunk and self.can_mix else "top1",
        )

    @property
    def own_loss(self):
        """The share of the losses of single experts, 0 where the mixture has none of them.

        By it each expert learns from all samples. Linear experts learn a part of them only: the
        mixture decides which.
        """
        if self.is_pool:
            return 1.0
        return 0.7 if self.reads_vector and self.mixes and not self.is_linear else 0.0

    def rates(self):
        """Return the learning rates of experts and router, for samples of this scale.

        If they are in proportion to it, multiplying X by a constant changes nothing.
        """
        rate, router_rate = self.solver.learning_rate, self.solver.router_learning_rate
        if self.solver.scale_by_input_norm:
            return rate / self.data.scale, router_rate / self.data.scale**2
        return rate, router_rate


# -- tables ---------------------------------------------------------------------------------------


class Budget(NamedTuple):
    """What a fit of a pool takes time for."""

    # Networks of a kind.
    n_members: int
    # Bags at least, from one of which each row is hidden.
    fewest_bags: int
    # Pieces of a column, if there are many columns.
    least_pieces: int
    # At most, of a member that predicts numbers; with fewer the steps are longer.
    n_trees: int = 300
    # Whether the bag of a row depends on the pieces of its columns, which take long to compute.
    hashes_pieces: bool = True


def budget_of(n_rows):
    """Return the budget of a fit of so many rows.

    Five members of each kind: each row is hidden from one of them. With fewer a member would see
    less of the table, and more take longer. Where rows are many the loss depends less on chance,
    and another kind gains more than more members: on five tables of 16,704 to 40,455 rows two
    members of nine tenths of the rows have .994 of the loss of four that see three quarters, in
    .7 of the time. Only a fifth of the rows is hidden from one of them then.
    """
    if n_rows < 2000:
        return Budget(n_members=5, fewest_bags=5, least_pieces=16)
    if n_rows < 10_000:
        return Budget(n_members=4, fewest_bags=4, least_pieces=16)
    if n_rows < 200_000:
        return Budget(n_members=2, fewest_bags=10, least_pieces=16)
    return Budget(n_members=2, fewest_bags=10, least_pieces=8, n_trees=120, hashes_pieces=False)


class TableRequest(Request):
    """What "auto" becomes for a table, X of shape (n_samples, n_features).

    The model is a pool: kinds of experts, each a bag of networks or of boosted trees, or one
    linear function, and a router that is learned after them from rows that they did not see.

    =====================  ========================================================================
    trunk, standardize     none; columns get mean 0 and standard deviation 1, with a soft bound
    n_experts, expert      the kinds "deep", "piecewise", "linear", from 300 rows on "trees"; 8 of
                           "mlp" without a pool
    router                 "soft", or "top1" if distributions cannot be mixed
    solver, its schedule   "adamw" with "cosine"
    batch_size             200 rows, up to 800 from 50,000 rows on, more of rows of uneven weight
    expert_loss_weight     1; without a pool 0.7, 0 for linear experts
    early_stopping         "out_of_bag", or held-out rows if experts learn a part of the table only
    learning rates         0.01 for the experts, less for few rows; twice that for the router
    max_iter               3,000 steps of 200 rows, at least 500 and 10 epochs, at most 75 epochs
    =====================  ========================================================================
    """

    def choose_model(self):
        """Return the defaults of the model."""
        is_default = self.is_auto("n_experts") and self.is_auto("expert")
        is_pool = is_default and not self.is_chunk and self.why_no_pool() is None
        kinds = [*_KINDS]
        has_few_columns = self.data.sample_shape[0] <= _MOST_COLUMNS_OF_TREES
        is_large = self.data.n_rows >= _N_ROWS_OF_TREES
        if is_large and has_few_columns and self.head.has_plain_outputs:
            kinds.append("trees")
        if is_default and self.trains_router and self.can_mix:
            warn(
                "balance, router__learning_rate and router__network have the router trained with "
                f"the experts: these are {_N_EXPERTS} of 'mlp', not a pool of kinds. "
                "Set n_experts or expert, or leave these parameters out.",
                UserWarning,
            )
        return ModelDefaults(
            trunk=None,
            standardize=True,
            n_experts=len(kinds) if is_pool else _N_EXPERTS,
            expert=kinds if is_pool else "mlp",
            router="soft" if self.can_mix else "top1",
        )

    def why_no_pool(self):
        """Return the parameter that keeps kinds of experts from being a pool, None if none does."""
        router, given = self.router, self.given
        is_linear = given["activation"] in ("linear", nn.ACTIVATIONS["linear"])
        own_loss = self.get("expert_loss_weight", 1)
        cases = {
            "loss": not overrides(self.head, nn.Head, "mix"),
            "router__n_shared_experts": given["router__n_shared_experts"] > 0,
            "trunk": self.get("trunk", None) is not None,
            "standardize": not self.get("standardize", True),
            "router": router is not None and router.router_class is not nn.SoftRouter,
            "router__noise": self.get("router__noise", None) is not None,
            "router__gate": self.get("router__gate", "softmax") != "softmax",
            "top_k": self.get("top_k", 1) != 1,
            "balance": given["balance__kind"] is not None,
            "router__learning_rate or router__network": self.trains_router,
            "expert_loss_weight": own_loss != 1,
            "activation": is_linear,
            "solver": self.steps_by_expert,
        }
        return next((name for name, is_set in cases.items() if is_set), None)

    # Half of what images take, because the steps are longer.
    fewest_steps, most_epochs = 500, 75

    @property
    def growth(self):
        """Up to four times as large, with "cosine".

        Batches of 400 take a fifth longer with 200,000 rows, for a log loss that is lower by .0004
        and .0012, on two functions. With 50,000 rows batches of 800 would raise it by .0021 and
        .0004.
        """
        is_cosine = self.schedule == "cosine"
        return min(max(1, self.data.n_samples / 50_000), 4) if is_cosine else 1

    @property
    def early_stopping(self):
        """Out-of-bag rows, or such as are held out.

        Experts that know their own region only give poor out-of-bag estimates: with rows that are
        held out the log loss is half as high, also of 150 rows.
        """
        if self.is_pool or (self.mixes and self.get("expert_loss_weight", self.own_loss) > 0):
            return "out_of_bag"
        n_held_out = self.given["validation_fraction"] * self.data.n_samples
        is_enough = n_held_out >= max(10, self.head.n_targets)
        return self.n_experts > 1 and is_enough and overrides(self.head, nn.Head, "score")

    def rates(self):
        """Return the learning rates of experts and router."""
        rate, router_rate = super().rates()
        if self.schedule == "cosine":
            # Twice the rate of the solver from ten batches on. Few rows are overfitted after a few
            # dozen long steps, before the linear part of a rule is learned. By batches of 200: in a
            # single one, a row of weight 2 must be the same as two rows.
            n_rows, n_columns = self.data.n_samples, self.data.sample_shape[0]
            rate *= 2 * min(1, math.sqrt(math.ceil(n_rows / 200) / 10))
            # A step moves the outputs in proportion to the columns.
            rate *= min(1, 100 / n_columns) if n_columns > n_rows else 1
        return rate, router_rate


# -- patches and images ---------------------------------------------------------------------------


class PatchesRequest(Request):
    """What "auto" becomes for bags of patches, X of shape (n_samples, n_patches, patch_size).

    The model is that of the paper: a router chooses one of several patch experts. With 500 samples
    of the paper's setting 1 it is right for 99 % of new ones, and no other model is
    (docs/measurements.rst).

    =====================  ========================================================================
    trunk, standardize     none; the steps are in proportion to the scale of patches
    n_experts, expert      8 of "patch"; of "mlp" behind a trunk
    router                 "top1"; "soft" behind a trunk
    solver, its schedule   "normalized_sgd" with "residual": without it 95.9 in place of 99.5 % on
                           the paper's setting 2
    batch_size             1,024 samples, more of uneven weight
    expert_loss_weight     0, or 0.7 for "soft" behind a trunk
    early_stopping         False
    learning rates         0.06 / r for the experts and 1 / r^2 for the router, with r the root mean
                           square norm of the patches
    max_iter               1,000 epochs, until the loss ceases to fall; 150 for regression
    =====================  ========================================================================
    """

    usual_trunk, standardizes, whole_network = None, False, "patch"


class ImagesRequest(Request):
    """What "auto" becomes for images, X of shape (n_samples, n_channels, height, width).

    The model is one network whose last layer is a mixture of all experts. On CIFAR-10 it is half a
    point better than the network alone, and experts that are whole networks are worse than this one
    (docs/measurements.rst).

    =====================  ========================================================================
    trunk, standardize     "cnn", or none if `expert` is set; channels get mean 0 and deviation 1
    n_experts, expert      8 of "mlp"; of "cnn" without a trunk
    router                 "soft"; without a trunk "top1", because all whole networks take eight
                           times as long
    solver, its schedule   "adamw" with "cosine"
    batch_size             200 images, more of uneven weight
    expert_loss_weight     0.7 for "soft", otherwise 0
    early_stopping         False
    learning rates         0.002 for the experts and twice that for the router
    max_iter               3,000 steps, at least 300 and 10 epochs, at most 60 epochs
    =====================  ========================================================================
    """

    usual_trunk, standardizes, whole_network = "cnn", True, "cnn"

    # More only overfit: 2,000 images of CIFAR-10 have a log loss of 2.7 after 40 epochs and of 3.2
    # after 100, 600 of four classes 1.6 after 75 and 2.1 after 250, at equal accuracy.
    fewest_steps, most_epochs = 300, 60

    def rates(self):
        """Return the learning rates of experts and router."""
        rate, router_rate = super().rates()
        if self.schedule == "cosine":
            # Convolutions want smaller steps.
            rate, router_rate = 0.4 * rate, 0.4 * router_rate
        # The scores of so many squares are added up.
        network = self.get("router__network", "linear")
        if nn.NETWORKS.resolve(network) is LinearScores and self.trunk is None:
            router_rate /= patches_shape(self.data.sample_shape)[0]
        return rate, router_rate


# By the axes of X.
REQUESTS = {2: TableRequest, 3: PatchesRequest, 4: ImagesRequest}
