"""
==============================
What have the experts learned?
==============================

A score says that a mixture of experts works, not how. The images of
:mod:`sklearn_moe.inspection` show who answers what, when that was settled in training, and what
router and experts look at. Here they are, on the paper's setting 1 (Chen, Deng, Wu, Gu and Li,
"Towards Understanding the Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022).
"""

# %%
# Fits that are watched
# ---------------------
# Each sample shows the feature of its cluster with the sign of its class, the center of its
# cluster, the feature of another cluster with a random sign, and noise. ``clusters`` and
# ``dictionary``, the vectors that were drawn, are known here because the data are made; no model
# gets to see them. A :class:`~sklearn_moe.callbacks.RoutingTrace` does: it follows the routes of
# the held-out samples during the fit.

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
    print(f"{name}: accuracy {models[name].score(X_test, y_test):.2%}")

# %%
# When did they specialize?
# -------------------------
# The dispatch entropy H(cluster | expert) against epochs, the paper's Figure 3: the mean of five
# fits and, by Student's t distribution, the 95 % interval of that mean. It starts near its maximum,
# when the experts know nothing of the clusters. Nonlinear experts get to 0: each answers one
# cluster.

import matplotlib.pyplot as plt

from sklearn_moe.inspection import DispatchEntropyDisplay

_, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
for name in models:
    DispatchEntropyDisplay.from_traces(traces[name], name=name, ax=ax)
plt.show()

# %%
# Who answers what?
# -----------------
# The share of samples of each expert, split by cluster. Bars of one color belong to experts that
# have specialized; a cross marks an expert that answers nobody, which is harmless as long as no
# cluster goes without one.

from sklearn_moe.inspection import LoadDisplay

_, axes = plt.subplots(2, 1, figsize=(7, 6), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    LoadDisplay.from_estimator(model, X_test, clusters_test, ax=ax)
    ax.set_title(f"{name} experts")
plt.show()

# %%
# :class:`~sklearn_moe.inspection.RoutingDisplay` shows the same by cluster: where do its samples
# go?

from sklearn_moe.inspection import RoutingDisplay

RoutingDisplay.from_estimator(models["nonlinear"], X_test, clusters_test)
plt.show()

# %%
# What do they look at?
# ---------------------
# Inner products of what was learned with what the data are made of. The router, theta, has aligned
# with the centers: these tell the cluster and nothing of the class. The filters of the experts, w,
# have aligned with the features, which tell the class to those who know the cluster. The two other
# products stay near 0. This division of labor is what the paper proves. (A filter may point along
# the feature or against it: each expert has filters for both classes, and the one of largest
# product is shown.)

from sklearn_moe.inspection import AlignmentDisplay

AlignmentDisplay.from_estimator(models["nonlinear"], dictionary)
plt.show()

# %%
# How do the samples lie?
# -----------------------
# The paper's Figure 1: samples as points of a t-SNE embedding, the color is the expert and the
# marker the class. The background is the prediction of the nearest sample in the plane, a
# image and not the boundary itself: the model decides in the space of the patches.

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
# A search over the number of experts, with the standard error over its folds.
# :ref:`sphx_glr_auto_examples_plot_grid_search_experts.py` has more on this.

from sklearn.model_selection import GridSearchCV

from sklearn_moe.inspection import ExpertCountDisplay

grid = {"n_experts": [1, 2, 4, 8, 16], "activation": ["cubic", "linear"]}
search = GridSearchCV(MoEClassifier(max_iter=100, tol=None, random_state=0), grid, cv=3)
search.fit(X_train, y_train)
ExpertCountDisplay.from_search(search)
plt.show()
