"""Out-of-bag masks: which experts are not trained on a sample, and tested by it."""

import torch

from .._data.rows import draw_rows
from .._data.statistics import has_few_distinct_rows
from ..nn.seeding import in_bag_mask, random_in_bag_mask

_SAMPLE = 2000  # rows by which a table is known


def with_in_bag_mask(net, rows, n_out_of_bag, groups=None):
    """Return the rows of a table with an out-of-bag mask: `n_out_of_bag` experts for each row.

    Rows of one group, (n_samples,) numbers of groups, are out of the bags of the same experts.
    Without groups equal rows are, unless the table has few distinct rows.
    """
    sizes = len(net.module_.experts), n_out_of_bag
    if groups is not None:
        in_bag = random_in_bag_mask(int(groups.max()) + 1, *sizes)[torch.from_numpy(groups)]
    elif rows.x.ndim == 2 and has_few_distinct_rows(_some_rows(rows.x)):
        in_bag = random_in_bag_mask(len(rows.y), *sizes)
    else:
        encode = net.module_.encoder or torch.nn.Identity()

        def mask_batch(x):
            return in_bag_mask(encode(x).flatten(1), *sizes).bool()

        in_bag = torch.from_numpy(net.map_batches(mask_batch, rows.x))
    return rows._replace(in_bag=in_bag.to(rows.y.device, torch.bool))


def _some_rows(x):
    """Return rows of a table from all over it: the first ones may be special."""
    rows = torch.from_numpy(draw_rows(x.shape[0], _SAMPLE))
    return x.index_select(0, rows.to(getattr(x, "device", "cpu"))).cpu().numpy()
