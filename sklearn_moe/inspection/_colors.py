"""Colors that tell many experts apart, for color-blind readers as far as possible, too."""

import numpy as np
from sklearn.utils._param_validation import validate_params

from .._validation import Count

__all__ = ["expert_colors"]

# Okabe and Ito's eight, then each the farthest from all before it, in OKLab, as seen with normal
# vision and by protanopes and deuteranopes (Machado et al. 2009). White and the darkest quarter
# were not for choice.
_COLORS = """
    0072B2 E69F00 56B4E9 D55E00 009E73 CC79A7 F0E442 000000
    78005A 7800FF 5A4B00 00F0C3 001EC3 8778FF C31E96 964B5A
    D2C3FF 96B487 FFC396 4B2D87 F00FD2 FF2D69 A5D25A E1A5B4
    FF78D2 00693C C30F3C 692D2D 005A78 4B3CD2 009600 782DA5
""".split()


@validate_params({"n_colors": [Count(1)]}, prefer_skip_nested_validation=True)
def expert_colors(n_colors):
    """Return one color per expert, the same for expert m in every picture.

    The first eight are those of Okabe and Ito, for every kind of color vision. Up to 32 they stay
    apart for normal vision and, less easily, for the red- and green-blind; from expert 32 on they
    repeat. Do not let color alone carry the message of more than eight.

    Parameters
    ----------
    n_colors : int
        Number of colors.

    Returns
    -------
    colors : ndarray of shape (n_colors, 3)
        Red, green and blue, from 0 to 1, as matplotlib takes them.

    See Also
    --------
    DecisionRegionDisplay : Samples in the colors of their experts.

    Examples
    --------
    >>> from sklearn_moe.inspection import expert_colors
    >>> expert_colors(3).round(2)
    array([[0.  , 0.45, 0.7 ],
           [0.9 , 0.62, 0.  ],
           [0.34, 0.71, 0.91]])
    """
    table = np.array([[int(color[i : i + 2], 16) for i in (0, 2, 4)] for color in _COLORS])
    return table[np.arange(n_colors) % len(table)] / 255
