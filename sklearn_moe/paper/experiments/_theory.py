"""What the experiments on the paper's theorems share."""

from math import comb

__all__ = ["COLORS", "covered_by_chance", "expected_covered"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe-Ito


def covered_by_chance(n_clusters, n_experts):
    """Return the probability that experts which commit at random cover all clusters.

    The coupon collector's, by inclusion and exclusion.
    """
    return sum(
        (-1) ** j * comb(n_clusters, j) * (1 - j / n_clusters) ** n_experts
        for j in range(n_clusters + 1)
    )


def expected_covered(n_clusters, n_experts):
    """Return how many clusters experts that commit at random cover on average."""
    return n_clusters * (1 - (1 - 1 / n_clusters) ** n_experts)
