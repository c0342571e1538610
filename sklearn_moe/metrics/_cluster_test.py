"""Whether samples have clusters that one expert cannot serve."""

import inspect
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from scipy.stats import t
from sklearn.base import clone, is_classifier
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils import Bunch


def cluster_test(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_splits: int = 5,
    n_jobs: int | None = None,
    random_state: int = 0,
) -> Bunch:
    """Test whether samples have clusters that one expert cannot serve.

    A mixture is better than an expert of its own kind for two other reasons, too: it has more
    units, and its experts may be an ensemble. So it is compared with one expert of as many units
    and with as many experts that are averaged without a router, on rows that none of them saw. It
    has to beat both: the larger one of two p values counts, which needs no correction. The folds
    share training rows, for which the t-test over their mean losses is corrected [1]_. The test is
    careful: where there are no clusters, an average is better than a mixture.

    Parameters
    ----------
    model : estimator instance
        :class:`~sklearn_moe.MoEClassifier` or :class:`~sklearn_moe.MoERegressor` with several
        experts of one kind, such as the default for bags; it is cloned.

    X : array-like of shape (n_samples, ...)
        Samples, as a rule bags (n_samples, n_patches, patch_size).

    y : array-like of shape (n_samples,)
        Targets.

    n_splits : int, default=5
        The number of folds. Each takes three fits.

    n_jobs : int or None, default=None
        The number of folds that run in parallel, by joblib. None means 1, -1 all cores.

    random_state : int, default=0
        Seed of the folds; the models have their own.

    Returns
    -------
    test : Bunch
        `effect`, by how much the loss of the mixture is below that of the better of the two others
        (log loss of a classifier, squared error of a regressor, mean over the samples); `low` and
        `high`, the ends of its 95 % interval; `p_value`, of the hypothesis that one of the two is
        as good as the mixture: below .05 there are clusters that one expert does not serve;
        `losses`, the mean losses of "mixture", "one expert" and "ensemble".

    Raises
    ------
    ValueError
        If the model has a single expert, or the width of its experts is not known.

    See Also
    --------
    specialization_report : What each expert has learned.

    References
    ----------
    .. [1] C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine Learning 52
       (2003).

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.datasets import make_cluster_patches
    >>> from sklearn_moe.metrics import cluster_test
    >>> X, y = make_cluster_patches(
    ...     400, n_clusters=2, n_patches=3, patch_size=4, random_state=0)
    >>> clf = MoEClassifier(n_experts=4, max_iter=100, tol=None, random_state=0)
    >>> bool(cluster_test(clf, X, y, n_splits=4).p_value < 0.05)
    True
    """
    X, y = np.asarray(X), np.asarray(y)
    kind = StratifiedKFold if is_classifier(model) else KFold
    folds = kind(n_splits, shuffle=True, random_state=random_state)
    means = Parallel(n_jobs)(delayed(_losses)(model, X, y, *fold) for fold in folds.split(X, y))
    losses = np.array(means)  # (n_splits, 3)
    gains = losses[:, 1:] - losses[:, :1]
    # Nadeau and Bengio: 1 / n_splits alone is the variance of independent folds.
    error = gains.std(axis=0, ddof=1) * np.sqrt(1 / n_splits + 1 / (n_splits - 1))
    p = t.sf(gains.mean(axis=0) / np.maximum(error, 1e-300), n_splits - 1)
    better = gains.mean(axis=0).argmin()
    effect = float(gains[:, better].mean())
    half = float(t.ppf(0.975, n_splits - 1) * error[better])
    names = ("mixture", "one expert", "ensemble")
    by_name = dict(zip(names, losses.mean(axis=0).tolist(), strict=True))
    low, high = effect - half, effect + half
    return Bunch(effect=effect, low=low, high=high, p_value=float(p.max()), losses=by_name)


def _losses(model, X, y, train, test):
    """Return the mean losses of a mixture, one expert and an ensemble on a fold."""
    mixture = clone(model).fit(X[train], y[train])
    single = clone(model).set_params(n_experts=1, expert_width=_units(mixture))
    ensemble = clone(model).set_params(router="soft", balance=None, expert_loss_weight=1)
    fitted = [mixture, single.fit(X[train], y[train]), ensemble.fit(X[train], y[train])]
    return [_loss(m, X[test], y[test]) for m in fitted]


def _units(mixture):
    """Return the width of an expert that has as many units as all experts of a mixture."""
    experts, width = mixture.module_.experts, mixture.expert_width
    if len(experts) == 1:
        raise ValueError("The model has one expert, expected several: set n_experts.")
    if width is None:
        expert = type(experts[0])
        parameters = inspect.signature(expert).parameters
        if "width" not in parameters:
            raise ValueError(
                f"The model has experts of class {expert.__name__}, whose number of units is not "
                "known: set expert and expert_width."
            )
        width = parameters["width"].default
    return len(experts) * width


def _loss(fitted, X, y):
    """Return the mean loss on some samples."""
    if not is_classifier(fitted):
        return np.mean((fitted.predict(X) - y) ** 2)
    proba = fitted.predict_proba(X)[np.arange(len(y)), np.searchsorted(fitted.classes_, y)]
    return -np.log(np.clip(proba, 1e-6, 1)).mean()
