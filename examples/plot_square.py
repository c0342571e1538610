"""
What a mixture of experts is
============================

A square has four parts, and a different rule holds in each of them. A single network bends one
boundary through all of them. In a mixture, a router decides which expert handles which point, and a
straight line is enough for each expert. The example takes about ten seconds.
"""

# %%
# The points
# ----------
# Each part is divided into two classes by a line. The models are not given the parts.
import numpy as np

rng = np.random.default_rng(0)


def draw(n_samples):
    """Return points, their class, and the part of the square that they lie in."""
    X = rng.uniform(-1, 1, size=(n_samples, 2))
    part = 2 * (X[:, 0] > 0) + (X[:, 1] > 0)
    angle = np.pi * np.array([0.1, 0.35, 0.6, 0.85])[part]
    from_middle = X - np.sign(X) / 2
    y = np.cos(angle) * from_middle[:, 0] + np.sin(angle) * from_middle[:, 1] > 0
    return X, np.where(y, "yes", "no"), part


X, y, _ = draw(2000)
X_test, y_test, part = draw(2000)

# %%
# One network, and eight linear experts
# -------------------------------------
# The network has two layers of 64 units and is trained until its loss no longer falls. The experts
# of the mixture are linear, and with `expert_loss_weight=0` each learns only from the points that
# it handles. Eight experts are more than are needed: with four, two of them may share a part at the
# start and never leave it.
from sklearn.neural_network import MLPClassifier

from sklearn_moe import MoEClassifier, RouterParams

network = MLPClassifier((64, 64), max_iter=1000, random_state=0).fit(X, y)
mixture = MoEClassifier(
    n_experts=8,
    activation="linear",
    expert_loss_weight=0,
    router=RouterParams(learning_rate=0.03),
    early_stopping=False,
    random_state=0,
).fit(X, y)
for name, model in {"one network": network, "mixture": mixture}.items():
    print(f"{name:12} accuracy {model.score(X_test, y_test):.3f} on other points")

# %%
# Both predict well. On the right, each point has the color of its expert: four experts have found
# the four parts, and within a color one straight line separates the classes. The other four handle
# no points.
import matplotlib.pyplot as plt
from sklearn.inspection import DecisionBoundaryDisplay

figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), layout="compressed")
options = {"response_method": "predict", "grid_resolution": 300, "eps": 0.1, "cmap": "Greys"}
models = {"One network": network, "Eight experts": mixture}
for ax, (name, model) in zip(axes, models.items(), strict=True):
    DecisionBoundaryDisplay.from_estimator(model, X_test, ax=ax, vmin=0, vmax=4, **options)
    for value, marker in (("no", "o"), ("yes", "x")):
        shown = X_test[y_test == value]
        experts = mixture.apply(shown) if model is mixture else np.full(len(shown), 7)
        style = {"cmap": "tab10", "vmin": 0, "vmax": 10, "marker": marker, "s": 12}
        ax.scatter(*shown.T, c=experts, **style)
    ax.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xticks=(-1, 0, 1), yticks=(-1, 0, 1), box_aspect=1)
    ax.set(xlabel="x0", ylabel="x1")
    ax.set_title(f"{name}: {model.score(X_test, y_test):.1%} right")
plt.show()

# %%
# For seeds 0 to 4 the mixture has an accuracy of .984 to .987, and its experts find the four parts
# each time. For seeds 0 to 2 the network has .973 to .983.
#
# What the experts know
# ---------------------
# The report says in its first line whether there are regimes. *Accuracy, other expert* is the
# accuracy if another expert handles each point: an expert knows only its own part. Here the parts
# are known: their entropy given the expert is 0 if each expert handles one. These parts are squares
# around their centers, so that k-means with four centers finds them, too, untrained (adjusted
# Rand index .96). For regimes that are no such groups of points see
# :ref:`sphx_glr_auto_examples_plot_regimes.py`.
from sklearn_moe.metrics import dispatch_entropy, specialization_report

print(specialization_report(mixture, X_test, y_test))
print(f"Entropy of the part: {dispatch_entropy(part, mixture.apply(X_test)):.2f}")

# sphinx_gallery_thumbnail_path = "figures/plot_square_panel.png"
