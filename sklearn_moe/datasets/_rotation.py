"""Classification tasks: by which angle is an image turned? Its own class becomes a cluster."""

import math
from collections.abc import Sequence
from itertools import combinations
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from .._validation import Count, check_column, check_images, check_named, check_same_length

_LEAST_SIDE = 4  # pixels
_ROTATION_VALUES = 2**22  # per batch: torchvision works in float32, 16 MB stay near the processor
_ORIENTATION_VALUES = 2**20
_STEPS = 6  # of the fine grid per standard deviation of the blur
_SHADES = 255
_SHARED_CONSTRAINTS = {
    "images": ["array-like"],
    "groups": ["array-like", None],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
}


def _check_task(images, groups, *, caller):
    """Return images that are large enough to be turned, and the group of each."""
    images = check_images(images, name="images", caller=caller)
    if min(images.shape[2:]) < _LEAST_SIDE:
        raise ValueError(
            f"images must have at least {_LEAST_SIDE} x {_LEAST_SIDE} pixels to be turned, got "
            f"{images.shape[2]} x {images.shape[3]} (height x width). Pass larger images, or "
            "resize them."
        )
    groups = np.arange(len(images)) if groups is None else check_column(groups, "groups")
    check_same_length(images=images, groups=groups)
    return images, groups


def _assemble(images, groups, indices, size, batch_size, turn):
    """Return X, y and groups with each image once in every class.

    `indices` (n_classes, n_samples) are their rows in the result. `turn(batch)` yields the turned
    images of a slice of samples, class after class.
    """
    X = np.empty((indices.size, images.shape[1], size, size), dtype=images.dtype)
    y, all_groups = np.empty(indices.size, dtype=int), np.empty(indices.size, dtype=groups.dtype)
    y[indices] = np.arange(len(indices))[:, None]
    all_groups[indices] = groups
    # Written to their places at once: to shuffle afterwards would need the memory twice.
    for batch in gen_batches(len(images), max(1, batch_size)):
        for turned, rows in zip(turn(batch), indices[:, batch], strict=True):
            X[rows] = turned
    return X, y, all_groups


def _indices(n_classes, n_samples, shuffle, random_state):
    """Return the row of the result for every sample of every class."""
    size = n_classes * n_samples
    order = random_state.permutation(size) if shuffle else np.arange(size)
    return order.reshape(n_classes, n_samples)


def _inscribed_side(height, width, angle):
    """Return the side of the largest centered square that no corner reaches after rotation.

    A square whose outermost pixel centers are at distance m from the center in both directions
    takes, rotated, pixels up to m * (|cos| + |sin|) from it. They must not lie beyond the last
    pixel center of the image, where bilinear interpolation begins to mix in the outside.
    """
    short = min(height, width)
    stretch = abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))
    reach = (short - 1) / round(stretch, 9)  # rounded: exactly 1 at right angles

    def spread(side):  # 2 m; a crop whose side has another parity is half a pixel off center
        return side - 1 + ((height - side) % 2 or (width - side) % 2)

    return next(side for side in range(short, 0, -1) if spread(side) <= reach)


@validate_params(
    _SHARED_CONSTRAINTS
    | {
        "angle": [Interval(Real, None, None, closed="neither")],
        "crop": [StrOptions({"inscribed", "paper"})],
        "symmetric": ["boolean"],
        "interpolation": [StrOptions({"bilinear", "nearest"})],
        "size": [Count(1), None],
    },
    prefer_skip_nested_validation=True,
)
def make_rotation_task(
    images: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    angle: float = 30.0,
    crop: Literal["inscribed", "paper"] = "inscribed",
    symmetric: bool = False,
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
    size: int | None = None,
    shuffle: bool = True,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make two classes of any images: as they are (0) and rotated (1).

    Every image appears twice, once in either class. What the image shows, its group, does not
    reveal the class: it is a cluster that an expert may specialize in. With the images and
    the classes of CIFAR-10 this is CIFAR-10-Rotate of [1]_. The images are rotated about their
    center, cropped to a centered square and resized.

    Parameters
    ----------
    images : array-like of shape (n_samples, channels, height, width)
        The images: uint8 or finite floats, at least 4 x 4 pixels.

    groups : array-like of shape (n_samples,), default=None
        The group of every image, as a rule its original class. None: every image is a group
        of its own, and the groups returned say which two belong together.

    angle : float, default=30.0
        The angle of the rotation in degrees, counterclockwise.

    crop : {"inscribed", "paper"}, default="inscribed"
        The square that is left of the images, the same for both classes:

        - "inscribed": the largest one without any black of the corners that a rotation uncovers;
          22 of 32 pixels at 30 degrees.
        - "paper": three quarters of the shorter side, 24 of 32 pixels, as in the code of [1]_.
          With bilinear interpolation this is too much: **darkened corners reveal the class**.

    symmetric : bool, default=False
        Whether to rotate class 0 by `-angle / 2` and class 1 by `angle / 2` instead of class 1
        alone. Then both are equally sharp; see the notes.

    interpolation : {"bilinear", "nearest"}, default="bilinear"
        How the rotation computes values between pixels. "nearest" leaves jagged edges; with
        `crop="paper"` it gives exactly the images of the code of [1]_, whose corners are clean
        at 30 degrees. The resizing is always bilinear.

    size : int, default=None
        Height and width of the images returned. None: the shorter side of `images`.

    shuffle : bool, default=True
        Whether to mix the two classes. If False, all images of class 0 come first, then all of
        class 1, both in the order of `images`.

    random_state : int, RandomState instance or None, default=None
        Determines the order. Pass an int for reproducible output across multiple function calls.

    Returns
    -------
    X : ndarray of shape (2 * n_samples, channels, size, size)
        The images, in the type of `images`: uint8, float32 or float64. Of float16 they are
        float32.

    y : ndarray of int of shape (2 * n_samples,)
        The classes: 0 for an original image, 1 for a rotated one.

    groups : ndarray of shape (2 * n_samples,)
        The group of every image.

    Raises
    ------
    ValueError
        If `images` has another shape or type, `groups` another length, or `angle` is a multiple
        of 360 degrees, which would leave nothing to learn.

    See Also
    --------
    make_orientation_task : A rotation task whose resampling does not reveal the class.
    fetch_cifar10 : The images of the paper.
    load_image_folder : Images from a tree of folders.

    Notes
    -----
    Rotation interpolates between pixels and so makes an image smoother ("bilinear") or more jagged
    ("nearest") than an original: a network can learn that instead of the orientation. On
    CIFAR-10 the energy of the Laplacian, over the variance of the image, tells the classes apart
    with an area under the ROC curve of 0.7 alone. It is 0.5 with `symmetric=True`, where both
    classes are rotated as far, in opposite directions; the pattern of the interpolation still has a
    direction. :func:`make_orientation_task` leaves no such trace.

    The two copies of an image belong on the same side of a split into training and test samples.
    Split before you make the task, or by the groups returned for `groups=None`, as with
    :class:`sklearn.model_selection.GroupKFold`.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_moe.datasets import make_rotation_task
    >>> digits = load_digits()
    >>> images = digits.images[:, None]  # one channel
    >>> X, y, groups = make_rotation_task(images, digits.target, random_state=0)
    >>> images.shape, X.shape
    ((1797, 1, 8, 8), (3594, 1, 8, 8))
    >>> y[:8], groups[:8]
    (array([1, 0, 0, 1, 0, 1, 0, 1]), array([5, 8, 3, 4, 5, 0, 7, 7]))
    """
    images, groups = _check_task(images, groups, caller="make_rotation_task")
    height, width = images.shape[2:]
    if angle % 360 == 0:
        raise ValueError(
            f"angle={angle} leaves an image as it is: both classes would be the same. Pass an "
            "angle that is no multiple of 360, in degrees."
        )
    angles = (-angle / 2, angle / 2) if symmetric else (0.0, angle)
    short = min(height, width)
    side = _inscribed_side(height, width, angles[1]) if crop == "inscribed" else round(0.75 * short)
    size = short if size is None else size
    indices = _indices(2, len(images), shuffle, check_random_state(random_state))

    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    mode = InterpolationMode(interpolation)

    def turn(batch):
        original = torch.from_numpy(images[batch].copy())  # it may be read-only, or reversed
        for angle in angles:
            turned = F.center_crop(F.rotate(original, angle, interpolation=mode), [side, side])
            yield F.resize(turned, [size, size], antialias=True).numpy()

    return _assemble(images, groups, indices, size, _ROTATION_VALUES // images[0].size, turn)


def _check_angles(angles):
    """Return the ranges, (n_classes, 2)."""
    ranges = check_named(angles, "angles", dtype=np.float64, ensure_min_samples=2)
    if ranges.shape[1] != 2 or (ranges[:, 0] > ranges[:, 1]).any():
        raise ValueError(
            f"angles={angles!r} must be a range (low, high) in degrees, low <= high, for each of "
            "at least two classes, as in ((-10, 10), (20, 40))."
        )
    for one, other in combinations(ranges, 2):
        distance = abs((one.mean() - other.mean() + 180) % 360 - 180)
        if distance < 1e-9 or distance + 1e-9 < (np.ptp(one) + np.ptp(other)) / 2:
            raise ValueError(
                f"angles={angles!r} has ranges that overlap on the circle, {tuple(one.tolist())} "
                f"and {tuple(other.tolist())}: an angle must belong to one class only."
            )
    return ranges


def _make_turner(height, width, size, blur, dtype):
    """Return a function that turns images about their center, and how many values it works on.

    It blurs them and samples the square within the inscribed disc. Pixels p of weight w(p), 1 in
    the disc and 0 elsewhere, are a function of the plane,

        f(x) = sum_p w(p) g(x - p) image(p) / sum_p w(p) g(x - p),    g Gaussian,

    which depends on the pixel grid only as far as g passes its frequency: nothing in it depends on
    the directions of the rows. f is computed on a fine grid, where g is a product of two matrices,
    and interpolated linearly at the turned places.
    """
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

    rows, columns = gauss(height), gauss(width).T
    disc = (torch.hypot(center(height)[:, None], center(width)) <= radius).double()
    total = (rows @ disc @ columns).clamp_min(1e-6)
    rows, columns, disc, total = (part.to(dtype) for part in (rows, columns, disc, total))
    places = center(size) * pitch / reach
    x, y = places[None, None, :], places[None, :, None]

    def turn(images, angles):
        """Yield f of images (n, c, h, w), turned by angles of shape (n_classes, n)."""
        plane = rows @ (torch.from_numpy(images.copy()).to(dtype) * disc) @ columns / total
        for angle in torch.deg2rad(torch.from_numpy(angles))[:, :, None, None]:
            cos, sin = torch.cos(angle), torch.sin(angle)
            grid = torch.stack([cos * x - sin * y, sin * x + cos * y], -1).to(dtype)
            yield torch.nn.functional.grid_sample(plane, grid, align_corners=True)

    return turn, max(height * width, len(fine) ** 2)


@validate_params(
    _SHARED_CONSTRAINTS
    | {
        "angles": ["array-like"],
        "blur": [Interval(Real, 0.5, None, closed="left")],
        "size": [Count(2), None],
        "return_angles": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_orientation_task(
    images: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    angles: Sequence[tuple[float, float]] = ((-10, 10), (20, 40)),
    blur: float = 1.25,
    size: int | None = None,
    shuffle: bool = True,
    return_angles: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, ...]:
    """Make classes of any images by how far they are turned, all resampled alike.

    Every image appears once in each class, turned by an angle drawn from the range of the class.
    As in :func:`make_rotation_task` what the image shows, its group, does not reveal the class.
    Unlike there the traces of resampling do not reveal it either, only the orientation does.

    Parameters
    ----------
    images : array-like of shape (n_samples, channels, height, width)
        The images: uint8 or finite floats, at least 4 x 4 pixels.

    groups : array-like of shape (n_samples,), default=None
        The group of every image, as a rule its original class. None: every image is a group
        of its own, and the groups returned say which belong together.

    angles : sequence of pairs (low, high), default=((-10, 10), (20, 40))
        For each class the range of its angles in degrees, counterclockwise. They are drawn
        uniformly, and may not overlap on the circle.

    blur : float, default=1.25
        Standard deviation of the Gaussian that all images are blurred by, in pixels of `images`,
        or of the result where those are larger. At least 0.5. **Below the default the pattern of
        the pixels is visible**, and its direction reveals the class.

    size : int, default=None
        Height and width of the images returned. None: the shorter side of `images`.

    shuffle : bool, default=True
        Whether to mix the classes. If False, all images of class 0 come first, then all of
        class 1 and so on, each in the order of `images`.

    return_angles : bool, default=False
        Whether to return the angles as well.

    random_state : int, RandomState instance or None, default=None
        Determines the angles and the order. Pass an int for reproducible output across multiple
        function calls.

    Returns
    -------
    X : ndarray of shape (n_classes * n_samples, channels, size, size)
        The images, in the type of `images`: uint8, float32 or float64. Of float16 they are
        float32. Floats have no more than 256 shades, equidistant from the least to the greatest
        value of all `images`; see the notes.

    y : ndarray of int of shape (n_classes * n_samples,)
        The classes: which range the angle is from.

    groups : ndarray of shape (n_classes * n_samples,)
        The group of every image.

    angles : ndarray of float of shape (n_classes * n_samples,)
        The angle of every image in degrees. Only if `return_angles` is True.

    Raises
    ------
    ValueError
        If `images` has another shape or type, `groups` another length, or `angles` are no ranges
        or overlap.

    See Also
    --------
    make_rotation_task : The task of the paper: as it is, or rotated by 30 degrees.
    fetch_cifar10 : The images of the paper.
    load_image_folder : Images from a tree of folders.

    Notes
    -----
    An image turned by 0 degrees keeps its pixels, one turned by 30 is interpolated: a network can
    learn that instead of the orientation. Here no angle is special:

    - Pixels outside of the inscribed disc are left out, and the result is the square within that
      disc. So no corner and no border depends on the angle.
    - Images are blurred equally in all directions, strongly enough that the grid of the pixels
      leaves no trace, and sampled once.
    - What is left of this trace is smaller than the rounding to 256 values, done for floats, too.

    On images without any orientation, sums of waves of all directions, the energy of the
    Laplacian, the spectrum in five rings and eight directions, and a linear model of it or of all
    frequencies tell the classes apart with an area under the ROC curve of 0.50 ± 0.01. It is so
    for the Laplacian and for every ring on CIFAR-10, too, and 0.52 for a linear model of these.
    That the spectrum there *has* directions, mostly horizontals and verticals, is no trace of
    resampling but the orientation itself: such a cue is legitimate.

    Ranges that are 90 degrees apart, as in `((-10, 10), (80, 100))`, have equal traces with any
    blur: the grid of pixels is the same after a quarter turn.

    The copies of an image belong on the same side of a split into training and test samples. Split
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
    images, groups = _check_task(images, groups, caller="make_orientation_task")
    n_samples, n_channels, height, width = images.shape
    ranges = _check_angles(angles)
    size = min(height, width) if size is None else size
    rng = check_random_state(random_state)
    drawn = np.stack([rng.uniform(low, high, size=n_samples) for low, high in ranges])
    indices = _indices(len(ranges), n_samples, shuffle, rng)

    import torch

    is_uint8 = images.dtype == np.uint8
    low = 0 if is_uint8 else images.min()
    step = 1 if is_uint8 else (images.max() - low) / _SHADES or 1  # 1: all values are the same
    dtype = torch.float64 if images.dtype == np.float64 else torch.float32
    turner, n_values = _make_turner(height, width, size, blur, dtype)

    def turn(batch):
        for turned in turner(images[batch], drawn[:, batch]):
            yield turned.sub_(low).div_(step).round_().mul_(step).add_(low).numpy()

    batch_size = _ORIENTATION_VALUES // (n_channels * n_values)
    task = _assemble(images, groups, indices, size, batch_size, turn)
    all_angles = np.empty(drawn.size)
    all_angles[indices] = drawn
    return (*task, all_angles) if return_angles else task
