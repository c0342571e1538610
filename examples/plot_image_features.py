"""
=============================================
Few images: features first, then a mixture
=============================================

A few hundred images are too few to train a convolutional network. Use features then, which are
found without labels or were trained on other images: a transformer of
:mod:`sklearn_moe.preprocessing` turns the images into a table, and a mixture is fitted on it.
"""

# %%
# The images
# ----------
# Handwritten digits of scikit-learn, enlarged to 16 x 16 pixels.
# :doc:`/images` shows how to read images of your own from ``FOLDER/train/<class>/*.jpg``.

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

torch.set_num_threads(1)  # small networks gain nothing from a second thread

digits = load_digits()
X = (digits.images[:, None] * 15).repeat(2, axis=2).repeat(2, axis=3).astype(np.uint8)
X, X_test, y, y_test = train_test_split(
    X, digits.target, test_size=0.4, stratify=digits.target, random_state=0
)
print(X.shape, X_test.shape)

# %%
# Typical patches
# ---------------
# :class:`~sklearn_moe.preprocessing.PatchKMeansFeatures` clusters patches of the images, and
# describes an image by the clusters that occur in each quarter of it. The centers are edges, lines
# and corners in many directions.

from sklearn_moe.preprocessing import PatchKMeansFeatures

features = PatchKMeansFeatures(100, n_patches=20_000, random_state=0)
features.fit(X)
print(features.transform(X_test).shape)

import matplotlib.pyplot as plt

figure, axes = plt.subplots(4, 10, figsize=(6.4, 3.1), layout="constrained")
figure.suptitle("40 of the 100 typical patches; bright is more ink than in the mean", size=11)
for ax, center in zip(axes.flat, features.cluster_centers_, strict=False):
    center = center - center.min()
    ax.imshow((center / center.max()).transpose(1, 2, 0), cmap="gray")
    ax.set_axis_off()
plt.show()

# %%
# The search
# ----------
# The features are a step of a pipeline, and do not depend on the steps after them. With ``memory``
# they are computed once per fold, for all mixtures. In a larger search over the mixture alone it is
# simpler to compute them before: they use no labels, so that no information can leak.

from tempfile import TemporaryDirectory

from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from sklearn_moe import MoEClassifier, SolverParams

clf = MoEClassifier(
    max_iter=15,
    learning_rate_init=0.001,
    solver=SolverParams(weight_decay=0.3),
    random_state=0,
)
with TemporaryDirectory() as folder:
    model = Pipeline([("features", features), ("clf", clf)], memory=folder)
    search = GridSearchCV(model, {"clf__n_experts": [1, "auto"]}, cv=2)
    search.fit(X, y)
for n_experts, score in zip(
    search.cv_results_["param_clf__n_experts"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"n_experts={n_experts}: accuracy {score:.3f}")

# %%
# The mixture on images that were not trained on, and what the report says in its first line: which
# kinds of experts are worth most on such a table of many columns.

from sklearn_moe.metrics import specialization_report

model = Pipeline(model.steps).fit(X, y)
print(f"accuracy {model.score(X_test, y_test):.3f}")
print(specialization_report(model, X_test, y_test).verdict)

# %%
# With pretrained weights
# -----------------------
# Use :class:`~sklearn_moe.preprocessing.BackboneFeatures` as the first step. Named weights are
# downloaded once:
#
# .. code-block:: python
#
#    from sklearn_moe.preprocessing import BackboneFeatures
#
#    model.set_params(features=BackboneFeatures("resnet18", weights="DEFAULT"))
