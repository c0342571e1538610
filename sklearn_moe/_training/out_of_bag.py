"""Out-of-bag samples: from which experts a row is hidden, what these predict, what that decides."""

import numpy as np
import torch

from ..nn.seeding import hash_rows
from .pool import learns_router, sharpen

_ROWS_LOOKED_AT = 2000  # enough to tell what a table is like, or how sure predictions may be
_FEW = 5  # distinct rows
_FEWEST_BAGS = 4


# -- from which experts a row is hidden ------------------------------------------------------


def hide_rows(net, rows, n_out_of_bag, groups=None):
    """Return the rows with a mask that hides each of them from `n_out_of_bag` experts.

    Rows of one group, (n_samples,) numbers of groups, are hidden from the same experts. Without
    groups equal rows are, unless the table has few distinct rows: otherwise an expert would be
    evaluated on a copy of a row that it was trained on.
    """
    experts = net.module_.experts
    ranks, n_bags = [*range(len(experts))], len(experts)
    if learns_router(net):  # one expert of each kind; of few, each still sees most rows
        ranks, n_bags = experts.ranks, max(1 + max(experts.ranks), _FEWEST_BAGS)
    sizes = n_bags, n_out_of_bag
    if groups is None and rows.x.ndim == 2:
        some = rows.sample(_ROWS_LOOKED_AT, rows.y.device).x.cpu().numpy()
        groups = np.arange(len(rows.y)) if has_few_distinct_rows(some) else None
    if groups is None:
        encode = net.module_.encoder or torch.nn.Identity()
        in_bag = net.map_batches(lambda x: in_bag_mask(encode(x).flatten(1), *sizes), rows.x)
        in_bag = torch.from_numpy(in_bag)
    else:
        generator = torch.Generator().manual_seed(0)
        draws = torch.rand(int(groups.max()) + 1, sizes[0], generator=generator)
        in_bag = _all_but_largest(draws, n_out_of_bag)[torch.from_numpy(groups)]
    return rows._replace(in_bag=in_bag[:, ranks].to(rows.y.device))


def in_bag_mask(x, n_experts, n_out_of_bag):
    """Return which experts train on a sample, (n_samples, n_experts); equal samples have the same.

    Each sample is out-of-bag for `n_out_of_bag` experts.
    """
    # In float64 the hash does not depend on how the samples are grouped; on the host it is the same
    # for all devices.
    hashes = hash_rows(x.double().cpu(), n_experts, torch.Generator().manual_seed(0))
    return _all_but_largest(hashes, n_out_of_bag)


def _all_but_largest(values, n_largest):
    largest = values.topk(n_largest, dim=1).indices
    return torch.ones_like(values, dtype=torch.bool).scatter_(1, largest, False)


def has_few_distinct_rows(X):
    """Tell whether a table, (n_samples, n_features), has few distinct rows.

    That is so if no column has more distinct values than the root of the number of distinct rows,
    or if there are fewer than five of these: a new row will then equal one of them. Repeating rows
    changes nothing.
    """
    most = 0
    for column in X.T:
        most = max(most, len(np.unique(column)))
        if most >= _FEW and most**2 > len(X):  # as most tables, by their first column of numbers
            return False
    distinct = len(np.unique(X, axis=0))
    return distinct < _FEW or most**2 <= distinct


# -- what these experts predict, and what is decided by that -----------------------------------


@torch.no_grad()
def predict_out_of_bag(net, rows):
    """Return what the head predicts of each row by the experts that are not trained on it.

    Before, logits are scaled so that the loss of some of these predictions is least.
    """
    head, module = net.criterion_, net.module_

    def mix(x, in_bag):
        mixed = module.forward_experts(x)
        log_gate = mixed.route.scores.masked_fill(in_bag, -torch.inf).log_softmax(1)
        return head.mix(log_gate, mixed.expert_outputs)

    if module.sharpness is not None:
        x, y, weight, in_bag = rows.sample(_ROWS_LOOKED_AT, torch.device(net.device))
        sharpen(net, net.map_batches(mix, x, in_bag), y, weight)
    return net.map_batches(
        lambda x, in_bag: head.predict(module.sharpened(mix(x, in_bag))), rows.x, rows.in_bag
    )
