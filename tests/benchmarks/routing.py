"""What routing costs: several experts, all experts, and the router itself, per step of training."""

from functools import partial

import torch
from loops import soft_loop
from measure import StepClock, paired, seconds, verdict

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.nn import RouterSpec, TopKRouter

__all__ = ["routing_rows"]


class GivenRouter(TopKRouter):
    """Routes that cost nothing: drawn once, evenly, with a gate of 1."""

    def forward(self, x, generator=None):
        """Return the same route for every batch of a size."""
        kept = self.__dict__.setdefault("kept", {})
        if len(x) not in kept:
            route = super().forward(x, generator)
            n_experts = route.scores.shape[1]
            even = torch.arange(len(x)) % n_experts
            shuffled = even[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
            kept[len(x)] = route._replace(
                scores=route.scores.detach(),
                noisy=route.noisy.detach(),
                chosen=shuffled[:, None],
                gate=torch.ones(len(x), 1),
            )
        return kept[len(x)]


def epoch(X, y, n_epochs, batch_size, **options):
    """Return the median time of an epoch."""
    clock = StepClock()
    MoEClassifier(
        8,
        batch_size=batch_size,
        max_iter=n_epochs,
        tol=None,
        learning_rate="constant",
        learning_rate_init=0.001,
        router_learning_rate_init=0.01,
        callbacks=[clock],
        random_state=0,
        **options,
    ).fit(X, y)
    return clock.median()


def soft_epoch(X, y, n_epochs, batch_size):
    """Return the mean time of an epoch of the hand-written dense mixture."""
    return seconds(soft_loop, X, y, n_epochs, batch_size) / n_epochs


def routing_rows(n_samples, n_epochs, pairs):
    """Yield the rows for batches of the default size and for one full batch."""
    X, y = make_cluster_patches(n_samples, random_state=0, **PAPER_SETTINGS[1])
    given = {"router": RouterSpec(GivenRouter, noise=None)}
    for batch_size in (1024, n_samples):
        where = f"{len(X):,} samples, batches of {batch_size:,}"
        # As many steps for small batches as for one large one would take minutes.
        length = n_epochs if batch_size < n_samples else 3 * n_epochs

        ours = partial(epoch, X, y, length, batch_size)
        by_hand = partial(soft_epoch, X, y, length, batch_size)
        ratio = paired(partial(ours, router="topk", top_k=2), ours, pairs)
        yield verdict(f"epoch with top_k=2 over top-1, {where}", ratio, 2.3)
        ratio = paired(partial(ours, router="soft"), by_hand, pairs)
        yield verdict(f"epoch of router='soft' over the dense form by hand, {where}", ratio, 1.2)
        for name, options in (("", {}), (" and balance='switch'", {"balance": "switch"})):
            ratio = paired(partial(ours, **given), partial(ours, **options), pairs)
            yield verdict(
                f"epoch on given routes over top-1 with its router{name}: the rest is overhead, "
                f"{where}",
                ratio,
                0.85,
                at_least=True,
            )
