"""Callbacks for the `callbacks` parameter, beside those of skorch.

A callback of your own subclasses :class:`skorch.callbacks.Callback`; at the end of an epoch it
may raise :class:`StopTraining`.
 | Watch a mixture while it is trained.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ._training import Callback, StopTraining
from .metrics import dispatch_entropy

__all__ = ["FreezeRouter", "RoutingTrace", "StopTraining"]


class FreezeRouter(Callback):
    """Train the router, and what balances it, in the first epochs only, but the experts in all.

    Parameters
    ----------
    after : int, default=0
        Number of epochs after which the router does not change; 0: from the start.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.callbacks import FreezeRouter
    >>> clf = MoEClassifier(callbacks=[FreezeRouter(after=10)])
    """

    def __init__(self, after: int = 0):
        self.after = after

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Freeze the router, or not yet."""
        if net.module_.router is not None:
            net.module_.router.freeze(len(net.history) > self.after)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Leave the router as it was found: another training may not have this callback."""
        if net.module_.router is not None:
            net.module_.router.freeze(False)


class RoutingTrace(Callback):
    """Record how the routing of a mixture develops during `fit`.

    Pass it in `callbacks`. It works in any search: a clone of the estimator has a trace of its own
    in its `callbacks`, with the same X.
    Routes are those without noise, as at prediction, unless `noise` is set. The attributes exist
    from the first record on, and grow during the fit.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...), default=None
        Samples whose routes are followed, as the experts take them. None: the training samples.

    clusters : array-like of shape (n_samples,), default=None
        Cluster of every sample, for the dispatch entropy.

    dictionary : tuple (features, centers) of arrays of shape (n_clusters, patch_size), \
            default=None
        The vectors v_k and c_k of `make_cluster_patches`. With them the inner products with the
        weights of router and experts are recorded, for a linear router and patch experts.

    noise : bool, default=False
        Whether to add the noise of training to the scores, the same draws in every record: early
        on, when the scores are small, it decides most routes.

    every : int, default=1
        Epochs between two records. The first record is of the start, before any training.

    Attributes
    ----------
    epochs_ : ndarray of shape (n_records,)
        Epochs trained before each record.

    dispatch_entropy_ : ndarray of shape (n_records,)
        Dispatch entropy in nats, NaN without clusters.

    load_ : ndarray of shape (n_records, n_experts)
        Share of the samples that each expert computes.

    experts_ : ndarray of shape (n_samples,)
        Expert of each sample in the last record.

    expert_features_, expert_centers_ : ndarray of shape (n_records, n_experts, n_filters, K)
        <w_mj, v_k> and <w_mj, c_k> of all filters, those of the first output first. None without
        a dictionary.

    router_features_, router_centers_ : ndarray of shape (n_records, n_experts, K)
        <theta_m, v_k> and <theta_m, c_k>. None without a dictionary.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.datasets import make_cluster_patches
    >>> from sklearn_moe.callbacks import RoutingTrace
    >>> X, y, clusters, dictionary = make_cluster_patches(
    ...     1000, return_clusters=True, return_dictionary=True, random_state=0)
    >>> trace = RoutingTrace(X, clusters, dictionary=dictionary, every=10)
    >>> clf = MoEClassifier(max_iter=100, tol=None, callbacks=[trace], random_state=0).fit(X, y)
    >>> trace.epochs_
    array([  0,  10,  20,  30,  40,  50,  60,  70,  80,  90, 100])
    >>> bool(trace.dispatch_entropy_[0] > trace.dispatch_entropy_[-1])
    True
    >>> trace.router_centers_.shape
    (11, 8, 4)
    """

    # A checkpoint is the same without it.
    is_observer = True
    # Of a trace without a dictionary.
    expert_features_ = expert_centers_ = router_features_ = router_centers_ = None

    def __init__(
        self,
        X: ArrayLike | None = None,
        clusters: ArrayLike | None = None,
        *,
        dictionary: tuple[ArrayLike, ArrayLike] | None = None,
        noise: bool = False,
        every: int = 1,
    ):
        self.X = X
        self.clusters = clusters
        self.dictionary = dictionary
        self.noise = noise
        self.every = every

    def __sklearn_clone__(self):
        """Return a trace without records; the samples are shared, not copied."""
        return type(self)(**self.get_params(deep=False))

    # -- what skorch calls ----------------------------------------------------------------

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Record the start; a training that goes on with old weights goes on recording."""
        if len(net.history) and hasattr(self, "epochs_"):
            return
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got every={self.every}.")
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        self._record(net, X)

    def on_epoch_end(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        """Record again every few epochs."""
        if len(net.history) % self.every == 0:
            self._record(net, dataset_train.X)

    # -- records --------------------------------------------------------------------------

    def _record(self, net, X_train):
        net.module_.eval()
        self.experts_, load = self._routes(net, X_train)
        record = {"epochs_": len(net.history), "dispatch_entropy_": np.nan, "load_": load}
        if self.clusters is not None:
            record["dispatch_entropy_"] = dispatch_entropy(self.clusters, self.experts_)
        if self.dictionary is not None:
            record |= self._inner_products(net.module_)
        for name, value in record.items():
            found = np.asarray(value)[np.newaxis]
            setattr(self, name, np.concatenate([vars(self).get(name, found[:0]), found]))

    def _routes(self, net, X_train):
        """Return the expert of each sample and the load."""
        total = 0
        generator = torch.Generator(net.device).manual_seed(0) if self.noise else None

        def encode(x):
            nonlocal total
            route = net.module_.route(x, generator)
            total = total + route.shares().sum(0)
            return route.ranking()[:, 0]

        experts = net.map_batches(encode, X_train if self.X is None else np.asarray(self.X))
        return experts, (total / total.sum()).cpu().numpy()

    def _inner_products(self, module):
        network = getattr(module.router, "network", module.router)
        weights = [getattr(part, "weight", None) for part in (network, *module.experts)]
        size = np.shape(self.dictionary[0])[1]
        if any(w is None or w.shape[-1] != size for w in weights):
            raise ValueError(
                "A dictionary asks for inner products with the weights of a linear router and of "
                f"patch experts on patches of size {size}, got {type(module.experts[0]).__name__} "
                f"and {type(network).__name__}. Leave dictionary=None for other models."
            )
        theta, *filters = (w.detach().cpu().numpy() for w in weights)
        filters = np.stack([w.reshape(-1, size) for w in filters])
        features, centers = (np.asarray(vectors).T for vectors in self.dictionary)
        return {
            "expert_features_": filters @ features,
            "expert_centers_": filters @ centers,
            "router_features_": theta @ features,
            "router_centers_": theta @ centers,
        }
