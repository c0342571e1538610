"""Data sets with a known cluster structure for mixtures of experts."""

from ._cluster_patches import PAPER_SETTINGS, make_cluster_patches
from ._paper_patches import make_paper_patches
from ._rotation import make_rotation_task

__all__ = [
    "PAPER_SETTINGS",
    "make_cluster_patches",
    "make_paper_patches",
    "make_rotation_task",
]
