"""Warnings that point at the caller's line, not into a library."""

import contextlib
import sys
import warnings
from pathlib import Path

import joblib
import sklearn

__all__ = ["warn"]

_LIBRARIES = (
    *(str(Path(path).parent) for path in (__file__, sklearn.__file__, joblib.__file__)),
    contextlib.__file__,  # of decorators
)


def warn(message, category):
    """Warn as from the innermost frame outside of this package, scikit-learn and joblib."""
    frame, level = sys._getframe(1), 2
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
