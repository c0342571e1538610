"""Which training samples are hidden from which experts, to be tested by them."""

import torch

from ._columns import repeats_itself
from .nn import hide, hide_at_random

__all__ = ["hide_rows"]

_FIRST = 2000  # rows by which a table is known


def hide_rows(net, rows, n_hidden):
    """Return the rows of a table with each one hidden from `n_hidden` experts of the net.

    Equal samples are hidden from the same experts, unless rows are alike by nature.
    """
    sizes = len(net.module_.experts), n_hidden
    if rows.x.ndim == 2 and repeats_itself(rows.x[:_FIRST].cpu().numpy()):
        shown = hide_at_random(len(rows.y), *sizes)
    else:
        encode = net.module_.encoder or torch.nn.Identity()

        def hide_batch(x):
            return hide(encode(x).flatten(1), *sizes).bool()

        shown = torch.from_numpy(net.map_batches(hide_batch, rows.x))
    return rows._replace(shown=shown.to(rows.y.device, torch.bool))
