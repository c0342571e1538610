"""Experts that are fitted elsewhere, and only called by torch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


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
