"""
Calibrated probabilities
========================

Predicted probabilities are calibrated if, for example, four of five samples with a predicted
probability of 80 % are of this class. A network that is trained to the end on few rows predicts
99 % too often. A mixture uses its out-of-bag loss to stop training before that. The example takes
about half a minute.
"""

# %%
# A table with two overlapping classes and 30 columns, of which 5 are informative.
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split

X, y = make_classification(
    6000, n_features=30, n_informative=5, n_redundant=5, flip_y=0.1, class_sep=0.8, random_state=0
)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=1500, random_state=0)

# %%
# The mixture, the same mixture without out-of-bag stopping, and a single network.
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from sklearn_moe import MoEClassifier

models = {
    "mixture of 8 experts": MoEClassifier(random_state=0),
    "all epochs": MoEClassifier(early_stopping=False, random_state=0),
    "one expert": MoEClassifier(1, random_state=0),
}
print(f"{'':22} accuracy  log loss  Brier")
for name, model in models.items():
    proba = model.fit(X_train, y_train).predict_proba(X_test)[:, 1]
    print(
        f"{name:22} {accuracy_score(y_test, proba > 0.5):8.3f} {log_loss(y_test, proba):9.3f} "
        f"{brier_score_loss(y_test, proba):6.3f}"
    )

# %%
# The curves compare predicted probabilities with observed frequencies: on the diagonal they are
# equal. Below are histograms of the predicted probabilities: a model that predicts only 0 and 1
# overfits the training rows.
import matplotlib.pyplot as plt
from sklearn.calibration import CalibrationDisplay

figure, (curves, counts) = plt.subplots(
    2, 1, figsize=(6, 7), height_ratios=(3, 1), sharex=True, layout="constrained"
)
for name, model in models.items():
    display = CalibrationDisplay.from_estimator(
        model, X_test, y_test, n_bins=10, name=name, ax=curves
    )
    counts.hist(display.y_prob, bins=30, range=(0, 1), histtype="step", linewidth=1.5)
curves.set(xlabel="", ylabel="observed frequency", title="Predicted and observed")
counts.set(xlabel="predicted probability", ylabel="samples")
plt.show()

# %%
# If this is not enough, scikit-learn's :class:`~sklearn.calibration.CalibratedClassifierCV` works
# with the mixture. See :doc:`/probabilities` for more.
