"""
A table with regimes
====================

Prices follow one rule in the city and another in the country; a machine behaves differently when
it is warm. If a simple rule holds in each part of a table, but no simple rule in the whole table, a
mixture of experts finds the parts and the rules. The example takes about ten seconds.
"""

# %%
# A square with four parts, each divided into two classes by a line. The models are not given the
# parts.
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
# One line is not enough, and a network with 100 hidden units is better. Four *linear* experts are
# four lines, and the router learns where each of them holds. With `expert_loss_weight=0` an expert
# learns only its own part, see :doc:`/tabular`. The router's learning rate is larger than by
# default, so that it finds the parts early.
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from sklearn_moe import MoEClassifier, RouterParams

models = {
    "logistic regression": LogisticRegression(),
    "multilayer perceptron": MLPClassifier(max_iter=1000, random_state=0),
    "mixture of 4 linear experts": MoEClassifier(
        4,
        router=RouterParams(learning_rate=0.03),
        activation="linear",
        expert_loss_weight=0,
        random_state=0,
    ),
}
for name, model in models.items():
    model.fit(X, y)
    print(f"{name:28} {model.score(X_test, y_test):.3f}")

# %%
# On the left are the predictions of the single network. On the right every sample has the color of
# its expert: the experts have divided the square along its parts, and within each color the classes
# are separated by one straight line.
import matplotlib.pyplot as plt
from sklearn.inspection import DecisionBoundaryDisplay

from sklearn_moe.inspection import DecisionRegionDisplay

network, mixture = models["multilayer perceptron"], models["mixture of 4 linear experts"]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
DecisionBoundaryDisplay.from_estimator(
    network,
    X_test,
    ax=left,
    response_method="predict",
    grid_resolution=300,
    eps=0.1,
    cmap="Greys",
    vmin=0,
    vmax=4,
    xlabel="x0",
    ylabel="x1",
)
DecisionRegionDisplay.from_estimator(
    mixture, X_test[:600], y_test[:600], ax=right, grid_resolution=300
)
for ax, name, model in ((left, "One network", network), (right, "Four linear experts", mixture)):
    ax.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xticks=(-1, 0, 1), yticks=(-1, 0, 1), box_aspect=1)
    ax.set_title(f"{name}: {model.score(X_test, y_test):.1%} right", pad=40)
plt.show()

# %%
# Here the parts are known, and the report compares the routes with them, with chance, and with
# k-means. k-means is as good here, because the four squares are groups of points that it finds
# without `y`. It cannot find clusters that are not groups of points, see
# :ref:`sphx_glr_auto_examples_plot_what_experts_learned.py`. The report also shows that each expert
# knows only its own part: if another expert is used, half of the predictions are wrong.
from sklearn_moe.metrics import specialization_report

print(specialization_report(mixture, X_test, y_test, part, random_state=0))
