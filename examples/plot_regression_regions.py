"""
====================================
Four regions, each with its own rule
====================================

A target follows different linear rules in different regions, and the borders are unknown.
:class:`~sklearn_moe.MoERegressor` finds rules and borders together: every expert learns a rule, and
the router learns which expert to use where.
"""

# %%
# The data
# --------
# Four centers divide the plane: each point belongs to the nearest center, and in each region the
# target is another linear function, with noise. At most borders it jumps. The model is given
# samples and targets only; ``regions`` is for the evaluation.

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
# Six experts are more than needed, as the number of regions is also unknown. With
# ``activation="linear"`` each expert is a linear function, and with ``loss="gaussian"`` it also
# learns the standard deviation of the targets. The borders of a linear router are straight lines;
# those of a router with ``network="mlp"`` may be curved. With a large learning rate the router
# finds the regions early.

from sklearn_moe import MoERegressor, RouterParams

reg = MoERegressor(
    n_experts=6,
    activation="linear",
    router=RouterParams(network="mlp", learning_rate=0.03),
    loss="gaussian",
    random_state=0,
).fit(X_train, y_train)
print(f"R2 {reg.score(X_test, y_test):.3f}")

# %%
# The regions
# -----------
# Test samples in the true regions, and in the regions of the experts. A true region has the color
# of the expert that handles most of it, because the numbers of experts have no meaning.

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
# The predictions of an expert at three points determine its linear function.
# :meth:`~sklearn_moe.MoERegressor.expert_predict` returns the predictions of every expert,
# independent of the router.

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
# :func:`~sklearn_moe.metrics.specialization_report` shows each measure together with its value
# without any specialization. In its own region the squared error of an expert is a small part of
# the variance of ``y``; elsewhere it is worse than predicting the mean of ``y``. The report shows
# this also without the regions: with another expert instead of the own one, R2 is negative.

from sklearn_moe.metrics import specialization_report

print(specialization_report(reg, X_test, y_test, regions_test, random_state=0))
