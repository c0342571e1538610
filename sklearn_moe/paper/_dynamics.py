"""What a trace of the routing says about a run, in few numbers."""

import numpy as np

from ..metrics import routing_matrix

__all__ = ["LIVE", "crossing", "summarize"]

LIVE = 0.01  # share of the samples below which an expert counts as unused


def summarize(trace, n_outputs):
    """Return curves and inner products of a :class:`~sklearn_moe.callbacks.RoutingTrace`.

    The strongest filter stands for an expert: inner products are those of largest magnitude over
    its filters, in arrays of shape (n_experts, n_clusters). Only those of the start have signs,
    because a filter that is to grow must point to v_k for class 1, away from it for class 0.
    """
    n_experts = trace.load_.shape[1]
    routing = routing_matrix(trace.clusters, trace.experts_, n_experts=n_experts)
    experts = {
        name: np.abs(getattr(trace, f"{name}_")).max(2)  # (records, M, K)
        for name in ("expert_features", "expert_centers")
    }
    routers = {name: getattr(trace, f"{name}_") for name in ("router_features", "router_centers")}
    return {
        "curve": {
            "step": trace.epochs_.tolist(),
            "entropy": _plain(trace.dispatch_entropy_),
            # Mean over the experts of their best-aligned vector, v_k or c_k.
            **{name: _plain(a.max(2).mean(1)) for name, a in experts.items()},
            **{name: _plain(np.abs(a).max(2).mean(1)) for name, a in routers.items()},
        },
        "routing": routing.tolist(),  # (K, M), of the training samples at the end
        "initial_features": _plain(_signed(trace.expert_features_[0], n_outputs).max(1)),
        **{name: _plain(a[-1]) for name, a in experts.items()},
        **{name: _plain(a[-1]) for name, a in routers.items()},
    }


def crossing(steps, values, level):
    """Return when a curve first reaches a level, linear between two looks; NaN if never."""
    steps, values = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    above = values >= level
    if not above.any():
        return np.nan
    i = int(above.argmax())
    if i == 0:
        return float(steps[0])
    return float(np.interp(level, values[i - 1 : i + 1], steps[i - 1 : i + 1]))


def _signed(products, n_outputs):
    """Turn the sign of the filters of class 0, which are the first half; a margin has none."""
    signs = np.ones(products.shape[1])
    if n_outputs > 1:
        signs[: len(signs) // 2] = -1
    return signs[:, None] * products  # (M, F, K)


def _plain(array):
    """Return lists of floats with five digits: enough to draw, and small on disk."""
    if np.ndim(array) > 1:
        return [_plain(row) for row in array]
    return [float(f"{value:.5g}") for value in array]
