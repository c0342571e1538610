"""What "auto" becomes for a table, X of shape (n_samples, n_features).

The model is a pool: several kinds of experts, each trained by its own losses, and a router that is
learned after them from rows that they did not see. On 23 tables its log loss is .75 of that of
scikit-learn's MLPClassifier and .97 of that of CatBoost (docs/measured.md).

=====================  ============================================================================
trunk, standardize     none; columns get mean 0 and standard deviation 1, with a soft bound
n_experts, expert      15, five of each of three kinds; 6 from 200,000 rows on, two of each; 8 of
                       "mlp" without a pool
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

from .._registry import overrides
from .._validation import warn
from ..nn import ACTIVATIONS, Head

# Kinds that fail on different tables: networks on few rows and heavy tails, lines on curved
# effects, both on an effect of many steps. Together they have .91 of the log loss of eight copies
# of one network.
_KINDS = ["deep", "piecewise", "linear"]
_N_EXPERTS = 8
# Few rows make no regions: experts that are trained on a part of them overfit. A router that is
# trained in the same steps needs a part of the loss.
_OWN_LOSS, _OWN_LOSS_BESIDE_ROUTER = 1.0, 0.7
# Of fewer held-out rows the loss does not tell when to stop.
_FEWEST_HELD_OUT = 10
# From 50,000 rows on batches grow in proportion, up to 800 rows. Those of 400 take a fifth longer
# with 200,000 rows, for a log loss that is lower by .0004 and .0012, on two functions. With 50,000
# rows batches of 800 would raise it by .0021 and .0004.
_MANY_ROWS, _MOST_GROWTH = 50_000, 4
# Twice the rate of the solver from ten batches on. Few rows are overfitted after a few dozen long
# steps, before the linear part of a rule is learned: with fewer batches the rate is lower.
_LR_FACTOR, _BATCH, _BATCHES_OF_FULL_RATE = 2, 200, 10
# With more columns than rows a step moves the outputs in proportion to the columns.
_COLUMNS_OF_FULL_RATE = 100
# Half of what images take, because the steps are longer.
_FEWEST_STEPS, _MOST_EPOCHS = 500, 75


class Budget(NamedTuple):
    """What a fit of a pool takes time for."""

    n_experts: int
    # Bags at least, from one of which each row is hidden.
    fewest_bags: int
    # Pieces of a column, if there are many columns.
    least_pieces: int
    # Whether the bag of a row depends on the pieces of its columns, which take long to compute.
    hashes_pieces: bool = True


# Five of each kind: each row is hidden from one of the five. With fewer an expert would see less of
# the table, and more take longer.
_USUAL = Budget(n_experts=15, fewest_bags=4, least_pieces=16)
# Of more rows the loss depends less on chance, and a fit would take minutes. This is a third of the
# time, with a log loss of .2871 in place of .2849 and .3930 in place of .3884 (the two functions of
# docs/measured.md). 16 pieces would lower it by .0014, and take a quarter longer; 7 epochs instead
# of 10 would save a quarter, and raise it by .0023.
_LARGE = 200_000
_OF_LARGE = Budget(n_experts=6, fewest_bags=10, least_pieces=8, hashes_pieces=False)


def budget_of(n_samples):
    """Return the budget of a fit of so many rows."""
    return _USUAL if n_samples < _LARGE else _OF_LARGE


def choose_model(choices):
    """Choose the experts, and the router that combines them."""
    choices.pick("trunk", None)
    choices.pick("standardize", True)
    n_in_pool = choices.budget.n_experts
    is_pool = choices.can_mix and choices["trunk"] is None and _suits_pool(choices)
    if is_pool and choices.trains_router:
        is_pool = False
        if choices.is_auto("n_experts") and choices.is_auto("expert"):
            warn(
                "balance, router__learning_rate and router__network have the router trained with "
                f"the experts: these are {_N_EXPERTS} of 'mlp', not {n_in_pool} of three kinds. "
                "Set n_experts or expert, or leave these parameters out.",
                UserWarning,
            )
    choices.pick("n_experts", n_in_pool if is_pool else _N_EXPERTS)
    choices.pick("expert", _KINDS if is_pool and choices["n_experts"] > 1 else "mlp")
    choices.pick("router__kind", "soft" if choices.can_mix else "top1")


def _suits_pool(choices):
    """Tell whether nothing is set that makes experts alike.

    Kinds of experts are weighed when all rows are known, which a first chunk does not tell.
    """
    is_alike = (
        choices["activation"] in ("linear", ACTIVATIONS["linear"]) or not choices["standardize"]
    )
    is_alike = is_alike or choices.is_chunk or choices.steps_by_expert
    own_loss = choices.is_auto("expert_loss_weight") or choices["expert_loss_weight"] == 1
    mixes = choices.router is None or choices.router.router_class.mixes_distributions
    return mixes and own_loss and not is_alike


def choose_training(choices):
    """Choose how the experts are trained, and when this ends."""
    data, is_cosine = choices.data, choices.solver.schedule == "cosine"
    growth = 1
    if is_cosine:
        growth = min(max(1, data.n_samples / _MANY_ROWS), _MOST_GROWTH)
    choices.pick_batch_size(growth)
    own_loss = choices.pick_own_loss(
        _OWN_LOSS_BESIDE_ROUTER if choices.trains_router else _OWN_LOSS
    )

    # Experts that know their own region only give poor out-of-bag estimates: with rows that are
    # held out the log loss is half as high, also of 150 rows.
    n_held_out = choices["validation_fraction"] * data.n_samples
    is_enough = n_held_out >= max(_FEWEST_HELD_OUT, choices.head.n_targets)
    stop = choices["n_experts"] > 1 and is_enough and overrides(choices.head, Head, "score")
    if choices.rehearses or (choices.mixes and own_loss):
        stop = "out_of_bag"
    choices.pick("early_stopping", stop)

    rate, router_rate = choices.rates_of_solver()
    if is_cosine:
        # By batches: in a single one, a row of weight 2 must be the same as two rows.
        n_batches = math.ceil(data.n_samples / _BATCH)
        rate *= _LR_FACTOR * min(1, math.sqrt(n_batches / _BATCHES_OF_FULL_RATE))
        (n_columns,) = data.sample_shape
        if n_columns > data.n_samples:
            rate *= min(1, _COLUMNS_OF_FULL_RATE / n_columns)
    choices.pick_rates(rate, router_rate)
    choices.pick_max_iter(_FEWEST_STEPS, _MOST_EPOCHS, growth)
