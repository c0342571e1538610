"""
A router of your own
====================

A router gives every expert a score for a sample. Here is one that the library does not have: each
expert owns a *prototype*, a point in the space of the samples that is learned, and the score is
minus the squared distance to it. It is one class, and works in every search, clone and pickle. It
takes about ten seconds.
"""

# %%
# A disk in a square: left and right are the classes inside of it, below and above outside. No
# straight border separates inside from outside.
import numpy as np

rng = np.random.default_rng(0)


def draw(n_samples):
    """Return points and their class."""
    X = rng.uniform(-1, 1, size=(n_samples, 2))
    inside = np.hypot(*X.T) < 0.65
    return X, np.where(np.where(inside, X[:, 0], X[:, 1]) > 0, "yes", "no")


X, y = draw(2000)
X_test, y_test = draw(2000)

# %%
# A score network is a module from samples to (n_samples, n_experts), made by a callable of the
# shape of a sample and the number of experts. Its random initial weights come from `random_state`.
import torch


class Prototypes(torch.nn.Module):
    """Minus the squared distance to a learned point per expert, times a learned sharpness."""

    def __init__(self, input_shape, n_experts):
        super().__init__()
        self.points = torch.nn.Parameter(torch.randn(n_experts, *input_shape))
        self.sharpness = torch.nn.Parameter(torch.ones(n_experts))

    def forward(self, x):
        """Map samples to scores."""
        return -self.sharpness * torch.cdist(x, self.points).square()


# %%
# It stands where a name can stand, here in a search beside the linear router.
from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier

mixture = MoEClassifier(
    2,
    activation="linear",
    expert_loss_weight=0,
    router_learning_rate_init=0.1,
    max_iter=100,
    random_state=0,
)
search = GridSearchCV(mixture, {"router_network": ["linear", Prototypes]}, cv=3).fit(X, y)
for network, score in zip(
    search.cv_results_["param_router_network"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"{getattr(network, '__name__', network):12} {score:.3f}")

# %%
# What it found. Sharpness may differ from expert to expert, so the border between two of them is a
# circle.
import matplotlib.pyplot as plt

from sklearn_moe.inspection import DecisionRegionDisplay

clf = mixture.set_params(router_network=Prototypes).fit(X, y)
DecisionRegionDisplay.from_estimator(clf, X_test[:600], y_test[:600], grid_resolution=300)
plt.gca().set_title(f"Prototypes: {clf.score(X_test, y_test):.1%} right", pad=40)
plt.gca().set_box_aspect(1)
plt.show()

# %%
# A whole *rule*, who is chosen and how answers are combined, is a subclass of
# :class:`~sklearn_moe.nn.Router`: :doc:`/extend` has one, and experts, balances and losses.
