"""Mixtures of any scikit-learn estimators, fitted by expectation maximization."""

from ._classifier import MixtureClassifier
from ._regressor import MixtureRegressor

__all__ = ["MixtureClassifier", "MixtureRegressor"]
