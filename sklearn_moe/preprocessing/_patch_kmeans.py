"""PatchKMeansFeatures: which typical patches are where in an image."""

from numbers import Real
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.random import sample_without_replacement

from .._devices import default_torch_modes
from .._validation import Count
from ._base import BaseImageFeatures, as_float


def _positions(X, size, stride=1):
    """Return how many patches an image has, from top to bottom and from left to right."""
    return tuple((side - size) // stride + 1 for side in X.shape[2:])


def _sample(X, size, n_patches, random_state):
    """Return different patches of X from anywhere, (n_patches, n_channels * size * size)."""
    n_rows, n_columns = _positions(X, size)
    total = len(X) * n_rows * n_columns
    drawn = sample_without_replacement(total, min(n_patches, total), random_state=random_state)
    # So that they are read image after image.
    drawn.sort()
    sample, row, column = np.unravel_index(drawn, (len(X), n_rows, n_columns))
    patches = np.empty((len(drawn), X.shape[1], size, size), X.dtype)
    for patch, n, i, j in zip(patches, sample, row, column, strict=True):
        patch[:] = X[n, :, i : i + size, j : j + size]
    return as_float(torch.from_numpy(patches.reshape(len(drawn), -1)))


def _normalize(patches, contrast):
    """Give each row the mean 0 and a variance of about 1, flat ones less."""
    # A new tensor: patches may share the memory of the images.
    patches = patches - patches.mean(dim=1, keepdim=True)
    variance = patches.square().mean(dim=1, keepdim=True)
    patches /= variance.add_(contrast).sqrt_()
    return patches


def _zca(patches):
    """Return mean and matrix of p -> (p - mean) matrix, which makes patches white."""
    mean = patches.mean(dim=0)
    centered = patches - mean
    covariance = (centered.T @ centered).double() / len(patches)
    values, vectors = torch.linalg.eigh(covariance)
    # What is added to the variances along the principal axes is as published.
    matrix = (vectors / (values.clamp_(min=0) + 0.1).sqrt()) @ vectors.T
    return mean, matrix.float()


class PatchKMeansFeatures(BaseImageFeatures):
    """Describe an image by which typical patches are where in it, as Coates et al. do [1]_.

    `fit` takes patches from anywhere in the images, removes brightness and contrast from each,
    whitens them, and finds clusters by k-means. `transform` takes all patches of an image. The
    distances z_k of a patch from the centers become ::

        f_k = max(0, mean(z) - z_k)

    0 for the centers that are farther away than most. These are summed over each cell of a grid
    laid on the image, and the features are the roots of the sums. No label is used, and a linear
    model of such features is a strong baseline for small images.

    Parameters
    ----------
    n_clusters : int, default=400
        Number of clusters, at least 2. More are better, if there are enough images to learn from.

    patch_size : int, default=6
        Side of the patches, in pixels.

    stride : int, default=1
        Pixels from one patch to the next in `transform`. With 2, features cost a quarter.

    n_patches : int, default=100_000
        Number of patches that `fit` uses; all of them, if there are fewer.

    pool : int, default=2
        Cells of the grid from top to bottom, and from left to right.

    power : float, default=0.5
        Power that the sums are raised to, more than 0 and at most 1. They have long tails,
        which roots shorten [2]_. 1 leaves them as they are, as published.

    random_state : int, RandomState instance or None, default=None
        Determines the patches and the start of k-means.

    batch_size : int, default=8
        Number of images transformed at once. It bounds the memory, and changes the result by no
        more than rounding does. Few are fastest on a CPU, whose cache should hold their distances.

    device : str or torch.device, default="cpu"
        Where `transform` computes; "auto" is a GPU where there is one.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_channels, patch_size, patch_size)
        Centers of the clusters, whitened patches.

    mean_ : ndarray of shape (n_values,)
        Mean of the normalized patches; n_values is n_channels * patch_size ** 2.

    whitening_ : ndarray of shape (n_values, n_values)
        What normalized patches minus `mean_` are multiplied by, a symmetric matrix (ZCA).

    contrast_ : float
        What is added to the variance of a patch, for uint8 images in units of [0, 1].

    n_features_in_ : int
        Number of channels.

    See Also
    --------
    BackboneFeatures : Features that a network has learned.
    sklearn.preprocessing.StandardScaler : For the step after this, if that is a linear model.

    Notes
    -----
    The columns are those of the upper left cell, one per cluster, then those of the cell to its
    right, and so on, row by row. If the patches cannot be shared out evenly, the first cells have
    one more.

    References
    ----------
    .. [1] A. Coates, H. Lee, A. Y. Ng, "An Analysis of Single-Layer Networks in Unsupervised
       Feature Learning", AISTATS 2011.
    .. [2] F. Perronnin, J. Sanchez, T. Mensink, "Improving the Fisher Kernel for Large-Scale Image
       Classification", ECCV 2010, section 3.2: power normalization.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_moe.preprocessing import PatchKMeansFeatures
    >>> digits = load_digits()
    >>> X, y = digits.images[:, None] / 16, digits.target  # (1797, 1, 8, 8)
    >>> features = PatchKMeansFeatures(20, patch_size=4, n_patches=2000, random_state=0)
    >>> model = make_pipeline(features, StandardScaler(), LogisticRegression())
    >>> model.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.95
    True
    >>> features.transform(X).shape
    (1797, 80)
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseImageFeatures._parameter_constraints,
        "n_clusters": [Count(2)],
        **{name: [Count(1)] for name in ("patch_size", "stride", "n_patches", "pool")},
        "power": [Interval(Real, 0, 1, closed="right")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters: int = 400,
        *,
        patch_size: int = 6,
        stride: int = 1,
        n_patches: int = 100_000,
        pool: int = 2,
        power: float = 0.5,
        random_state: int | np.random.RandomState | None = None,
        batch_size: int = 8,
        device: str | torch.device = "cpu",
    ):
        self.n_clusters = n_clusters
        self.patch_size = patch_size
        self.stride = stride
        self.n_patches = n_patches
        self.pool = pool
        self.power = power
        self.random_state = random_state
        self.batch_size = batch_size
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    @default_torch_modes()
    def fit(self, X: ArrayLike, y: None = None) -> "PatchKMeansFeatures":
        """Find the clusters of patches.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, uint8 or floats.

        y : None
            Not used.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If X is malformed, its images are too small for the patches and the grid, or the
            patches are fewer than the clusters.
        """
        X = self._check(X, reset=True)
        self._check_size(X)
        random_state = check_random_state(self.random_state)
        patches = _sample(X, self.patch_size, self.n_patches, random_state)
        if len(patches) < self.n_clusters:
            raise ValueError(
                f"n_clusters={self.n_clusters} needs as many patches, got {len(patches)}. Raise "
                f"n_patches={self.n_patches}, pass more images, or use fewer clusters."
            )
        # A share of the variance of all pixels, so that noise in flat patches is not amplified: on
        # uint8 images of CIFAR-10 about 10, as published. Where all pixels are the same, any number
        # will do.
        self.contrast_ = 0.0025 * (float(patches.var(correction=0)) or 1.0)
        patches = _normalize(patches, self.contrast_)
        mean, whitening = _zca(patches)
        # One start: patches are many, and the features hardly depend on where the centers are.
        kmeans = MiniBatchKMeans(
            self.n_clusters, batch_size=4096, max_iter=10, n_init=1, random_state=random_state
        ).fit(((patches - mean) @ whitening).numpy())
        self.mean_ = mean.numpy()
        self.whitening_ = whitening.numpy()
        shape = (self.n_clusters, X.shape[1], self.patch_size, self.patch_size)
        self.cluster_centers_ = kmeans.cluster_centers_.reshape(shape)
        return self

    def _operation(self, X, device):
        self._check_size(X)
        arrays = self.mean_, self.whitening_, self.cluster_centers_
        mean, whitening, centers = (torch.from_numpy(array).to(device) for array in arrays)
        size, stride = centers.shape[-1], self.stride
        grid = _positions(X, size, stride)
        centers = centers.flatten(start_dim=1)
        shift = mean @ whitening
        squares = centers.square().sum(dim=1)

        def features(x):
            x = as_float(x).unfold(2, size, stride).unfold(3, size, stride)
            patches = x.permute(0, 2, 3, 1, 4, 5).reshape(-1, len(whitening))
            white = _normalize(patches, self.contrast_) @ whitening - shift
            # |p - c|^2 = |p|^2 - 2 p c + |c|^2
            z = torch.addmm(squares, white, centers.T, alpha=-2)
            z += white.square().sum(dim=1, keepdim=True)
            z.clamp_(min=0).sqrt_()
            f = torch.sub(z.mean(dim=1, keepdim=True), z, out=z).clamp_(min=0)
            cells = [
                cell.sum(dim=(1, 2))
                for row in f.view(-1, *grid, len(squares)).tensor_split(self.pool, dim=1)
                for cell in row.tensor_split(self.pool, dim=2)
            ]
            return torch.cat(cells, dim=1).pow_(self.power)

        return features

    def _check_size(self, X):
        """Refuse images that are too small for a patch or for the grid."""
        grid = _positions(X, self.patch_size, self.stride)
        if self.pool > min(grid):
            raise ValueError(
                f"Images of {X.shape[2]} x {X.shape[3]} pixels have too few patches for a grid of "
                f"pool={self.pool} x {self.pool} cells. Use a smaller pool, "
                f"stride={self.stride} or patch_size={self.patch_size}, or larger images."
            )

    @property
    def _n_features_out(self):
        """Number of columns: of all cells, all clusters."""
        return self.pool**2 * len(self.cluster_centers_)
