"""Everything about the specialization of a fitted mixture in one call."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._data.experts import are_kinds, view_of
from .._validation import check_same_length, final_step, last_step, warning_once
from ._ensemble import count_in_words, describe_gates, find_gate_share
from ._experts import compare_experts, evaluate
from ._routing import validated

_NUMBERS = "no one two three four five six seven eight nine ten".split()
_CHANCE = {
    "accuracy": "the most frequent class",
    "right labels": "the more frequent value of each label",
    "R2": "the mean of y",
}


@dataclass(frozen=True, eq=False, repr=False)
class SpecializationReport:
    """Result of :func:`specialization_report`; `print` shows it as a text.

    Where several experts are
    selected for a sample, only the first counts, with one exception: to the load and the dispatch
    entropy each of k experts contributes 1 / k.

    Attributes
    ----------
    n_samples, n_experts : int
        Number of samples and of experts, as `expert_names` counts them.

    score_name : {"accuracy", "right labels", "R2"}
        The kind of all scores: accuracy for classes, the share of right labels for several labels
        per sample, R2 for regression. Each is a mean of scores of single samples: 1 or 0, the share
        of right labels, and 1 - (squared error) / (variance of y), with the variance of all
        samples of the report.

    score : float
        Score of the mixture.

    chance_score : float
        Score of the best constant prediction: the most frequent class, the more frequent value of
        each label, or the mean of y, whose score is 0.

    expert_names : tuple of str
        Names of the experts: the kinds of a pool of several kinds, the models of a stack.

    gate_share : float
        The share of the predictions' variance that comes from the dependence of the gates on the
        sample, on 1,000 samples at most. Predictions are those by the mean of the gates and a
        change by their dependence: it is the mean square of the change, divided by its sum with the
        variance of the first. From 0, if gates are the same for all samples, to 1. Those of
        probabilities and of several outputs are added. NaN without `predict_proba`.

    ensemble : bool
        Whether all experts handle each sample, and their gates do not depend on it, or by little,
        by the rule of :func:`specialization_report`.

    load : ndarray of shape (n_experts,)
        Share of the samples of each expert; the mean gates of an ensemble.

    dead_experts : ndarray of int
        Those that receive no sample.

    first_score, other_score : float
        Score if every sample is computed by its own expert alone, and by another one: the mean over
        those. The second is NaN if there is no other expert.

    specialized : bool
        Whether another expert than that of a sample is clearly worse on average, by the rule of
        :func:`specialization_report`.

    regimes : ndarray of int of shape (n_experts,)
        The regime of every expert, from 0 on, by the same rule: experts of one regime can replace
        each other. -1 for an expert of hardly any samples, and for all of an ensemble.
    """

    n_samples: int
    n_experts: int
    score_name: str
    score: float
    chance_score: float
    expert_names: tuple[str, ...]
    gate_share: float
    ensemble: bool
    load: np.ndarray
    dead_experts: np.ndarray
    first_score: float
    other_score: float
    specialized: bool
    regimes: np.ndarray
    # The verdict, where the gates alone, or the samples of the fit, decide it.
    _known: str = ""

    @property
    def verdict(self) -> str:
        name = self.score_name
        names = self.expert_names
        if self._known:
            return self._known
        if self.score <= self.chance_score:
            return f"The model is no better than {_CHANCE[name]}: no regimes found."
        if np.sum(self.regimes >= 0) == 1:
            if self.n_experts == 1:
                return "One rule holds for all rows: no regimes found."
            if not are_kinds(names):
                return "One expert handles nearly everything: no regimes found."
            return (
                f"Experts differ by region: {self.gate_share:.1%} of the predictions' variance "
                f"comes from it; {names[self.load.argmax()]} has the largest weight nearly "
                "everywhere."
            )
        if self.regimes.max() > 0:
            number = self.regimes.max() + 1
            return f"Regimes: {dict(enumerate(_NUMBERS)).get(number, number)}."
        if not self.specialized:
            return (
                f"An ensemble: the experts are interchangeable ({name} of "
                f"{_format(self.first_score)} by the first expert of each sample, "
                f"{_format(self.other_score)} by another one), no regimes found."
            )
        return "Experts differ by region; some can replace others, no clear regimes."

    def __repr__(self):
        """Return one line; the text is for `print`."""
        shown = f"n_samples={self.n_samples}, n_experts={self.n_experts}, score={self.score:.3f}"
        return f"{type(self).__name__}({shown})"

    def __str__(self):
        """Return the figures, each with its baseline."""
        name = self.score_name
        width = len(f"{name}, one expert alone")

        def row(name, value, baseline, reading):
            return f"  {name:{width}}{_format(value):>8}{_format(baseline):>10}  {reading}"

        title = f"Specialization: {count_in_words(self.expert_names)}, {self.n_samples} samples"
        lines = [self.verdict, "", title, f"  {'':{width}}{'value':>8}{'baseline':>10}", ""]
        lines.append("All samples")
        lines.append(row(name, self.score, self.chance_score, f"baseline: {_CHANCE[name]}"))
        load = "Load (samples per expert, by the largest gates)"
        if self.ensemble:
            load = "Weights (the gates of the experts, the same for all samples)"
        lines += ["", load, row("load CV", self.load.std() / self.load.mean(), np.nan, "0: even")]
        lines.append(row("dead experts", len(self.dead_experts), 0, "receive no sample"))
        share = self.gate_share
        lines.append(row("variance share", share, np.nan, "due to weights that depend on the row"))
        lines += ["", "Cross-evaluation (values near the baseline: interchangeable experts)"]
        first, other = self.first_score, self.other_score
        if self.ensemble:
            # The mean over the others and the first expert.
            other = first + (other - first) * (1 - 1 / self.n_experts)
            reading = "their mean; baseline: all experts together"
            lines.append(row(f"{name}, one expert alone", other, self.score, reading))
        else:
            reading = "baseline: the sample's own expert"
            lines.append(row(f"{name}, other expert", other, first, reading))
        return "\n".join(lines)


def _format(value):
    """Return the text of a figure, "-" for NaN."""
    if np.isnan(value):
        return "-"
    # There is no -0.000.
    return str(value) if isinstance(value, int) else f"{value + 0.0:.3f}"


@warning_once()
@validated("y")
def specialization_report(
    estimator: Any,
    X: Any,
    y: ArrayLike,
) -> SpecializationReport:
    """Measure the specialization of the experts of a fitted mixture.

    The report begins with a verdict in one sentence: whether this is an ensemble, with which
    weights; experts that differ by region; or regimes, and how many. Every figure
    comes with a baseline: its value without any specialization. Use samples that the mixture has
    not been fitted on; only a stack (`method="stack"`) scores its training samples by folds.

    Parameters
    ----------
    estimator : estimator instance
        Fitted mixture of experts, such as :class:`~sklearn_moe.MoEClassifier` and
        :class:`~sklearn_moe.MoERegressor`, or a fitted :class:`~sklearn.pipeline.Pipeline` that
        ends in one.

    X : array-like of shape (n_samples, ...)
        Samples, as `estimator` takes them: arrays, sparse matrices, or data frames with categories
        and missing values.

    y : array-like of shape (n_samples,), (n_samples, n_labels) or (n_samples, n_outputs)
        The true class labels, zeros and ones of several labels, or targets of a regression.

    Returns
    -------
    report : SpecializationReport
        All figures as attributes; `print(report)` explains them.

    Raises
    ------
    TypeError
        If the estimator is not a mixture of experts, which needs the methods `apply`, `gate_proba`,
        `predict`, and `expert_proba` or `expert_predict`.

    ValueError
        If the lengths differ, there are no samples, or the targets of a regression are constant.

    See Also
    --------
    sklearn_moe.inspection.region_rules : Where each expert holds, and what it says there.

    Notes
    -----
    The score is the accuracy for classes, the share of right labels for several labels, and R2 for
    regression; errors of a regression are mean squared errors in units of the variance of all `y`.

    In a pool of several kinds of experts each kind counts as one expert.

    Where all experts handle each sample, with gates that do not depend on it, the mixture is an
    ensemble. That is all that the report says of it: with no split there is nothing to compare. It
    is also one if the gates depend on the sample, but less than 5 % of the predictions' variance
    comes from that, `gate_share`. This does not hold if there are regimes, by the rule below, or if
    a single expert, which is no kind of a pool, has more than 95 % of the weight.

    Of a stack (`method="stack"`) the verdict tells whether the weights of its models depend on the
    sample, and nothing else.

    The rule behind any other verdict: every sample belongs to its first expert. An expert is
    *worse* on the samples of another one if its mean score there is lower by more than a tenth of
    `first_score - chance_score`, at two standard errors of the paired differences. Two experts
    *differ* if each is worse on the samples of the other. Experts that do not differ, directly or
    through others, are one regime. Experts with less than 5 % of the samples, and less than half of
    an even share, do not count. Then the first of these sentences that is true is the verdict:

    - `score` is not above `chance_score`: the model is no better than that, no regimes found;
    - a single expert counts: it handles nearly everything, no regimes found; of a pool: experts
      differ by region, and it has the largest weight nearly everywhere;
    - there is one regime, but with another expert in place of that of the sample, the mean score
      falls by more than the same tenth, at two standard errors: experts differ by region, but there
      are no clear regimes. Rules may change gradually, or one expert knows those of others, too;
    - there is one regime: the experts are interchangeable, an ensemble;
    - there are several regimes.

    With few samples the verdict finds fewer regimes, rather than more. A mixture of estimators says
    that there are none, and why, where the samples of its fit do not tell them: one expert is as
    good by BIC, or, with `n_components="auto"`, one rule that bends is as good out of fold. Other
    mixtures that are forced to divide a smooth function into pieces have regimes in this sense;
    whether they are the same in a refit tells
    :func:`~sklearn_moe.inspection.routing_stability`.

    Where each expert is used in a table :func:`~sklearn_moe.inspection.region_rules` says in words.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.datasets import make_cluster_patches
    >>> from sklearn_moe.metrics import specialization_report
    >>> X, y = make_cluster_patches(500, random_state=0)
    >>> clf = MoEClassifier(n_experts=4, max_iter=20, tol=None, random_state=0).fit(X, y)
    >>> print(specialization_report(clf, X, y).verdict)
    Experts differ by region; some can replace others, no clear regimes.
    """
    # A mixture of numbers has no probabilities.
    is_regression = hasattr(last_step(estimator), "expert_predict")
    each = "expert_predict" if is_regression else "expert_proba"
    view = open_view(estimator, X, ("apply", "gate_proba", "predict", each))
    check_same_length(X=X, y=y)
    return report_on(view, y)


def open_view(estimator, X, needs):
    """Return the view of a mixture, or of the pipeline that ends in it, with these methods."""
    mixture, X = final_step(estimator, X, needs)
    return getattr(mixture, "_experts_view", partial(view_of, mixture))(X)


def report_on(view, y):
    """Return the report on a mixture, an `ExpertView`."""
    n_samples, n_experts = view.gates.shape
    figures, scores, first = evaluate(view, y)
    of_first = scores[np.arange(len(scores)), first]
    first_score = float(of_first.mean())
    other_score = np.nan
    if n_experts > 1:
        other_score = float((scores.sum(axis=1) - of_first).mean() / (n_experts - 1))
    parts = compare_experts(scores, first, first_score - figures["chance_score"])
    gate_share, ensemble = find_gate_share(view)
    # Experts that differ clearly are no ensemble, even if the gates change little.
    ensemble = ensemble and parts["regimes"].max() < 1
    verdict = describe_gates(view, gate_share, ensemble)
    if view.doubt and parts["regimes"].max() > 0:
        parts["regimes"] = np.minimum(parts["regimes"], 0)
        verdict = view.doubt
    load = mean_gate = view.gates.mean(axis=0)
    if ensemble:
        parts["regimes"] = np.full(n_experts, -1)
    else:
        load = np.bincount(view.experts.ravel(), minlength=n_experts) / view.experts.size
    return SpecializationReport(
        n_samples=n_samples,
        n_experts=n_experts,
        ensemble=ensemble,
        load=load,
        dead_experts=np.flatnonzero((mean_gate if view.are_kinds else load) == 0),
        first_score=first_score,
        other_score=other_score,
        expert_names=view.names,
        gate_share=gate_share,
        _known=verdict,
        **figures,
        **parts,
    )
