"""Draw the figures of README.md and of the first page: `python docs/make_figures.py`.

The rules are those of the first code of README.md; each other figure is the first of an example.
Of some, one panel is also the thumbnail of the example in the gallery, where several are too small.
"""

import re
import runpy
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LinearRegression

from sklearn_moe.inspection import region_rules
from sklearn_moe.inspection._plotting import expert_colors

FIGURES = {"square": "plot_square", "penguins": "plot_regimes"}
PANELS = {  # of the first figure of an example
    **{"plot_intervals": 0, "plot_regimes": 1, "plot_trust": 1, "plot_square": 1},
    "plot_hierarchical_mixture": 0,
}
DOCS = Path(__file__).parent


def draw_rules():
    """Run the first code of README.md, and draw its two regimes with their words."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    first = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    made = {}
    with redirect_stdout(StringIO()):
        exec("\n".join(line[4:] for line in first.splitlines() if line[:3] in (">>>", "...")), made)
    model, X, y = made["model"], made["X"], made["y"]
    rules, mass, experts = region_rules(model, X, y), X["body_mass_g"], model.apply(X)
    _, ax = plt.subplots(figsize=(8.4, 4.4), layout="constrained")
    ends = np.array([mass.min(), mass.max()])
    line = LinearRegression().fit(mass.to_frame(), y)
    ax.plot(ends, line.intercept_ + line.coef_ * ends, c="0.45", ls="--", lw=2)
    ax.text(4800, 17.7, "one line for all penguins:\nheavier, flatter", c="0.35")
    for k, color in enumerate(expert_colors(model.n_components_)):
        own = X[experts == k]
        ax.scatter(own["body_mass_g"], y[own.index], color=color, s=16, linewidths=0)
        ends = own["body_mass_g"].quantile([0.01, 0.99]).to_numpy()
        path = own.iloc[:2].assign(**own.mean()).assign(body_mass_g=ends)
        ax.plot(ends, model.expert_predict(path)[:, k], color=0.7 * color, lw=3)
        slope = dict(zip(rules.terms, rules.coef[k], strict=True))["body_mass_g"]
        words = f"{rules.where[k][0].replace('<=', '≤')}:\n{1000 * slope:+.1f} mm for each kg"
        place = (6300, 19.2, "right") if slope < 0.001 else (4350, 21.2, "left")
        ax.text(*place[:2], words, ha=place[2], color=0.6 * color, weight="bold")
    ax.set(xlabel="Body mass (g)", ylabel="Bill depth (mm)", ylim=(12.8, 22.2))
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def main():
    """Draw the rules, run the examples, and keep their first figures."""
    draw_rules()
    plt.figure(1).savefig(DOCS / "figures" / "rules.png", dpi=110)
    plt.close("all")
    names = {example: name for name, example in FIGURES.items()}
    for example, panel in PANELS.items():
        with patch.object(plt, "show"):
            runpy.run_path(str(DOCS.parent / "examples" / f"{example}.py"))
        figure = plt.figure(1)
        if example in names:
            path = DOCS / "figures" / f"{names[example]}.png"
            figure.savefig(path, dpi=110, bbox_inches="tight")
        figure.draw_without_rendering()
        box = figure.axes[panel].get_tightbbox().transformed(figure.dpi_scale_trans.inverted())
        path = DOCS / "figures" / f"{example}_panel.png"
        figure.savefig(path, dpi=400 / box.width, bbox_inches=box.padded(0.05))
        plt.close("all")


if __name__ == "__main__":
    main()
