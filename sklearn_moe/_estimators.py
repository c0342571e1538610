"""What metrics and pictures ask of an estimator, whatever its class."""

import numpy as np
from sklearn.pipeline import Pipeline

__all__ = ["count_experts", "final_step"]


def final_step(estimator, X, needs=("apply",)):
    """Return the mixture at the end of a pipeline, and X as it sees it.

    Parameters
    ----------
    estimator : estimator instance
        Fitted mixture of experts, or a fitted :class:`~sklearn.pipeline.Pipeline` in which it is
        the last step.

    X : array-like of shape (n_samples, ...)
        Samples, as `estimator` takes them.

    needs : tuple of str, default=("apply",)
        The methods that the mixture must have.

    Returns
    -------
    estimator : estimator instance
        The mixture itself.

    X : array-like of shape (n_samples, ...)
        Samples as the mixture takes them.

    Raises
    ------
    TypeError
        If the mixture lacks one of the methods.
    """
    if isinstance(estimator, Pipeline):
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
        estimator = estimator[-1]
    missing = [name for name in needs if not hasattr(estimator, name)]
    if missing:
        raise TypeError(
            f"A fitted mixture of experts with the methods {', '.join(needs)} is needed, but "
            f"{type(estimator).__name__} does not have {', '.join(missing)}. Pass the mixture "
            "itself, or a Pipeline that ends in it (of a search, `best_estimator_`), and X as "
            "it takes it."
        )
    return estimator, X


def count_experts(estimator, X):
    """Return the number of experts of a fitted mixture, None if it does not tell."""
    if hasattr(estimator, "n_experts"):
        return estimator.n_experts
    if hasattr(estimator, "gate_proba"):
        return np.shape(estimator.gate_proba(X[:1]))[1]
    return None
