"""Plots of the tables in this folder, drawn when the documentation is built."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from fill_tables import real_tables

COLORS = "#0072b2", "#d55e00"


def read(name):
    """Return a table with the accuracy and the entropy as numbers, without their deviations."""
    table = pd.read_csv(name)  # Sphinx draws in this folder
    for column in ("accuracy %", "dispatch entropy"):
        table[column] = table[column].str.split(" ").str[0].astype(float)
    return table


def routers():
    """Draw the error of every router on both settings."""
    errors = 100 - read("routers.csv").pivot(index="model", columns="setting", values="accuracy %")
    errors = errors.clip(lower=0.004).sort_values([2, 1], ascending=False)
    _, ax = plt.subplots(figsize=(7.5, 6.5), layout="constrained")
    for setting, color, marker in zip(errors, COLORS, "os", strict=True):
        style = {"color": color, "marker": marker, "label": f"setting {setting}", "zorder": 3}
        ax.scatter(errors[setting], range(len(errors)), **style)
    ax.hlines(range(len(errors)), errors.min(axis=1), errors.max(axis=1), color="0.8", zorder=2)
    ax.set(xscale="log", xlabel="error, %", yticks=range(len(errors)), yticklabels=errors.index)
    ax.set_xticks([0.004, 0.01, 0.1, 1, 10], ["0", "0.01", "0.1", "1", "10"])
    ax.minorticks_off()
    ax.grid(axis="x", color="0.9")
    ax.legend(loc="lower left")


def linear_experts():
    """Draw accuracy and entropy of linear and cubic experts, by their initial scale."""
    table = read("linear_experts.csv")
    _, axes = plt.subplots(1, 2, figsize=(7.5, 3.2), sharex=True, sharey=True, layout="constrained")
    for ax, (activation, rows) in zip(axes, table.groupby("activation", sort=False), strict=True):
        groups = rows.groupby("init_scale")
        for (scale, group), color, marker in zip(groups, COLORS, "os", strict=True):
            style = {"color": color, "marker": marker, "label": f"initial scale {scale:g}"}
            ax.scatter(group["dispatch entropy"], group["accuracy %"], alpha=0.8, **style)
        ax.set(title=f"{activation} experts", xlabel="dispatch entropy, nats")
        ax.grid(color="0.9")
    axes[0].set_ylabel("accuracy, %")
    axes[0].legend(loc="lower left")


def when():
    """Draw the log loss of the mixture over that of each other model, with intervals."""
    found = {
        name: [float(number) for number in re.findall(r"[\d.]+", cells[0])]
        for name, cells in dict(real_tables())["Classification"].items()
        if not name.startswith("MLP,")
    }
    found = dict(sorted(found.items(), key=lambda item: item[1]))
    ratio, low, high = np.transpose([*found.values()])
    _, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    ax.axvline(1, color="0.4", linewidth=1)
    errors = {"xerr": (ratio - low, high - ratio), "capsize": 4, "lw": 2}
    ax.errorbar(ratio, [*found], fmt="o", ms=8, color=COLORS[0], **errors)
    ax.set_xlabel("log loss of the mixture over that of the other model, 23 tables")
    ax.text(0.99, len(found) - 0.55, "mixture better", ha="right", size=11, color="0.35")
    ax.set_ylim(-0.5, len(found) - 0.1)
