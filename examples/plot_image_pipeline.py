"""
====================
Images in a pipeline
====================

Images are arrays of shape (n_samples, n_channels, height, width). Transformers of
:mod:`sklearn_moe.preprocessing` prepare them in a pipeline, whose last step is a convolutional
network with a mixture of experts. A grid search over ``n_experts`` shows whether the mixture is
better than a single network.
"""

# %%
# The images
# ------------
# Handwritten digits of scikit-learn, enlarged to 16 x 16 pixels, with three channels as photographs
# have. A few hundred images are enough to show how it works, but not for a good accuracy. They stay
# uint8. :doc:`/images` shows how to read images of your own from
# ``FOLDER/train/<class>/*.jpg``.

import numpy as np
import torch
from sklearn.datasets import load_digits

torch.set_num_threads(1)  # small networks gain nothing from a second thread

digits = load_digits()
X = np.repeat(digits.images[:600, None] * 15, 3, axis=1).astype(np.uint8)
X, y = X.repeat(2, axis=2).repeat(2, axis=3), digits.target[:600]
print(X.shape, X.dtype)

# %%
# The pipeline
# ------------
# Cut out the middle and enlarge it again, as the paper does with CIFAR-10. The classifier
# standardizes the channels. Augmentation is only for training, so it is not a step but a parameter
# of the classifier, ``train_transform``: :class:`~sklearn_moe.preprocessing.RandomCropFlip` draws
# shifts and mirror images anew for every image and batch. It is left out here, because mirrored
# digits are none.

from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torchvision.transforms import v2

from sklearn_moe import MoEClassifier

side = X.shape[2]
middle = v2.Compose([v2.CenterCrop(side * 3 // 4), v2.Resize((side, side))])


def enlarge(X):
    """Return the middle of each image, as large as the image was."""
    return middle(torch.from_numpy(X)).numpy()


model = make_pipeline(
    FunctionTransformer(enlarge),
    MoEClassifier(batch_size=128, max_iter=10, random_state=0),
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

results = search.cv_results_
counts = results["param_moeclassifier__n_experts"].astype(int)
_, ax = plt.subplots(figsize=(5.4, 3.8), layout="constrained")
for fold in range(search.n_splits_):
    scores = results[f"split{fold}_test_score"]
    ax.plot(counts, scores, ".-", color="0.75", label="a fold" if fold == 0 else None)
ax.plot(counts, results["mean_test_score"], "o-", label="mean of the folds")
ax.set_xscale("log", base=2)
ax.set_xticks(counts, counts)
ax.set(xlabel="Number of experts", ylabel="Accuracy on held-out digits", title=f"{len(X)} digits")
ax.legend(frameon=False)
plt.show()
