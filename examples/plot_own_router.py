"""
A router of your own
====================

A router gives every expert a score for a sample. Here is a router that the library does not have:
each expert has a *prototype*, a learned point in the space of the samples, and the score is minus
the squared distance to it. It is a single class, and works in every search, clone and pickle. The
example takes about ten seconds.
"""

# %%
# A disk in a square. Inside the disk the two classes are left and right; outside they are below and
# above. No straight line separates inside and outside.
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
# A score network is a module that maps samples to (n_samples, n_experts). It is made by a callable
# with two arguments, the shape of a sample and the number of experts. Its random initial weights
# come from `random_state`.
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
# The class can be used like a name, here in a search together with the linear router.
from sklearn.model_selection import GridSearchCV

from sklearn_moe import MoEClassifier, RouterParams

mixture = MoEClassifier(
    2,
    router=RouterParams(learning_rate=0.1),
    activation="linear",
    expert_loss_weight=0,
    max_iter=100,
    random_state=0,
)
search = GridSearchCV(mixture, {"router__network": ["linear", Prototypes]}, cv=3).fit(X, y)
for network, score in zip(
    search.cv_results_["param_router__network"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"{getattr(network, '__name__', network):12} {score:.3f}")

# %%
# The result: the color is the expert, the marker the class. The sharpness may differ between
# experts, so that the border between two of them is a circle.
import matplotlib.pyplot as plt
from sklearn.inspection import DecisionBoundaryDisplay

clf = mixture.set_params(router__network=Prototypes).fit(X, y)
_, ax = plt.subplots()
options = {"response_method": "predict", "grid_resolution": 300, "eps": 0.1, "cmap": "Greys"}
DecisionBoundaryDisplay.from_estimator(clf, X_test, ax=ax, vmax=4, **options)
style = {"cmap": "tab10", "vmin": 0, "vmax": 10, "s": 12}
for value, marker in (("no", "o"), ("yes", "x")):
    shown = X_test[y_test == value]
    ax.scatter(*shown.T, c=clf.apply(shown), marker=marker, **style)
ax.set(xlabel="x0", ylabel="x1", box_aspect=1)
ax.set_title(f"Prototypes: {clf.score(X_test, y_test):.1%} right")
plt.show()

# %%
# To change how experts are chosen or how their outputs are combined, write a subclass of
# :class:`~sklearn_moe.nn.Router`. :doc:`/extend` has an example, and examples of experts, balances
# and losses.
