"""Experts of several kinds as one sequence."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..dispatch import Experts


class Columns(nn.Module):
    """Some neighbouring columns of an encoded table."""

    def __init__(self, columns: slice):
        super().__init__()
        self.columns = columns

    def forward(self, x: Tensor) -> Tensor:
        """Return those columns of (n_samples, n_columns)."""
        return x[:, self.columns]


class Pool(nn.Module):
    """Experts of several kinds, each of which reads its own columns of an encoded table.

    The experts of a kind are computed at once if they are a stack. `pool[m]` is expert m, with what
    it reads of a sample in front.

    Parameters
    ----------
    kinds : sequence of sequences of modules
        The experts of each kind.
    columns : sequence of slice
        What each kind reads of an encoded sample.
    kind_of : sequence of int
        The kind of each expert of the pool. Those of a kind follow in their order.
    router_columns : slice
        What the router reads.
    """

    def __init__(
        self,
        kinds: Sequence[Experts],
        columns: Sequence[slice],
        kind_of: Sequence[int],
        router_columns: slice,
    ):
        super().__init__()
        # Each kind is a stack or a list of modules.
        self.kinds: Any = nn.ModuleList(
            experts if isinstance(experts, nn.Module) else nn.ModuleList(experts)
            for experts in kinds
        )
        self.columns = list(columns)
        self.kind_of = list(kind_of)
        self.router_columns = router_columns
        self.ranks = [self.kind_of[:m].count(kind) for m, kind in enumerate(self.kind_of)]
        # Expert m stands at `places[m]` among the outputs of all kinds, one kind after the other.
        by_kind = sorted(range(len(self.kind_of)), key=self.kind_of.__getitem__)
        self.register_buffer("places", torch.tensor(by_kind).argsort(), persistent=False)
        self.places: Tensor

    def __len__(self) -> int:
        return len(self.kind_of)

    def __getitem__(self, index: int) -> nn.Module:
        m = range(len(self))[index]
        kind = self.kind_of[m]
        expert = self.kinds[kind][self.ranks[m]]
        return nn.Sequential(Columns(self.columns[kind]), expert).train(self.training)

    def __iter__(self) -> Iterator[nn.Module]:
        return (self[m] for m in range(len(self)))

    def members(self, kind: int) -> list[int]:
        """Return the experts of a kind."""
        return [m for m, other in enumerate(self.kind_of) if other == kind]

    def outputs_of(self, kind: int, x: Tensor) -> Tensor:
        """Return the outputs of the experts of a kind, (n_samples, n_members, n_outputs)."""
        experts, x = self.kinds[kind], x[:, self.columns[kind]]
        if isinstance(experts, nn.ModuleList):
            return torch.stack([expert(x) for expert in experts], 1)
        return experts(x)

    def by_kind(self, x: Tensor, kinds: Sequence[int] | None = None) -> Tensor:
        """Return the outputs of the experts of some kinds, one kind after the other; None: of all.

        (n_samples, n_experts of these kinds, n_outputs)
        """
        each = range(len(self.kinds)) if kinds is None else kinds
        return torch.cat([self.outputs_of(kind, x) for kind in each], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map encoded samples to the outputs of all experts, (n_samples, n_experts, n_outputs)."""
        return self.by_kind(x).index_select(1, self.places)
