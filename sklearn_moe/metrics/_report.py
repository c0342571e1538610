"""What is known about the specialization of a mixture, as an object, a text and a table."""

from dataclasses import dataclass

import numpy as np

from ._report_html import report_html
from ._report_lines import NOTES, format_figure, report_lines
from ._significance import DispatchEntropyTest
from ._split import SplitInformation, above_null

__all__ = ["ClusterAgreement", "SpecializationReport"]

_MOST_CLUSTERS, _MOST_EXPERTS = 20, 16  # a larger routing matrix is no reading matter


@dataclass(frozen=True)
class ClusterAgreement:
    """How well one routing follows the clusters.

    Attributes
    ----------
    entropy : float
        :func:`dispatch_entropy`, 0 if every expert answers a single cluster.

    normalized_entropy : float
        The same in units of the entropy of the clusters.

    mutual_information : float
        :func:`mutual_information`.

    nmi, ari, ami : float
        Normalized mutual information, adjusted Rand index and adjusted mutual information of
        scikit-learn, by the first expert where several answer.

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

    What needs clusters or pictures is None without them. Where several experts answer a sample,
    it is judged by the first, but for load and, with clusters, entropy, mutual information and
    purity, to which each of k experts contributes 1 / k.

    Attributes
    ----------
    n_samples, n_experts : int
        Number of samples and of experts.

    score_name : {"accuracy", "right labels", "R2"}
        What a score is: the share of right answers; of several labels the share of right labels;
        of numbers R2. Each is the mean of what the answers to single samples are worth: 1 or 0,
        the share of right labels, and 1 - (squared error) / (variance of y). On any part of the
        samples the unit is the variance of y among all of them.

    score : float
        Score of the mixture.

    blind_score : float
        Score of one and the same answer to all samples: of the most frequent class, of the more
        frequent value of each label, or of the mean of y, which is 0.

    load : ndarray of shape (n_experts,)
        :func:`expert_load`.

    load_cv : float
        :func:`load_cv`.

    usage_entropy : float
        :func:`usage_entropy`, from 0 to 1.

    dead_experts : ndarray of int
        :func:`dead_experts`, those that answer no sample.

    router_margin : float
        Mean of :func:`router_margin`.

    knock_out_score : ndarray of shape (n_experts,)
        Score without each expert, :func:`knock_out_accuracy`.

    swap_score : ndarray of shape (n_experts, n_experts)
        Score of expert j on the samples of expert i, :func:`expert_swap_accuracy`.

    first_score : float
        Score if the first expert of every sample answered alone, which is `score` where only one
        does.

    swapped_score : float
        Mean score if another expert answered instead; NaN if there is none.

    cluster_labels : ndarray of shape (n_clusters,) or None
        The sorted distinct labels of the clusters.

    routing_matrix : ndarray of shape (n_clusters, n_experts) or None
        :func:`routing_matrix`, counts.

    entropy_test : DispatchEntropyTest or None
        :func:`dispatch_entropy_test`.

    agreement : ClusterAgreement or None
        How well the experts follow the clusters.

    null_agreement : ClusterAgreement or None
        The mean of the same if the clusters are shuffled.

    kmeans_agreement : ClusterAgreement or None
        The same for a k-means clustering in place of the router.

    error_matrix : ndarray of shape (n_experts, n_clusters) or None
        :func:`expert_error_matrix`; of numbers the mean squared error in units of the variance
        of y, 1 for an expert that is no better than the mean of y.

    own_error, other_error : ndarray of shape (n_experts,) or None
        :func:`own_other_error` of `error_matrix`.

    split : dict of str to SplitInformation, or None
        :func:`split_information` of pictures: of their class and each of their
        :func:`picture_properties`, by name.

    split_follows : tuple of str, or None
        The names of those that the split follows beyond chance, the largest share first. Empty if
        it follows none; the chance that it is not, though it follows none, is 5 % at most.
    """

    n_samples: int
    n_experts: int
    score_name: str
    score: float
    blind_score: float
    load: np.ndarray
    load_cv: float
    usage_entropy: float
    dead_experts: np.ndarray
    router_margin: float
    knock_out_score: np.ndarray
    swap_score: np.ndarray
    first_score: float
    swapped_score: float
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

    @property
    def split_follows(self):
        return None if self.split is None else above_null(self.split)

    def to_frame(self):
        """Return the figures as a table, one per row.

        Returns
        -------
        frame : pandas.DataFrame
            With columns `group`, `value`, `null`, `reading` and `kmeans`; NaN where there is
            nothing to compare with.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "SpecializationReport.to_frame needs pandas. Install it with "
                "`pip install pandas`, or print the report."
            ) from error
        return pd.DataFrame(report_lines(self)).set_index("name")

    def __repr__(self):
        """Return one line; the text is for `print`."""
        shown = f"n_samples={self.n_samples}, n_experts={self.n_experts}"
        shown += f", score={self.score:.3f}"
        if self.agreement is not None:
            shown += f", dispatch_entropy={self.agreement.entropy:.3f}"
        return f"{type(self).__name__}({shown})"

    def __str__(self):
        """Return the figures, each beside what it has to be compared with."""
        figures = report_lines(self)
        width = max(len(figure.name) for figure in figures)
        header = f"{'':{width + 2}}{'value':>8}{'null':>8}"
        if self.agreement is not None:
            header += f"{'k-means':>9}"
        lines, group = [self._title(), header], None
        for figure in figures:
            if figure.group != group:
                group = figure.group
                lines += ["", f"{group} ({NOTES[group]})" if group in NOTES else group]
            values = (figure.value, figure.null)
            line = f"  {figure.name:{width}}" + "".join(f"{format_figure(v):>8}" for v in values)
            if self.agreement is not None:
                line += f"{format_figure(figure.kmeans):>9}"
            lines.append(f"{line}  {figure.reading}")
        for sentence in self._sentences():
            lines += ["", sentence]
        if self._shows_matrix():
            lines += ["", *self._matrix_lines()]
        return "\n".join(lines)

    def _repr_html_(self):
        """Return the same as a table, for notebooks."""
        return report_html(self, self._title(), self._sentences(), self._shows_matrix())

    def _title(self):
        title = f"Specialization: {self.n_experts} experts, {self.n_samples} samples"
        if self.agreement is not None:
            title += f", {len(self.cluster_labels)} clusters"
        return title

    def _sentences(self):
        """Return what the figures come to."""
        sentences = [] if self.split is None else [self._split_line()]
        return sentences if self.agreement is None else [*sentences, self._test_line()]

    def _shows_matrix(self):
        if self.agreement is None:
            return False
        n_clusters, n_experts = self.routing_matrix.shape
        return n_clusters <= _MOST_CLUSTERS and n_experts <= _MOST_EXPERTS

    def _split_line(self):
        follows = self.split_follows
        if follows:
            strongest = follows[0]
            return f"Split: it follows {strongest}, {self.split[strongest].share:.1%} of it"
        if not any(told.expert_entropy for told in self.split.values()):
            return "Split: there is none, one expert answers all"
        return "Split: it follows none of these beyond chance"

    def _test_line(self):
        test = self.entropy_test
        return (
            f"Dispatch entropy: {test.confidence_level:.0%} interval {test.low:.3f} to "
            f"{test.high:.3f}, null {test.null_low:.3f} to {test.null_high:.3f}, "
            f"p = {test.p_value:.2g}"
        )

    def _matrix_lines(self):
        digits = "d" if self.routing_matrix.dtype.kind == "i" else ".1f"
        cells = [[format(value, digits) for value in row] for row in self.routing_matrix]
        names = [str(label)[:20] for label in self.cluster_labels]
        table = [["", *map(str, range(self.n_experts))]]
        table += [[name, *row] for name, row in zip(names, cells, strict=True)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        yield "Routing matrix (rows: clusters, columns: experts)"
        for name, *row in table:
            numbers = (f"{cell:>{width}}" for cell, width in zip(row, widths[1:], strict=True))
            yield "  ".join([f"  {name:{widths[0]}}", *numbers])
