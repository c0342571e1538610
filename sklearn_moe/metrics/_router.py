"""How sure the router is, and when it has made up its mind."""

import numpy as np
from sklearn.utils._param_validation import validate_params

from .._validation import check_named, naming

__all__ = ["last_fluctuation", "router_margin"]


@validate_params({"gate_proba": ["array-like"]}, prefer_skip_nested_validation=True)
def router_margin(gate_proba):
    """Compute how far the router prefers its first choice to its second.

    Parameters
    ----------
    gate_proba : array-like of shape (n_samples, n_experts)
        The router's distribution over the experts, such as `MoEClassifier.gate_proba`.

    Returns
    -------
    margin : ndarray of shape (n_samples,)
        The highest entry of every row minus the second highest: near 0 where a little noise
        sends the sample elsewhere, 1 where the router is sure. 1 for a single expert.

    Raises
    ------
    ValueError
        If `gate_proba` is not a matrix of finite numbers.

    Examples
    --------
    >>> from sklearn_moe.metrics import router_margin
    >>> router_margin([[0.75, 0.25, 0.0], [0.5, 0.0, 0.5]])
    array([0.5, 0. ])
    """
    gate_proba = check_named(gate_proba, "gate_proba", dtype=(np.float64, np.float32))
    if gate_proba.shape[1] == 1:
        return np.ones(len(gate_proba), gate_proba.dtype)
    second, first = np.partition(gate_proba, -2, axis=1)[:, -2:].T
    return first - second


@validate_params(
    {"routes": ["array-like"], "steps": ["array-like", None]}, prefer_skip_nested_validation=True
)
def last_fluctuation(routes, steps=None):
    """Find the training step at which every sample changed its expert for the last time.

    A sample that changes its expert late in training was taught by an expert that no longer
    answers it [1]_.

    Parameters
    ----------
    routes : array-like of shape (n_records, n_samples)
        The expert that answers every sample, labels of any type, recorded `n_records` times in
        the course of training.

    steps : array-like of shape (n_records,), default=None
        The steps (or epochs) of the records, in increasing order. If None, they are numbered
        from 0 on.

    Returns
    -------
    last : ndarray of shape (n_samples,)
        The step of the first record after the last change of expert; `steps[0]` for a sample
        that has never changed.

    Raises
    ------
    ValueError
        If `routes` is not a matrix, or `steps` are not increasing or not one per record.

    See Also
    --------
    routing_agreement : How alike two records are.

    References
    ----------
    .. [1] D. Dai et al., "StableMoE: Stable Routing Strategy for Mixture of Experts",
       ACL 2022, arXiv:2204.08396.

    Examples
    --------
    >>> from sklearn_moe.metrics import last_fluctuation
    >>> routes = [[0, 1, 2], [0, 1, 0], [0, 2, 0]]  # three records of three samples
    >>> last_fluctuation(routes, steps=[100, 200, 300])
    array([100, 300, 200])
    """
    routes = check_named(routes, "routes", dtype=None)
    n_records = len(routes)
    with naming("steps"):
        steps = np.arange(n_records) if steps is None else np.asarray(steps)
    if steps.shape != (n_records,) or (np.diff(steps) <= 0).any():
        raise ValueError(
            f"steps must be {n_records} increasing numbers, one per record of routes, got "
            f"{steps.tolist()}."
        )
    changed = np.zeros(routes.shape, dtype=bool)
    changed[0] = True  # what a sample that never changes falls back to
    changed[1:] = routes[1:] != routes[:-1]
    return steps[n_records - 1 - changed[::-1].argmax(axis=0)]
