"""Fewer experts in a fitted mixture."""

import copy
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import validate_params
from sklearn.utils.validation import check_is_fitted

from .._devices import default_torch_modes
from ..nn import Pool
from ..nn.router_parts import LinearScores
from ..nn.seeding import use_generator

__all__ = ["prune_experts"]


@validate_params({"n_experts": [Integral]}, prefer_skip_nested_validation=True)
@default_torch_modes()
def prune_experts(model: Any, n_experts: int, *, order: str | ArrayLike = "load") -> Any:
    """Return a copy of a fitted mixture that keeps its most important experts.

    All else stays: encoder, trunk, shared experts, and what the router has learned of the experts
    that are kept. The samples of the others go to them, and gates that sum to 1 do so again. The
    copy is fitted, and smaller; `partial_fit`, or `fit` with `warm_start=True`, trains it further,
    with a solver that starts anew.

    Parameters
    ----------
    model : MoEClassifier or MoERegressor
        Fitted, with experts of one kind. It is not changed.

    n_experts : int
        Number of experts to keep, from 1, or `top_k`, to those that there are.

    order : {"load", "router", "experts"} or array-like of shape (n_experts,), default="load"
        The importance of each expert: the share of the training samples that it gets; the norm of
        its row in a linear router, which starts at 0, so that it tells how far it has moved [1]_;
        the norm of its weights; or a number for each, larger for those to keep.

    Returns
    -------
    pruned : MoEClassifier or MoERegressor
        Its `expert_load_` is that of the experts that are kept, divided by its sum. What was
        measured out-of-bag or by a validation, of the mixture as it was, is left out, but the scale
        of a regressor's intervals stays as it is.

    Raises
    ------
    ValueError
        If `n_experts` is not between `top_k` and the number of experts, the order is not known or
        does not have a number per expert, or the experts are of several kinds.
    NotFittedError
        If the model is not fitted.

    References
    ----------
    .. [1] M. N. R. Chowdhury et al., "A Provably Effective Method for Pruning Experts in Fine-tuned
       Sparse Mixture-of-Experts", ICML 2024 (arXiv 2405.16646).

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier, prune_experts
    >>> from sklearn_moe.datasets import make_cluster_patches
    >>> X, y = make_cluster_patches(2000, random_state=0)
    >>> clf = MoEClassifier(16, random_state=0).fit(X, y)
    >>> pruned = prune_experts(clf, 8)
    >>> len(pruned.expert_load_), pruned.score(X, y) > 0.95
    (8, True)
    """
    check_is_fitted(model)
    large, n_before = model.module_, len(model.expert_load_)
    if isinstance(large.experts, Pool):
        raise ValueError(
            "The router counts in its scores how many experts there are of each kind: of "
            f"{sorted(set(model.expert_kinds_))}. Fit the model with expert='mlp'."
        )
    if not 1 <= n_experts <= n_before:
        raise ValueError(
            f"n_experts must be from 1 to {n_before}, as many as the model has, got {n_experts}."
        )
    importance = _importance(model, order)
    # Of equals those that come first; in the order that they had.
    kept = np.sort(np.argsort(-importance, kind="stable")[:n_experts])
    pruned = copy.copy(model)
    net = pruned.net_ = copy.copy(model.net_)
    build, kinds = net.module, [net.module.keywords["kind_of"][m] for m in kept]
    shape, _ = build.args
    net.module = partial(build.func, shape, n_experts, **build.keywords | {"kind_of": kinds})
    history, criterion, device = copy.deepcopy(net.history), net.criterion_, net.device
    net.device, net.initialized_ = "cpu", False
    with use_generator(torch.Generator().manual_seed(0)):  # all weights are replaced
        net.initialize()
    net.history = history
    net.criterion_.load_state_dict(criterion.state_dict())
    net.module_.load_weights(large, kept.tolist())
    net.to(device)
    changed: dict[str, Any] = {"n_experts": n_experts}
    if n_experts == 1:
        # Further training would refuse what needs several experts.
        changed["expert_loss_weight"] = 0.0
        is_bagged = model.resolved_params_["early_stopping"] == "out_of_bag"
        if is_bagged and len(model.input_shape_) > 1:
            changed["early_stopping"] = False
    pruned.resolved_params_ = model.resolved_params_ | changed
    for name, value in changed.items():
        # Not what was chosen.
        if getattr(model, name) == model.resolved_params_[name]:
            setattr(pruned, name, value)
    pruned._architecture = model._architecture | {"n_experts": n_experts}
    pruned.expert_kinds_ = model.expert_kinds_[kept]
    load = model.expert_load_[kept]
    pruned.expert_load_ = load / max(load.sum(), np.finfo(load.dtype).tiny)
    measured = [n for n in vars(model) if n.startswith(("oob_", "validation_")) and n[-1] == "_"]
    for name in measured:
        del pruned.__dict__[name]
    return pruned


def _importance(model, order):
    """Return a number per expert, larger for those to keep."""
    module, n_experts = model.module_, len(model.expert_load_)
    if not isinstance(order, str):
        importance = np.asarray(order, dtype=float)
        if importance.shape != (n_experts,):
            raise ValueError(
                f"order must have a number for each of the {n_experts} experts, got an array of "
                f"shape {importance.shape}."
            )
        return importance
    if order == "load":
        return model.expert_load_
    if order == "router":
        network = getattr(module.router, "network", None)
        if not isinstance(network, LinearScores):
            raise ValueError(
                "order='router' needs a linear router, which has a row of weights per expert. Use "
                "order='load'."
            )
        return network.weight.detach().norm(dim=1).cpu().numpy()
    if order == "experts":
        squares = [
            sum(weight.detach().square().sum().item() for weight in expert.parameters())
            for expert in module.experts
        ]
        return np.sqrt(squares)
    raise ValueError(f"order must be 'load', 'router', 'experts' or an array, got {order!r}.")
