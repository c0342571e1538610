"""The result of a specialization report: an object, a text, a table and HTML."""

from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from .._data.tables import import_pandas
from ._merged import are_kinds, count_in_words, count_regimes, describe_ensemble
from ._significance import DispatchEntropyTest
from ._split import SplitInformation, above_null

_MOST_CLUSTERS, _MOST_EXPERTS = 20, 16  # a larger routing matrix is not readable
_MOST_REGIONS = 3  # in the verdict
_NOTES = {
    "Ablation and cross-evaluation": "values near the baseline: interchangeable experts",
    "Load": "samples per expert, by the largest gates",
    "Weights": "the gates of the experts, the same for all samples",
    "Clusters": "baseline: clusters shuffled; k-means: in place of the router",
    "Split": "mutual information with the expert; baseline: values shuffled",
}
_AGREEMENT = {
    "entropy": ("dispatch entropy", "0: a single cluster per expert"),
    "normalized_entropy": ("dispatch entropy, 0 to 1", "divided by the entropy of the clusters"),
    "mutual_information": ("mutual information", "entropy of clusters minus dispatch entropy"),
    "nmi": ("NMI", "1: experts and clusters match one to one"),
    "ari": ("ARI", "the same for pairs of samples, 0 by chance"),
    "ami": ("AMI", "NMI, adjusted to be 0 by chance"),
    "purity": ("purity", "share in the main cluster of their expert"),
}
_CHANCE = {
    "accuracy": "the most frequent class",
    "right labels": "the more frequent value of each label",
    "R2": "the mean of y",
    "log loss": "the class frequencies",
}
_TARGETS = ("class", "labels", "y")  # in `split`, beside images or columns
# Only shades of one color, which are legible in light and in dark notebooks.
_STYLE = (
    "<style>.moe-report{overflow-x:auto}"
    ".moe-report table{border-collapse:collapse;margin:.5em 0;font-size:inherit}"
    ".moe-report td,.moe-report th{padding:.15em .7em;text-align:right;border:0}"
    ".moe-report td:first-child,.moe-report td:last-child{text-align:left}"
    ".moe-report .group{text-align:left;padding-top:.7em;font-weight:bold}"
    ".moe-report .note{font-weight:normal;opacity:.7}</style>"
)
_SHADE = "rgba(0, 114, 178, {:.2f})"


@dataclass(frozen=True)
class ClusterAgreement:
    """The agreement of routes and clusters.

    Attributes
    ----------
    entropy : float
        :func:`dispatch_entropy`, 0 if every expert receives a single cluster.

    normalized_entropy : float
        The same in units of the entropy of the clusters.

    mutual_information : float
        :func:`mutual_information`.

    nmi, ari, ami : float
        Normalized mutual information, adjusted Rand index and adjusted mutual information of
        scikit-learn, by the first expert where several are selected.

    purity : float
        :func:`purity`.
    """

    entropy: float
    normalized_entropy: float
    mutual_information: float
    nmi: float
    ari: float
    ami: float
    purity: float


@dataclass(frozen=True, eq=False, repr=False)
class SpecializationReport:
    """Result of :func:`specialization_report`; `print` shows it as a text.

    Attributes that need clusters or images are None without them. Where several experts are
    selected for a sample, only the first counts, with two exceptions: to the load and, with
    clusters, to entropy, mutual information and purity, each of k experts contributes 1 / k.

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

    log_loss, chance_log_loss : float
        Log loss of the mixture, and of the shares of the classes in y as the probabilities of every
        sample; with several labels the mean over labels. Samples of classes that the mixture was
        not fitted on are left out. NaN of a regression, and without `predict_proba`.

    expert_names : tuple of str
        Names of the experts. In a pool of several kinds, experts of one kind with equal gates count
        as one, which is named by its kind: here and in all other attributes.

    gate_share : float
        The share of the predictions' variance that comes from the dependence of the gates on the
        sample, on 1,000 samples at most. Predictions are those by the mean of the gates and a
        change by their dependence: it is the mean square of the change, divided by its sum with the
        variance of the first. From 0, if gates are the same for all samples, to 1. Those of
        probabilities and of several outputs are added. NaN without `predict_proba`.

    ensemble : bool
        Whether all experts handle each sample, and their gates do not depend on it, or by little,
        by the rule of :func:`specialization_report`.

    top_k : int
        Number of experts of each sample in `load`: all of an ensemble, otherwise those of `apply`.

    load : ndarray of shape (n_experts,)
        :func:`expert_load`; the mean gates of an ensemble.

    load_cv : float
        :func:`load_cv`.

    usage_entropy : float
        :func:`usage_entropy`, from 0 to 1.

    dead_experts : ndarray of int
        :func:`dead_experts`, those that receive no sample.

    router_margin : float
        Mean of :func:`router_margin`.

    ablation_scores : ndarray of shape (n_experts,)
        Score without each expert, :func:`ablation_accuracy`.

    cross_evaluation_scores : ndarray of shape (n_experts, n_experts)
        Score of expert j on the samples of expert i, :func:`cross_evaluation_accuracy`.

    first_score : float
        Score if only the first expert of every sample is used. It equals `score` if one expert per
        sample is selected.

    other_score : float
        Mean score if another expert is used in its place; NaN if there is no other.

    specialized : bool
        Whether the other experts are clearly worse in place of that of the sample, on average. The
        rule is that of :func:`specialization_report`.

    regimes : ndarray of int of shape (n_experts,)
        The regime of every expert, from 0 on: experts that do not differ share one. -1 for an
        expert with few samples, and for all of an ensemble, which have the same samples.

    verdict : str
        What the figures say, in one sentence.

    warnings : tuple of str
        A sentence for each score that is worse than its baseline.

    cluster_labels : ndarray of shape (n_clusters,) or None
        The sorted distinct labels of the clusters.

    routing_matrix : ndarray of shape (n_clusters, n_experts) or None
        :func:`routing_matrix`, counts.

    entropy_test : DispatchEntropyTest or None
        :func:`dispatch_entropy_test`.

    agreement : ClusterAgreement or None
        The agreement of experts and clusters.

    null_agreement : ClusterAgreement or None
        The mean of the same for shuffled clusters.

    kmeans_agreement : ClusterAgreement or None
        The same for a k-means clustering in place of the router.

    error_matrix : ndarray of shape (n_experts, n_clusters) or None
        :func:`expert_error_matrix`; in regression the mean squared error in units of the variance
        of y, which is 1 for a prediction of the mean of y.

    own_error, other_error : ndarray of shape (n_experts,) or None
        :func:`own_other_error` of `error_matrix`.

    split : dict of str to SplitInformation, or None
        :func:`split_information` of images or tables, by name: of the class or target, and each
        of the :func:`image_properties` or columns.

    split_follows : tuple of str, or None
        The names of those that the split follows beyond chance, the largest share first; empty if
        there are none. If the split is independent of all of them, the probability of a name is 5 %
        at most.

    where : tuple of n_experts tuples of str, or None
        Where each expert is used, in the words of :func:`~sklearn_moe.inspection.region_rules`, of
        tables whose experts differ by region but are no regimes. None otherwise.

    stability : RoutingStability or None
        What was passed as `stability`.
    """

    n_samples: int
    n_experts: int
    score_name: str
    score: float
    chance_score: float
    log_loss: float
    chance_log_loss: float
    expert_names: tuple[str, ...]
    gate_share: float
    ensemble: bool
    top_k: int
    load: np.ndarray
    load_cv: float
    usage_entropy: float
    dead_experts: np.ndarray
    router_margin: float
    ablation_scores: np.ndarray
    cross_evaluation_scores: np.ndarray
    first_score: float
    other_score: float
    specialized: bool
    regimes: np.ndarray
    cluster_labels: np.ndarray | None = None
    routing_matrix: np.ndarray | None = None
    entropy_test: DispatchEntropyTest | None = None
    agreement: ClusterAgreement | None = None
    null_agreement: ClusterAgreement | None = None
    kmeans_agreement: ClusterAgreement | None = None
    error_matrix: np.ndarray | None = None
    own_error: np.ndarray | None = None
    other_error: np.ndarray | None = None
    split: dict[str, SplitInformation] | None = None
    where: tuple[tuple[str, ...], ...] | None = None
    stability: Any = None

    @property
    def split_follows(self) -> tuple[str, ...] | None:
        return None if self.split is None else above_null(self.split)

    @property
    def verdict(self) -> str:
        n_regimes, name = self.regimes.max() + 1, self.score_name
        if self.ensemble:
            found = describe_ensemble(self.expert_names, self.load, self.gate_share)
            cannot_tell = "; this cannot tell whether the data have regimes"
            return (
                found
                + cannot_tell * (not are_kinds(self.expert_names) and not self.gate_share)
                + "."
            )
        if self.score <= self.chance_score:
            return f"The model is no better than {_CHANCE[name]}: no regimes found."
        most = self.expert_names[self.load.argmax()]
        if np.sum(self.regimes >= 0) == 1 and are_kinds(self.expert_names):
            return (
                f"Experts differ by region: {self.gate_share:.1%} of the predictions' variance "
                f"comes from it; {most} has the largest weight nearly everywhere."
            )
        if np.sum(self.regimes >= 0) == 1:
            return "One expert handles nearly everything: no regimes found."
        if n_regimes == 1 and self.specialized:
            found = zip(-self.load, self.expert_names, self.where or (), strict=False)
            found = [f"{name} where {parts[0]}" for _, name, parts in sorted(found) if parts]
            words = ": " * bool(found) + ", ".join(found[:_MOST_REGIONS])
            return f"Experts differ by region{words}; some can replace others, no clear regimes."
        if n_regimes == 1:
            own, other = _format(self.first_score), _format(self.other_score)
            return (
                f"An ensemble: the experts are interchangeable ({name} of {own} by the first "
                f"expert of each sample, {other} by another one), no regimes found."
            )
        followed = self.split_follows or ()
        names = [name for name in followed if name not in _TARGETS] or followed
        shares = {name: split.share for name, split in (self.split or {}).items()}
        least = max(0.1, shares[names[0]] / 2) if names else 0
        names = [name for name in names[:2] if shares[name] >= least]
        if not names and self.agreement is not None and self.agreement.normalized_entropy < 0.5:
            names = ["cluster"]
        verdict = f"{count_regimes(self.regimes)}{', split by ' * bool(names)}{' and '.join(names)}"
        if self.stability is not None:
            n_refits = len(self.stability.scores)
            verdict += f"; trust: {self.stability.n_agree} of {n_refits} refits agree"
        return f"{verdict}."

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(
            f"The {name} of {_format(value)} is worse than {_format(chance)}, that of "
            f"{_CHANCE[name]}: the model has not learned enough, or has overfitted."
            for name, value, chance in self._scores()
            if (value > chance if name == "log loss" else value < chance)
        )

    def _head(self):
        return [self.verdict, *(f"Warning: {sentence}" for sentence in self.warnings)]

    def _scores(self):
        """Return name, value and baseline of the scores of the mixture."""
        scores = [(self.score_name, self.score, self.chance_score)]
        log_loss = ("log loss", self.log_loss, self.chance_log_loss)
        return scores if np.isnan(self.log_loss) else [*scores, log_loss]

    def to_frame(self) -> Any:
        """Return the figures as a table, one per row.

        Returns
        -------
        frame : pandas.DataFrame
            With columns `group`, `value`, `baseline`, `reading` and `kmeans`; NaN where there is
            nothing to compare with.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        pd = import_pandas("SpecializationReport", "report")
        return pd.DataFrame(self._lines()).set_index("name")

    def __repr__(self):
        """Return one line; the text is for `print`."""
        shown = f"n_samples={self.n_samples}, n_experts={self.n_experts}, score={self.score:.3f}"
        if self.agreement is not None:
            shown += f", dispatch_entropy={self.agreement.entropy:.3f}"
        return f"{type(self).__name__}({shown})"

    def __str__(self):
        """Return the figures, each with its baseline."""
        figures = self._lines()
        width = max(len(figure.name) for figure in figures)

        def line(name, *values, reading):
            cells = zip(values, (8, 10, 8), strict=False)
            shown = "".join(f"{value:>{room}}" for value, room in cells)
            return f"  {name:{width}}{shown}  {reading}".rstrip()

        lines = [*self._head(), "", self._title(), line("", *self._columns(), reading="")]
        for group, members in groupby(figures, key=lambda figure: figure.group):
            lines += ["", f"{group} ({_NOTES[group]})" if group in _NOTES else group]
            lines += [line(f.name, *self._values(f), reading=f.reading) for f in members]
        for sentence in self._sentences():
            lines += ["", sentence]
        if self._shows_matrix():
            lines += ["", *self._matrix_lines()]
        return "\n".join(lines)

    def _repr_html_(self):
        """Return the same as tables, for notebooks."""
        columns = ["", *self._columns(), ""]
        rows = [_html_row("th", columns)]
        for group, members in groupby(self._lines(), key=lambda figure: figure.group):
            note = f' <span class="note">{escape(_NOTES[group])}</span>' if group in _NOTES else ""
            head = f'<td class="group" colspan="{len(columns)}">{escape(group)}{note}</td>'
            rows.append(f"<tr>{head}</tr>")
            rows += [_html_row("td", [f.name, *self._values(f), f.reading]) for f in members]
        parts = [f"<p><b>{escape(sentence)}</b></p>" for sentence in self._head()]
        parts += [escape(self._title()), f"<table>{''.join(rows)}</table>"]
        parts += [f"<p>{escape(sentence)}</p>" for sentence in self._sentences()]
        if self._shows_matrix():
            parts.append(_html_matrix(self.routing_matrix, self.cluster_labels, self.expert_names))
        return f'{_STYLE}<div class="moe-report">{"".join(parts)}</div>'

    def _columns(self):
        return ["value", "baseline"] + ["k-means"] * (self.agreement is not None)

    def _values(self, figure):
        """Return the texts of the columns."""
        return [_format(getattr(figure, name.replace("-", ""))) for name in self._columns()]

    def _lines(self):
        """Return the figures as a list of lines: text, table and HTML show the same."""
        name, first = self.score_name, self.first_score
        random_cv = np.sqrt((self.n_experts - self.top_k) / (self.top_k * self.n_samples))
        names = [name.removeprefix("expert ") for name in self.expert_names]
        dead = [names[expert] for expert in self.dead_experts[:8]]
        dead = ", ".join([*dead, "..."][: len(self.dead_experts)])
        dead = dead and f": {dead}"
        worst, ablated = 0, "there is no other expert"
        if self.n_experts > 1:
            worst = int(self.ablation_scores.argmin())
            ablated = f"worst: without {self.expert_names[worst]}; baseline: own expert"
        load = "Weights" if self.ensemble else "Load"
        rows = [
            ("All samples", *score, f"baseline: {_CHANCE[score[0]]}") for score in self._scores()
        ]
        rows += [
            (load, "load CV", self.load_cv, random_cv, "0: even; baseline: random routing"),
            (load, "usage entropy", self.usage_entropy, 1.0, "0: one expert only, 1: even"),
            (load, "dead experts", len(self.dead_experts), 0, f"receive no sample{dead}"),
            (load, "router margin", self.router_margin, np.nan, "0: undecided, 1: certain"),
            (load, "gate share", self.gate_share, np.nan, "of the predictions' variance"),
        ]
        group, own = "Ablation and cross-evaluation", "baseline: the sample's own expert"
        if self.ensemble:
            alone = first + (self.other_score - first) * (1 - 1 / self.n_experts)
            shown = "their mean; baseline: all experts together"
            rows.append((group, f"{name}, one expert alone", alone, self.score, shown))
        else:
            removed = float(self.ablation_scores[worst])
            rows.append((group, f"{name}, expert removed", removed, first, ablated))
            rows.append((group, f"{name}, other expert", self.other_score, first, own))
        if self.agreement is not None:
            columns = self.agreement, self.null_agreement, self.kmeans_agreement
            for key, (label, reading) in _AGREEMENT.items():
                value, null, kmeans = (getattr(column, key) for column in columns)
                rows.append(("Clusters", label, value, null, reading, kmeans))
            errors = (_mean(error, self.load) for error in (self.own_error, self.other_error))
            unit = "; in variances of y" if name == "R2" else ""
            reading = f"baseline: on other clusters{unit}"
            rows.append(("Clusters", "error on own cluster", *errors, reading))
        for label, info in ({} if self.ensemble else self.split or {}).items():
            reading = f"explains {max(0.0, info.share):.1%} of the split, p = {info.p_value:.2g}"
            rows.append(("Split", label, info.information, info.null_mean, reading))
        return [_Line(*row) for row in rows]

    def _title(self):
        counted = count_in_words(self.expert_names)
        title = f"Specialization: {counted}, {self.n_samples} samples"
        if self.agreement is not None:
            title += f", {len(self.cluster_labels)} clusters"
        return title

    def _sentences(self):
        """Yield the conclusions below the figures."""
        if self.ensemble:
            yield "There is no split: the gates do not depend on the sample, or by little."
        elif self.split is not None:
            if follows := self.split_follows:
                share = self.split[follows[0]].share
                yield f"The split follows {follows[0]}, which explains {share:.1%} of it."
            elif any(info.expert_entropy for info in self.split.values()):
                yield "The split follows none of these beyond chance."
            else:
                yield "There is no split: all samples have the same expert."
        if self.agreement is not None:
            test = self.entropy_test
            yield (
                f"Dispatch entropy: {test.confidence_level:.0%} interval {test.low:.3f} to "
                f"{test.high:.3f}, with shuffled clusters {test.null_low:.3f} to "
                f"{test.null_high:.3f}, p = {test.p_value:.2g}"
            )

    def _shows_matrix(self):
        if self.agreement is None or self.ensemble:
            return False
        n_clusters, n_experts = self.routing_matrix.shape
        return n_clusters <= _MOST_CLUSTERS and n_experts <= _MOST_EXPERTS

    def _matrix_lines(self):
        digits = "d" if self.routing_matrix.dtype.kind == "i" else ".1f"
        table = [["", *(name.removeprefix("expert ") for name in self.expert_names)]]
        for label, row in zip(self.cluster_labels, self.routing_matrix, strict=True):
            table.append([str(label)[:20], *(format(value, digits) for value in row)])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        yield "Routing matrix (rows: clusters, columns: experts)"
        for name, *row in table:
            numbers = (f"{cell:>{width}}" for cell, width in zip(row, widths[1:], strict=True))
            yield "  ".join([f"  {name:{widths[0]}}", *numbers])


class _Line(NamedTuple):
    """One figure of a report; NaN where there is nothing to compare with."""

    group: str
    name: str
    value: float
    baseline: float
    reading: str
    kmeans: float = np.nan


def _mean(values, weight):
    """Return the weighted mean of the entries that are not NaN, NaN if there are none."""
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weight[known])) if known.any() else np.nan


def _format(value):
    """Return the text of a figure, "-" for NaN."""
    if np.isnan(value):
        return "-"
    if isinstance(value, int):
        return format(value, "d")
    shown = format(value + 0.0, ".3f")  # no -0.000; R2 has no lower bound
    return shown if len(shown) < 8 else format(value, ".0f" if abs(value) < 1e5 else ".0e")


def _html_row(tag, cells):
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"


def _html_matrix(matrix, labels, names):
    """Return the routing matrix, each cell shaded by its share of its row."""
    rows = [_html_row("th", ["cluster", *names])]
    for label, counts in zip(labels, matrix, strict=True):
        total = max(counts.sum(), 1)
        cells = "".join(
            f'<td style="background:{_SHADE.format(0.6 * count / total)};text-align:right">'
            f"{count:g}</td>"
            for count in counts
        )
        rows.append(f"<tr><td>{escape(str(label))}</td>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"
