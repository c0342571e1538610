"""MoEClassifier, MoERegressor, and what both share: how they are fitted, what they can do then."""
