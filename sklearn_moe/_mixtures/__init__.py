"""Mixtures of any scikit-learn estimators, fitted by expectation maximization."""

from ._estimators import MixtureClassifier, MixtureRegressor

__all__ = ["MixtureClassifier", "MixtureRegressor"]
