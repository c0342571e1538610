"""Draw the figures of README.md and of the documentation: `python docs/make_figures.py [NAME ...]`.

Each is drawn by what the code of its page has made: README.md, "regimes", "trust", "tabular" and
"specialization"; the map of "regimes", which its code draws, is kept, too. The others are first
figures of examples; of some, one panel is also the thumbnail of the example in the gallery, where
several are too small. With names only these are drawn.
"""

import re
import runpy
import sys
from contextlib import redirect_stdout
from doctest import DocTestParser
from functools import partial
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from sklearn.model_selection import cross_val_predict

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.inspection._plotting import expert_colors

FIGURES = {"square": "plot_square", "penguins": "plot_regimes"}
PANELS = {  # of the first figure of an example
    **{"plot_intervals": 0, "plot_regimes": 1, "plot_trust": 1, "plot_square": 1},
}
DOCS = Path(__file__).parent
# Text of this size can be read where a figure is 400 pixels wide.
STYLE = {"font.size": 12, "axes.spines.top": False, "axes.spines.right": False}
GRAY, RED = "0.72", "#c1272d"


def run(page, until, begin=""):
    """Run the code of a page until it has made something of this name; return all it has made."""
    made, text = {}, (DOCS / page).read_text(encoding="utf-8")
    examples = DocTestParser().get_examples(text[text.index(begin) :])
    with redirect_stdout(StringIO()):
        for example in examples:
            exec(compile(example.source, page, "single"), made)
            if until in made:
                break
    return made


def draw_patches():
    """Draw what a network gets wrong of README.md's clusters, and which expert gets each."""
    made = run("../README.md", "search")
    X, y, clusters, experts = (made[name] for name in ("X", "y", "clusters", "experts"))
    *_, (features, _) = make_cluster_patches(
        len(X), return_dictionary=True, random_state=0, **PAPER_SETTINGS[1]
    )
    right = cross_val_predict(MoEClassifier(n_experts=1, random_state=0), X, y, cv=2) == y
    # Of each sample the strength of its own feature, and of the one that is noise.
    strengths, samples = X.sum(axis=1) @ features.T, np.arange(len(X))
    own = strengths[samples, clusters]
    strengths[samples, clusters] = 0
    noise = strengths[samples, np.abs(strengths).argmax(axis=1)]

    figure = plt.figure(figsize=(8.4, 4.7), layout="constrained")
    left, right_part = figure.subfigures(1, 2, wspace=0.05)
    left.suptitle(f"One network: {right.mean():.0%} right", weight="bold", size=14)
    right_part.suptitle("Eight experts: 100% right", weight="bold", size=14)
    for part in (left, right_part):
        axes = part.subplots(2, 2, sharex=True, sharey=True)
        part.supxlabel("feature of another cluster, of either sign", size=11, color="0.3")
        for k, ax in enumerate(axes.flat):
            its = clusters == k
            if part is left:
                title, dark, colors = f"cluster {k}", "0.3", np.where(right[its], "0.8", RED)
            else:
                (expert,) = np.unique(experts[its])
                color = expert_colors(expert + 1)[expert]
                title, dark, colors = f"cluster {k}: expert {expert}", 0.6 * color, [color]
            ax.set_title(title, size=11, color=dark, weight="normal" if part is left else "bold")
            ax.axhline(0, c="0.6", lw=1, zorder=0)
            ax.scatter(noise[its], own[its], c=colors, s=7, linewidths=0)
            ax.set(xticks=[], yticks=[], xlim=(-34, 34), ylim=(-25, 25))
            ax.spines[:].set(visible=True, color="0.85")
        if part is left:
            axes[0, 0].text(-32, -1.5, "wrong", color=RED, weight="bold", size=11, va="top")
            for ax in axes[:, 0]:
                ax.set_ylabel("own feature:\nclass 0       class 1", size=10, color="0.3")


def draw_rules():
    """Draw the two regimes of README.md by the line of code that it names."""
    made = run("../README.md", "model", begin="## Find regimes")
    code = re.search(r"`(region_rules\(.+\.plot\(\))`", (DOCS / "../README.md").read_text("utf-8"))
    return eval(code[1], made)


def draw_regimes():
    """Draw the power of the building against the temperature outside, regime by regime."""
    made = run("regimes.rst", "rules")
    model, rules, X, kw = made["model"], made["rules"], made["X"], made["kw"]
    experts = model.apply(X)
    _, ax = plt.subplots(figsize=(6.2, 4.4), layout="constrained")
    # From the one that falls most to the one that rises.
    places = [(-8, 385, "left"), (-8, -12, "left"), (34.5, 385, "right")]
    order = rules.coef[:, list(rules.terms).index("outside_c")].argsort()
    for k, (x, y, side) in zip(order, places, strict=True):
        own, color = X[experts == k], expert_colors(3)[k]
        ax.scatter(own["outside_c"], kw[experts == k], color=color, s=14, linewidths=0, alpha=0.8)
        slope = dict(zip(rules.terms, rules.coef[k], strict=True))["outside_c"]
        # A condition a line, or all alternatives in one.
        where = " or ".join(rules.where[k]).replace(" and ", "\nand ").replace("<=", "≤")
        words = f"{slope:+.1f} kW for each °C where\n{where}"
        ax.text(x, y, words, ha=side, va="top", color=0.6 * color, size=11)
    ax.set(xlabel="Outside (°C)", ylabel="Power (kW)", ylim=(-75, 390))


def draw_trust():
    """Draw what two models predict of new houses, where each is trusted and elsewhere."""
    made = run("trust.rst", "rules")
    stack, rules, X, price = made["stack"], made["rules"], made["new"], made["price"][400:]
    predicted, chosen = stack.expert_predict(X), stack.apply(X)
    _, axes = plt.subplots(1, 2, figsize=(6.6, 4.2), sharex=True, sharey=True, layout="compressed")
    for k, (ax, color) in enumerate(zip(axes, expert_colors(2), strict=True)):
        ax.axline((300, 300), slope=1, color="0.4", linewidth=1, zorder=0)
        for its, shade, label in (
            (chosen != k, GRAY, "elsewhere"),
            (chosen == k, color, "trusted"),
        ):
            ax.scatter(predicted[its, k], price[its], s=12, linewidths=0, color=shade, label=label)
        name = rules.expert_names[k].replace("Regressor", "")
        ax.set_title(f"{name}\ntrusted where {rules.where[k][0]}", size=12)
        ax.set(xlabel="Predicted price", aspect="equal")
    axes[0].set_ylabel("Price")
    axes[0].legend(framealpha=1, edgecolor="1", markerscale=2, handletextpad=0.1, loc="upper left")


def draw_specialization():
    """Draw which expert receives which cluster, and what another expert would do."""
    made = run("specialization.rst", "experts")
    report, matrix = made["report"], made["routing_matrix"]
    _, (left, right) = plt.subplots(
        1, 2, figsize=(7, 3.4), width_ratios=(3, 2), layout="constrained"
    )
    routed = matrix(made["clusters_test"], made["experts"], n_experts=8)
    left.imshow(routed, cmap="Blues", vmin=0, aspect="auto")
    for (cluster, expert), count in np.ndenumerate(routed):
        color = "white" if count > routed.max() / 2 else "black"
        left.text(expert, cluster, count, ha="center", va="center", color=color)
    left.set(xlabel="Expert", ylabel="Cluster", xticks=range(8), yticks=range(4))
    left.set_title("Samples by cluster and expert", size=12)
    accuracy = {
        "its own expert": report.first_score,
        "another expert": report.other_score,
        "most frequent class": report.chance_score,
    }
    bars = right.barh([*accuracy][::-1], [*accuracy.values()][::-1], color=[GRAY, GRAY, "#0072b2"])
    right.bar_label(bars, fmt="%.2f", padding=3)
    right.set(xlim=(0, 1.4), xticks=(0, 0.5, 1))
    right.set_title("Accuracy by", size=12)


def draw_tabular():
    """Draw the probability that the mixture predicts along the age, city by city."""
    made = run("tabular.rst", "clf")
    ages = np.linspace(15, 65, 200)
    _, ax = plt.subplots(figsize=(6.2, 3.6), layout="constrained")
    for city, style in (("Bonn", "-"), ("Rome", "--"), ("Oslo", "-")):
        rows = pd.DataFrame({"age": ages, "city": city})
        ax.plot(ages, made["clf"].predict_proba(rows)[:, 1], style, lw=2.5, label=city)
    ax.axvline(40, color="0.4", linewidth=1, linestyle=":")
    ax.set(xlabel="Age", ylabel="Predicted probability", yticks=(0, 0.5, 1))
    ax.legend(frameon=False, loc="center left")


def draw_mark():
    """Write the mark of the site: two regimes, each with a line of its own."""
    blue, orange = map(to_hex, expert_colors(2))
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">',
        f'<path d="M0 10 A10 10 0 0 1 10 0 H36 L28 64 H10 A10 10 0 0 1 0 54 Z" fill="{blue}"/>',
        f'<path d="M36 0 H54 A10 10 0 0 1 64 10 V54 A10 10 0 0 1 54 64 H28 Z" fill="{orange}"/>',
        '<path d="M11 47.6 L27 17.6 L21 14.4 L5 44.4 Z M43 16.3 L59 44.3 L53 47.7 L37 19.7 Z"'
        ' fill="white"/>',
        "</svg>",
    ]
    (DOCS / "static" / "mark.svg").write_text("\n".join(lines) + "\n", encoding="utf-8")


DRAWN = {
    "patches": draw_patches,
    **{"rules": draw_rules, "regimes": draw_regimes, "trust": draw_trust, "tabular": draw_tabular},
    "specialization": draw_specialization,
    # What the page itself draws.
    "regimes_map": partial(run, "regimes.rst", "shown"),
}


def keep_panel(example, panel):
    """Run an example, and keep one panel of its first figure as a thumbnail."""
    names = {example: name for name, example in FIGURES.items()}
    with patch.object(plt, "show"):
        runpy.run_path(str(DOCS.parent / "examples" / f"{example}.py"))
    figure = plt.figure(1)
    if example in names:
        path = DOCS / "figures" / f"{names[example]}.png"
        figure.savefig(path, dpi=110, bbox_inches="tight")
    # A panel alone has the labels that it shares with the first one.
    ax = figure.axes[panel]
    ax.set_ylabel(ax.get_ylabel() or figure.axes[0].get_ylabel())
    ax.tick_params(labelleft=True)
    figure.draw_without_rendering()
    box = ax.get_tightbbox().transformed(figure.dpi_scale_trans.inverted())
    path = DOCS / "figures" / f"{example}_panel.png"
    figure.savefig(path, dpi=400 / box.width, bbox_inches=box.padded(0.05))
    plt.close("all")


def main(names):
    """Draw figures of pages, run the examples, and keep their first figures."""
    draw_mark()
    for name in names or DRAWN:
        if name in DRAWN:
            with plt.rc_context(STYLE):
                DRAWN[name]()
                plt.savefig(DOCS / "figures" / f"{name}.png", dpi=130)
                plt.close("all")
    for example in names or PANELS:
        if example in PANELS:
            keep_panel(example, PANELS[example])


if __name__ == "__main__":
    main(sys.argv[1:])
