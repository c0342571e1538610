"""
Regression with intervals
=========================

How far does a car of 1982 go with a gallon, and how sure is that?
:class:`~sklearn_moe.MoERegressor` predicts a number and an interval from one fit. The example takes
about half a minute.
"""

# %%
# The table
# ---------
# 398 cars of the years 1970 to 1982, from `pip install vega_datasets`, with a category, a date and
# some missing numbers. The target is miles per gallon.
import pandas as pd
from vega_datasets import data

cars = pd.read_json(data.cars.filepath).dropna(subset=["Miles_per_Gallon"])
X = cars.drop(columns=["Name", "Miles_per_Gallon"]).astype({"Origin": "category"})
X["Year"] = pd.to_datetime(X["Year"]).dt.year
y = cars["Miles_per_Gallon"].to_numpy()
X.head()

# %%
# Predict cars that were not trained on
# -------------------------------------
# Five folds: every car is predicted by a model that has not seen it. Beside the mixture are boosted
# trees, one model for the number and two for the ends of the interval.
import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold

from sklearn_moe import MoERegressor


class BoostedTrees:
    """A number and an interval, by three models."""

    def fit(self, X, y):
        trees = HistGradientBoostingRegressor(random_state=0)
        ends = [clone(trees).set_params(loss="quantile", quantile=q) for q in (0.05, 0.95)]
        self.models = [model.fit(X, y) for model in (trees, *ends)]
        return self

    def predict(self, X):
        return self.models[0].predict(X)

    def predict_interval(self, X, coverage):
        return np.stack([model.predict(X) for model in self.models[1:]], axis=1)


models = {"mixture": MoERegressor(random_state=0), "boosted trees": BoostedTrees()}
predicted, intervals = ({name: np.empty((len(y), n)) for name in models} for n in (1, 2))
for train, test in KFold(5, shuffle=True, random_state=0).split(X):
    for name, model in models.items():
        model.fit(X.iloc[train], y[train])
        predicted[name][test, 0] = model.predict(X.iloc[test])
        intervals[name][test] = model.predict_interval(X.iloc[test], coverage=0.9)
for name, (low, high) in ((name, ends.T) for name, ends in intervals.items()):
    inside = (low < y) & (y < high)
    print(
        f"{name:14} R2 {r2_score(y, predicted[name]):.3f}, in the interval {inside.mean():.1%}, "
        f"mean width {np.mean(high - low):.1f}"
    )

# %%
# Nine of ten cars should be in their interval. The intervals of the boosted trees are narrower
# because they overfit.
#
# The plot
# --------
# The cars in the order of their prediction. The intervals of the mixture are wider for economical
# cars, whose consumption differs more.
import matplotlib.pyplot as plt

_, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
for ax, name in zip(axes, models, strict=True):
    order = predicted[name][:, 0].argsort()
    low, high = intervals[name][order].T
    ax.fill_between(range(len(y)), low, high, color="C0", alpha=0.3, label="90 % interval")
    ax.plot(predicted[name][order], color="C0", label="prediction")
    inside = (low < y[order]) & (y[order] < high)
    ax.scatter(np.flatnonzero(inside), y[order][inside], s=6, color="0.4", label="car")
    ax.scatter(np.flatnonzero(~inside), y[order][~inside], s=14, color="C3", label="outside")
    ax.set(title=f"{name}: {inside.mean():.0%} inside", xlabel="Cars, sorted by prediction")
axes[0].set(ylabel="Miles per gallon")
axes[0].legend(loc="upper left")
plt.show()

# %%
# One car: its prediction, and the quantiles of its distribution.
model = MoERegressor(random_state=0).fit(X, y)
car = X.tail(1).assign(Horsepower=np.nan)  # a missing number is no obstacle
print(car.T)
print(f"prediction {model.predict(car)[0]:.1f}")
levels = (0.05, 0.5, 0.95)
for level, quantile in zip(levels, model.predict_quantiles(car, levels)[0], strict=True):
    print(f"quantile {level:.2f}: {quantile:.1f}")

# %%
# The coverage is measured, not guaranteed; :doc:`/regression` has it for ten tables, and says where
# the widths come from.

# sphinx_gallery_thumbnail_path = "figures/plot_intervals_panel.png"
