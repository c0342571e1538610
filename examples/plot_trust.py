"""
Which model to trust where
==========================

Several models are at hand, and none is the best for all rows. The usual answer is a stack, whose
weights are the same for all rows. With `method="stack"` they may depend on the row, and are said in
words. The example asks three models about tumors, in a table from which some measurements are
missing. It takes less than a minute.
"""

# %%
# The table
# ---------
# 569 tumors [#]_ with 30 measurements of the nuclei of their cells: mean, error and worst value of
# ten properties. As if some samples came from a clinic with a simpler microscope, the worst values
# of a third of the rows are missing.
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
worst = [name for name in X if name.startswith("worst")]
X.loc[np.random.default_rng(0).uniform(size=len(X)) < 1 / 3, worst] = np.nan
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, random_state=0)

# %%
# The models
# ----------
# One knows the worst values, which say most. A forest knows the mean size and texture, and naive
# Bayes the errors. All are estimators of scikit-learn; each is fitted to all rows.
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def of(columns, model):
    """Return a pipeline of some columns."""
    chosen = make_column_transformer((make_pipeline(SimpleImputer(), StandardScaler()), columns))
    return make_pipeline(chosen, model)


models = {
    "logistic regression": of(worst, LogisticRegression()),
    "forest": of(["mean radius", "mean texture"], RandomForestClassifier(random_state=0)),
    "naive Bayes": of([name for name in X if name.endswith("error")], GaussianNB()),
}

# %%
# The map
# -------
# The weights are learned from what the models predict of rows of other folds, which they have not
# seen. Constant weights would be kept if nothing else were clearly better.
from sklearn_moe import MixtureClassifier
from sklearn_moe.inspection import region_rules

stack = MixtureClassifier(list(models.values()), 3, method="stack", random_state=0)
stack.fit(X_train, y_train)
rules = region_rules(stack, X_train, y_train)
print(rules)

# %%
# The errors are honest
# ---------------------
# What a model says of its training rows is too good: the forest is right about nearly all of them.
# Therefore the accuracies above are those by folds, and so are the regions. On the left they are
# beside those on new rows, of which there are few; on the right each row has the color of the model
# that counts most.
import matplotlib.pyplot as plt

new = region_rules(stack, X_test, y_test)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
names = [f"{name}\n{where}" for name in models for where in ("in its region", "elsewhere")]
by_folds, on_new = (np.c_[found.own_score, found.other_score].ravel() for found in (rules, new))
left.hlines(names, by_folds, on_new, color="0.7")
left.plot(by_folds, names, "o", label="by folds")
left.plot(on_new, names, "o", label="on new rows")
left.margins(x=0.08, y=0.08)
left.invert_yaxis()
left.set(title="Accuracy")
left.legend(loc=(0.03, 0.25))

missing, chosen = X["worst compactness"].isna(), stack.apply(X)
height = np.where(missing, np.random.default_rng(1).uniform(-0.25, -0.1, len(X)), X[worst[5]])
for k, name in enumerate(models):
    its = chosen == k
    right.scatter(X["mean radius"][its], height[its], color=f"C{k}", s=14, label=name)
right.axhline(-0.03, color="0.7", linewidth=0.8)
right.set(title="The model that counts most", xlabel="mean radius", ylabel="worst compactness")
right.set_yticks([-0.18, 0, 0.5, 1], ["missing", "0", "0.5", "1"])
right.legend()
plt.show()

# %%
# Few rows are in the region of the forest, about twenty of the new ones, so that its accuracy on
# them says little: with other splits it is above or below that of the folds.

# %%
# The probabilities
# -----------------
# The log loss on new rows of the stack, of one with constant weights, and of its parts. As a
# StackingClassifier adds log odds, a model that says nothing of a row does no harm there, and the
# losses of both stacks are alike; only one of them says which model to trust. Models that are wrong
# and sure of it, outside of their regions, are where it loses.
from sklearn.ensemble import StackingClassifier
from sklearn.metrics import log_loss

constant = StackingClassifier([*models.items()]).fit(X_train, y_train)
parts = dict(zip(models, np.moveaxis(stack.expert_proba(X_test), 1, 0), strict=True))
stacks = {"stack by row": stack, "StackingClassifier": constant}
parts = {name: model.predict_proba(X_test) for name, model in stacks.items()} | parts
for name, proba in parts.items():
    print(f"{name:20} {log_loss(y_test, proba):.3f}")

# %%
# The same everywhere
# -------------------
# In most tables nothing tells the rows apart on which one model is better than another. Then the
# weights are constant, and that is said, too. Here is the table without missing values:
X, y = load_breast_cancer(return_X_y=True, as_frame=True)
stack.fit(X, y)
print(str(region_rules(stack, X, y)).split("Change")[0])

# %%
# .. [#] W. Wolberg, O. Mangasarian, N. Street, W. Street (1995), Breast Cancer Wisconsin
#    (Diagnostic), part of scikit-learn.
#
# :ref:`which-model` has more: gates of your own, numbers in place of classes, and what was measured
# on 23 tables.

# sphinx_gallery_thumbnail_path = "figures/plot_trust_panel.png"
