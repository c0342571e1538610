"""
A mixture of mixtures
=====================

Couriers write down how long a delivery took, but not whether they took the bicycle or the van. In
the center and in the suburbs, other things decide which one it was. This is a hierarchical mixture:
a tree tells the districts apart, and within each of them a mixture of two rules has a gate of its
own. The example takes about half a minute.
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
# EM climbs to the nearest peak, and four rules can be paired in three ways. A tree of the trips
# gives the nested mixture its start (`init="auto"`); EM moves the border to where it belongs.
models = {
    "flat, gate: tree": MixtureRegressor(rule, n_components=4, gate=tree, random_state=0),
    "flat, gate: logit": MixtureRegressor(rule, n_components=4, gate=logit, random_state=0),
    "nested": MixtureRegressor(inner, gate=district, n_init=2, random_state=0),
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
# The plot
# --------
# Above are the rules that the nested mixture has found, and the test trips in the color of the rule
# that each most probably followed, once its time is known. Below is what the gates say before it is
# known: how probable the van is. The two inner gates are near the truth. The tree of the flat
# mixture has eight leaves for all of this, and says it in steps.
import matplotlib.pyplot as plt


def slope_of(rule):
    """Return the minutes per km of a fitted rule; those of the van are below 3."""
    return rule[-1].coef_[0]


def share_of_van(model, X):
    """Return the probability of the rules with less than 3 minutes per km."""
    shares = 0
    for gate, expert in zip(model.gate_proba(X).T, model.experts_, strict=True):
        nested = hasattr(expert, "experts_")
        shares += gate * (share_of_van(expert, X) if nested else float(slope_of(expert) < 3))
    return shares


blue, orange = colors = np.array([[0, 0.45, 0.7], [0.9, 0.62, 0]])
figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
for column, place in enumerate(["center", "suburbs"]):
    here = is_center[1000:] == (place == "center")
    trips = X_test[here].sort_values("distance_km")
    part = nested.experts_[np.bincount(nested.apply(trips)).argmax()]
    times = y_test[trips.index - 1000]
    proba, predictions = part.responsibilities(trips, times), part.expert_predict(trips)
    by_slope = np.argsort([slope_of(expert) for expert in part.experts_])  # the van first
    ax = axes[0, column]
    followed = np.where(proba.argmax(axis=1) == by_slope[0], 0, 1)
    km = trips["distance_km"]
    ax.scatter(km, times, c=colors[followed], s=12, alpha=0.5, linewidths=0)
    for k, color, vehicle in zip(by_slope, (blue, orange), ("van", "bicycle"), strict=True):
        ax.plot(km, predictions[:, k], color=0.7 * color, linewidth=2.5, label=vehicle)
    ax.set(title=f"Rules in the {place}", xlabel="Distance (km)", ylabel="Time (minutes)")
    ax.set(ylim=(0, 54))
    ax.legend(loc="upper left", frameon=False)

    name, middle, steep, end = [("distance_km", 5, 1.2, 10), ("rain_mm", 2, 1.5, 6)][column]
    grid = pd.DataFrame({"distance_km": 5.0, "rain_mm": 2.0}, index=range(400))
    grid["inhabitants_km2"] = 6500.0 if place == "center" else 2000.0
    grid[name] = np.linspace(0.5 if column == 0 else 0, end, 400)
    truth, ax = 1 / (1 + np.exp(-steep * (grid[name] - middle))), axes[1, column]
    ax.plot(grid[name], truth, color="0.8", linewidth=7, label="truth")
    for key, color in (("flat, gate: tree", "0.35"), ("nested", 0.7 * blue)):
        ax.plot(grid[name], share_of_van(models[key], grid), color=color, linewidth=2, label=key)
    label = "Distance (km)" if column == 0 else "Rain (mm)"
    ax.set(title=f"Share of the van in the {place}", xlabel=label, ylabel="Probability of the van")
    ax.legend(loc="upper left", frameon=False)
plt.show()

# %%
# Each inner gate has coefficients of its own, here per standard deviation: in the center the
# distance decides, in the suburbs the rain.
for place, part in zip(["suburbs", "center"], nested.experts_, strict=True):
    sign = 1 if slope_of(part.experts_[1]) < 3 else -1  # towards the van
    for name, weight in zip(X, sign * part.gate_[-1].coef_[0], strict=True):
        print(f"{place:8} {name:16} {weight:+.1f}")

# sphinx_gallery_thumbnail_path = "figures/plot_hierarchical_mixture_panel.png"
