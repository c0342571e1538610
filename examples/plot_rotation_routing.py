"""
===================================
Rotated or not: what routes follow
===================================

CIFAR-10-Rotate is the image task of the paper: recognize images that are rotated by 30 degrees. The
original class of an image, one of ten, is a natural cluster that is not in the label. Does the
router follow it?

Call this file with ``--data FOLDER`` for images in ``FOLDER/train/<class>/*.jpg``, such as
those of CIFAR-10. Without it the example uses the handwritten digits of scikit-learn.
"""

# %%
# The task
# --------
# ``crop="inscribed"`` cuts out the largest square without the corners of a rotated image, and
# ``symmetric=True`` rotates one class to the left and the other to the right, so that neither black
# corners nor the smoothness of a rotated image reveal the label.

import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits

from sklearn_moe.datasets import load_image_folder, make_rotation_task

torch.set_num_threads(1)  # small networks gain nothing from a second thread

parser = argparse.ArgumentParser()
parser.add_argument("--data", help="folder with train/<class>/*.jpg")
parser.add_argument("--per-class", type=int, default=100)
options = parser.parse_args()

if options.data:
    images = load_image_folder(options.data, "train", max_per_class=options.per_class)
    images, classes, names = images.data, images.target, images.target_names
else:
    digits = load_digits()
    images = (digits.images[:, None] * 15).repeat(2, axis=2).repeat(2, axis=3).astype(np.uint8)
    classes, names = digits.target, None

# %%
# Both copies of an image must be on the same side of the split, so we split first.

from sklearn.model_selection import train_test_split

train, test, classes_train, classes_test = train_test_split(
    images, classes, test_size=0.4, stratify=classes, random_state=0
)
rule = {"crop": "inscribed", "symmetric": True, "random_state": 0}
X, y, _ = make_rotation_task(train, classes_train, **rule)
X_test, y_test, groups = make_rotation_task(test, classes_test, **rule)
print(X.shape, X_test.shape)

# %%
# A mixture of four small networks
# --------------------------------

from sklearn_moe import MoEClassifier

model = MoEClassifier(
    n_experts=4,
    expert="cnn",
    expert_width=16,
    balance="switch",
    batch_size=128,
    max_iter=15,
    random_state=0,
)
model.fit(X, y)
print(f"accuracy {model.score(X_test, y_test):.3f}")

# %%
# Which expert handles which class
# --------------------------------
# Rows are the original classes. If a row is darker in one column than the other rows, the router
# has found something that is related to the class. The entropy in the title is a summary, and the
# permutation test gives its value by chance.

import matplotlib.pyplot as plt

from sklearn_moe.inspection import RoutingDisplay
from sklearn_moe.metrics import dispatch_entropy_test

display = RoutingDisplay.from_estimator(model, X_test, groups, display_labels=names)
display.ax_.set(
    title=f"Test images: dispatch entropy {display.entropy:.3f}", ylabel="Original class"
)
experts = model.apply(X_test)
test = dispatch_entropy_test(groups, experts, random_state=0)
print(f"entropy {test.entropy:.3f}, by chance {test.null_mean:.3f}")
plt.show()
