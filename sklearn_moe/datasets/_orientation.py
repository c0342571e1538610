"""Which way is it turned? A rotation task whose resampling does not give the class away."""

import math
from itertools import combinations
from numbers import Real

import numpy as np
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, validate_params

from .._validation import Count
from ._turning import check_task

__all__ = ["make_orientation_task"]

_BATCH_VALUES = 2**20  # 4 MB at a time stay near the processor
_STEPS = 6  # of the fine grid per standard deviation of the blur
_SHADES = 255


def _check_angles(angles):
    """Return the ranges as pairs of floats."""
    try:
        ranges = np.asarray(angles, dtype=float)
    except (TypeError, ValueError):
        ranges = np.empty(0)
    if ranges.ndim != 2 or ranges.shape[1] != 2 or len(ranges) < 2 or not np.isfinite(ranges).all():
        raise ValueError(
            f"angles={angles!r} must be a range (low, high) in degrees for each of at least two "
            "classes, as in ((-10, 10), (20, 40))."
        )
    for low, high in ranges:
        if not low <= high:
            raise ValueError(f"angles={angles!r} has a range from {low:g} down to {high:g}.")
    for one, other in combinations(ranges, 2):
        distance = abs((one.mean() - other.mean() + 180) % 360 - 180)
        if distance < 1e-9 or distance + 1e-9 < (np.ptp(one) + np.ptp(other)) / 2:
            raise ValueError(
                f"angles={angles!r} has ranges that overlap on the circle, {tuple(one.tolist())} "
                f"and {tuple(other.tolist())}: angles in both have no class of their own."
            )
    return ranges.tolist()


class _Turner:
    """Turns pictures about their center, blurs them and samples the square within the disc.

    Pixels p of weight w(p), 1 in the inscribed disc and 0 elsewhere, make a picture in the plane,

        f(x) = sum_p w(p) g(x - p) image(p) / sum_p w(p) g(x - p),    g Gaussian,

    which knows of the pixel grid only as far as g passes its frequency: nothing in it depends on
    the directions of the rows. f is computed on a fine grid, where g is a product of two matrices,
    and read off at the turned places, in between linearly.
    """

    def __init__(self, height, width, size, blur):
        import torch

        radius = min(height, width) / 2
        pitch = math.sqrt(2) * radius / size  # from pixel to pixel of the result
        sigma = blur * max(1, pitch)
        half = (size - 1) / 2 * pitch
        n_steps = math.ceil(math.sqrt(2) * half * _STEPS / sigma) + 1
        reach = n_steps * sigma / _STEPS  # of the fine grid, to either side
        fine = torch.linspace(-reach, reach, 2 * n_steps + 1, dtype=torch.float64)

        def center(n):
            return torch.arange(n, dtype=torch.float64) - (n - 1) / 2

        def gauss(n):
            exponent = ((fine[:, None] - center(n)) / sigma) ** 2 / 2
            return torch.where(exponent < 14, torch.exp(-exponent), 0)  # denormal numbers are slow

        self.rows, self.columns = gauss(height), gauss(width).T
        distance = torch.hypot(center(height)[:, None], center(width))
        self.disc = (distance <= radius).double()
        self.total = (self.rows @ self.disc @ self.columns).clamp_min(1e-6)
        self.places = center(size) * pitch / reach
        self.n_values = max(height * width, len(fine) ** 2)

    def __call__(self, images, angles):
        """Return f of images (n, c, h, w), turned by angles of shape (n_classes, n)."""
        import torch

        rows, columns, disc, total = (
            part.to(images.dtype) for part in (self.rows, self.columns, self.disc, self.total)
        )
        plane = rows @ (images * disc) @ columns / total
        x, y = self.places[None, None, :], self.places[None, :, None]
        turned = []
        for angle in torch.deg2rad(angles)[:, :, None, None]:
            cos, sin = torch.cos(angle), torch.sin(angle)
            grid = torch.stack([cos * x - sin * y, sin * x + cos * y], -1).to(images.dtype)
            turned.append(torch.nn.functional.grid_sample(plane, grid, align_corners=True))
        return turned


def _turn(images, angles, places, size, blur):
    """Return turned pictures, each at its place; angles and places are (n_classes, n_samples)."""
    import torch

    n_samples, channels, height, width = images.shape
    is_bytes = images.dtype == np.uint8
    low = 0 if is_bytes else images.min()
    step = 1 if is_bytes else (images.max() - low) / _SHADES or 1  # 1: all values are the same
    turn = _Turner(height, width, size, blur)
    X = np.empty((places.size, channels, size, size), dtype=images.dtype)
    angles = torch.from_numpy(angles)
    dtype = torch.float64 if images.dtype == np.float64 else torch.float32
    batch_size = max(1, _BATCH_VALUES // (channels * turn.n_values))
    # Straight to their places: shuffling afterwards would need the memory twice.
    for batch in gen_batches(n_samples, batch_size):
        # A copy, as `images` may be read-only, or reversed.
        chunk = torch.from_numpy(images[batch].copy()).to(dtype)
        for turned, rows in zip(turn(chunk, angles[:, batch]), places[:, batch], strict=True):
            X[rows] = turned.sub_(low).div_(step).round_().mul_(step).add_(low).numpy()
    return X


@validate_params(
    {
        "images": ["array-like"],
        "groups": ["array-like", None],
        "angles": ["array-like"],
        "blur": [Interval(Real, 0.5, None, closed="left")],
        "size": [Count(2), None],
        "shuffle": ["boolean"],
        "return_angles": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_orientation_task(
    images,
    groups=None,
    *,
    angles=((-10, 10), (20, 40)),
    blur=1.25,
    size=None,
    shuffle=True,
    return_angles=False,
    random_state=None,
):
    """Make classes of any pictures by how far they are turned, all resampled alike.

    Every picture appears once in each class, turned by an angle drawn from the range of the class.
    As in :func:`make_rotation_task` what the picture shows, its group, does not tell the class.
    Unlike there the traces of resampling do not tell it either: what is left is the orientation.

    Parameters
    ----------
    images : array-like of shape (n_samples, channels, height, width)
        The pictures: uint8 or finite floats, at least 4 x 4 pixels.

    groups : array-like of shape (n_samples,), default=None
        The group of every picture, as a rule its original class. None: every picture is a group
        of its own, and the groups returned tell which belong together.

    angles : sequence of pairs (low, high), default=((-10, 10), (20, 40))
        For each class the range of its angles in degrees, counterclockwise. They are drawn
        uniformly, and may not overlap on the circle.

    blur : float, default=1.25
        Standard deviation of the Gaussian that all pictures are blurred by, in pixels of `images`,
        or of the result where those are larger. At least 0.5. **Below the default the pattern of
        the pixels shows**, and its direction gives the class away.

    size : int, default=None
        Height and width of the pictures returned. None: the shorter side of `images`.

    shuffle : bool, default=True
        Whether to mix the classes. If False, all pictures of class 0 come first, then all of
        class 1 and so on, each in the order of `images`.

    return_angles : bool, default=False
        Whether to return the angles as well.

    random_state : int, RandomState instance or None, default=None
        Determines the angles and the order. Pass an int for reproducible output across multiple
        function calls.

    Returns
    -------
    X : ndarray of shape (n_classes * n_samples, channels, size, size)
        The pictures, in the type of `images`: uint8, float32 or float64. Of float16 they are
        float32. Floats have no more than 256 shades, equidistant from the least to the greatest
        value of all `images`; see the notes.

    y : ndarray of int of shape (n_classes * n_samples,)
        The classes: which range the angle is from.

    groups : ndarray of shape (n_classes * n_samples,)
        The group of every picture.

    angles : ndarray of float of shape (n_classes * n_samples,)
        The angle of every picture in degrees. Only if `return_angles` is True.

    Raises
    ------
    ValueError
        If `images` has another shape or type, `groups` another length, or `angles` are no ranges
        or overlap.

    See Also
    --------
    make_rotation_task : The task of the paper: as it is, or rotated by 30 degrees.
    fetch_cifar10 : The pictures of the paper.
    load_image_folder : Pictures from a tree of folders.

    Notes
    -----
    A picture turned by 0 degrees keeps its pixels, one turned by 30 is interpolated: a network can
    learn that instead of the orientation. Here no angle is special:

    - Pixels outside of the inscribed disc are left out, and the result is the square within that
      disc. So no corner and no border depends on the angle.
    - Pictures are blurred equally in all directions, strongly enough that the grid of the pixels
      leaves no trace, and sampled once.
    - What is left of it lies below the rounding to bytes, which floats undergo, too.

    On pictures without any orientation, sums of waves of all directions, the energy of the
    Laplacian, the spectrum in five rings and eight directions, and a linear model of it or of all
    frequencies tell the classes apart with an area under the ROC curve of 0.50 ± 0.01. It is so
    for the Laplacian and for every ring on CIFAR-10, too, and 0.52 for a linear model of these.
    That the spectrum there *has* directions, mostly horizontals and verticals, is no trace of
    resampling but the orientation itself: such a cue is legitimate.

    Ranges that are 90 degrees apart, as in `((-10, 10), (80, 100))`, are alike with any blur: the
    grid of pixels is the same after a quarter turn.

    The copies of a picture belong on the same side of a split into training and test samples. Split
    before you make the task, or by the groups returned for `groups=None`, as with
    :class:`sklearn.model_selection.GroupKFold`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_moe.datasets import make_orientation_task
    >>> digits = load_digits()
    >>> images = digits.images[:, None]  # one channel
    >>> X, y, groups, angles = make_orientation_task(
    ...     images, digits.target, size=16, return_angles=True, random_state=0)
    >>> images.shape, X.shape
    ((1797, 1, 8, 8), (3594, 1, 16, 16))
    >>> y[:4], groups[:4], angles[:4].round()
    (array([1, 1, 1, 0]), array([4, 8, 3, 6]), array([ 27.,  24.,  36., -10.]))
    """
    images, groups = check_task(images, groups, caller="make_orientation_task", purpose="turned")
    n_samples, _, height, width = images.shape
    ranges = _check_angles(angles)
    size = min(height, width) if size is None else size

    rng = check_random_state(random_state)
    drawn = np.stack([rng.uniform(low, high, size=n_samples) for low, high in ranges])
    order = np.arange(drawn.size)
    if shuffle:
        rng.shuffle(order)
    places = order.reshape(drawn.shape)
    y, all_groups, all_angles = (np.empty(drawn.size, dtype=t) for t in (int, groups.dtype, float))
    y[places] = np.arange(len(ranges))[:, None]
    all_groups[places] = groups
    all_angles[places] = drawn
    X = _turn(images, drawn, places, size, blur)
    return (X, y, all_groups, all_angles) if return_angles else (X, y, all_groups)
