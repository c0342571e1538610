"""
==============================
What have the experts learned?
==============================

A score says that a mixture of experts works, but not how. Plots show which expert handles which
samples, when this was decided in training, and which directions router and experts have learned.
Here they are shown for setting 1 of the paper (Chen, Deng, Wu, Gu and Li, "Towards Understanding
the Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022).
"""

# %%
# Fits with a trace
# -----------------
# Each sample has the feature of its cluster with the sign of its class, the center of its cluster,
# the feature of another cluster with a random sign, and noise. ``clusters`` and ``dictionary``, the
# vectors that were drawn, are known here because the data are synthetic; they are not given to the
# models. A :class:`~sklearn_moe.callbacks.RoutingTrace` uses them: it records the routes of the
# test samples during the fit. For comparison, a single expert has as many filters as the mixture.

from sklearn_moe import MoEClassifier
from sklearn_moe.callbacks import RoutingTrace
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

X, y, clusters, dictionary = make_cluster_patches(
    3000, return_clusters=True, return_dictionary=True, random_state=0, **PAPER_SETTINGS[1]
)
X_train, y_train = X[:2000], y[:2000]
X_test, y_test, clusters_test = X[2000:], y[2000:], clusters[2000:]

models, traces = {}, {}
for name, activation in {"nonlinear": "cubic", "linear": "linear"}.items():
    traces[name] = []
    for seed in range(5):
        trace = RoutingTrace(X_test, clusters_test, dictionary=dictionary, every=2)
        models[name] = MoEClassifier(
            activation=activation, max_iter=150, tol=None, callbacks=[trace], random_state=seed
        ).fit(X_train, y_train)
        traces[name].append(trace)
    print(f"{name} experts: accuracy {models[name].score(X_test, y_test):.1%}")
single = MoEClassifier(n_experts=1, expert_width=64, random_state=0).fit(X_train, y_train)
print(f"one expert: accuracy {single.score(X_test, y_test):.1%}")

# %%
# When did they specialize?
# -------------------------
# The dispatch entropy H(cluster | expert) against epochs, the paper's Figure 3: each of the five
# fits, and their mean. At the start it is near its maximum, log 4 = 1.386, where routes are
# independent of the clusters. Nonlinear experts reach 0: each handles one cluster.

import matplotlib.pyplot as plt
import numpy as np

_, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for name, color in {"nonlinear": "C0", "linear": "C1"}.items():
    epochs = traces[name][0].epochs_
    entropies = np.array([trace.dispatch_entropy_ for trace in traces[name]])
    ax.plot(epochs, entropies.T, color=color, alpha=0.4, linewidth=0.8)
    ax.plot(epochs, entropies.mean(axis=0), color=color, label=f"{name} experts")
ax.axhline(np.log(4), color="0.5", linestyle="--")
ax.set(xlabel="Epoch", ylabel="Dispatch entropy (nats)")
ax.legend()
plt.show()

# %%
# Which expert handles which cluster?
# -----------------------------------
# :func:`~sklearn_moe.metrics.routing_matrix` has a line for each cluster and a column for each
# expert: each nonlinear expert with samples handles a single cluster. An expert without samples is
# harmless as long as every cluster has an expert.

from sklearn_moe.metrics import routing_matrix

_, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    counts = routing_matrix(clusters_test, model.apply(X_test), n_experts=8)
    ax.imshow(counts, cmap="Blues", vmin=0, aspect="auto")
    for (cluster, expert), count in np.ndenumerate(counts):
        color = "white" if count > counts.max() / 2 else "black"
        ax.text(expert, cluster, count, ha="center", va="center", color=color)
    ax.set(title=f"{name} experts", xlabel="Expert", ylabel="Cluster", yticks=range(4))
plt.show()

# %%
# What have router and experts learned?
# -------------------------------------
# Inner products of the learned weights with the vectors that the data are made of. The weights of
# the router, theta, are aligned with the centers, which determine the cluster but not the class.
# The filters of the experts, w, are aligned with the features, which determine the class if the
# cluster is known. The other two products stay near 0. This is what the paper proves. The last
# record of the trace has all products. Their size is shown: a filter may have the direction of the
# feature or the opposite one. Of the filters of an expert it is the one with the largest product.

trace = traces["nonlinear"][-1]
products = {
    "Router and features": np.abs(trace.router_features_[-1]),
    "Router and centers": np.abs(trace.router_centers_[-1]),
    "Experts and features": np.abs(trace.expert_features_[-1]).max(axis=1),
    "Experts and centers": np.abs(trace.expert_centers_[-1]).max(axis=1),
}
_, axes = plt.subplots(2, 2, figsize=(9, 4.4), sharex=True, sharey=True, layout="constrained")
for ax, (title, values) in zip(axes.flat, products.items(), strict=True):
    limit = max(v.max() for name, v in products.items() if name.split()[0] == title.split()[0])
    image = ax.imshow(values.T, cmap="Blues", vmin=0, vmax=limit, aspect="auto")
    ax.figure.colorbar(image, ax=ax)
    ax.set_title(title)
plt.setp(axes[1], xlabel="Expert")
plt.setp(axes[:, 0], ylabel="Cluster")
plt.show()

# %%
# Where are the samples?
# ----------------------
# The paper's Figure 1: samples as points of a t-SNE embedding; the color is the expert and the
# marker the class. The background is the prediction for the nearest sample in the plane. It is not
# the real boundary, because the model decides in the space of the patches. The patches of a sample
# have no order, so that their sum is embedded.

from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier

options = {"response_method": "predict", "plot_method": "pcolormesh", "cmap": "Greys", "vmax": 4}
style = {"cmap": "tab10", "vmin": 0, "vmax": 10, "s": 12}
X_shown, y_shown = X_test[:400], y_test[:400]
points = TSNE(init="pca", random_state=0).fit_transform(X_shown.sum(axis=1))
_, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    nearest = KNeighborsClassifier(1).fit(points, model.predict(X_shown))
    DecisionBoundaryDisplay.from_estimator(nearest, points, ax=ax, **options)
    experts = model.apply(X_shown)
    for label, marker in zip(model.classes_, "ox", strict=True):
        own = y_shown == label
        ax.scatter(*points[own].T, c=experts[own], marker=marker, **style)
    ax.set_xlabel(f"{name} experts")
    ax.set(ylabel="", xticks=[], yticks=[])
plt.show()
