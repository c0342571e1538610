"""Out-of-bag rows: from which experts a row is hidden, and what these say of it."""

import copy
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._data.router import N_FOLDS
from .._validation import warn
from ..nn import Pool
from ..nn.dispatch import is_stack
from ..nn.experts import LinearExpert
from ..nn.seeding import hash_rows

# Rows that tell what a table is like.
_N_LOOKED_AT = 2000
# Distinct rows of which a new one will equal some.
_FEW_DISTINCT = 5
# Numbers of columns that a solver is given at once.
MOST_NUMBERS = 2**21


# -- from which experts a row is hidden ------------------------------------------------------


def hide_rows(net, rows, plan, groups=None):
    """Return the rows with a mask that hides each of them from `n_out_of_bag` experts.

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
    module = net.module_
    experts, n_out_of_bag = module.experts, plan.training.n_out_of_bag
    ranks, n_bags = [*range(len(experts))], len(experts)
    if plan.training.learns_router:
        # From one expert of each kind; of few, each still sees most rows.
        ranks, n_bags = experts.ranks, 1 + max(experts.ranks)
        if n_bags < N_FOLDS:
            n_bags = max(n_bags, plan.budget.fewest_bags)
    if groups is not None and np.ptp(groups) == 0:
        warn(
            "groups holds a single group, which cannot be out-of-bag as a whole. Its samples are "
            "out-of-bag one by one: out-of-bag losses and predictions, and intervals, are those of "
            "new samples of this group, and tell nothing of others.",
            UserWarning,
        )
        groups = None
    if groups is not None:
        sizes = np.bincount(groups, rows.counts())
        in_bag = _balanced_bags(sizes, n_bags, n_out_of_bag)[groups]
    elif rows.x.ndim == 2 and has_few_distinct_rows(
        rows.sample(_N_LOOKED_AT, rows.y.device).x.cpu().numpy()
    ):
        generator = torch.Generator().manual_seed(0)
        draws = torch.rand(len(rows.y), n_bags, generator=generator)
        in_bag = _all_but_largest(draws, n_out_of_bag)
    else:
        encode = module.encoder or torch.nn.Identity()
        if isinstance(experts, Pool) and not plan.budget.hashes_pieces:
            encode = partial(module.read, columns=experts.router_columns)
        in_bag = torch.from_numpy(
            net.map_batches(
                lambda x: in_bag_mask(encode(x).flatten(1), n_bags, n_out_of_bag), rows.x
            )
        )
    return rows._replace(in_bag=in_bag[:, ranks].to(rows.y.device))


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
        # As most tables, by their first column of numbers.
        if most >= _FEW_DISTINCT and most**2 > len(X):
            return False
    distinct = len(np.unique(X, axis=0))
    return distinct < _FEW_DISTINCT or most**2 <= distinct


# -- what linear experts of a pool are ----------------------------------------------------------


class Rules(NamedTuple):
    """What the experts of a linear kind are, and which of them holds where."""

    # (n_rules, n_outputs, n_columns): one rule for all members, or one for each.
    coef: Tensor
    # (n_rules, n_outputs)
    intercept: Tensor
    # (n_rules, n_router_columns + 1); None: of a single rule.
    gate: Tensor | None = None

    def outputs(self, z):
        """Return the outputs of all rules, (n_rows, n_rules, n_outputs)."""
        return torch.einsum("nd,mod->nmo", z, self.coef) + self.intercept

    def shares(self, features):
        """Return the share of each rule in what the kind says, (n_rows, n_rules)."""
        if self.gate is None:
            return features.new_ones(len(features), 1)
        return (features @ self.gate[:, :-1].T + self.gate[:, -1]).softmax(1)


def solved_kinds(net):
    """Return the kinds whose weights are found by a solver, not in steps."""
    pool = net.module_.experts
    if net.criterion_.n_outputs < net.criterion_.n_targets:
        return []
    # An expert of a stack is made when it is asked for.
    lists = [kind for kind, experts in enumerate(pool.kinds) if not is_stack(experts)]
    return [kind for kind in lists if type(pool.kinds[kind][0]) is LinearExpert]


# -- what experts say of rows that are hidden from them ----------------------------------------


class UnseenOutputs:
    """What the experts of a pool say of rows that they have not seen.

    The outputs of networks are kept from one pass over the rows; those of linear experts follow
    from their rules. Both are parts of what their kinds say, in which each has a share.

    Parameters
    ----------
    net : MoENet
    rows : Rows
    hidden : Tensor of shape (n_rows,), int, or None
        The member of each kind that has not seen a row, -1 if there is none. None: no expert has
        seen any of the rows.
    lines : dict of list
        Of each kind with a solver its rules, and those that were fitted without the rows of each
        fold; they may be replaced.
    """

    def __init__(self, net, rows, hidden, lines):
        self.net, self.rows, self.lines = net, rows, lines
        self.is_out_of_bag = hidden is not None
        self.hidden = hidden if self.is_out_of_bag else torch.zeros(len(rows.y), dtype=torch.long)
        n_kinds = len(net.module_.experts.kinds)
        self.networks = [kind for kind in range(n_kinds) if kind not in lines]
        self.kept = torch.from_numpy(net.map_batches(self._keep, rows, self.hidden))

    def _keep(self, x, hidden, *, encoded):
        """Return the outputs of networks: of one of each kind, or of all members."""
        module = self.net.module_
        is_new = hidden >= 0
        x = module.encode(x[is_new], encoded)
        each = [x.new_empty(len(x), 0, self.net.criterion_.n_outputs)]
        for kind in self.networks:
            outputs = module.experts.outputs_of(kind, x)
            if self.is_out_of_bag:
                places = torch.arange(len(x), device=x.device), hidden[is_new]
                outputs = outputs[places].unsqueeze(1)
            each.append(outputs)
        found = torch.cat(each, 1)
        # All of the other rows count for nothing.
        return found.new_zeros(len(hidden), *found.shape[1:]).masked_scatter(
            is_new.view(-1, 1, 1), found
        )

    def some(self, places):
        """Return the same of some rows, by an index tensor."""
        part = copy.copy(self)
        part.rows = self.rows.take(places.to(self.rows.y.device), self.rows.y.device)
        part.hidden, part.kept = self.hidden[places], self.kept[places]
        return part

    def parts(self):
        """Return features of the router, outputs of the parts and their shares, in float64."""
        parts = self.net.map_batches(self._parts, self.rows, self.hidden, self.kept)
        return map(torch.from_numpy, parts)

    def _parts(self, x, hidden, kept, *, encoded):
        module, hidden, kept = self.net.module_, hidden.cpu().clamp(min=0), kept.double().cpu()
        features = module.read(x, module.experts.router_columns, encoded).double().cpu()
        # All that is kept of a kind has the same share in it.
        n_kept = kept.shape[1]
        n_each = n_kept // max(1, len(self.networks))
        outputs, shares = [kept], [kept.new_full((len(x), n_kept), 1 / max(1, n_each))]
        for kind, (whole, *others) in self.lines.items():
            others = others or [whole]
            z = module.read(x, module.experts.columns[kind], encoded).double().cpu()
            outputs.append(z.new_empty(len(z), len(whole.coef), kept.shape[2]))
            shares.append(z.new_empty(len(z), len(whole.coef)))
            for fold, rules in enumerate(others):
                its = (hidden % N_FOLDS == fold) | (len(others) == 1)
                outputs[-1][its] = rules.outputs(z[its])
                shares[-1][its] = rules.shares(features[its])
        return features, torch.cat(outputs, 1), torch.cat(shares, 1)

    def kind_of(self):
        """Return the kind of each part, (n_parts,)."""
        kinds = self.net.module_.experts.kinds
        sizes = {kind: 1 if self.is_out_of_bag else len(kinds[kind]) for kind in self.networks}
        sizes |= {kind: len(rules[0].coef) for kind, rules in self.lines.items()}
        return torch.tensor([kind for kind, size in sizes.items() for _ in range(size)])

    def values(self, outputs, shares, y):
        """Return what the loss of a mixture of kinds depends on, and that loss."""
        values, losses = self.net.criterion_.mixing_parts(outputs, y)
        n_kinds = len(self.net.module_.experts.kinds)
        sums = values.new_zeros(len(values), n_kinds, values.shape[2])
        return sums.index_add(1, self.kind_of(), values * shares.unsqueeze(2)), losses

    def mix(self, features, outputs, shares, weights):
        """Return the output of the mixture by weights of the kinds."""
        gate = torch.from_numpy(weights.gates(features.numpy()))
        log_gate = (gate[:, self.kind_of()] * shares).log().log_softmax(1)
        return self.net.criterion_.mix(log_gate, outputs)

    def predict(self, weights):
        """Return what the head makes of the mixture, and the load of each expert."""
        head, module = self.net.criterion_, self.net.module_

        def predict(x, hidden, kept, weight, *, encoded):
            mixed = self.mix(*self._parts(x, hidden, kept, encoded=encoded), weights)
            load = module.route(x, encoded=encoded).per_expert(weight)
            if module.sharpness is not None:
                mixed = mixed * module.sharpness.cpu()
            return head.predict(mixed), load.unsqueeze(0)

        columns = self.hidden, self.kept, self.rows.weight
        predictions, loads = self.net.map_batches(predict, self.rows, *columns)
        # The experts of some kind have all seen the row.
        predictions[self.hidden.numpy() < 0] = np.nan
        return predictions, loads.sum(axis=0)
