"""Whether a mixture that is fitted again splits the samples in the same way."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone, is_classifier
from sklearn.metrics import adjusted_rand_score
from sklearn.utils import _safe_indexing, check_random_state, resample
from sklearn.utils._param_validation import validate_params

from .._compat import numbered, show_progress
from .._validation import Count, check_same_length, final_step

# A refit of which the score is larger finds the same regimes.
_MIN_AGREEMENT = 0.8


@dataclass(frozen=True, eq=False)
class RoutingStability:
    """Result of :func:`routing_stability`.

    Attributes
    ----------
    scores : ndarray of shape (n_refits,)
        Adjusted Rand index of the split of each refit with that of the first fit: 1 if they are the
        same, 0 by chance.

    mean, low, high : float
        Mean of the scores, and the range of 95 % of them.

    null_low, null_high : float
        Range of 95 % of the scores if the experts of each refit are shuffled among the samples. It
        is 1 if there is no split: all samples have the same expert.

    n_agree : int
        Number of refits that agree with the first fit: their score is above 0.8 and above the null.
        If the first fit has no split, those without one agree.
    """

    scores: np.ndarray
    mean: float
    low: float
    high: float
    null_low: float
    null_high: float
    n_agree: int

    def __str__(self):
        """Return the figures in a sentence."""
        return (
            f"{self.n_agree} of {len(self.scores)} refits agree: adjusted Rand index "
            f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f}), "
            f"by chance {self.null_low:.2f} to {self.null_high:.2f}"
        )


@validate_params(
    {"y": ["array-like"], "n_refits": [Count(1)], "verbose": ["verbose"]},
    prefer_skip_nested_validation=True,
)
def routing_stability(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    n_refits: int = 20,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    verbose: bool | int = 0,
) -> RoutingStability:
    """Measure how stable the split of the samples among the experts is for other samples.

    The estimator is fitted to all samples, and again to bootstrap samples. Each of these refits
    splits all samples, and its split is compared with that of the first fit.

    Parameters
    ----------
    estimator : estimator instance
        Mixture of experts, or a :class:`~sklearn.pipeline.Pipeline` that ends in one. It need not
        be fitted, and stays as it is.

    X : array-like of shape (n_samples, ...)
        Samples.

    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets or class labels.

    n_refits : int, default=20
        Number of bootstrap samples. Those of classes have the same shares of the classes.

    random_state : int, RandomState instance or None, default=None
        Source of the bootstrap samples and of the shuffles of the null. The fits have the
        `random_state` of `estimator`: if it is an int, only the samples differ; if it is None, the
        starts as well.

    n_jobs : int, default=None
        Number of fits at the same time. None is 1, and -1 all processors.

    verbose : bool or int, default=0
        Whether a bar tells which fit has begun, and counts the steps of those of mixtures of
        estimators in this process. Files and pipes get none.

    Returns
    -------
    stability : RoutingStability
        With `scores`, their `mean`, `low` and `high`, the null, and `n_agree`.

    Raises
    ------
    TypeError
        If the fitted estimator has no method `apply`.

    ValueError
        If the lengths of X and y differ.

    See Also
    --------
    region_rules : What the regimes are, in words.

    Notes
    -----
    Where several experts are selected for a sample, the first one counts. A split may be stable
    without any regimes in y, if it follows clusters of X.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> from sklearn_moe.inspection import routing_stability
    >>> X, y = make_blobs(200, centers=2, random_state=0)
    >>> tree = DecisionTreeRegressor(max_leaf_nodes=2, random_state=0)  # its leaves are experts
    >>> print(routing_stability(tree, X, y, n_refits=5, random_state=0))
    5 of 5 refits agree: adjusted Rand index 0.99 (0.98 to 1.00), by chance -0.00 to 0.02
    """
    check_same_length(X=X, y=y)
    generator = check_random_state(random_state)
    n_samples = len(y)
    strata = y if is_classifier(estimator) and np.ndim(y) == 1 else None
    samples = [np.arange(n_samples)] + [
        resample(np.arange(n_samples), random_state=generator, stratify=strata)
        for _ in range(n_refits)
    ]
    with show_progress("routing_stability", verbose):
        first, *refits = Parallel(n_jobs=n_jobs)(
            delayed(_split)(estimator, X, y, rows) for rows in numbered("fit", samples)
        )
    scores = np.array([adjusted_rand_score(first, split) for split in refits])
    null = [adjusted_rand_score(first, generator.permutation(split)) for split in refits]
    (low, high), (null_low, null_high) = np.quantile([scores, null], [0.025, 0.975], axis=1).T
    # Where all samples have one expert, chance agrees as well.
    least = _MIN_AGREEMENT if np.ptp(first) == 0 else max(_MIN_AGREEMENT, null_high)
    n_agree = int(np.sum(scores > least))
    return RoutingStability(scores, scores.mean(), low, high, null_low, null_high, n_agree)


def _split(estimator, X, y, rows):
    """Return the expert of every sample, after a fit to some of them."""
    fitted = clone(estimator).fit(_safe_indexing(X, rows), _safe_indexing(y, rows))
    mixture, X = final_step(fitted, X)
    return np.asarray(mixture.apply(X)).reshape(len(y), -1)[:, 0]
