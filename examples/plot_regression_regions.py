"""
====================================
Four regions, each with its own rule
====================================

A quantity follows one linear rule here and another one there, and nobody knows where the borders
are. :class:`~sklearn_moe.MoERegressor` finds rules and borders together: every expert learns a
rule, and the router who is to answer where.
"""

# %%
# The data
# --------
# Four centers divide the plane: each point belongs to the nearest one, and there the target is a
# plane of its own, with noise. At most borders it jumps. The model is shown samples and targets;
# ``regions`` is for us.

import numpy as np

rng = np.random.RandomState(0)
centers = np.array([[-0.7, 0.5], [0.1, 0.1], [0.8, 0.6], [0.3, -0.9]])
slopes = np.array([[4, 0], [0, -4], [-3, 3], [2, 3]])
levels = np.array([3, -1, 0, -4])

X = rng.uniform(-1, 1, size=(4000, 2))
regions = np.linalg.norm(X[:, np.newaxis] - centers, axis=2).argmin(axis=1)
y = levels[regions] + np.sum(slopes[regions] * X, axis=1) + rng.normal(0, 0.1, size=4000)
X_train, y_train = X[:2000], y[:2000]
X_test, y_test, regions_test = X[2000:], y[2000:], regions[2000:]

# %%
# The mixture
# -----------
# Six experts, which is more than needed: the number of regions is not known either. With
# ``activation="linear"`` each of them is a plane, and ``loss="gaussian"`` lets it learn how close
# to its plane the targets lie. The borders of a linear router are straight lines; those of
# ``router_network="mlp"`` may be curved. A fast router finds its regions early.

from sklearn_moe import MoERegressor

reg = MoERegressor(
    n_experts=6,
    activation="linear",
    loss="gaussian",
    router_network="mlp",
    router_learning_rate_init=0.03,
    random_state=0,
).fit(X_train, y_train)
print(f"R2 {reg.score(X_test, y_test):.3f}")

# %%
# The regions
# -----------
# Held-out samples in the true regions, and in those of the experts that answer them. A true region
# has the color of the expert that answers most of it; experts have no names of their own.

import matplotlib.pyplot as plt

from sklearn_moe.inspection import DecisionRegionDisplay
from sklearn_moe.metrics import routing_matrix

experts = reg.apply(X_test)
main_expert = routing_matrix(regions_test, experts, n_experts=6).argmax(axis=1)

_, axes = plt.subplots(1, 2, figsize=(9.5, 4.4), sharey=True, layout="constrained")
style = {"scatter_kw": {"s": 8, "linewidths": 0}, "n_neighbors": 5, "grid_resolution": 400}
DecisionRegionDisplay.from_predictions(
    X_test, None, main_expert[regions_test], None, ax=axes[0], **style
)
axes[0].get_legend().remove()
DecisionRegionDisplay.from_estimator(reg, X_test, embedding=X_test, ax=axes[1], **style)
for ax, title in zip(axes, ["Four true regions", "Regions of the experts"], strict=True):
    ax.set(title=title, xlabel="Feature 0", ylabel="Feature 1", aspect="equal")
axes[1].set_ylabel("")
plt.show()

# %%
# The rules
# ---------
# What an expert says at three points tells its plane:
# :meth:`~sklearn_moe.MoERegressor.expert_predict` asks every expert, whoever answers.

at_zero, at_first, at_second = reg.expert_predict([[0, 0], [1, 0], [0, 1]])
print("              true rule              rule found")
for region, expert in enumerate(main_expert):
    true = levels[region], *slopes[region]
    found = [points[expert] for points in (at_zero, at_first - at_zero, at_second - at_zero)]
    rules = [
        "{:5.1f} {:+5.1f} x0 {:+5.1f} x1".format(*np.round(rule, 1) + 0.0) for rule in (true, found)
    ]
    print(f"region {region}  {rules[0]}  {rules[1]}  (expert {expert})")

# %%
# The report
# ----------
# All of it in numbers, each beside what it would be without any specialization. An expert is at
# home in one region, where its squared error is a small part of the variance of ``y``; elsewhere it
# is worse than the mean of ``y`` would be. :func:`~sklearn_moe.metrics.specialization_report` says
# so without being told the regions, too: exchange the experts, and R2 is lost.

from sklearn_moe.metrics import specialization_report

print(specialization_report(reg, X_test, y_test, regions_test, random_state=0))
