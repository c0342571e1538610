"""
=================
How many experts?
=================

:class:`~sklearn_moe.MoEClassifier` is a scikit-learn estimator, so the number of experts is
chosen like any other parameter: by :class:`~sklearn.model_selection.GridSearchCV`. The grid
includes ``n_experts=1``, the single model without a router. One search then answers two questions:
whether a mixture is better than a single model, and how many experts it needs.
"""

# %%
# The data
# --------
# Setting 2 of Chen, Deng, Wu, Gu and Li ("Towards Understanding the Mixture-of-Experts Layer in
# Deep Learning", NeurIPS 2022): four clusters, each with a feature of its own that carries the
# class, and strong noise. The search does not use the clusters.

from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

X, y = make_cluster_patches(4500, random_state=0, **PAPER_SETTINGS[2])

# %%
# The search
# ----------
# With ``n_jobs=2``, joblib's default backend (loky) uses two processes, and each of them its share
# of the cores. With an int as ``random_state`` the result does not depend on the number of
# processes. Only the scores are needed here, hence ``refit=False``.

from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier

n_experts = [1, 2, 4, 8, 16]
search = GridSearchCV(
    MoEClassifier(random_state=0), {"n_experts": n_experts}, cv=3, n_jobs=2, refit=False
)
search.fit(X, y)

accuracy = search.cv_results_["mean_test_score"]
deviation = search.cv_results_["std_test_score"]
for row in zip(n_experts, accuracy, deviation, strict=True):
    print("{:>2} experts: {:.3f} +/- {:.3f}".format(*row))

# %%
# Accuracy against the number of experts
# --------------------------------------

import matplotlib.pyplot as plt

_, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
name = "mean and standard deviation of three folds"
ax.errorbar(n_experts, accuracy, yerr=deviation, marker="o", capsize=4, label=name)
ax.axvline(4, color="0.6", linestyle=":", label="number of clusters")
ax.set_xscale("log", base=2)
ax.set_xticks(n_experts, n_experts)
ax.set(xlabel="Number of experts", ylabel="Cross-validated accuracy")
ax.set_title("Setting 2, 4500 samples")
ax.legend(loc="lower right")
plt.show()

# %%
# Results
# -------
# A single expert is wrong about a third of the time. Two experts must handle four clusters, and
# still confuse some of them. With four experts or more there is one for every cluster. More experts
# do no harm: each expert computes only its own samples, so that they cost little, and experts that
# are not needed get no samples. Exactly four experts are a risk: nothing assigns the experts to
# clusters, and with fewer samples two of them may learn the same cluster. The paper also uses more
# experts than clusters (8 and 4), so that for every cluster there is an expert that is close to its
# feature at the start.
