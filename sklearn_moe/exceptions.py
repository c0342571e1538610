"""Warnings that sklearn_moe raises and a user may want to filter."""

__all__ = ["ExpertCollapseWarning"]


class ExpertCollapseWarning(UserWarning):
    """One expert of a mixture computes nearly every sample.

    The mixture then behaves like a single expert. The message has the load of the experts and the
    remedies.
    """
