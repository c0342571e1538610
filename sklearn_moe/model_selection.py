"""Many small fits at once, for searches over seeds, rates and folds."""

import warnings

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, indexable

from ._base import BaseMoE
from ._devices import usual_modes
from ._training.diagnostics import warn_of
from ._training.joint import needs_own_training, train_jointly

__all__ = ["cross_validate_together", "fit_together"]


def fit_together(estimators, X, y, *, sample_weight=None, rows=None):
    """Fit many estimators at once, each as its own `fit` would.

    Estimators of the same architecture with the same number of steps in an epoch are trained
    jointly: each step is one computation for all of them. They may differ in seeds, learning rates
    and all that does not change the shape of the weights, and in their training samples. Each has
    its own weights, shuffling, noise and stopping. The time of small models falls most, because
    their steps are more overhead than arithmetic. `verbose` has no effect.

    Parameters
    ----------
    estimators : sequence of MoEClassifier or MoERegressor
        They are fitted in place. Those of different architectures are trained group by group.

    X : array-like of shape (n_samples, ...)
        Training samples, as in `fit`. An array of floats is shared by all, without a copy.

    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Classes, labels or numbers, as in `fit`.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples. None: all weigh the same.

    rows : sequence of array-like, default=None
        For each estimator the indices of its training samples, or a mask, or None for all.

    Returns
    -------
    estimators : list
        The same estimators, fitted.

    Raises
    ------
    ValueError
        If one of them could not be fitted alone, or has a parameter that is for a fit of its own:
        `callbacks`, `train_transform`, `checkpoint`, `router__upcycle`, `n_init` above 1, an expert
        that draws at random (dropout), or linear experts in a regression, whose scale is learned.
        If only its loss stops being finite, the others are fitted nevertheless.

    Examples
    --------
    Five seeds on each of three folds, with 15 fits for the overhead of a few:

    >>> from sklearn.model_selection import KFold
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
    >>> from sklearn_moe.model_selection import fit_together
    >>> X, y = make_cluster_patches(300, random_state=0, **PAPER_SETTINGS[1])
    >>> folds = [train for train, test in KFold(3).split(X)]
    >>> seeds = [seed for seed in range(5) for _ in folds]
    >>> models = [MoEClassifier(tol=None, max_iter=5, random_state=seed) for seed in seeds]
    >>> models = fit_together(models, X, y, rows=5 * folds)
    >>> len(models)
    15
    """
    failures = _fit_all(list(estimators), X, y, sample_weight, rows)
    for number, failure in enumerate(failures):
        if failure is not None:
            raise ValueError(f"estimators[{number}] could not be fitted: {failure}") from failure
    return list(estimators)


def cross_validate_together(
    estimators,
    X,
    y,
    *,
    cv=None,
    scoring=None,
    sample_weight=None,
    return_estimator=False,
    groups=None,
):
    """Cross-validate many estimators at once: all of them on all folds by `fit_together`.

    Parameters
    ----------
    estimators : sequence of MoEClassifier or MoERegressor
        Candidates, such as `clone(model).set_params(**p)` for p of a `ParameterGrid`. Clones of
        them are fitted.

    X, y : array-like
        As in `fit_together`.

    cv : int, cross-validation generator or iterable, default=None
        As in :func:`sklearn.model_selection.cross_validate`; the folds are the same for all.

    scoring : str, callable, list or dict, default=None
        As there. None: the estimator's own `score`.

    sample_weight : array-like of shape (n_samples,), default=None
        Of the fits. Scores are not weighted.

    return_estimator : bool, default=False
        Whether to return the fitted estimators, too.

    groups : array-like of shape (n_samples,), default=None
        Group of each sample, for a `cv` that splits by them, such as
        :class:`~sklearn.model_selection.GroupKFold`.

    Returns
    -------
    results : list of dict
        For each estimator what `cross_validate` would return, without the times: the array
        `test_score`, or `test_<name>` for each of several scores, and on demand the list
        `estimator`. The score of a fit that failed is NaN, with a warning.

    Raises
    ------
    ValueError
        If all fits failed, or an estimator has a parameter that is for a fit of its own, see
        :func:`fit_together`.

    Examples
    --------
    >>> from sklearn.base import clone
    >>> from sklearn.model_selection import ParameterGrid
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
    >>> from sklearn_moe.model_selection import cross_validate_together
    >>> X, y = make_cluster_patches(300, random_state=0, **PAPER_SETTINGS[1])
    >>> model = MoEClassifier(tol=None, max_iter=5)
    >>> grid = ParameterGrid({"random_state": [0, 1], "router__learning_rate": [0.001, 0.01]})
    >>> candidates = [clone(model).set_params(**parameters) for parameters in grid]
    >>> results = cross_validate_together(candidates, X, y, cv=3)
    >>> [len(result["test_score"]) for result in results]
    [3, 3, 3, 3]
    """
    estimators = list(estimators)
    X, y, sample_weight = indexable(X, y, sample_weight)
    cv = check_cv(cv, y, classifier=all(map(is_classifier, estimators)))
    folds = list(cv.split(X, y, groups))
    fits = [clone(estimator) for estimator in estimators for _ in folds]
    rows = len(estimators) * [train for train, _ in folds]
    failures = _fit_all(fits, X, y, sample_weight, rows, skip_failed=True)
    if fits and None not in failures:
        raise ValueError(
            f"All {len(fits)} fits failed. The first one: {failures[0]}"
        ) from failures[0]
    tests = [tuple(_safe_indexing(part, test) for part in (X, y)) for _, test in folds]
    scores = [
        _scores(fit, scoring, *test) if failure is None else {}
        for fit, test, failure in zip(fits, len(estimators) * tests, failures, strict=True)
    ]
    names = max(scores, key=len, default=())  # of a fit that did not fail
    results = []
    for start in range(0, len(fits), len(folds)):
        one = slice(start, start + len(folds))
        failed = [failure for failure in failures[one] if failure is not None]
        if failed:
            warnings.warn(
                f"{len(failed)} of {len(folds)} fits failed, their scores are NaN. The first one: "
                f"{failed[0]}",
                FitFailedWarning,
                stacklevel=2,
            )
        values = {name: [of_fit.get(name, np.nan) for of_fit in scores[one]] for name in names}
        result = {f"test_{name}": np.array(column) for name, column in values.items()}
        results.append(result | ({"estimator": fits[one]} if return_estimator else {}))
    return results


def _scores(estimator, scoring, X, y):
    """Return the scores of a fitted estimator by name; a single one is called "score"."""
    found = check_scoring(estimator, scoring)(estimator, X, y)
    return found if isinstance(found, dict) else {"score": found}


@usual_modes()
def _fit_all(estimators, X, y, sample_weight, rows, *, skip_failed=False):
    """Fit the estimators; return for each the error by which its training failed, or None.

    With `skip_failed` a fit that cannot be prepared is a failure, too. Else its error is raised,
    before anything is trained.
    """
    _check(estimators, rows)
    X, y, sample_weight = indexable(X, y, sample_weight)
    parts = _parts(X, y, sample_weight, [None] * len(estimators) if rows is None else rows)
    fits, failures = [None] * len(estimators), [None] * len(estimators)
    for number, (estimator, part) in enumerate(zip(estimators, parts, strict=True)):
        try:
            estimator._validate_params()
            fit = fits[number] = estimator._begin(*part)
            fit.working._draw_seed()  # now, as the next estimator may draw from the same source
        except Exception as error:
            if not skip_failed:
                raise
            failures[number] = error
        else:
            if (reason := needs_own_training(fit.net)) is not None:
                _refuse(number, reason)
    started = [number for number, fit in enumerate(fits) if fit is not None]
    interrupted = False
    try:
        for place, failure in train_jointly([fits[number] for number in started]):
            failures[started[place]] = failure
    except KeyboardInterrupt:
        interrupted = True
    for estimator, fit, failure in zip(estimators, fits, failures, strict=True):
        if failure is None and len(fit.net.history) > fit.n_before:
            estimator._finish(fit)
            if not interrupted:
                warn_of(fit)
    if interrupted:
        raise KeyboardInterrupt
    return failures


def _check(estimators, rows):
    for number, estimator in enumerate(estimators):
        if not isinstance(estimator, BaseMoE):
            raise TypeError(
                "fit_together takes MoEClassifier and MoERegressor, estimators"
                f"[{number}] is {estimator!r}."
            )
        params = estimator.get_params(deep=True)
        for name in ("callbacks", "train_transform", "router__upcycle", "checkpoint"):
            if value := params[name]:
                _refuse(number, f"{name}={value!r}")
        if estimator.n_init > 1:
            _refuse(number, f"n_init={estimator.n_init}")
        if getattr(estimator, "_skl_callbacks", None):
            _refuse(number, "callbacks of set_callbacks")
    if len({id(estimator) for estimator in estimators}) < len(estimators):
        raise ValueError("Some of the estimators are the same object. Pass clones of it.")
    if rows is not None and len(rows) != len(estimators):
        raise ValueError(
            f"rows must be given for each estimator, got {len(rows)} for {len(estimators)} of them."
        )


def _refuse(number, what):
    raise ValueError(
        f"estimators[{number}] has {what}, which joint fits do not support: call its `fit`."
    )


def _parts(X, y, sample_weight, rows):
    """Yield the samples of each estimator; equal rows are taken out once."""
    known = {}
    for chosen in rows:
        if chosen is None:
            yield X, y, sample_weight
            continue
        chosen = np.asarray(chosen)
        key = chosen.dtype.str, chosen.tobytes()
        if key not in known:
            known[key] = [
                None if part is None else _safe_indexing(part, chosen)
                for part in (X, y, sample_weight)
            ]
        yield known[key]
