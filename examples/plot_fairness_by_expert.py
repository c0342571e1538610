"""
Which expert handles which group
================================

An accuracy of 90 % may be 97 % for some people and 70 % for others. A mixture shows more than a
single network: the expert of each sample is known, so errors can be counted by expert, and compared
with groups that the model does not know. The example takes about ten seconds.
"""

# %%
# Synthetic data about loans: whether employed people pay back depends on their income; for the
# self-employed it depends on savings minus income, with more noise. `group` is not a column of the
# table.
import numpy as np
import pandas as pd

rng = np.random.default_rng(0)


def draw(n_samples):
    """Return a table, whether a loan was paid back, and the group of each applicant."""
    self_employed = rng.random(n_samples) < 0.4
    frame = pd.DataFrame(
        {
            "income": rng.normal(size=n_samples),
            "savings": rng.normal(size=n_samples),
            "hours": rng.normal(size=n_samples) + 4 * self_employed,
        }
    )
    decisive = np.where(self_employed, frame["savings"] - frame["income"], frame["income"])
    noise = np.where(self_employed, 0.5, 0.1) * rng.normal(size=n_samples)
    return frame, decisive + noise > 0, np.where(self_employed, "self-employed", "employed")


X, y, _ = draw(3000)
X_test, y_test, group = draw(3000)

# %%
# Three linear experts, each for its own part of the data.
from sklearn_moe import MoEClassifier, RouterParams

clf = MoEClassifier(
    3,
    router=RouterParams(learning_rate=0.03),
    activation="linear",
    expert_loss_weight=0,
    max_iter=100,
    random_state=0,
).fit(X, y)
print(f"accuracy {clf.score(X_test, y_test):.3f}")

# %%
# The accuracy by expert, and by expert and group. Without the groups we see which experts make the
# errors; with them we also see that one expert handles the employed and two the self-employed.
results = pd.DataFrame(
    {
        "expert": clf.apply(X_test),
        "group": group,
        "right": clf.predict(X_test) == y_test,
        "granted": clf.predict(X_test),
    }
)
print(results.groupby("expert")[["right", "granted"]].mean().round(3))
print(results.groupby(["expert", "group"])["right"].agg(["size", "mean"]).round(3))

# %%
# Expert 0 has learned a rule for the employed. The other two have not: one grants nearly all loans
# and one nearly none, and the router decides which self-employed applicant goes to which of them.
# Their errors are therefore errors of the router; both should be examined.
import matplotlib.pyplot as plt

counts = results.groupby(["expert", "group"]).size().unstack()
axes = counts.plot.bar(stacked=True, rot=0, figsize=(6, 3.6), color=["0.75", "0.4"])
for expert, right in results.groupby("expert")["right"].mean().items():
    axes.annotate(
        f"{right:.0%} right", (expert, counts.loc[expert].sum()), ha="center", va="bottom"
    )
axes.set(xlabel="expert", ylabel="applicants", title="Applicants and accuracy of each expert")
axes.margins(y=0.15)
axes.legend(title=None)
plt.tight_layout()
plt.show()
