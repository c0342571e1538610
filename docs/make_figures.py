"""Draw the figures of README.md and of the first page: `python docs/make_figures.py`.

Each is the first figure of an example.
"""

import runpy
from pathlib import Path
from unittest.mock import patch

import matplotlib.pyplot as plt

FIGURES = {"square": "plot_square", "penguins": "plot_regimes"}


def main():
    """Run the examples, and keep their first figures."""
    docs = Path(__file__).parent
    for name, example in FIGURES.items():
        with patch.object(plt, "show"):
            runpy.run_path(str(docs.parent / "examples" / f"{example}.py"))
        plt.figure(1).savefig(docs / "figures" / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close("all")


if __name__ == "__main__":
    main()
