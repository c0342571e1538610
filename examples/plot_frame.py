"""
A table from start to finish
============================

A data frame with categories, missing values and a date is fitted, compared with what one would use
otherwise, examined, and stored. The example takes about half a minute.
"""

# %%
# The frame
# ---------
# 333 penguins [#]_ of known sex, from `pip install palmerpenguins`: species and island are
# categories, some isotopes of carbon and nitrogen in the blood are missing, and of the date of the
# first egg the day of the year and the year are used. Female or male?
import pandas as pd
from palmerpenguins import load_penguins, load_penguins_raw

raw = load_penguins_raw()
penguins = load_penguins().assign(
    carbon=raw["Delta 13 C (o/oo)"],
    nitrogen=raw["Delta 15 N (o/oo)"],
    egg_day=pd.to_datetime(raw["Date Egg"]).dt.day_of_year,
)
penguins = penguins.dropna(subset=["sex"]).astype({"species": "category", "island": "category"})
X, y = penguins.drop(columns="sex"), penguins["sex"]
X.head(3).transpose()

# %%
# Compare
# -------
# The mixture takes the frame as it is. Logistic regression is given scaled numbers, means in place
# of missing values, and encoded categories. The log loss, which evaluates probabilities, is the
# mean of five folds.
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_moe import MoEClassifier

prepared = make_column_transformer(
    (OneHotEncoder(), make_column_selector(dtype_include="category")),
    (
        make_pipeline(SimpleImputer(), StandardScaler()),
        make_column_selector(dtype_include="number"),
    ),
)
models = {
    "mixture of experts": MoEClassifier(random_state=0),
    "logistic regression": make_pipeline(prepared, LogisticRegression()),
    "random forest": make_pipeline(prepared, RandomForestClassifier(random_state=0)),
    "boosted trees": HistGradientBoostingClassifier(random_state=0),
}
folds = StratifiedKFold(5, shuffle=True, random_state=0)
proba = {
    name: cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]
    for name, model in models.items()
}
is_male = y == "male"
for name, p in proba.items():
    accuracy = accuracy_score(is_male, p > 0.5)
    print(f"{name:20} accuracy {accuracy:.3f}, log loss {log_loss(is_male, p):.3f}")

# %%
# Look at the probabilities
# -------------------------
# Of the penguins with a predicted probability of 80 %, four of five should be male: on the diagonal
# predictions and frequencies are equal. Most penguins are in the outer two of five bins. In those
# between there are few (the numbers), so that the 95 % intervals of their shares are wide.
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import binomtest

_, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, layout="constrained")
for ax, name in zip(axes, ("mixture of experts", "boosted trees"), strict=True):
    bins = np.digitize(proba[name], [0.2, 0.4, 0.6, 0.8])
    ax.axline((0, 0), slope=1, color="0.6", linewidth=1)
    for k in np.unique(bins):
        own = is_male[bins == k]
        interval = binomtest(own.sum(), own.size).proportion_ci(method="wilson")
        mean, share = proba[name][bins == k].mean(), own.mean()
        ends = [[share - interval.low], [interval.high - share]]
        ax.errorbar(mean, share, yerr=ends, fmt="o", color="C0", capsize=3)
        ax.annotate(own.size, (mean, share), (7, -4), textcoords="offset points")
    ax.set(xlabel="Predicted probability of male", title=name, xlim=(-0.03, 1.1))
axes[0].set_ylabel("Share of males")
plt.show()

# %%
# The diagonal is in all intervals of the mixture. It is outside of the outer ones of the boosted
# trees, which are too sure there.
#
# Look at the model
# -----------------
# Which columns does it use? :func:`~sklearn.inspection.permutation_importance` shuffles one
# column after the other in penguins that were not trained on.
from sklearn.inspection import permutation_importance
from sklearn.model_selection import train_test_split

X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
clf = MoEClassifier(random_state=0).fit(X_train, y_train)
importance = permutation_importance(
    clf, X_test, y_test, scoring="neg_log_loss", n_repeats=10, random_state=0
)
order = importance.importances_mean.argsort()
_, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.plot(importance.importances[order], X.columns[order], "o", color="C0", alpha=0.4)
ax.grid(axis="x", color="0.9")
ax.set(xlabel="Log loss that shuffling the column costs")
plt.show()

# %%
# Have the experts specialized? The first line of the report says that the mixture is an ensemble,
# as by default on most tables: each kind of experts has one weight for all penguins. In other
# questions about them there are regimes: in bill depth against body mass the README finds two.
from sklearn_moe.metrics import specialization_report

report = specialization_report(clf, X_test, y_test)
print(report.verdict)

# %%
# Store it
# --------
# Stored and loaded again it predicts the same. :doc:`/saving` has safer formats, and ONNX for
# other languages.
from tempfile import TemporaryDirectory

import joblib

with TemporaryDirectory() as folder:
    joblib.dump(clf, f"{folder}/sex.joblib")
    again = joblib.load(f"{folder}/sex.joblib")
new = X_test.iloc[:3].assign(island=["Dream", None, "Elsewhere"])  # missing, and not seen before
print(again.predict_proba(new).round(2))

# %%
# .. [#] Gorman, Williams, Fraser (2014), `doi:10.1371/journal.pone.0090081
#    <https://doi.org/10.1371/journal.pone.0090081>`_; the data are in the public domain (CC0).

# sphinx_gallery_thumbnail_number = 2
