"""
Regimes in a table, in words
============================

The power that an office building uses follows one rule while it is heated, another one while it is
cooled, and a third one while it is closed. Nobody has written down which row is which. The example
starts from the table and ends with three rules in words, a plot of where each of them holds, and
a test of whether other rows would have given the same rules. It takes about a minute.
"""

# %%
# The table
# ---------
# 1,500 readings of a building that was made up for this example, so that the truth is known: it is
# open on workdays from 7 to 19, when it is heated below 14 °C and cooled above. The outside
# temperature is in °C, the sun in W/m², and the target in kW; the day is a category.
import numpy as np
import pandas as pd

rng = np.random.default_rng(0)
n_rows = 1500
X = pd.DataFrame(
    {
        "outside_c": rng.uniform(-8, 34, n_rows).round(1),
        "sun_w_m2": rng.gamma(2, 120, n_rows).clip(0, 900).round(),
        "people": rng.integers(0, 300, n_rows),
        "hour": rng.uniform(0, 24, n_rows).round(1),
        "day": rng.choice(["workday", "weekend"], n_rows, p=[5 / 7, 2 / 7]),
    }
)
difference = X["outside_c"] - 14
heated = 120 - 6 * difference - 0.03 * X["sun_w_m2"] + 0.05 * X["people"]
cooled = 90 + 3 * difference + 0.05 * X["sun_w_m2"] + 0.25 * X["people"]
closed = 40 - 0.5 * X["outside_c"]
is_open = (X["day"] == "workday") & X["hour"].between(7, 19)
kw = np.where(is_open, np.where(difference < 0, heated, cooled), closed)
kw = kw + rng.normal(0, 8, n_rows)
X.assign(kw=kw.round()).head()

# %%
# One call
# --------
# The experts are linear in the numbers. The gate, a tree of at most eight leaves, sees all columns
# and says which expert handles which row. How many experts there are is not known either:
# `n_components="auto"` tries 1, 2, ... and keeps the number with the lowest BIC.
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from sklearn_moe import MixtureRegressor

numbers = ["outside_c", "sun_w_m2", "people", "hour"]
expert = make_pipeline(make_column_transformer(("passthrough", numbers)), LinearRegression())
gate = make_pipeline(
    make_column_transformer((OneHotEncoder(drop="if_binary"), ["day"]), remainder="passthrough"),
    DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=30),
)
model = MixtureRegressor(expert, n_components="auto", gate=gate, random_state=0)
model.fit(X, kw)
for n_components, bic in zip(
    *(model.selection_[name] for name in ("n_components", "bic")), strict=True
):
    print(f"{n_components} experts: BIC {bic:.0f}")

# %%
# The rules
# ---------
# Each expert with the rows that it handles, in words, and its coefficients in the units of the
# columns. While the building is heated, a degree more outside saves 6 kW; while it is cooled, it
# costs 3. While it is closed, hardly anything matters. The three regimes are those that were made,
# and on the rows of the others an expert is far off.
from sklearn_moe.inspection import region_rules

region_rules(model, X, kw)

# %%
# The plot
# --------
# On the left are the rows as one would plot them first, each in the color of its expert, with the
# line of the expert at the mean of the other columns. On the right are the regions over two
# columns, for workdays: closed at night, and a border between heating and cooling near 14 °C.
import matplotlib.pyplot as plt

from sklearn_moe.inspection import DecisionRegionDisplay, expert_colors

experts, colors = model.apply(X), expert_colors(model.n_components_)
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
left.scatter(X["outside_c"], kw, c=colors[experts], s=12, alpha=0.6, linewidths=0)
for k, color in enumerate(colors):
    span = X["outside_c"][experts == k].agg(["min", "max"]).to_numpy()
    ends = pd.DataFrame({"outside_c": span, **X[numbers[1:]].mean(), "day": "workday"})
    left.plot(span, model.expert_predict(ends)[:, k], color="white", linewidth=5)
    left.plot(span, model.expert_predict(ends)[:, k], color=0.75 * color, linewidth=2.5)
left.set(
    xlabel="Outside temperature (°C)", ylabel="Power (kW)", title="Three rules", ylim=(0, None)
)
workdays = X[X["day"] == "workday"]
DecisionRegionDisplay.from_estimator(
    model, workdays, columns=("outside_c", "hour"), ax=right, scatter_kw={"s": 12, "linewidths": 0}
)
right.set(xlabel="Outside temperature (°C)", ylabel="Hour", title="Where each holds: workdays")
right.set(yticks=[0, 7, 13, 19, 24])
plt.show()

# %%
# Would other rows have given the same regimes?
# ---------------------------------------------
# The model is fitted again to rows drawn with replacement, and its split compared with the first
# one. An adjusted Rand index of 1 is the same split, 0 is chance.
from sklearn_moe.inspection import StabilityDisplay

again = MixtureRegressor(expert, n_components=3, gate=gate, n_init=3, random_state=0)
StabilityDisplay.from_estimator(again, X, kw, n_refits=10, random_state=0)
plt.show()

# %%
# What it costs
# -------------
# A model that can be read may predict worse than one that cannot. Here it does not: R2 of five
# folds, beside a single linear model, a tree with as many leaves, and boosted trees.
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_val_score
from sklearn.tree import DecisionTreeRegressor

code = gate[0]
rivals = {
    "mixture of 3 linear experts": again,
    "one linear model": make_pipeline(code, LinearRegression()),
    "tree of 8 leaves": make_pipeline(code, DecisionTreeRegressor(max_leaf_nodes=8)),
    "boosted trees": make_pipeline(code, HistGradientBoostingRegressor(random_state=0)),
}
for name, rival in rivals.items():
    print(f"{name:28} {cross_val_score(rival, X, kw, cv=5).mean():.3f}")
