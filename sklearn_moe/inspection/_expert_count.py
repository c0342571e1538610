"""Scores of a search against the number of experts, as a picture."""

import numpy as np

from ._colors import expert_colors
from ._matplotlib import as_text, axes_or_new, import_pyplot, legend_of_curves, merge_style
from ._search import scores_by_count

__all__ = ["ExpertCountDisplay"]

_CLOSEST = 0.06  # of the axis: labels of numbers that are closer would touch


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

    def __init__(self, n_experts, scores, *, names=None, score_name="score"):
        self.n_experts = n_experts
        self.scores = scores
        self.names = names
        self.score_name = score_name

    @classmethod
    def from_search(
        cls,
        search,
        param=None,
        *,
        metric=None,
        max_curves=8,
        show_folds=False,
        ax=None,
        line_kw=None,
        fold_kw=None,
    ):
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
            Each combination of the other parameters of the search has a curve of its own, as
            long as there are no more than this. Otherwise there is a single curve of the best
            combination for each number of experts, which is optimistic: it is the best of many.

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
        score of each counts. Candidates that were given up early have seen few samples: read
        such a picture with care.

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
        counts, scores, names, score_name = scores_by_count(
            cls.__name__, search, param, metric, max_curves
        )
        return cls(counts, scores, names=names, score_name=score_name).plot(
            show_folds=show_folds, ax=ax, line_kw=line_kw, fold_kw=fold_kw
        )

    def plot(self, *, show_folds=False, ax=None, line_kw=None, fold_kw=None):
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
        import_pyplot(self)
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
        ax = axes_or_new(self, ax, figsize=(6.4 if len(scores) == 1 else 8, 4.8))
        n_splits = scores.shape[2]
        means, shift = scores.mean(axis=2), _shifts(counts, len(scores))
        self.lines_, self.folds_ = [], []
        for curve, (name, color) in enumerate(zip(names, expert_colors(len(scores)), strict=True)):
            known = ~np.isnan(means[curve])
            x, splits = (counts * shift[curve])[known], scores[curve][known]
            error = None
            if n_splits > 1 and not show_folds:
                error = splits.std(axis=1, ddof=1) / np.sqrt(n_splits)
            style = {"marker": "o", "markersize": 5, "capsize": 3, "color": color}
            style["label"] = name and as_text(name)
            style = merge_style("line", style, line_kw)
            self.lines_.append(ax.errorbar(x, means[curve][known], error, **style))
            if show_folds:
                style = {"marker": ".", "linestyle": "none", "color": color, "alpha": 0.5}
                style["label"] = None if curve else "one split each"
                style = merge_style("line", style, fold_kw)
                self.folds_ += ax.plot(np.repeat(x, n_splits), splits.ravel(), **style)
        best = np.unravel_index(np.nanargmax(means), means.shape)
        place = [counts[best[1]] * shift[best[0]]], [means[best]]
        name = f"best: {counts[best[1]]} expert{'s' if counts[best[1]] > 1 else ''}"
        style = {"marker": "o", "markersize": 13, "fillstyle": "none", "color": "black"}
        (self.best_,) = ax.plot(*place, linestyle="none", label=name, **style)
        ax.set(xlabel="Number of experts", ylabel=f"Cross-validated {as_text(self.score_name)}")
        _label_counts(ax, counts)
        handles, labels = ax.get_legend_handles_labels()
        order = np.argsort([label == name for label in labels], kind="stable")  # the best last
        legend_of_curves(ax, [handles[i] for i in order], [labels[i] for i in order])
        return self


def _shifts(counts, n_curves):
    """Return the factors by which curves stand side by side at the same number of experts."""
    distance = np.diff(np.log2(counts)).min(initial=1)
    step = min(0.06, 0.4 * distance / n_curves)
    return 2 ** (step * (np.arange(n_curves) - (n_curves - 1) / 2))


def _label_counts(ax, counts):
    """Draw the axis in powers of two; label the counts or, if they are many, the powers."""
    from matplotlib.ticker import NullFormatter, NullLocator

    ax.set_xscale("log", base=2)
    ax.xaxis.set_minor_formatter(NullFormatter())
    logs = np.log2(counts)
    if np.diff(logs).min(initial=np.inf) < _CLOSEST * (logs[-1] - logs[0]):
        ax.set_xticks(counts, minor=True)
        counts = 2 ** np.arange(np.ceil(logs[0]), np.floor(logs[-1]) + 1, dtype=int)
    else:
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(counts, counts)
