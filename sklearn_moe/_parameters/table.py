"""What "auto" becomes for a table, X of shape (n_samples, n_features).

The model is a pool: kinds of experts, each a bag of networks or of boosted trees, or one linear
function, and a router that is learned after them from rows that they did not see.

=====================  ============================================================================
trunk, standardize     none; columns get mean 0 and standard deviation 1, with a soft bound
n_experts, expert      the kinds "deep", "piecewise", "linear", from 300 rows on "trees"; 8 of "mlp"
                       without a pool
router                 "soft", or "top1" if distributions cannot be mixed
solver, its schedule   "adamw" with "cosine"
batch_size             200 rows, up to 800 from 50,000 rows on, more of rows of uneven weight
expert_loss_weight     1, or 0.7 if the router is trained with the experts, 0 for linear experts
early_stopping         "out_of_bag", or held-out rows if experts learn only a part of the table
learning rates         0.01 for the experts, less for few rows; twice that for the router
max_iter               3,000 steps of 200 rows, at least 500 and 10 epochs, at most 75 epochs
=====================  ============================================================================
"""

import math
from typing import NamedTuple

from .._validation import overrides, warn
from ..nn import ACTIVATIONS, Head, SoftRouter
from .request import ModelDefaults, TrainingDefaults

# Kinds that fail on different tables: networks on few rows and heavy tails, lines on curved
# effects, both on an effect of many steps. Together they have .91 of the log loss of eight copies
# of one network.
_KINDS = ["deep", "piecewise", "linear"]
_N_EXPERTS = 8
# Rows from which on trees pay for their time, and columns up to which they do.
_N_ROWS_OF_TREES, _MOST_COLUMNS_OF_TREES = 300, 300


class Budget(NamedTuple):
    """What a fit of a pool takes time for."""

    # Networks of a kind.
    n_members: int
    # Bags at least, from one of which each row is hidden.
    fewest_bags: int
    # Pieces of a column, if there are many columns.
    least_pieces: int
    # At most, of a member; with fewer the steps are longer.
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


def choose_model(request):
    """Return the defaults of the model."""
    is_default = request.is_auto("n_experts") and request.is_auto("expert")
    is_pool = is_default and not request.is_chunk and why_no_pool(request) is None
    kinds = [*_KINDS]
    has_few_columns = request.data.sample_shape[0] <= _MOST_COLUMNS_OF_TREES
    is_large = request.data.n_rows >= _N_ROWS_OF_TREES
    if is_large and has_few_columns and request.head.has_plain_outputs:
        kinds.append("trees")
    if is_default and request.trains_router and request.can_mix:
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
        router="soft" if request.can_mix else "top1",
    )


def why_no_pool(request):
    """Return the parameter that keeps kinds of experts from being a pool, None if none does."""
    router, given = request.router, request.given
    is_linear = given["activation"] in ("linear", ACTIVATIONS["linear"])
    own_loss = request.get("expert_loss_weight", 1)
    cases = {
        "loss": not overrides(request.head, Head, "mix"),
        "router__n_shared_experts": given["router__n_shared_experts"] > 0,
        "trunk": request.get("trunk", None) is not None,
        "standardize": not request.get("standardize", True),
        "router": router is not None and router.router_class is not SoftRouter,
        "router__noise": request.get("router__noise", None) is not None,
        "router__gate": request.get("router__gate", "softmax") != "softmax",
        "top_k": request.get("top_k", 1) != 1,
        "balance": given["balance__kind"] is not None,
        "router__learning_rate or router__network": request.trains_router,
        "expert_loss_weight": own_loss != 1,
        "activation": is_linear,
        "solver": request.steps_by_expert,
    }
    return next((name for name, is_set in cases.items() if is_set), None)


def choose_training(request):
    """Return the defaults of the training."""
    data, is_cosine, growth = request.data, request.schedule == "cosine", 1
    if is_cosine:
        # Up to four times as large. Batches of 400 take a fifth longer with 200,000 rows, for a
        # log loss that is lower by .0004 and .0012, on two functions. With 50,000 rows batches of
        # 800 would raise it by .0021 and .0004.
        growth = min(max(1, data.n_samples / 50_000), 4)
    # Few rows make no regions: experts that are trained on a part of them overfit. A router that is
    # trained in the same steps needs a part of the loss.
    own_loss = request.own_loss(0.7 if request.trains_router else 1.0)

    # Experts that know their own region only give poor out-of-bag estimates: with rows that are
    # held out the log loss is half as high, also of 150 rows.
    n_held_out = request.given["validation_fraction"] * data.n_samples
    is_enough = n_held_out >= max(10, request.head.n_targets)
    stop = request.n_experts > 1 and is_enough and overrides(request.head, Head, "score")
    is_ensemble = request.mixes and request.get("expert_loss_weight", own_loss) > 0
    if request.rehearses or request.is_pool or is_ensemble:
        stop = "out_of_bag"

    rate, router_rate = request.rates_of_solver()
    if is_cosine:
        # Twice the rate of the solver from ten batches on. Few rows are overfitted after a few
        # dozen long steps, before the linear part of a rule is learned. By batches of 200: in a
        # single one, a row of weight 2 must be the same as two rows.
        rate *= 2 * min(1, math.sqrt(math.ceil(data.n_samples / 200) / 10))
        (n_columns,) = data.sample_shape
        if n_columns > data.n_samples:
            # A step moves the outputs in proportion to the columns.
            rate *= min(1, 100 / n_columns)
    return TrainingDefaults(
        own_loss=own_loss,
        early_stopping=stop,
        rate=rate,
        router_rate=router_rate,
        # Half of what images take, because the steps are longer.
        fewest_steps=500,
        most_epochs=75,
        growth=growth,
    )
