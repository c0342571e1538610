"""Out-of-bag rows: from which experts a row is hidden, and what these say of it."""

import math
from functools import partial

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from .._data.router import N_FOLDS
from .._data.tables import draw_rows
from ..nn.seeding import hash_rows

# Rows that tell what a table is like.
_N_LOOKED_AT = 2000
# Distinct rows of which a new one will equal some.
_FEW_DISTINCT = 5


def hide_rows(net, rows, plan, groups=None):
    """Return the rows with a mask that hides each of them from `n_out_of_bag` experts.

    Of a pool the mask has a column for each bag: member m of every kind is trained on bag m.

    Rows of one group, (n_samples,) numbers of groups, are hidden from the same experts. Without
    groups equal rows are, unless the table has few distinct rows: otherwise an expert would be
    evaluated on a copy of a row that it was trained on.

    Parameters
    ----------
    net : MoENet
    rows : Rows
    plan : Plan
    groups : ndarray of int or None
    """
    module, n_out_of_bag = net.module_, plan.training.n_out_of_bag
    generator = torch.Generator().manual_seed(0)
    n_bags = len(module.experts)
    if plan.is_pool:
        n_bags = max(plan.model.n_members)
        # Of few members, each still sees most rows.
        n_bags = n_bags if n_bags >= N_FOLDS else max(n_bags, plan.budget.fewest_bags)
    if groups is not None:
        sizes = np.bincount(groups, rows.counts())
        if plan.is_pool:
            # Each bag that is a member's should lack some group.
            n_bags = max(min(n_bags, len(sizes)), *plan.model.n_members)
        in_bag = _balanced_bags(sizes, n_bags, n_out_of_bag)[groups]
    elif rows.x.ndim == 2 and has_few_distinct_rows(
        rows.sample(_N_LOOKED_AT, rows.y.device).x.cpu().numpy()
    ):
        in_bag = in_bag_mask(torch.rand(len(rows.y), n_bags, generator=generator), n_out_of_bag)
    else:
        encode = module.encoder or torch.nn.Identity()
        if plan.is_pool and not plan.budget.hashes_pieces:
            encode = partial(module.read, columns=module.router_columns)
        # In float64 a hash does not depend on how the samples are grouped; on the host it is the
        # same for all devices.
        hashes = net.map_batches(
            lambda x: hash_rows(encode(x).double().cpu(), n_bags, generator.manual_seed(0)), rows.x
        )
        in_bag = in_bag_mask(torch.from_numpy(hashes), n_out_of_bag)
    return rows._replace(in_bag=in_bag.to(rows.y.device))


def _balanced_bags(sizes, n_bags, n_out_of_bag):
    """Return which bags hold each group, (n_groups, n_bags); about as many rows are out of each."""
    in_bag = torch.ones(len(sizes), n_bags, dtype=torch.bool)
    n_hidden = np.zeros(n_bags)
    random_state = np.random.RandomState(0)
    # Large groups come first: small ones level out the differences that they leave.
    for group in np.argsort(-sizes, kind="stable"):
        out = np.lexsort((random_state.permutation(n_bags), n_hidden))[:n_out_of_bag]
        in_bag[group, out] = False
        n_hidden[out] += sizes[group]
    return in_bag


def in_bag_mask(draws, n_out_of_bag):
    """Return which experts train on a sample, all but those of the `n_out_of_bag` largest draws."""
    largest = draws.topk(n_out_of_bag, dim=1).indices
    return torch.ones_like(draws, dtype=torch.bool).scatter_(1, largest, False)


def has_few_distinct_rows(X):
    """Tell whether a table, (n_samples, n_features), has few distinct rows.

    That is so if no column has more distinct values than the root of the number of distinct rows,
    or if there are fewer than five of these: a new row will then equal one of them. Repeating rows
    changes nothing.
    """
    most = 0
    for column in X.T:
        most = max(most, len(np.unique(column)))
        # As most tables, by their first column of numbers.
        if most >= _FEW_DISTINCT and most**2 > len(X):
            return False
    distinct = len(np.unique(X, axis=0))
    return distinct < _FEW_DISTINCT or most**2 <= distinct


# -- what experts say of rows that are hidden from them -------------------------------------------


@torch.no_grad()
def predict_out_of_bag(net, rows):
    """Return what the head predicts by experts that are not trained on a row, and the load.

    Before, logits are scaled so that the loss of some of these predictions is least.
    """
    head, module = net.criterion_, net.module_
    scales = module.sharpness is not None

    def mix(x, in_bag, weight):
        mixed = module.forward_experts(x)
        log_gate = mixed.route.scores.masked_fill(in_bag, -torch.inf).log_softmax(1)
        output = head.mix(log_gate, mixed.expert_outputs)
        if not scales:
            output = head.predict(output)
        return output, mixed.route.per_expert(weight).unsqueeze(0)

    outputs, loads = net.map_batches(mix, rows, rows.in_bag, rows.weight)
    if scales:
        some = torch.from_numpy(draw_rows(len(rows.y), _N_LOOKED_AT))
        logits = torch.from_numpy(outputs)
        sharpen(net, logits[some], rows.y.cpu()[some], rows.weight.cpu()[some])
        outputs = head.predict(logits * module.sharpness.cpu()).numpy()
    return outputs, loads.sum(axis=0)


def sharpen(net, outputs, y, weight):
    """Scale the logits of a mixture so that the loss of rows that it has not seen is least."""
    outputs, loss = outputs.double(), net.criterion_.loss
    weight = torch.as_tensor(weight).double().numpy()

    best = minimize_scalar(
        lambda log_factor: weight @ loss(outputs * math.exp(log_factor), y).numpy(),
        bounds=(-1, 1),
        method="bounded",
        options={"xatol": 1e-3},
    )
    net.module_.sharpness.fill_(math.exp(best.x))
