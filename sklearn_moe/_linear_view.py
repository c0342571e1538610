"""What a linear router sees of a sample: the sum of its patches."""

import numpy as np

__all__ = ["linear_view"]

_SIDE = 4  # pixels of a square patch of a picture, as in nn.routers.scores


def linear_view(X):
    """Return samples as vectors in the space of a patch, as a linear router sees them.

    A linear router adds the scores of the patches up, so it tells no more apart than their sums.
    This is `nn.routers.scores.pool` for those who must not need torch.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), (n_samples, n_patches, patch_size) or \
(n_samples, n_channels, height, width)
        Vectors, bags of patches or pictures.

    Returns
    -------
    view : ndarray of shape (n_samples, patch_size)
        Vectors themselves, not copied; the sum of the patches; of pictures the sum of their
        squares of 4 x 4 pixels, without rows and columns at the end that do not fill a square.
        The bytes (uint8) of pictures are scaled to 0 ... 1.

    Raises
    ------
    ValueError
        If X has another number of axes.
    """
    if X.ndim == 2:
        return X
    if X.ndim == 3:
        return X.sum(axis=1)
    if X.ndim != 4:
        raise ValueError(
            "X must have shape (n_samples, n_features), (n_samples, n_patches, patch_size) or "
            f"(n_samples, n_channels, height, width), got {X.shape}."
        )
    side = min(_SIDE, *X.shape[2:])
    rows, columns = (length // side for length in X.shape[2:])
    squares = X[:, :, : rows * side, : columns * side]
    squares = squares.reshape(*X.shape[:2], rows, side, columns, side)
    view = squares.sum(axis=(2, 4)).reshape(len(X), -1)  # of bytes exact: NumPy sums up in uint64
    return view / 255 if X.dtype == np.uint8 else view
