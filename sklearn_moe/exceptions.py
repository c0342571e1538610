"""Warnings that sklearn_moe raises and a user may want to filter."""

__all__ = ["ExpertCollapseWarning", "WorseThanNullWarning"]


class ExpertCollapseWarning(UserWarning):
    """One expert of a mixture computes nearly every sample.

    The mixture then behaves like a single expert. The message has the load of the experts and the
    remedies.
    """


class WorseThanNullWarning(UserWarning):
    """A model predicts worse than the best constant prediction, which does not use X.

    It may have overfitted. The message names both scores.
    """
