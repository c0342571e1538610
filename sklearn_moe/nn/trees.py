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

    def forward(self, x: Tensor, member: Tensor | None = None) -> Tensor:
        """Map (n_samples, n_features) to (n_samples, n_members, n_outputs).

        With the `member` that is asked for each sample, (n_samples,): to (n_samples, n_outputs).
        """
        if member is None:
            member = torch.arange(len(self), device=x.device).expand(x.shape[0], -1)
        if is_exporting() or not x.is_cpu:
            return self._outputs(x, member)
        n_trees = self.root[0].numel() * max(1, member[:1].numel())
        size = max(1, _N_AT_ONCE // max(1, n_trees))
        return torch.cat([*map(self._outputs, x.split(size), member.split(size))])

    def _outputs(self, x, member):
        root = self.root[member]
        node = root.flatten()
        for _ in range(self.depth):
            # Of one dimension: indices of two take torch twice the time.
            feature = self.feature.index_select(0, node)
            values = x.gather(1, feature.view(x.shape[0], -1)).flatten()
            is_second = values > self.threshold.index_select(0, node)
            node = self.child.index_select(0, node) + is_second
        scores = self.value.index_select(0, node).view_as(root).sum(-1)
        outputs = torch.einsum("...r,...ro->...o", scores, self.mix[member]) + self.bias[member]
        return outputs.to(x.dtype)

    def get_extra_state(self) -> dict:
        """Return the trees: they are kept with the weights."""
        return {"depth": self.depth, **{k: v.cpu() for k, v in self.named_buffers()}}

    def set_extra_state(self, state: dict) -> None:
        """Take the trees."""
        state = dict(state)
        self.depth = state.pop("depth")
        self._set(**state)


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
