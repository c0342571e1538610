"""The picture task of Chen et al. (2022): is it rotated? CIFAR-10-Rotate from any pictures."""

import math
from numbers import Real

import numpy as np
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from .._validation import Count
from ._turning import check_task

__all__ = ["make_rotation_task"]

_BATCH_VALUES = 2**22  # torchvision works in float32: 16 MB at a time stay near the processor


def _inscribed_side(height, width, angle):
    """Return the side of the largest centered square that no corner reaches after rotation.

    A square whose outermost pixel centers are at distance m from the center in both directions
    takes, rotated, pixels up to m * (|cos| + |sin|) from it. They must not lie beyond the last
    pixel center of the picture, where bilinear interpolation begins to mix in the outside.
    """
    short = min(height, width)
    stretch = abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))
    reach = (short - 1) / round(stretch, 9)  # rounded: exactly 1 at right angles

    def spread(side):  # 2 m; a crop whose side has another parity is half a pixel off center
        return side - 1 + ((height - side) % 2 or (width - side) % 2)

    return next(side for side in range(short, 0, -1) if spread(side) <= reach)


def _turn(images, angle, side, size, interpolation):
    """Rotate, crop and resize a batch of pictures, (n, c, h, w) -> (n, c, size, size)."""
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    batch = torch.from_numpy(images.copy())  # `images` may be read-only, or reversed
    batch = F.rotate(batch, angle, interpolation=InterpolationMode(interpolation))
    batch = F.center_crop(batch, [side, side])
    return F.resize(batch, [size, size], antialias=True).numpy()


@validate_params(
    {
        "images": ["array-like"],
        "groups": ["array-like", None],
        "angle": [Interval(Real, None, None, closed="neither")],
        "crop": [StrOptions({"inscribed", "paper"})],
        "symmetric": ["boolean"],
        "interpolation": [StrOptions({"bilinear", "nearest"})],
        "size": [Count(1), None],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_rotation_task(
    images,
    groups=None,
    *,
    angle=30.0,
    crop="inscribed",
    symmetric=False,
    interpolation="bilinear",
    size=None,
    shuffle=True,
    random_state=None,
):
    """Make two classes of any pictures: as they are (0) and rotated (1).

    Every picture appears twice, once in either class. What the picture shows, its group, does not
    tell the class: it is a cluster that an expert may specialize in. With the pictures and
    the classes of CIFAR-10 this is CIFAR-10-Rotate of [1]_. The pictures are rotated about their
    center, cropped to a centered square and resized.

    Parameters
    ----------
    images : array-like of shape (n_samples, channels, height, width)
        The pictures: uint8 or finite floats, at least 4 x 4 pixels.

    groups : array-like of shape (n_samples,), default=None
        The group of every picture, as a rule its original class. None: every picture is a group
        of its own, and the groups returned tell which two belong together.

    angle : float, default=30.0
        The angle of the rotation in degrees, counterclockwise.

    crop : {"inscribed", "paper"}, default="inscribed"
        The square that is left of the pictures, the same for both classes:

        - "inscribed": the largest one without any black of the corners that a rotation uncovers;
          22 of 32 pixels at 30 degrees.
        - "paper": three quarters of the shorter side, 24 of 32 pixels, as in the code of [1]_.
          With bilinear interpolation this is too much: **darkened corners give the label away**.

    symmetric : bool, default=False
        Whether to rotate class 0 by `-angle / 2` and class 1 by `angle / 2` instead of class 1
        alone. Then both are equally sharp; see the notes.

    interpolation : {"bilinear", "nearest"}, default="bilinear"
        How the rotation takes a pixel from between others. "nearest" leaves jagged edges; with
        `crop="paper"` it gives exactly the pictures of the code of [1]_, whose corners are clean
        at 30 degrees. The resizing is always bilinear.

    size : int, default=None
        Height and width of the pictures returned. None: the shorter side of `images`.

    shuffle : bool, default=True
        Whether to mix the two classes. If False, all pictures of class 0 come first, then all of
        class 1, both in the order of `images`.

    random_state : int, RandomState instance or None, default=None
        Determines the order. Pass an int for reproducible output across multiple function calls.

    Returns
    -------
    X : ndarray of shape (2 * n_samples, channels, size, size)
        The pictures, in the type of `images`: uint8, float32 or float64. Of float16 they are
        float32.

    y : ndarray of int of shape (2 * n_samples,)
        The classes: 0 for an original picture, 1 for a rotated one.

    groups : ndarray of shape (2 * n_samples,)
        The group of every picture.

    Raises
    ------
    ValueError
        If `images` has another shape or type, `groups` another length, or `angle` is a multiple
        of 360 degrees, which would leave nothing to learn.

    See Also
    --------
    make_orientation_task : A task of rotation whose resampling tells nothing.
    fetch_cifar10 : The pictures of the paper.
    load_image_folder : Pictures from a tree of folders.

    Notes
    -----
    Rotation takes pixels from between others and so makes a picture smoother ("bilinear") or more
    jagged ("nearest") than an original: a network can see that instead of the orientation. On
    CIFAR-10 the energy of the Laplacian, over the variance of the picture, tells the classes apart
    with an area under the ROC curve of 0.7 alone. It is 0.5 with `symmetric=True`, where both
    classes are rotated as far, in opposite directions; the pattern of the interpolation still has a
    direction. :func:`make_orientation_task` leaves no such traces.

    The two copies of a picture belong on the same side of a split into training and test samples.
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
    images, groups = check_task(
        images, groups, caller="make_rotation_task", purpose="rotated and cropped"
    )
    n_samples, channels, height, width = images.shape
    short = min(height, width)
    if angle % 360 == 0:
        raise ValueError(
            f"angle={angle} leaves a picture as it is: both classes would be the same. Pass an "
            "angle that is no multiple of 360, in degrees."
        )
    angles = (-angle / 2, angle / 2) if symmetric else (0.0, angle)

    side = _inscribed_side(height, width, angles[1]) if crop == "inscribed" else round(0.75 * short)
    size = short if size is None else size

    order = np.arange(2 * n_samples)
    if shuffle:
        check_random_state(random_state).shuffle(order)
    X = np.empty((2 * n_samples, channels, size, size), dtype=images.dtype)
    y = np.empty(2 * n_samples, dtype=int)
    all_groups = np.empty(2 * n_samples, dtype=groups.dtype)
    batch_size = max(1, _BATCH_VALUES // (channels * height * width))
    # Straight to their places: shuffling afterwards would need the memory twice.
    for label, (turn, places) in enumerate(zip(angles, order.reshape(2, n_samples), strict=True)):
        y[places] = label
        all_groups[places] = groups
        for batch in gen_batches(n_samples, batch_size):
            X[places[batch]] = _turn(images[batch], turn, side, size, interpolation)
    return X, y, all_groups
