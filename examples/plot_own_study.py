"""
A study of your own
===================

The experiments of the paper are data: an experiment of your own is a copy with some values changed.
Here the mixture of nonlinear experts of Table 1 gets other routers, in ten lines.
"""

# %%
# A copy of Table 1
# -----------------
# An experiment consists of problems, models and a grid of parameters. We use setting 1, with fewer
# samples and steps to save time, and vary the router.

from dataclasses import replace
from tempfile import mkdtemp

from sklearn_moe.paper import Problem, get_experiment, paper_classifier, run_experiment

study = replace(
    get_experiment("table1"),
    title="Setting 1 with other routers",
    problems=(Problem(1, n_train=2000, n_test=2000),),
    models={"mixture cubic": paper_classifier("paper", max_iter=300)},
    grid={"router": ["top1", "soft", "random"]},
    published={},
    trace=None,
    findings=None,
)
out = mkdtemp()  # use a permanent folder: finished runs in it are not repeated
results = run_experiment(study, out, runs=3, progress=False)

# %%
# Results
# -------
# Each cell of the results has its runs, their mean and the 95 % interval of the mean.
# :func:`~sklearn_moe.paper.write_report` writes a page with the table and its figure.

for cell in results.cells:
    accuracy, entropy = cell.interval("accuracy"), cell.mean("entropy")
    print(
        f"{cell.labels['router']:8} {accuracy.mean:6.2f} % ({accuracy.low:.2f} to "
        f"{min(accuracy.high, 100):.2f}), dispatch entropy {entropy:.3f}"
    )

# %%
# Plot
# -----

import matplotlib.pyplot as plt

_, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for i, cell in enumerate(results.cells):
    ax.plot(cell.values("accuracy"), [i] * len(cell.runs), "o", color="C0", alpha=0.4)
    ax.plot(cell.mean("accuracy"), i, "|", color="black", markersize=16)
ax.legend(["one run", "mean of three"], loc="upper left")
ax.margins(0.1, 0.4)
ax.invert_yaxis()
ax.set(
    title=study.title,
    yticks=range(len(results.cells)),
    yticklabels=[cell.labels["router"] for cell in results.cells],
    xlabel="Test accuracy (%)",
    ylabel="Router",
)
plt.show()
