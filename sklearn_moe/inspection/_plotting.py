"""What the plots share: matplotlib, which is optional, axes, labels and colors."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

# The eight colors of Okabe and Ito, their two blues apart, then each the farthest from all before
# it in OKLab, for normal vision, protanopia and deuteranopia (Machado et al. 2009), without white
# and the darkest quarter.
_COLORS = """
    0072B2 E69F00 D55E00 56B4E9 009E73 CC79A7 F0E442 000000
    78005A 7800FF 5A4B00 00F0C3 001EC3 8778FF C31E96 964B5A
    D2C3FF 96B487 FFC396 4B2D87 F00FD2 FF2D69 A5D25A E1A5B4
    FF78D2 00693C C30F3C 692D2D 005A78 4B3CD2 009600 782DA5
""".split()


def panels(owner, ax, n_panels, height):
    """Return `n_panels` axes beside each other in a new figure, or `ax` alone."""
    if ax is None:
        # The error names what should be plotted and what to install.
        check_matplotlib_support(f"{type(owner).__name__}.plot")
        import matplotlib.pyplot as plt

        size = max(6.2, 4 * n_panels), height
        grid = {"layout": "constrained", "figsize": size, "squeeze": False}
        return plt.subplots(1, n_panels, **grid)[1][0]
    if n_panels > 1:
        raise ValueError(f"{n_panels} panels do not fit in one ax: leave ax out.")
    return [ax]


def as_text(label):
    """Return a label as text, with $ escaped, because matplotlib reads $...$ as a formula."""
    return str(label).replace("$", r"\$")


def expert_colors(n_colors):
    """Return red, green and blue of each expert, (n_colors, 3): the same color in every plot.

    Up to 32 can be told apart with normal vision and, less easily, with red-green blindness; from
    expert 32 on they repeat.
    """
    table = np.array([[int(color[i : i + 2], 16) for i in (0, 2, 4)] for color in _COLORS])
    return table[np.arange(n_colors) % len(table)] / 255
