"""
==============================
What have the experts learned?
==============================

A score says that a mixture of experts works, but not how. The displays of
:mod:`sklearn_moe.inspection` show which expert handles which samples, when this was decided in
training, and which directions router and experts have learned. Here they are shown for setting 1
of the paper (Chen, Deng, Wu, Gu and Li, "Towards Understanding the Mixture-of-Experts Layer in Deep
Learning", NeurIPS 2022).
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
# The dispatch entropy H(cluster | expert) against epochs, the paper's Figure 3: the mean of five
# fits and, by Student's t distribution, the 95 % interval of that mean. At the start it is near its
# maximum, where routes are independent of the clusters. Nonlinear experts reach 0: each handles one
# cluster.

import matplotlib.pyplot as plt

from sklearn_moe.inspection import DispatchEntropyDisplay

_, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
for name in models:
    DispatchEntropyDisplay.from_traces(traces[name], name=name, ax=ax)
plt.show()

# %%
# Which expert handles which cluster?
# -----------------------------------
# The share of samples of each expert, divided by cluster. Bars with one color belong to experts
# that have specialized; a cross marks an expert without samples, which is harmless as long as every
# cluster has an expert.

from sklearn_moe.inspection import LoadDisplay

_, axes = plt.subplots(2, 1, figsize=(7, 6), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    LoadDisplay.from_estimator(model, X_test, clusters_test, ax=ax)
    ax.set_title(f"{name} experts")
plt.show()

# %%
# :class:`~sklearn_moe.inspection.RoutingDisplay` shows the same by cluster: which experts handle
# its samples?

from sklearn_moe.inspection import RoutingDisplay

RoutingDisplay.from_estimator(models["nonlinear"], X_test, clusters_test)
plt.show()

# %%
# What have router and experts learned?
# -------------------------------------
# Inner products of the learned weights with the vectors that the data are made of. The weights of
# the router, theta, are aligned with the centers, which determine the cluster but not the class.
# The filters of the experts, w, are aligned with the features, which determine the class if the
# cluster is known. The other two products stay near 0. This is what the paper proves. (A filter may
# have the direction of the feature or the opposite one: each expert has filters for both classes,
# and the one with the largest product is shown.)

from sklearn_moe.inspection import AlignmentDisplay

AlignmentDisplay.from_estimator(models["nonlinear"], dictionary)
plt.show()

# %%
# Where are the samples?
# ----------------------
# The paper's Figure 1: samples as points of a t-SNE embedding; the color is the expert and the
# marker the class. The background is the prediction for the nearest sample in the plane. It is not
# the real boundary, because the model decides in the space of the patches.

from sklearn_moe.inspection import DecisionRegionDisplay

_, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    DecisionRegionDisplay.from_estimator(
        model, X_test[:400], y_test[:400], embedding="tsne", random_state=0, ax=ax
    )
    ax.set_xlabel(f"{name} experts")
    ax.set(ylabel="", xticks=[], yticks=[])
plt.show()

# %%
# How many are needed?
# --------------------
# A search over the number of experts, with the standard error over its folds. One expert is a
# single network without a router. More experts than clusters do no harm here: each computes only
# its own samples, and those that are not needed get none. Exactly four are a risk, because two of
# them may learn the same cluster.

from sklearn.model_selection import GridSearchCV

from sklearn_moe.inspection import ExpertCountDisplay

grid = {"n_experts": [1, 2, 4, 8, 16], "activation": ["cubic", "linear"]}
search = GridSearchCV(MoEClassifier(max_iter=100, tol=None, random_state=0), grid, cv=3)
search.fit(X_train, y_train)
ExpertCountDisplay.from_search(search)
plt.show()
