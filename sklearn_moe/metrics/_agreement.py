"""How much routes say about clusters, or about the routes of another model."""

from scipy.optimize import linear_sum_assignment
from scipy.special import rel_entr
from sklearn.utils._param_validation import validate_params

from .._validation import check_same_length, naming
from ._contingency import check_labels, label_table

__all__ = ["mutual_information", "purity", "routing_agreement"]


@validate_params(
    {"clusters": ["array-like"], "experts": ["array-like"], "sample_weight": ["array-like", None]},
    prefer_skip_nested_validation=True,
)
def mutual_information(clusters, experts, *, sample_weight=None):
    """Compute what the expert that answers tells about the cluster, in nats.

    It is the entropy of the clusters minus the :func:`dispatch_entropy`. Unlike
    :func:`sklearn.metrics.mutual_info_score` it takes weights, and several experts per sample.

    Parameters
    ----------
    clusters : array-like of shape (n_samples,)
        The true cluster of every sample, labels of any type.

    experts : array-like of shape (n_samples,) or (n_samples, k)
        The expert that answers every sample, labels of any type. If k experts answer,
        each of them counts 1 / k.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    information : float
        0 if experts and clusters are independent; at most the entropy of the clusters, which
        it reaches if every expert answers samples of one cluster only.

    Raises
    ------
    ValueError
        If the lengths differ, there are no samples or the weights are not valid.

    See Also
    --------
    dispatch_entropy : What the expert leaves open about the cluster.
    sklearn.metrics.normalized_mutual_info_score : The same between 0 and 1.

    Examples
    --------
    >>> from sklearn_moe.metrics import mutual_information
    >>> clusters = ["cat", "cat", "dog", "dog"]
    >>> round(mutual_information(clusters, [3, 1, 0, 0]), 4)  # log(2)
    0.6931
    >>> mutual_information(clusters, [0, 1, 0, 1])
    0.0
    """
    joint = label_table(clusters, experts, sample_weight)
    joint = joint / joint.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    return max(0.0, float(rel_entr(joint, independent).sum()))


@validate_params(
    {"clusters": ["array-like"], "experts": ["array-like"], "sample_weight": ["array-like", None]},
    prefer_skip_nested_validation=True,
)
def purity(clusters, experts, *, sample_weight=None):
    """Compute the share of samples that belong to the main cluster of their expert.

    Parameters
    ----------
    clusters : array-like of shape (n_samples,)
        The true cluster of every sample, labels of any type.

    experts : array-like of shape (n_samples,) or (n_samples, k)
        The expert that answers every sample, labels of any type. If k experts answer,
        each of them counts 1 / k.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    purity : float
        1 if every expert answers samples of one cluster only, and at least the share of the
        largest cluster. More experts make it larger, even those that route at random.

    Raises
    ------
    ValueError
        If the lengths differ, there are no samples or the weights are not valid.

    See Also
    --------
    dispatch_entropy : Sees all clusters of an expert, not only the main one.

    Examples
    --------
    >>> from sklearn_moe.metrics import purity
    >>> purity(["cat", "cat", "dog", "dog"], [0, 0, 0, 1])
    0.75
    """
    return float(table_purity(label_table(clusters, experts, sample_weight)))


def table_purity(tables):
    """Return the purity of tables of shape (..., n_clusters, n_experts)."""
    return tables.max(axis=-2).sum(axis=-1) / tables.sum(axis=(-2, -1))


@validate_params(
    {"first": ["array-like"], "second": ["array-like"], "sample_weight": ["array-like", None]},
    prefer_skip_nested_validation=True,
)
def routing_agreement(first, second, *, sample_weight=None):
    """Compute the share of samples that two routings send to the same expert.

    Experts have no names that two models share. So the experts of one are matched one-to-one
    to those of the other such that the agreement is largest, with the Hungarian method.

    Parameters
    ----------
    first : array-like of shape (n_samples,) or (n_samples, k)
        The expert that answers every sample in one model, labels of any type. If several
        experts answer, the first one counts.

    second : array-like of shape (n_samples,) or (n_samples, k)
        The same for another model, a later epoch or another seed, on the same samples. The
        number of experts may differ; those without a partner agree with nobody.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    agreement : float
        1 if the routings are the same up to the numbers of the experts. It does not go down
        to 0: the best matching of two routings drawn by lot still agrees on about one sample
        in `n_experts`.

    Raises
    ------
    ValueError
        If the lengths differ, there are no samples or the weights are not valid.

    See Also
    --------
    sklearn.metrics.adjusted_rand_score : Corrected for chance, without a matching.
    last_fluctuation : When each sample found its expert.

    Examples
    --------
    >>> from sklearn_moe.metrics import routing_agreement
    >>> routing_agreement([0, 0, 1, 1], [7, 7, 3, 3])
    1.0
    >>> routing_agreement([0, 0, 1, 1], [7, 7, 3, 4])
    0.75
    """
    first, second = check_labels(first, "first"), check_labels(second, "second")
    check_same_length(first=first, second=second)
    with naming("first and second"):
        table = label_table(first[:, 0], second[:, :1], sample_weight)
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    return float(matched / table.sum())
