"""Data sets with a known cluster structure for mixtures of experts."""

from sklearn_moe.datasets._cifar10 import fetch_cifar10
from sklearn_moe.datasets._cluster_patches import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.datasets._image_folder import load_image_folder
from sklearn_moe.datasets._rotation import make_rotation_task

__all__ = [
    "PAPER_SETTINGS",
    "fetch_cifar10",
    "load_image_folder",
    "make_cluster_patches",
    "make_rotation_task",
]
