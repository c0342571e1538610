"""
=================
How many experts?
=================

:class:`~sklearn_moe.MoEClassifier` is a scikit-learn estimator, so the number of experts is
chosen like any other parameter: by :class:`~sklearn.model_selection.GridSearchCV`. One expert is
part of the grid, for ``n_experts=1`` is the single model, without a router. The question "is a
mixture worth it?" and the question "how many experts?" are then one question.
"""

# %%
# The data
# --------
# Setting 2 of Chen, Deng, Wu, Gu and Li ("Towards Understanding the Mixture-of-Experts Layer in
# Deep Learning", NeurIPS 2022): four clusters, each with a feature of its own that carries the
# class, and strong noise. The search knows nothing of the clusters.

from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches

X, y = make_cluster_patches(4500, random_state=0, **PAPER_SETTINGS[2])

# %%
# The search
# ----------
# With ``n_jobs=2``, joblib's default backend (loky) fits in two processes and sees to it that each
# of them uses its share of the cores only. An int as ``random_state`` makes the result independent
# of the number of processes. Only the scores are wanted here, hence ``refit=False``.

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
# What is seen
# ------------
# A single expert is wrong about a third of the time. Two experts share four clusters and still
# confuse some of them. From four experts on there is one for every cluster, and more do no
# harm: since each expert computes its own samples only, they cost little, and those that are not
# needed answer nobody. Exactly four is still a risk: nothing assigns the experts to clusters, and
# with fewer samples two of them may settle on the same one. The paper, too, takes more experts than
# clusters (8 and 4), so that every cluster finds one that was close to its feature from the start.
