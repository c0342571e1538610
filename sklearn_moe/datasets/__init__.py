"""Data sets with a known cluster structure for mixtures of experts."""

from sklearn_moe.datasets._cluster_patches import PAPER_SETTINGS, make_cluster_patches

__all__ = ["PAPER_SETTINGS", "make_cluster_patches"]
