"""The parameters of the estimators, and what those that are "auto" become."""
