"""A plot of the scores of a search against the number of experts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_regressor

from . import _plotting as plotting

_CLOSEST = 0.06  # of the axis: labels at a smaller distance would overlap


class ExpertCountDisplay:
    """Curve of the cross-validated score against the number of experts.

    It is recommended to use :meth:`from_search` to create a display. All parameters are stored
    as attributes.

    Parameters
    ----------
    n_experts : array-like of shape (n_counts,)
        Numbers of experts, ascending.

    scores : array-like of shape (n_counts, n_splits) or (n_curves, n_counts, n_splits)
        Test score of every split; NaN where a curve has no model with that many experts.

    names : sequence of str of length n_curves, default=None
        Names of the curves. If None, there is no legend of them.

    score_name : str, default="score"
        What the scores are.

    Attributes
    ----------
    lines_ : list of matplotlib ErrorbarContainer
        Mean and standard error, one per curve.

    folds_ : list of matplotlib Line2D
        The scores of the splits, one per curve; empty without them.

    best_ : matplotlib Line2D
        The mark around the highest mean.

    ax_ : matplotlib Axes
        Axes with the curves.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : The search.
    sklearn.model_selection.ValidationCurveDisplay : Scores against one parameter of any kind.

    Notes
    -----
    The standard error is the standard deviation over the splits, with n_splits - 1 degrees of
    freedom, divided by sqrt(n_splits). Splits share training samples, so it is a rough measure,
    rather too small than too large. Several curves are shifted a little to the left and right, to
    keep their error bars apart.

    Examples
    --------
    >>> from sklearn_moe.inspection import ExpertCountDisplay
    >>> display = ExpertCountDisplay([1, 2, 4], [[0.7, 0.6], [0.8, 0.8], [1.0, 0.9]])
    >>> display.plot()
    <...>
    >>> display.best_.get_xydata()
    array([[4.  , 0.95]])
    """

    def __init__(
        self,
        n_experts: ArrayLike,
        scores: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        score_name: str = "score",
    ):
        self.n_experts = n_experts
        self.scores = scores
        self.names = names
        self.score_name = score_name

    @classmethod
    def from_search(
        cls,
        search: Any,
        param: str | None = None,
        *,
        metric: str | None = None,
        max_curves: int = 8,
        **plot_options: Any,
    ) -> "ExpertCountDisplay":
        """Plot the scores of a finished search.

        Parameters
        ----------
        search : GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV or HalvingRandomSearchCV
            Fitted search that varied the number of experts.

        param : str, default=None
            Name of the parameter. If None, the one that is `n_experts` or ends in
            `__n_experts`.

        metric : str, default=None
            Which score of a search with several. If None, the one that it was refitted for.

        max_curves : int, default=8
            Each combination of the other parameters of the search has its own curve, if there
            are not more of them. Otherwise there is a single curve of the best
            combination for each number of experts, which is optimistic: it is the best of many.

        **plot_options : dict
            Arguments of :meth:`plot`: `show_folds`, `ax`, `line_kw` and `fold_kw`.

        Returns
        -------
        display : ExpertCountDisplay

        Raises
        ------
        TypeError
            If the search has no results.

        ValueError
            If the search did not vary the number of experts, or has several scores and no
            choice between them was made.

        Notes
        -----
        A successive-halving search scores its candidates on more and more samples; only the last
        score of each counts. The scores of candidates that were dropped early rest on few
        samples.

        Examples
        --------
        >>> from sklearn.model_selection import GridSearchCV
        >>> from sklearn_moe import MoEClassifier
        >>> from sklearn_moe.datasets import make_cluster_patches
        >>> from sklearn_moe.inspection import ExpertCountDisplay
        >>> X, y = make_cluster_patches(300, random_state=0)
        >>> clf = MoEClassifier(max_iter=5, tol=None, random_state=0)
        >>> search = GridSearchCV(clf, {"n_experts": [2, 4]}, cv=2).fit(X, y)
        >>> ExpertCountDisplay.from_search(search)
        <...>
        """
        if not hasattr(search, "cv_results_"):
            raise TypeError(
                f"{cls.__name__}.from_search reads cv_results_ of a fitted search such as "
                f"GridSearchCV, which {type(search).__name__} does not have. Call its fit first."
            )
        param, (key, score_name) = _find_param(search, param), _find_metric(search, metric)
        counts, scores, names = _scores_by_count(search, param, key, max_curves)
        return cls(counts, scores, names=names, score_name=score_name).plot(**plot_options)

    def plot(
        self,
        *,
        show_folds: bool = False,
        ax: Any = None,
        line_kw: dict | None = None,
        fold_kw: dict | None = None,
    ) -> "ExpertCountDisplay":
        """Plot the curves.

        Parameters
        ----------
        show_folds : bool, default=False
            Whether to show the score of every split as a point, in place of the standard error.

        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.

        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.errorbar`.

        fold_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot`, for the scores of the splits.

        Returns
        -------
        display : ExpertCountDisplay
            This object, with the attributes that end in an underscore.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the arrays are not of the shapes above.
        """
        counts, scores = np.asarray(self.n_experts), np.asarray(self.scores, dtype=float)
        scores = scores[np.newaxis] if scores.ndim == 2 else scores
        if scores.ndim != 3 or scores.shape[1] != len(counts):
            raise ValueError(
                f"scores must be of shape (n_counts, n_splits) or (n_curves, n_counts, n_splits) "
                f"for {len(counts)} numbers of experts, got shape {np.shape(self.scores)}."
            )
        names = [None] * len(scores) if self.names is None else self.names
        if len(names) != len(scores):
            raise ValueError(f"names must name the {len(scores)} curves, got {len(names)} names.")
        ax = plotting.axes_or_new(self, ax, figsize=(6.4 if len(scores) == 1 else 8, 4.8))
        n_splits = scores.shape[2]
        means, shift = scores.mean(axis=2), _shifts(counts, len(scores))
        self.lines_, self.folds_ = [], []
        colors = plotting.expert_colors(len(scores))
        for curve, (name, color) in enumerate(zip(names, colors, strict=True)):
            known = ~np.isnan(means[curve])
            x, splits = (counts * shift[curve])[known], scores[curve][known]
            error = None
            if n_splits > 1 and not show_folds:
                error = splits.std(axis=1, ddof=1) / np.sqrt(n_splits)
            style = {"marker": "o", "markersize": 5, "capsize": 3, "color": color}
            style["label"] = name and plotting.as_text(name)
            style = plotting.merge_style("line", style, line_kw)
            self.lines_.append(ax.errorbar(x, means[curve][known], error, **style))
            if show_folds:
                style = {"marker": ".", "linestyle": "none", "color": color, "alpha": 0.5}
                style["label"] = None if curve else "one split each"
                style = plotting.merge_style("line", style, fold_kw)
                self.folds_ += ax.plot(np.repeat(x, n_splits), splits.ravel(), **style)
        curve, column = np.unravel_index(np.nanargmax(means), means.shape)
        name = f"best: {counts[column]} expert{'s' if counts[column] > 1 else ''}"
        style = {"marker": "o", "markersize": 13, "fillstyle": "none", "color": "black"}
        x, y = counts[column] * shift[curve], means[curve, column]
        (self.best_,) = ax.plot([x], [y], linestyle="none", label=name, **style)
        y_label = f"Cross-validated {plotting.as_text(self.score_name)}"
        ax.set(xlabel="Number of experts", ylabel=y_label)
        _label_counts(ax, counts)
        handles, labels = ax.get_legend_handles_labels()
        order = np.argsort([label == name for label in labels], kind="stable")  # the best last
        plotting.legend_of_curves(ax, [handles[i] for i in order], [labels[i] for i in order])
        return self


def _shifts(counts, n_curves):
    """Return factors that shift the curves side by side at the same number of experts."""
    distance = np.diff(np.log2(counts)).min(initial=1)
    step = min(0.06, 0.4 * distance / n_curves)
    return 2 ** (step * (np.arange(n_curves) - (n_curves - 1) / 2))


def _label_counts(ax, counts):
    """Draw the axis in powers of two; label the counts or, if they are many, the powers."""
    ax.set_xscale("log", base=2)
    logs, unlabeled = np.log2(counts), []
    if np.diff(logs).min(initial=np.inf) < _CLOSEST * (logs[-1] - logs[0]):
        unlabeled = counts
        counts = 2 ** np.arange(np.ceil(logs[0]), np.floor(logs[-1]) + 1, dtype=int)
    ax.set_xticks(unlabeled, [""] * len(unlabeled), minor=True)
    ax.set_xticks(counts, counts)


def _scores_by_count(search, param, key, max_curves):
    """Return counts, scores (n_curves, n_counts, n_splits) and names of the curves.

    The scores are NaN where a curve has no model with that number of experts.
    """
    results = search.cv_results_
    splits = np.stack([results[f"split{i}_test_{key}"] for i in range(search.n_splits_)], axis=1)
    default = search.estimator.get_params().get(param)  # of candidates that do not set it

    curves = {}  # other parameters -> {number of experts: scores of the splits}
    for params, scores in zip(results["params"], splits, strict=True):
        count = params.get(param, default)
        if count is None:
            continue
        others = {k: str(getattr(v, "__name__", v)) for k, v in params.items() if k != param}
        # A halving search repeats candidates with more samples: the last score counts.
        curves.setdefault(tuple(sorted(others.items())), {})[count] = scores
    counts = np.array(sorted({count for curve in curves.values() for count in curve}))
    scores = np.full((len(curves), len(counts), search.n_splits_), np.nan)
    for row, curve in zip(scores, curves.values(), strict=True):
        row[np.searchsorted(counts, list(curve))] = list(curve.values())
    if len(scores) == 1:
        return counts, scores, None
    if len(scores) <= max_curves:
        common = set.intersection(*map(set, curves))
        names = []
        for curve in curves:
            own = [(k.split("__")[-1], value) for k, value in curve if (k, value) not in common]
            names.append(", ".join(f"{key}={value}" for key, value in own))
        return counts, scores, names
    means = scores.mean(axis=2)
    best = np.where(np.isnan(means), -np.inf, means).argmax(axis=0)
    name = f"best of {len(scores)} combinations"
    return counts, scores[best, np.arange(len(counts))][np.newaxis], [name]


def _find_param(search, param):
    """Return the name of the parameter that is the number of experts."""
    varied = sorted({name for params in search.cv_results_["params"] for name in params})
    found = [n for n in varied if (n == param if param else n.split("__")[-1] == "n_experts")]
    if len(found) != 1:
        wanted = "n_experts or __n_experts at the end" if param is None else repr(param)
        raise ValueError(
            f"The search must have varied one parameter {wanted}, it has {len(found)} of them "
            f"among {varied}. Put the numbers of experts into the grid, or name the parameter "
            "by `param`."
        )
    return found[0]


def _find_metric(search, metric):
    """Return the name of the score in `cv_results_`, and its name in the plot."""
    prefix = "mean_test_"
    known = [name.removeprefix(prefix) for name in search.cv_results_ if name.startswith(prefix)]
    if metric is None and isinstance(search.refit, str):
        metric = search.refit
    shown = metric
    if metric is None and known == ["score"]:
        metric, shown = "score", search.scoring
        if shown is None and is_regressor(search.estimator):
            shown = "r2"
    if metric not in known:
        raise ValueError(f"The search has the scores {known}, got metric={metric!r}. Choose one.")
    shown = shown if isinstance(shown, str) else "score"
    return metric, "R²" if shown == "r2" else shown.replace("_", " ")
