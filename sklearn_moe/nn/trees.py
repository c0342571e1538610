"""Members that are fitted elsewhere: boosted trees, computed by torch, and estimators."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .encoders import FixedTypes
from .functional import Shape, is_exporting, require_ndim

# Numbers of a step down the trees, which then stay near the processor.
_N_AT_ONCE = 2**17
# Numbers of a table of masks, and columns whose masks take as long as a step down the trees.
_MOST_MASKS, _COLUMNS_OF_A_STEP = 2**23, 16


class TreeArrays(NamedTuple):
    """The nodes of a tree, parents before their children; the first one is the root."""

    # (n_nodes,): the column that decides, and the largest value that goes to the first child.
    feature: np.ndarray
    threshold: np.ndarray
    # (n_nodes,): the first child, which the second one follows; of a leaf itself.
    child: np.ndarray
    # (n_nodes,): what a leaf adds.
    value: np.ndarray
    depth: int


# A tree that adds nothing.
_EMPTY = TreeArrays(np.zeros(1, int), np.full(1, np.inf), np.zeros(1, int), np.zeros(1), 0)


class BoostedTrees(FixedTypes):
    """Members of a kind, each of which adds up trees; none until `grow` is called.

    Parameters
    ----------
    input_shape : (n_features,)
    n_outputs : int
    learning_rate, max_iter, max_leaf_nodes, min_samples_leaf : float, default=None
        Parameters of scikit-learn's `HistGradientBoostingClassifier` or `-Regressor`. None: what a
        fit chooses. Of at most `max_iter` trees unseen rows choose how many are kept.
    """

    def __init__(
        self,
        input_shape: Shape,
        n_outputs: int,
        *,
        learning_rate: float | None = None,
        max_iter: int | None = None,
        max_leaf_nodes: int | None = None,
        min_samples_leaf: int | None = None,
    ):
        super().__init__()
        require_ndim(input_shape, 1, "trees", "n_features,")
        self.n_outputs = n_outputs
        options = {
            "learning_rate": learning_rate,
            "max_iter": max_iter,
            "max_leaf_nodes": max_leaf_nodes,
            "min_samples_leaf": min_samples_leaf,
        }
        self.options = {name: value for name, value in options.items() if value is not None}
        self.depth = 0
        # None until they are asked for, False if trees are too large for them.
        self.masks: LeafMasks | bool | None = None
        # Filled by `grow`; kept as a state of their own, because their sizes depend on the data.
        for name in ("feature", "threshold", "child", "value", "root", "mix", "bias"):
            self.register_buffer(name, torch.empty(0), persistent=False)

    def __len__(self) -> int:
        return len(self.bias)

    def grow(
        self,
        members: Sequence[Sequence[Sequence[TreeArrays]]],
        mix: np.ndarray,
        bias: np.ndarray,
        dtype: torch.dtype,
    ) -> None:
        """Take the trees of all members.

        Parameters
        ----------
        members : sequences of trees
            `members[m][r]` are the trees of member m whose sum is its score r.
        mix : ndarray of shape (n_members, n_scores, n_outputs)
        bias : ndarray of shape (n_members, n_outputs)
            The outputs of a member are `scores @ mix + bias`.
        dtype : torch.dtype
            Of the samples.
        """
        n_trees = max(1, max(len(trees) for scores in members for trees in scores))
        padded = [
            tree
            for scores in members
            for trees in scores
            for tree in [*trees, *[_EMPTY] * (n_trees - len(trees))]
        ]
        sizes = [len(tree.feature) for tree in padded]
        root = np.cumsum([0, *sizes[:-1]])
        child = np.concatenate([t.child + first for t, first in zip(padded, root, strict=True)])
        self.depth = max(tree.depth for tree in padded)
        threshold = torch.from_numpy(np.concatenate([tree.threshold for tree in padded]))
        rounded = threshold.to(dtype)
        # Below a threshold are the same samples as in float64.
        too_high = rounded.double() > threshold
        lower = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
        self._set(
            feature=torch.from_numpy(np.concatenate([tree.feature for tree in padded])),
            threshold=torch.where(too_high, lower, rounded),
            child=torch.from_numpy(child),
            value=torch.from_numpy(np.concatenate([tree.value for tree in padded])),
            root=torch.from_numpy(root).view(*np.shape(mix)[:2], n_trees),
            mix=torch.from_numpy(mix),
            bias=torch.from_numpy(bias),
        )

    def _set(self, **tensors: Tensor) -> None:
        device = self.root.device
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.to(device), persistent=False)
        self.masks = None

    def __getstate__(self):
        """Return the attributes; masks are found anew."""
        return self.__dict__ | {"masks": None}

    def forward(self, x: Tensor, member: Tensor | None = None) -> Tensor:
        """Map (n_samples, n_features) to (n_samples, n_members, n_outputs).

        With the `member` that is asked for each sample, (n_samples,): to (n_samples, n_outputs).
        """
        if member is None:
            member = torch.arange(len(self), device=x.device).expand(x.shape[0], -1)
        if is_exporting() or not x.is_cpu:
            return self._outputs(x, member)
        if self.masks is None:
            self.masks = LeafMasks.of(self)
        n_trees = self.root[0].numel() * max(1, member[:1].numel())
        size = max(1, _N_AT_ONCE // max(1, n_trees))
        return torch.cat([*map(self._outputs, x.split(size), member.split(size))])

    def _outputs(self, x, member):
        every = member.ndim == 2
        if self.masks and x.is_cpu and not is_exporting():
            leaves = self.masks.values(x, None if every else member)
        else:
            leaves = self._walk(x, self.root[member])
        # Each sample has all members: nothing is to be selected.
        mix, bias = (self.mix, self.bias) if every else (self.mix[member], self.bias[member])
        outputs = torch.einsum("...r,...ro->...o", leaves.sum(-1), mix) + bias
        return outputs.to(x.dtype)

    def _walk(self, x, root):
        """Return what the trees of these roots add, from the root downwards."""
        node = root.flatten()
        for _ in range(self.depth):
            # Of one dimension: indices of two take torch twice the time.
            feature = self.feature.index_select(0, node)
            values = x.gather(1, feature.view(x.shape[0], -1)).flatten()
            is_second = values > self.threshold.index_select(0, node)
            node = self.child.index_select(0, node) + is_second
        return self.value.index_select(0, node).view_as(root)

    def get_extra_state(self) -> dict:
        """Return the trees: they are kept with the weights."""
        return {"depth": self.depth, **{k: v.cpu() for k, v in self.named_buffers()}}

    def set_extra_state(self, state: dict) -> None:
        """Take the trees."""
        state = dict(state)
        self.depth = state.pop("depth")
        self._set(**state)


class LeafMasks(NamedTuple):
    """Which leaves a number of a column leaves possible, as bits of a number for each tree.

    Each node takes from the leaves those of one of its children, so that the masks of all columns,
    joined by "and", leave one: QuickScorer (Lucchese et al., 2015) with a table in place of a scan.
    """

    # (n_used,): the columns by which trees decide.
    columns: Tensor
    # (n_used, n_cuts): the thresholds of each, sorted, infinite beyond. Bins lie between two.
    cuts: Tensor
    # (n_used, 1): the first bin of each column.
    first: Tensor
    # (n_bins, n_members * n_scores * n_trees): the leaves that are possible in each bin.
    table: np.ndarray
    # (n_members * n_scores * n_trees * n_leaves,): what each leaf adds.
    leaves: Tensor
    # (n_members * n_scores * n_trees,): the first leaf of each tree, less 127.
    start: Tensor
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, trees: BoostedTrees) -> "LeafMasks | bool":
        """Return the masks of trees, or False where a walk down the trees is better."""
        names = "feature", "threshold", "child", "value", "root"
        feature, threshold, child, value, root = (getattr(trees, n).numpy() for n in names)
        node = np.arange(len(child))
        is_leaf = child == node
        tree = np.searchsorted(root.ravel(), node, "right") - 1
        number = np.cumsum(is_leaf) - is_leaf
        number -= number[root.ravel()][tree]
        inner, n_leaves = np.flatnonzero(~is_leaf), 1 + number.max(initial=0)
        nodes = [inner[feature[inner] == column] for column in np.unique(feature[inner])]
        cuts = [np.unique(threshold[chosen]) for chosen in nodes]
        n_bins = np.array([len(each) + 1 for each in cuts])
        is_small = n_leaves < np.iinfo(np.int32).bits and n_bins.sum() * root.size <= _MOST_MASKS
        if not (is_small and 0 < len(nodes) <= _COLUMNS_OF_A_STEP * trees.depth):
            return False
        bits = np.where(is_leaf, 1 << number, 0).astype(np.int32)
        # Children come behind their parents.
        for _ in range(trees.depth):
            bits[inner] = bits[child[inner]] | bits[child[inner] + 1]
        parts = []
        for chosen, each in zip(nodes, cuts, strict=True):
            place = np.searchsorted(each, threshold[chosen])
            below, above = np.tile(bits[root.ravel()], (2, len(each) + 1, 1))
            np.bitwise_and.at(below, (place, tree[chosen]), ~bits[child[chosen] + 1])
            np.bitwise_and.at(above, (place + 1, tree[chosen]), ~bits[child[chosen]])
            below = np.bitwise_and.accumulate(below[::-1])[::-1]
            parts.append(below & np.bitwise_and.accumulate(above))
        thresholds = np.full((len(nodes), n_bins.max()), np.inf, threshold.dtype)
        for row, each in zip(thresholds, cuts, strict=True):
            row[: len(each)] = each
        leaves = np.zeros((root.size, n_leaves))
        leaves[tree[is_leaf], number[is_leaf]] = value[is_leaf]
        return cls(
            torch.tensor([feature[chosen[0]] for chosen in nodes]),
            torch.from_numpy(thresholds),
            torch.from_numpy(np.cumsum(n_bins) - n_bins)[:, None],
            np.concatenate(parts),
            torch.from_numpy(leaves.ravel()),
            torch.arange(root.size, dtype=torch.int32) * int(n_leaves) - 127,
            root.shape,
        )

    def values(self, x: Tensor, member: Tensor | None) -> Tensor:
        """Return what trees add, (n_samples, n_members, n_scores, n_trees), or one member's."""
        x = x[:, self.columns].T
        # As a walk, which finds that nothing is above a threshold.
        x = torch.where(x.isnan(), -torch.inf, x).contiguous()
        bins = (torch.searchsorted(self.cuts, x) + self.first).numpy()
        table, start, shape = self.table, self.start, self.shape
        if member is not None:
            bins = bins * shape[0] + member.numpy()
            start = start.view(shape[0], -1)
            table, start, shape = table.reshape(-1, start.shape[1]), start[member], shape[1:]
        size = max(1, _N_AT_ONCE // (len(bins) * table.shape[1]))
        parts = (bins[:, i : i + size] for i in range(0, bins.shape[1], size))
        left = np.concatenate([np.bitwise_and.reduce(table.take(part, 0)) for part in parts])
        # The only bit that is left is a power of two: 1.0 has the exponent 127.
        leaf = (torch.from_numpy(left).float().view(torch.int32) >> 23) + start
        return self.leaves.index_select(0, leaf.flatten()).view(-1, *shape)


class FittedMembers(nn.Module):
    """Members of a kind that torch does not compute, such as estimators of scikit-learn.

    Attributes
    ----------
    members : list of callables
        Each maps an array (n_samples, n_columns) to the outputs of a head, (n_samples, n_outputs).
    """

    def __init__(self) -> None:
        super().__init__()
        self.members: list[Callable[[np.ndarray], np.ndarray]] = []

    def __len__(self) -> int:
        return len(self.members)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of all members, (n_samples, n_members, n_outputs)."""
        rows = x.detach().cpu().numpy()
        outputs = np.stack([member(rows) for member in self.members], axis=1)
        return torch.from_numpy(outputs).to(x)

    def get_extra_state(self) -> list:
        """Return the members: they are kept with the weights."""
        return self.members

    def set_extra_state(self, state: list) -> None:
        """Take the members."""
        self.members = state
