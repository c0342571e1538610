"""What tasks of turned pictures ask of their pictures and groups."""

import numpy as np

from .._image_checks import check_images
from .._validation import check_column, check_same_length

__all__ = ["check_task"]

_LEAST_SIDE = 4  # pixels


def check_task(images, groups, *, caller, purpose):
    """Return pictures that are large enough to be turned, and the group of each.

    Parameters
    ----------
    images, groups
        What was passed to `caller`; without groups every picture is one of its own.
    caller : str
        The function that takes them, for messages.
    purpose : str
        What is done to the pictures, for messages.
    """
    images = check_images(images, name="images", caller=caller)
    height, width = images.shape[2:]
    if min(height, width) < _LEAST_SIDE:
        raise ValueError(
            f"images must have at least {_LEAST_SIDE} x {_LEAST_SIDE} pixels to be {purpose}, got "
            f"{height} x {width} (height x width) of shape {images.shape}. Pass larger pictures, "
            "or resize."
        )
    groups = np.arange(len(images)) if groups is None else check_column(groups, "groups")
    check_same_length(images=images, groups=groups)
    return images, groups
