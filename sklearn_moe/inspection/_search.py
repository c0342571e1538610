"""The results of a scikit-learn search, arranged by the number of experts."""

import numpy as np
from sklearn.base import is_regressor

__all__ = ["scores_by_count"]


def scores_by_count(display, search, param, metric, max_curves):
    """Return counts, scores (n_curves, n_counts, n_splits), names and the score's name.

    `display` is the name that error messages are to mention. The scores of a number of experts
    that a curve does not have are NaN.
    """
    if not hasattr(search, "cv_results_"):
        raise TypeError(
            f"{display}.from_search reads cv_results_ of a fitted search such as GridSearchCV, "
            f"which {type(search).__name__} does not have. Call its fit first."
        )
    results = search.cv_results_
    param = _find_param(results, param)
    key, score_name = _find_metric(search, metric)
    splits = np.stack([results[f"split{i}_test_{key}"] for i in range(search.n_splits_)], axis=1)
    default = search.estimator.get_params().get(param)  # of candidates that leave it out

    by_curve = {}  # other parameters -> {number of experts: scores of the splits}
    for params, scores in zip(results["params"], splits, strict=True):
        count = params.get(param, default)
        if count is None:
            continue
        others = tuple((name, _show(value)) for name, value in params.items() if name != param)
        # In a halving search, the same candidate comes again with more samples: the last counts.
        by_curve.setdefault(tuple(sorted(others)), {})[count] = scores
    counts = np.array(sorted({count for curve in by_curve.values() for count in curve}))
    scores = np.full((len(by_curve), len(counts), search.n_splits_), np.nan)
    for index, curve in enumerate(by_curve.values()):
        for count, values in curve.items():
            scores[index, np.searchsorted(counts, count)] = values
    if len(scores) == 1:
        return counts, scores, None, score_name
    if len(scores) <= max_curves:
        return counts, scores, _names(by_curve), score_name
    means = scores.mean(axis=2)
    best = np.where(np.isnan(means), -np.inf, means).argmax(axis=0)
    name = f"best of {len(scores)} combinations"
    return counts, scores[best, np.arange(len(counts))][np.newaxis], [name], score_name


def _find_param(results, param):
    varied = sorted({name for params in results["params"] for name in params})
    if param is None:
        found = [name for name in varied if name.split("__")[-1] == "n_experts"]
    else:
        found = [name for name in varied if name == param]
    if len(found) != 1:
        wanted = "n_experts or __n_experts at the end" if param is None else repr(param)
        raise ValueError(
            f"The search must have varied one parameter {wanted}, it has {len(found)} of them "
            f"among {varied}. Put the numbers of experts into the grid, or name the parameter "
            "by `param`."
        )
    return found[0]


def _find_metric(search, metric):
    """Return how `cv_results_` calls the score, and what to call it in the picture."""
    prefix = "mean_test_"
    known = [name.removeprefix(prefix) for name in search.cv_results_ if name.startswith(prefix)]
    if metric is None and isinstance(search.refit, str):
        metric = search.refit
    if metric is None and known == ["score"]:
        scoring = search.scoring
        if scoring is None and is_regressor(search.estimator):
            scoring = "r2"
        return "score", _score_name(scoring) if isinstance(scoring, str) else "score"
    if metric not in known:
        raise ValueError(f"The search has the scores {known}, got metric={metric!r}. Choose one.")
    return metric, _score_name(metric)


def _score_name(scoring):
    return "R²" if scoring == "r2" else scoring.replace("_", " ")


def _show(value):
    """Return a short text for the value of a parameter."""
    return str(getattr(value, "__name__", value))


def _names(curves):
    """Name each combination of parameters by what not all have in common."""
    common = set.intersection(*map(set, curves))
    return [
        ", ".join(
            f"{key.split('__')[-1]}={value}" for key, value in curve if (key, value) not in common
        )
        for curve in curves
    ]
