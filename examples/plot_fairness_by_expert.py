"""
Who is served by which expert
=============================

An accuracy of 90 % may be 97 % for some people and 70 % for others. A mixture says more than a
single network here: which expert answers a sample is known, so its mistakes can be counted expert
by expert, and set beside groups that the model was not told of. It takes about ten seconds.
"""

# %%
# Loans, made up: most applicants pay back by their income. Of the self-employed it is savings that
# tell, a good year counts against them, and what is known of them is noisier. `group` is no column
# of the table.
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
# Three linear experts, each for its own part.
from sklearn_moe import MoEClassifier

clf = MoEClassifier(
    3,
    activation="linear",
    expert_loss_weight=0,
    router_learning_rate_init=0.03,
    max_iter=100,
    random_state=0,
).fit(X, y)
print(f"accuracy {clf.score(X_test, y_test):.3f}")

# %%
# The same accuracy by expert, and by expert and group. Where the mistakes are is visible without
# knowing the group; that one expert serves the employed and two the others is visible with it.
answers = pd.DataFrame(
    {
        "expert": clf.apply(X_test),
        "group": group,
        "right": clf.predict(X_test) == y_test,
        "granted": clf.predict(X_test),
    }
)
print(answers.groupby("expert")[["right", "granted"]].mean().round(3))
print(answers.groupby(["expert", "group"])["right"].agg(["size", "mean"]).round(3))

# %%
# Expert 0 has a rule for the employed. The other two hardly have one: one grants nearly all loans
# and one nearly none, and it is the router that tells the self-employed apart. So a mistake of
# theirs is a mistake of the router; the report on a mixture should look at both.
import matplotlib.pyplot as plt

counts = answers.groupby(["expert", "group"]).size().unstack()
axes = counts.plot.bar(stacked=True, rot=0, figsize=(6, 3.6), color=["0.75", "0.4"])
for expert, right in answers.groupby("expert")["right"].mean().items():
    axes.annotate(
        f"{right:.0%} right", (expert, counts.loc[expert].sum()), ha="center", va="bottom"
    )
axes.set(xlabel="expert", ylabel="applicants", title="Who answers whom, and how well")
axes.margins(y=0.15)
axes.legend(title=None)
plt.tight_layout()
plt.show()
