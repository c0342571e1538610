"""Artificial problems beside those of the paper, and what else is measured of runs on them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .._training import Callback
from ..metrics import routing_matrix
from ._run import Problem, Run, routes

GOOD = 5.0  # percent: an expert is good on a cluster if its error there is below
WAYS = ("", "_without")  # the routing as it is, and by the same scores without noise


class AlikeStart(Callback):
    """Start all experts from the weights of the first one, plus a thousandth of their own."""

    def on_train_begin(self, net, **kwargs):
        """Change the weights, before the first step."""
        first, *others = net.module_.experts
        with torch.no_grad():
            for other in others:
                for own, common in zip(other.parameters(), first.parameters(), strict=True):
                    own.mul_(0.001).add_(common)


class EarlyRun(Run):
    """Measures also in how much of their margins the experts differ, early in training."""

    def measure(self, fitted, samples):
        """Take the second record of the trace; of two outputs the first one counts negative."""
        products = fitted.callbacks[-1].expert_features_[1]  # (M, F, K)
        outputs = products ** (3 if fitted.activation == "cubic" else 1)
        *first, last = np.split(outputs, len(fitted.module_.experts[0].weight), axis=1)
        margins = last.sum(1) - sum(part.sum(1) for part in first)  # (M, K), up to a factor
        own = margins - margins.mean(0)
        return {"difference": float((own**2).sum() / (margins**2).sum())}


class EarlyRouting(Callback):
    """Keep the scores of the first training samples, without noise, and the experts' weights.

    Parameters
    ----------
    steps : int, default=80
        From the start.
    """

    def __init__(self, steps=80):
        self.steps = steps

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Keep the start."""
        self.scores_, self.weights_ = [], []
        self._keep(net, X)

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        """Keep what a step has changed (one epoch is one step, full batch)."""
        if len(net.history) <= self.steps:
            self._keep(net, dataset_train.X)

    def _keep(self, net, X):
        module = net.module_.eval()
        self.scores_.append(net.map_batches(lambda x: module.route(x).scores, X[:500]))
        weights = [expert.weight.detach().cpu().numpy() for expert in module.experts]
        self.weights_.append(np.stack([w.reshape(-1, w.shape[-1]) for w in weights]))


def probabilities(scores, noise=True):
    """Return the probability of every expert to have the highest score, (n_samples, n_experts).

    With noise that is uniform on [0, 1] and independent it is the integral, over the level t that
    the winner reaches, of the probability that all others stay below: a polynomial between any two
    of the levels at which an expert cannot win any more, so that it is exact.
    """
    n_samples, n_experts = scores.shape
    if not noise:
        return np.eye(n_experts)[scores.argmax(1)]
    scores = scores - scores.max(1, keepdims=True)
    edges = np.maximum(np.sort(scores + 1, axis=1), 0)  # (n, M); no one can win below 0
    widths = np.diff(edges, axis=1, prepend=0)[..., None]
    nodes, weights = np.polynomial.legendre.leggauss(n_experts // 2 + 1)
    t = edges[..., None] + widths * (nodes - 1) / 2
    t, weights = (a.reshape(n_samples, -1, 1) for a in (t, widths * weights / 2))
    below = np.clip(t - scores[:, None], 1e-300, 1)  # (n, t, M): P(score + noise < t)
    others = weights * below.prod(2, keepdims=True) / below
    return (others * (t < scores[:, None] + 1)).sum(1)


def on_clusters(fitted, X, y, clusters):
    """Return error in percent (M, K) and routes (K, M) of every expert on every cluster."""
    right = fitted.classes_[fitted.expert_proba(X).argmax(axis=2)] == y[:, np.newaxis]
    errors = [1 - right[clusters == cluster].mean(axis=0) for cluster in np.unique(clusters)]
    return 100 * np.transpose(errors), routing_matrix(
        clusters, fitted.apply(X), n_experts=len(fitted.expert_load_)
    )


class TheoremRun(Run):
    """A run that measures every expert on every cluster, and the routing early on."""

    def measure(self, fitted, samples):
        """Return errors, routes, and curves over the first steps."""
        n = self.problem.n_train
        (train, _), (test, routes) = (
            on_clusters(fitted, *(values[part] for values in samples[:3]))
            for part in (slice(n), slice(n, None))
        )
        matrices = {"train_errors": train, "test_errors": test, "dispatch": routes}
        found = {name: matrix.tolist() for name, matrix in matrices.items()}
        return found | {"early": _early(fitted, samples)}


def _early(fitted, samples):
    """Return curves over the first steps: how far experts have grown, how the routing changes."""
    (kept,) = (c for c in fitted.callbacks if isinstance(c, EarlyRouting))
    clusters, features = samples.clusters[: len(kept.scores_[0])], samples.dictionary[0]
    strongest = np.array([np.abs(w @ features.T).max((1, 2)).mean() for w in kept.weights_])
    after = np.unique(np.linspace(1, len(kept.scores_) - 1, 40).astype(int))
    curves = {"growth": strongest[after] / strongest[0]}
    for way, noise in zip(WAYS, (fitted.router.noise is not None, False), strict=True):
        before, now = (
            np.stack([probabilities(kept.scores_[step], noise) for step in steps])
            for steps in (after - 1, after)
        )
        load = np.stack([now[:, clusters == k].mean(1) for k in np.unique(clusters)])
        curves[f"uneven{way}"] = np.abs(load * now.shape[2] - 1).max((0, 2))
        curves[f"moved{way}"] = np.abs(now - before).sum(2).mean(1) / 2  # total variation
    return {name: curve.tolist() for name, curve in curves.items()}


@dataclass(frozen=True)
class Clusters(Problem):
    """A setting of the paper with another number of clusters, or size of the patches.

    Parameters
    ----------
    n_clusters : int, default=4
    patch_size : int, default=50
    """

    n_clusters: int = 4
    patch_size: int = 50

    @property
    def options(self):
        """Return parameters of the generator."""
        return super().options | {"n_clusters": self.n_clusters, "patch_size": self.patch_size}


class CoverageRun(Run):
    """A run that counts the clusters that experts have learned, and those that are covered."""

    def measure(self, fitted, samples):
        """Return `learned`, clusters on which some expert is good, and `covered`.

        Those are clusters of which most samples are routed to experts that are good on them.
        """
        n = self.problem.n_train
        errors, routes = on_clusters(fitted, *(values[n:] for values in samples[:3]))
        good = errors < GOOD  # (M, K)
        covered = (routes * good.T).sum(1) > routes.sum(1) / 2
        return {"learned": int(good.any(0).sum()), "covered": int(covered.sum())}


class DeepSet(nn.Module):
    """One network on every patch, the sum of its outputs, and a second network on that [1]_.

    In contrast to the paper's expert, which is a sum over patches as well, it has a learned
    readout: the sign of one patch can depend on what another one is. As the `expert` of a
    MoEClassifier with `n_experts=1` it is an estimator.

    Parameters
    ----------
    input_shape : (n_patches, patch_size)
    n_outputs : int
    width : int, default=100
        Units of both hidden layers, as in scikit-learn's MLPClassifier.

    References
    ----------
    .. [1] M. Zaheer et al., "Deep Sets", NeurIPS 2017.
    """

    def __init__(self, input_shape: tuple[int, ...], n_outputs: int, *, width: int = 100):
        super().__init__()
        self.patch = nn.Sequential(nn.Linear(input_shape[1], width), nn.ReLU())
        self.readout = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, n_outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_samples, n_patches, patch_size) to (n_samples, n_outputs)."""
        return self.readout(self.patch(x).sum(1))


class DispatchRun(Run):
    """A run that says which expert gets how many test samples of which cluster."""

    def measure(self, fitted, samples):
        """Return the dispatch of a mixture."""
        X, clusters = (part[self.problem.n_train :] for part in (samples.X, samples.clusters))
        return routes(fitted, X, clusters) if self._routes else {}
