"""Some rows of an X, which may be too large to be copied. Nothing here needs torch."""

import math

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import gen_batches
from sklearn.utils.random import sample_without_replacement

# Numbers that are read at a time: a memory map is never read as a whole.
N_NUMBERS_READ = 2**20
# Rows of a large X, drawn at random, that something is measured on.
N_ROWS_MEASURED = 4000


def row_slices(X):
    """Yield slices of the rows of X that hold about a million numbers each, and at least one."""
    return gen_batches(len(X), max(1, N_NUMBERS_READ // max(1, math.prod(X.shape[1:]))))


def draw_rows(n_rows, n_drawn):
    """Return the numbers of some rows, all if there are few; the same ones in every call."""
    if n_rows <= n_drawn:
        return np.arange(n_rows)
    # Other methods go through all rows, of which there may be many.
    drawn = sample_without_replacement(n_rows, n_drawn, "tracking_selection", random_state=0)
    return np.sort(drawn)


def select(X, rows):
    """Return some rows of X; only those of a sparse matrix are copied.

    Parameters
    ----------
    X : ndarray, IndexedView or CSR matrix
    rows : ndarray of int
    """
    if issparse(X):
        return X[rows]
    if isinstance(X, IndexedView):
        return IndexedView(X.X, X.rows[rows])
    return IndexedView(X, rows)


class IndexedView:
    """Some rows of an array or tensor; those that are asked for are gathered.

    Parameters
    ----------
    X : ndarray or tensor
    rows : ndarray or tensor of int
        Which ones, in their order.
    """

    def __init__(self, X, rows):
        self.X = X
        self.rows = rows
        self.shape = (len(rows), *X.shape[1:])
        self.ndim = X.ndim
        self.dtype = X.dtype

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, part):
        return self.X[self.rows[part]]

    @property
    def nbytes(self):
        """The size of the rows, were they copied."""
        return math.prod(self.shape) * self.X.itemsize

    def to(self, device):
        """Return the rows on another device as a tensor."""
        return self if device.type == "cpu" else self[:].to(device)

    def index_select(self, axis, index):
        """Return the rows of an index tensor, as tensors do."""
        return self.X.index_select(0, self.rows.index_select(0, index))
