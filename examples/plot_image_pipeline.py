"""
====================
Images in a pipeline
====================

Images are arrays of shape (n_samples, n_channels, height, width). Transformers of
:mod:`sklearn_moe.preprocessing` prepare them in a pipeline, whose last step is a convolutional
network with a mixture of experts. A grid search over ``n_experts`` shows whether the mixture is
better than a single network.

Call this file with ``--data FOLDER`` for images in ``FOLDER/train/<class>/*.jpg``, such as
those of CIFAR-10. Without it the example uses the handwritten digits of scikit-learn, enlarged to
16 x 16 pixels.
"""

# %%
# The images
# ------------
# A few hundred images are enough to show how it works, but not for a good accuracy. The images
# stay uint8.

import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits

from sklearn_moe.datasets import load_image_folder

torch.set_num_threads(1)  # small networks gain nothing from a second thread

parser = argparse.ArgumentParser()
parser.add_argument("--data", help="folder with train/<class>/*.jpg")
parser.add_argument("--per-class", type=int, default=60)
options = parser.parse_args()

if options.data:
    X, y = load_image_folder(
        options.data, "train", max_per_class=options.per_class, return_X_y=True
    )
    title = "Images of the folder"
else:
    digits = load_digits()
    X = np.repeat(digits.images[:600, None] * 15, 3, axis=1).astype(np.uint8)
    X, y = X.repeat(2, axis=2).repeat(2, axis=3), digits.target[:600]
    title = "Digits"
print(title, X.shape, X.dtype)

# %%
# The pipeline
# ------------
# Cut out the middle and enlarge it again, as the paper does with CIFAR-10. The classifier
# standardizes the channels. Augmentation is only for training, so it is not a step but a parameter
# of the classifier: random shifts and mirror images, drawn anew for every image and batch from
# ``random_state``.

from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torchvision.transforms import v2

from sklearn_moe import MoEClassifier
from sklearn_moe.preprocessing import ImageTransform, RandomCropFlip

side = X.shape[2]
model = make_pipeline(
    ImageTransform(v2.Compose([v2.CenterCrop(side * 3 // 4), v2.Resize((side, side))])),
    MoEClassifier(
        train_transform=RandomCropFlip(padding=2) if options.data else None,
        batch_size=128,
        max_iter=10,
        random_state=0,
    ),
)

# %%
# The search
# ----------
# One expert is a single network without a router.

search = GridSearchCV(model, {"moeclassifier__n_experts": [1, 2, 4]}, cv=3, refit=False)
search.fit(X, y)

# %%
# Accuracy against the number of experts
# --------------------------------------
# All experts compute all images, after shared convolutions: more experts make the last layer
# wider. On 600 images the folds differ more than the numbers of experts: one expert is enough here.

import matplotlib.pyplot as plt

from sklearn_moe.inspection import ExpertCountDisplay

display = ExpertCountDisplay.from_search(search, show_folds=True)
display.ax_.set_title(f"{title}, {len(X)} images")
plt.show()
