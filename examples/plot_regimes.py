"""
Regimes in a table, in words
============================

In the penguins of the Palmer Archipelago, a heavier bird has a flatter bill, if all are taken
together. The example finds two regimes, in each of which the opposite is true, says in words where
each of them holds, and tests whether other penguins would have given the same rules. It takes about
a minute.
"""

# %%
# The table
# ---------
# 342 penguins of three species [#]_, from `pip install palmerpenguins`. The model is given body
# mass and flipper length, and predicts the depth of the bill. It is not given the species.
from palmerpenguins import load_penguins

penguins = load_penguins().dropna(subset=["body_mass_g"])
X, y = penguins[["body_mass_g", "flipper_length_mm"]], penguins["bill_depth_mm"]
penguins.head(3)

# %%
# One call
# --------
# The experts are lines: the depth as a linear function of the body mass. The gate, a tree with two
# leaves, sees all columns and says which expert handles which penguin. The number of experts is not
# known either: `n_components="auto"` tries 1, 2, ... and keeps the number with the lowest BIC.
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from sklearn_moe import MixtureRegressor

line = make_pipeline(make_column_transformer(("passthrough", ["body_mass_g"])), LinearRegression())
gate = DecisionTreeClassifier(max_leaf_nodes=2)
model = MixtureRegressor(line, n_components="auto", gate=gate, random_state=0).fit(X, y)
for n_components, bic in zip(
    *(model.selection_[name] for name in ("n_components", "bic")), strict=True
):
    print(f"{n_components} experts: BIC {bic:.0f}")

# %%
# The plot
# --------
# On the left the table, with one line for all penguins; on the right the penguins in the color of
# their expert, with its line.
import matplotlib.pyplot as plt

mass, experts = X["body_mass_g"], model.apply(X)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
left.scatter(mass, y, c="0.6", s=14, linewidths=0)
left.plot(mass, LinearRegression().fit(X[["body_mass_g"]], y).predict(X[["body_mass_g"]]), c="0.2")
for k in range(model.n_components_):
    its, style = experts == k, {"color": f"C{k}"}
    right.scatter(mass[its], y[its], s=14, alpha=0.4, linewidths=0, label=f"expert {k}", **style)
    right.plot(mass[its], model.expert_predict(X[its])[:, k], linewidth=2.5, **style)
left.set(title="One line: heavier, flatter", ylabel="Bill depth (mm)", xlabel="Body mass (g)")
right.set(title="Two regimes: heavier, deeper", xlabel="Body mass (g)")
right.legend(frameon=False)
plt.show()

# %%
# The rules
# ---------
# Each expert with the penguins that it handles, in words, and its coefficients in the units of the
# columns: in both regimes, the bill is about 1.5 mm deeper for each kilogram. On the penguins of
# the other expert an expert is off by more than 5 mm.
from sklearn_moe.inspection import region_rules

region_rules(model, X, y)

# %%
# What was found are species: one regime is the Gentoo, the other one the two smaller species.
import pandas as pd

pd.crosstab(penguins["species"], experts, colnames=["expert"])

# %%
# Would other penguins have given the same rules?
# -----------------------------------------------
# The model is fitted again to rows drawn with replacement, and its split compared with the first
# one. An adjusted Rand index of 1 is the same split, 0 is chance. Simple experts and gates are more
# stable: with both columns for the experts and a tree of four leaves as gate, only four of ten
# refits agreed (mean index .46). More starts help, too: with three in place of ten (`n_init`),
# eight of ten agreed.
from sklearn_moe.inspection import routing_stability

again = MixtureRegressor(line, n_components=2, gate=gate, random_state=0).fit(X, y)
stability = routing_stability(again, X, y, n_refits=10, random_state=0)
print(stability)
_, ax = plt.subplots(figsize=(6, 2), layout="constrained")
ax.hist(stability.scores, bins=45, range=(-0.1, 1))
ax.axvspan(stability.null_low, stability.null_high, color="0.75", label="by chance")
ax.set(xlabel="Adjusted Rand index with the first fit", ylabel="Refits")
ax.legend()
plt.show()

# %%
# What it costs
# -------------
# A model that can be read may predict worse than one that cannot. R2 of five folds, mean and
# standard deviation, beside a single linear model of both columns, a tree with eight leaves and
# boosted trees:
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_score
from sklearn.tree import DecisionTreeRegressor

rivals = {
    "two lines": again,
    "linear model": LinearRegression(),
    "tree of 8 leaves": DecisionTreeRegressor(max_leaf_nodes=8, random_state=0),
    "boosted trees": HistGradientBoostingRegressor(random_state=0),
}
folds = KFold(5, shuffle=True, random_state=0)
for name, rival in rivals.items():
    scores = cross_val_score(rival, X, y, cv=folds)
    print(f"{name:18} {scores.mean():.2f} ± {scores.std():.2f}")

# %%
# .. [#] Gorman, Williams, Fraser (2014), `doi:10.1371/journal.pone.0090081
#    <https://doi.org/10.1371/journal.pone.0090081>`_; the data are in the public domain (CC0).
#
# :doc:`/regimes` has more: gates with categories, classes, how to choose the number of experts, and
# results on 32 real tables.

# sphinx_gallery_thumbnail_path = "figures/plot_regimes_panel.png"
