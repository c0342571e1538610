"""
=============================
Top-1 routing in thirty lines
=============================

The whole of the paper's mixture of experts (Chen, Deng, Wu, Gu and Li, "Towards Understanding the
Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022), without this library: a router that is
linear in the patches, experts that are two-layer CNNs, and Algorithm 1. It predicts what
:class:`~sklearn_moe.MoEClassifier` predicts, and learns the same problem.
"""

# %%
# The model and its training
# --------------------------
# The score of expert m is the sum of <theta_m, x_p> over the patches x_p of a sample. In training
# uniform noise is added to the scores, so that experts of nearly equal score take turns. The sample
# goes to the expert of the largest one, and the output of that expert is multiplied by its softmax
# gate: through the gate alone the router gets a gradient. The step of each expert has the length
# of the learning rate, whatever its gradient, so that an expert with few samples keeps pace
# (equation 3.3); that of the router is plain gradient descent (equation 3.4).

import torch


def forward(x, theta, filters, noise=0.0):
    """Return logits (n, classes), and the expert of each sample, (n,)."""
    scores = torch.einsum("npd,md->nm", x, theta)
    expert = (scores + noise).argmax(1)
    gate = scores.softmax(1).gather(1, expert[:, None])
    # Only the filters of its own expert meet a sample.
    logits = torch.zeros(len(x), filters.shape[1], dtype=x.dtype)
    for m in expert.unique():
        own = expert == m
        responses = torch.einsum("npd,cjd->ncjp", x[own], filters[m]) ** 3
        logits[own] = responses.sum((2, 3))
    return gate * logits, expert


def train(x, y, n_experts=8, width=8, n_epochs=300, rate=0.06, router_rate=1.0, seed=0):
    """Return the weights of router and experts after steps by all samples."""
    generator = torch.Generator().manual_seed(seed)
    scale = x.square().sum(2).mean().sqrt()
    theta = torch.zeros(n_experts, x.shape[2])
    shape = n_experts, int(y.max()) + 1, width, x.shape[2]
    filters = torch.randn(shape, generator=generator) / (3 * x.shape[2]) ** 0.5
    for _ in range(n_epochs):
        theta, filters = theta.detach().requires_grad_(), filters.detach().requires_grad_()
        noise = torch.rand(len(x), n_experts, generator=generator)
        logits, _ = forward(x, theta, filters, noise)
        loss = torch.nn.functional.cross_entropy(logits, y)
        of_router, of_experts = torch.autograd.grad(loss, (theta, filters))
        lengths = of_experts.flatten(1).norm(dim=1)[:, None, None, None]
        filters = filters - rate / scale * of_experts / lengths.clamp(min=1e-12)
        theta = theta - router_rate / scale**2 * of_router
    return theta.detach(), filters.detach()


# %%
# It is the model of the library
# ------------------------------
# With the weights of a fitted :class:`~sklearn_moe.MoEClassifier` it gives the same probabilities
# and the same experts.

import numpy as np

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

X, y, clusters = make_cluster_patches(
    3000, return_clusters=True, random_state=0, **PAPER_SETTINGS[1]
)
X_train, X_test = torch.tensor(X[:2000]).float(), torch.tensor(X[2000:]).float()
labels = torch.tensor(y > 0).long()

clf = MoEClassifier(random_state=0).fit(X_train.numpy(), y[:2000])
weights = clf.net_.module_.state_dict()
logits, expert = forward(X_test, weights["router.network.weight"], weights["experts.weight"])
proba = clf.predict_proba(X_test.numpy())
np.testing.assert_allclose(logits.softmax(1), proba, atol=1e-5)
np.testing.assert_array_equal(expert, np.ravel(clf.apply(X_test.numpy())))
print(f"largest difference of probabilities: {abs(logits.softmax(1).numpy() - proba).max():.0e}")

# %%
# And it learns the problem
# -------------------------
# Each expert ends with the samples of one cluster, as in the paper's Figure 3. The library has,
# beside checks, batches and devices, steps that grow shorter with the error ("residual").

import matplotlib.pyplot as plt

from sklearn_moe.metrics import routing_matrix

theta, filters = train(X_train, labels[:2000])
logits, expert = forward(X_test, theta, filters)
accuracy = (logits.argmax(1) == labels[2000:]).float().mean()
print(f"accuracy by hand: {accuracy:.1%}")
print(f"accuracy of MoEClassifier: {clf.score(X_test.numpy(), y[2000:]):.1%}")

_, axes = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained", sharey=True)
for ax, name, chosen in zip(
    axes, ("by hand", "MoEClassifier"), (expert, clf.apply(X_test.numpy())), strict=True
):
    counts = routing_matrix(clusters[2000:], np.asarray(chosen), n_experts=8)
    ax.imshow(counts, cmap="Blues", aspect="auto")
    ax.set(title=name, xlabel="expert", xticks=range(8), yticks=range(4))
axes[0].set_ylabel("cluster")
plt.show()
