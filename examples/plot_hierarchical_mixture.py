"""
A mixture of mixtures
=====================

Couriers write down how long a delivery took, but not whether they took the bicycle or the van. In
the center and in the suburbs, other things decide which one it was. This is a hierarchical mixture:
a tree tells the districts apart, and within each of them a mixture of two rules has a gate of its
own. The example takes about ten seconds.
"""

# %%
# The table
# ---------
# 2,000 deliveries, made up so that the truth is known. In the center the van is taken for long
# ways; in the suburbs, when it rains. The vehicle is not in the table.
import numpy as np
import pandas as pd

rng = np.random.default_rng(0)
n_trips = 2000
X = pd.DataFrame(
    {
        "distance_km": rng.uniform(0.5, 10, n_trips).round(2),
        "rain_mm": rng.gamma(1, 2, n_trips).round(1),
        "inhabitants_km2": rng.uniform(200, 9000, n_trips).round(),
    }
)
is_center = (X["inhabitants_km2"] > 4000).to_numpy()
inclination = np.where(is_center, 1.2 * (X["distance_km"] - 5), 1.5 * (X["rain_mm"] - 2))
by_van = rng.uniform(size=n_trips) < 1 / (1 + np.exp(-inclination))
km = X["distance_km"]
minutes = np.where(
    is_center,
    np.where(by_van, 22 + 2.5 * km, 4 + 4 * km),
    np.where(by_van, 6 + 1.2 * km, 3 + 3.4 * km),
) + rng.normal(0, 1.5, n_trips)
X_train, X_test = X[:1000], X[1000:]
y_train, y_test = minutes[:1000], minutes[1000:]

# %%
# Flat and nested
# ---------------
# A mixture may be the expert of another one. The inner one has two linear rules, and a logit as
# gate; the outer one has a tree that sees only how densely a district is populated. Beside it are
# flat mixtures of four such rules, whose gates see all columns: a tree, and a logit.
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_moe import MixtureRegressor


def only(*columns):
    """Return a transformer that passes some columns on."""
    return make_column_transformer(("passthrough", [*columns]))


rule = make_pipeline(only("distance_km"), LinearRegression())
logit = make_pipeline(StandardScaler(), LogisticRegression())
district = make_pipeline(only("inhabitants_km2"), DecisionTreeClassifier(max_leaf_nodes=2))
tree = DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=30)
inner = MixtureRegressor(rule, gate=logit, n_init=2)

# %%
# EM climbs to the nearest peak, and four rules can be paired in three ways. So the nested mixture
# starts from a guess, the denser half of the districts; it moves the border to where it belongs.
density = X_train["inhabitants_km2"]
is_dense = (density > density.median()).to_numpy()
guess = np.column_stack([~is_dense, is_dense]).astype(float)
models = {
    "flat, gate: tree": MixtureRegressor(rule, n_components=4, gate=tree, random_state=0),
    "flat, gate: logit": MixtureRegressor(rule, n_components=4, gate=logit, random_state=0),
    "nested": MixtureRegressor(inner, gate=district, init=guess, random_state=0),
}
held_out = {
    name: model.fit(X_train, y_train).score_samples(X_test, y_test)
    for name, model in models.items()
}
nested = models["nested"]
print(f"border at {nested.gate_[-1].tree_.threshold[0]:.0f} inhabitants per km²")

# %%
# Which describes other trips best
# --------------------------------
# The mean log density of trips that were not fitted to, and the difference to the nested mixture on
# the same trips, with its standard error.
for name, log_density in held_out.items():
    less = log_density - held_out["nested"]
    error = less.std() / np.sqrt(len(less))
    print(f"{name:18} {log_density.mean():.3f}   difference {less.mean():+.3f} ± {error:.3f}")

# %%
# The picture
# -----------
# The test trips in both districts, each in the color of the rule that it most probably followed,
# once its time is known. Above is the flat mixture with a tree, below the nested one.
import matplotlib.pyplot as plt

from sklearn_moe.inspection import expert_colors


def rules_of(model):
    """Return the probability of every rule for each test trip, and what the rule predicts."""
    proba, experts = model.responsibilities(X_test, y_test), model.experts_
    if not hasattr(experts[0], "experts_"):
        return proba, model.expert_predict(X_test)
    parts = [expert.responsibilities(X_test, y_test) for expert in experts]
    proba = np.hstack([proba[:, [k]] * part for k, part in enumerate(parts)])
    return proba, np.hstack([expert.expert_predict(X_test) for expert in experts])


colors, km = expert_colors(4), X_test["distance_km"].to_numpy()
figure, axes = plt.subplots(2, 2, figsize=(10, 8), sharex=True, sharey=True, layout="constrained")
for row, name in zip(axes, ["flat, gate: tree", "nested"], strict=True):
    proba, predictions = rules_of(models[name])
    rule_of = proba.argmax(axis=1)
    for ax, place, there in zip(row, ["center", "suburbs"], [True, False], strict=True):
        shown = is_center[1000:] == there
        ax.scatter(km[shown], y_test[shown], c=colors[rule_of[shown]], s=14, linewidths=0)
        for k in np.unique(rule_of[shown]):
            if np.mean(rule_of[shown] == k) > 0.02:
                order = km.argsort()
                ax.plot(km[order], predictions[order, k], color=0.75 * colors[k], linewidth=2)
        ax.set_title(f"{name}: {place}")
for ax in axes[1]:
    ax.set_xlabel("Distance (km)")
for ax in axes[:, 0]:
    ax.set_ylabel("Time (minutes)")
plt.show()

# %%
# What the inner gates know
# -------------------------
# In the center the share of the van depends on the distance, in the suburbs on the rain: each gate
# has coefficients of its own, here per standard deviation. A flat mixture has one gate for all of
# this, and needs many leaves for what a logit says with one number.
for name, part in zip(["suburbs", "center"], nested.experts_, strict=True):
    slopes = part.gate_[-1].coef_[0]
    rules = [f"{e[-1].intercept_:.1f} + {e[-1].coef_[0]:.1f} km" for e in part.experts_]
    print(f"{name:8} rules {' | '.join(rules)};  gate {dict(zip(X, slopes.round(1), strict=True))}")
