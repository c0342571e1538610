"""Which training samples are hidden from which experts, to be tested by them."""

import torch

from ..nn import hide, hide_at_random
from .rows import draw_rows
from .statistics import has_few_distinct_rows

__all__ = ["hide_rows"]

_SAMPLE = 2000  # rows by which a table is known


def hide_rows(net, rows, n_hidden, groups=None):
    """Return the rows of a table with each one hidden from `n_hidden` experts of the net.

    Rows of one group, (n_samples,) numbers of groups, are hidden from the same experts. Without
    groups equal rows are, unless the table has few distinct rows.
    """
    sizes = len(net.module_.experts), n_hidden
    if groups is not None:
        shown = hide_at_random(int(groups.max()) + 1, *sizes)[torch.from_numpy(groups)]
    elif rows.x.ndim == 2 and has_few_distinct_rows(_some_rows(rows.x)):
        shown = hide_at_random(len(rows.y), *sizes)
    else:
        encode = net.module_.encoder or torch.nn.Identity()

        def hide_batch(x):
            return hide(encode(x).flatten(1), *sizes).bool()

        shown = torch.from_numpy(net.map_batches(hide_batch, rows.x))
    return rows._replace(shown=shown.to(rows.y.device, torch.bool))


def _some_rows(x):
    """Return rows of a table from all over it: the first ones may be special."""
    rows = torch.from_numpy(draw_rows(x.shape[0], _SAMPLE))
    return x.index_select(0, rows.to(getattr(x, "device", "cpu"))).cpu().numpy()
