"""Data sets with a known cluster structure for mixtures of experts."""

from ._cifar10 import fetch_cifar10
from ._cluster_patches import PAPER_SETTINGS, make_cluster_patches
from ._image_folder import load_image_folder
from ._orientation import make_orientation_task
from ._rotation import make_rotation_task

__all__ = [
    "PAPER_SETTINGS",
    "fetch_cifar10",
    "load_image_folder",
    "make_cluster_patches",
    "make_orientation_task",
    "make_rotation_task",
]
