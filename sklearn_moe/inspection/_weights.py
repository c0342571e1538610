"""The weights of a fitted mixture that can be read as directions in the space of a patch."""

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

__all__ = ["expert_filters", "router_directions"]


def router_directions(estimator):
    """Return the directions theta_m of a linear router, (n_experts, patch_size)."""
    module = _module(estimator)
    if getattr(module, "router", None) is None:
        raise TypeError(
            "The estimator has no router: with a single expert there is nothing to align. Use "
            "n_experts >= 2."
        )
    network = getattr(module.router, "network", module.router)
    weight = _numpy(network, "weight")
    if weight is None or weight.ndim != 2 or hasattr(network, "hidden"):
        raise TypeError(
            "Only a linear router has one direction per expert, a weight of shape (n_experts, "
            f"patch_size); the router's network is a {type(network).__name__} with "
            f"{_found(weight)}. Use samples of shape (n_patches, patch_size)."
        )
    return weight


def expert_filters(estimator):
    """Return the filters of patch experts, (n_experts, n_filters, patch_size)."""
    experts = list(_module(estimator).experts)
    filters = []
    for expert in experts:
        weight = _numpy(expert, "weight")
        if weight is None or weight.ndim != 3:
            raise TypeError(
                "Only patch experts have filters, a weight of shape (n_outputs, width, "
                f"patch_size); an expert is a {type(expert).__name__} with {_found(weight)}. Use "
                "expert='patch'."
            )
        filters.append(weight.reshape(-1, weight.shape[-1]))
    shapes = sorted({weight.shape for weight in filters})
    if len(shapes) > 1:
        raise TypeError(f"All experts must have as many filters, got weights of shapes {shapes}.")
    return np.stack(filters)


def _module(estimator):
    if isinstance(estimator, Pipeline):
        estimator = estimator[-1]
    if hasattr(estimator, "fit"):
        check_is_fitted(estimator)
    module = getattr(estimator, "module_", None)
    if not hasattr(module, "experts"):
        raise TypeError(
            "The weights are read from `module_.router` and `module_.experts` of a fitted "
            f"mixture, which {type(estimator).__name__} does not have. Of a search, "
            "pass `best_estimator_`."
        )
    return module


def _numpy(owner, name):
    """Return an attribute, a tensor on any device, as an array of float; None if there is none."""
    tensor = getattr(owner, name, None)
    return None if tensor is None else tensor.detach().cpu().numpy().astype(float)


def _found(weight):
    return "no weight" if weight is None else f"a weight of shape {weight.shape}"
