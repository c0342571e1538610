"""A classification task: is an image rotated? Its own class becomes a cluster."""

import math
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from .._validation import check_column, check_images, check_same_length

# Values of a batch: torchvision works in float32, and 16 MB stay near the processor.
_BATCH_VALUES = 2**22


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
    {
        "images": ["array-like"],
        "groups": ["array-like", None],
        "angle": [Interval(Real, None, None, closed="neither")],
        "crop": [StrOptions({"inscribed", "paper"})],
        "symmetric": ["boolean"],
        "interpolation": [StrOptions({"bilinear", "nearest"})],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
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
        The images: uint8 or finite floats.

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

    shuffle : bool, default=True
        Whether to mix the two classes. If False, all images of class 0 come first, then all of
        class 1, both in the order of `images`.

    random_state : int, RandomState instance or None, default=None
        Determines the order. Pass an int for reproducible output across multiple function calls.

    Returns
    -------
    X : ndarray of shape (2 * n_samples, channels, side, side)
        The images, of the shorter side of `images`, and in their type: uint8, float32 or float64.
        Of float16 they are float32.

    y : ndarray of int of shape (2 * n_samples,)
        The classes: 0 for an original image, 1 for a rotated one.

    groups : ndarray of shape (2 * n_samples,)
        The group of every image.

    Raises
    ------
    ValueError
        If `images` has another shape or type, or `groups` another length.

    Notes
    -----
    Rotation interpolates between pixels and so makes an image smoother ("bilinear") or more jagged
    ("nearest") than an original: a network can learn that instead of the orientation. On
    CIFAR-10 the energy of the Laplacian, over the variance of the image, tells the classes apart
    with an area under the ROC curve of 0.7 alone. It is 0.5 with `symmetric=True`, where both
    classes are rotated as far, in opposite directions; the pattern of the interpolation still has a
    direction.

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
    images = check_images(images, name="images", caller="make_rotation_task")
    n_samples, n_channels, height, width = images.shape
    short = min(height, width)
    groups = np.arange(n_samples) if groups is None else check_column(groups, "groups")
    check_same_length(images=images, groups=groups)
    angles = (-angle / 2, angle / 2) if symmetric else (0.0, angle)
    is_inscribed = crop == "inscribed"
    side = _inscribed_side(height, width, angles[1]) if is_inscribed else round(0.75 * short)
    rng = check_random_state(random_state)
    order = rng.permutation(2 * n_samples) if shuffle else np.arange(2 * n_samples)
    # The row of the result for every image of either class. Written there at once: to shuffle
    # afterwards would need the memory twice.
    rows = order.reshape(2, n_samples)
    y = np.empty(2 * n_samples, dtype=int)
    y[rows] = [[0], [1]]
    all_groups = np.empty(2 * n_samples, dtype=groups.dtype)
    all_groups[rows] = groups

    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    mode = InterpolationMode(interpolation)
    X = np.empty((2 * n_samples, n_channels, short, short), dtype=images.dtype)
    for batch in gen_batches(n_samples, max(1, _BATCH_VALUES // images[0].size)):
        # A copy: the images may be read-only, or reversed.
        originals = torch.from_numpy(images[batch].copy())
        for label, degrees in enumerate(angles):
            turned = F.rotate(originals, degrees, interpolation=mode)
            cropped = F.center_crop(turned, [side, side])
            X[rows[label, batch]] = F.resize(cropped, [short, short], antialias=True).numpy()
    return X, y, all_groups
