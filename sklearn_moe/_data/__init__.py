"""From X and y, as users have them, to tensors."""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from scipy.sparse import sparray, spmatrix

# What a user may pass as X: an array or a sequence of samples, a data frame, a sparse table.
SamplesLike: TypeAlias = "ArrayLike | sparray | spmatrix"
