"""What mixtures refuse: at once, by the name of what is wrong."""

import numpy as np
import pandas as pd
import pytest
from helpers import refuses
from made_up import two_lines
from scipy.sparse import csr_matrix
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.model_selection import RepeatedKFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import LinearSVC
from sklearn.utils._param_validation import make_constraint

from sklearn_moe import MixtureClassifier, MixtureRegressor, MoERegressor

RNG = np.random.default_rng(0)
X, NUMBERS, _ = two_lines(40)
COUNTS = RNG.poisson(3, size=40).astype(float)
CLASSES = np.where(X[:, 0] + RNG.normal(size=40) > 0, "yes", "no")
ONES = np.ones(40)
LONG = np.ones(41)
TOWNS = pd.DataFrame({"age": ONES, "city": CLASSES})
DATES = pd.DataFrame({"age": ONES, "day": pd.date_range("2024-01-01", periods=40)})
REPEATED = RepeatedKFold(random_state=0)
WEIGHT = {"sample_weight": np.arange(40)}
GROUPS = np.arange(40) % 3
LINE, LOGIT = LinearRegression(), LogisticRegression()
KNN, KERNELS = KNeighborsRegressor(), {"estimator": KernelRidge(), "n_components": "auto"}
of_numbers, of_classes = MixtureRegressor, MixtureClassifier


class Blank(LinearRegression):
    """A model that predicts nothing."""

    def predict(self, X):
        return np.full(len(X), np.nan)


class Infinite(LinearRegression):
    """A model that has lost its scale."""

    def predict(self, X):
        return np.full(len(X), np.inf)


def put(array, value):
    """Return a copy with one other value."""
    array = np.array(array, dtype=object if isinstance(value, str) else float)
    array[3] = value
    return array


def by(arguments=None, **options):
    return of_numbers(**options), arguments or {}


def classes_by(y=CLASSES, **options):
    return of_classes(**options), {"y": y}


def stack(arguments=None, models=(LINE, LINE), **options):
    return by(arguments, estimator=[*models], method="stack", **options)


def given(**arguments):
    return by(arguments)


# What is wrong: the mixture and what `fit` gets, and what the message says.
FITS = {
    "expert without weights": (by(estimator=KNN), "estimator=KNeighborsRegressor.*sample_weight"),
    "no probabilities": (classes_by(estimator=LinearSVC()), "estimator.*predict_proba"),
    "expert is a class": (by(estimator=LinearRegression), "estimator"),
    "model is a name": (by(estimator=["linear", LinearRegression()], method="stack"), "estimator"),
    "classifier of numbers": (by(estimator=LogisticRegression()), "estimator.*regressor"),
    "gate without probabilities": (by(gate=LinearSVC()), "gate.*predict_proba"),
    "gate without weights": (by(gate=KNeighborsClassifier()), "gate=.*sample_weight"),
    "list without a stack": (by(estimator=[LINE, LINE]), "estimator.*method='stack'"),
    "name nearly": (by(method="stak"), r"among \['em', 'stack'\].*Did you mean 'stack'\?"),
    "model of NaN": (by(estimator=Blank()), r"Blank\(.*predicted NaN or infinity for 40 of 40"),
    "model of infinity": (by(estimator=Infinite()), "Infinite.*infinity for 40 of 40"),
    "no columns": (given(X=TOWNS[[]]), "X has no columns"),
    "name of a parameter": (stack(models=[("gate", LINE)]), r"names conflict.*\['gate'\]"),
    "fold of one class": (
        (of_classes([LOGIT, LOGIT], method="stack"), {"y": GROUPS == 0, "groups": GROUPS}),
        "hold one class only.*groups",
    ),
    "stack of NaN": (stack(models=[Blank(), KNN]), "Blank.*NaN"),
    "folds of three groups": (stack({"groups": GROUPS}, cv=5), "cv=5 needs 5 groups.*got 3"),
    "one group": (stack({"groups": ONES}), "needs 2 groups or more.*got 1"),
    "columns of one name": (given(X=DATES.set_axis(["a", "a"], axis=1)), r"one name: \['a'\]"),
    "below 0": ((of_numbers(PoissonRegressor()), {"y": put(COUNTS, -1)}), "family='poisson'"),
    "broken counts": ((of_numbers(family="poisson"), {"y": put(COUNTS, 0.5)}), "family='poisson'"),
    "means": ((of_numbers(family="poisson"), {"y": COUNTS * (X[:, 0] > 0)}), "family=.*Poiss"),
    "stack of one": (by(method="stack"), "method='stack' needs a list of estimators"),
    "stack of a longer list": (stack(n_components=3), "got 2 and n_components=3"),
    "stack with starts": (stack(n_init=3), "n_init=3 has no effect with method='stack'"),
    "stack of repeated folds": (stack(cv=REPEATED), "cv=Repeated.*in several folds"),
    "stack without weights": (stack(WEIGHT, models=[KNN, KNN]), "KNeighbors.*sample_weight"),
    "one fold": (stack(cv=1), "cv|n_splits=1"),
    "fold of nothing": (stack(cv=[(np.arange(40), np.arange(0))]), "cv=.*every fold"),
    "none is large enough": (by(min_prior=0.9), "min_prior=0.9"),
    "number of kernels": (by(**KERNELS, n_init=1), "n_components='auto'.*score_samples"),
    "stack by auto": (stack(n_components="auto"), "n_components='auto'"),
    "negative weight": (given(sample_weight=put(ONES, -1)), "sample_weight"),
    "groups of other samples": (given(groups=LONG), "groups"),
    "y of other samples": (given(y=LONG), "y: .*inconsistent"),
    "y of NaN": (given(y=put(NUMBERS, np.nan)), "y contains NaN"),
    "y of text": (given(y=CLASSES), "y holds text .*use the classifier"),
    "class of None": (classes_by(np.where(CLASSES == "no", None, CLASSES)), "y holds None or NaN"),
    "one class": (classes_by(np.full(40, "yes")), "y holds one class only, 'yes'"),
    "y whose squares are too large": (given(y=put(NUMBERS, 1e200)), "y holds .*Divide y"),
    "X of NaN": (by({"X": put(X, np.nan)}, estimator=LINE), "X contains NaN"),
    "frame of text": (by({"X": TOWNS}, estimator=LINE), "string"),
    "dates": (given(X=DATES), "Column 'day' of X holds dates.*Replace it by numeric columns"),
}


@pytest.mark.parametrize("case", FITS)
def test_fit_refuses(case):
    (mixture, arguments), message = FITS[case]
    mixture.set_params(random_state=0)
    arguments = {"X": X, "y": NUMBERS} | arguments
    refuses(case, f"(?s){message}", mixture.fit, **arguments)
    assert not hasattr(mixture, "experts_")


VALUES = [-1, 0, 1, 1.5, np.nan, True, "nonsense", [LinearRegression()], object()]


@pytest.mark.parametrize("kind", [of_numbers, of_classes])
def test_what_a_parameter_does_not_take_is_named(kind):
    for name, allowed in kind._parameter_constraints.items():
        allowed = [*map(make_constraint, allowed)]
        refused = [v for v in VALUES if not any(c.is_satisfied_by(v) for c in allowed)]
        assert len(refused) > 1, name
        for value in refused:
            with pytest.raises(ValueError, match=f"'{name}' parameter|^{name}="):
                kind(**{name: value}).fit(X, CLASSES)


FITTED = of_numbers(random_state=0, n_init=2).fit(X, NUMBERS)
OF_COUNTS = of_numbers(PoissonRegressor(), n_components=1).fit(X, COUNTS)
OF_CLASSES = of_classes(n_components=1, random_state=0).fit(X, CLASSES)
CALLS = {
    "no parameter": (lambda: of_numbers(gates=2), r"'gates'.*Did you mean 'gate'\?"),
    "other estimator": (lambda: of_numbers(n_experts=3), r"Did you mean 'n_components'\?"),
    "other estimators": (lambda: MoERegressor(n_components=3), r"Did you mean 'n_experts'\?"),
    "a number for models": (lambda: of_numbers(3).fit(X, NUMBERS), "Did you mean n_components=3"),
    "y of NaN": (lambda: FITTED.score_samples(X, NUMBERS * np.nan), "y contains NaN"),
    "y of other samples": (lambda: FITTED.responsibilities(X, LONG), "y: .*inconsistent"),
    "class not seen": (lambda: OF_CLASSES.score_samples(X, put(CLASSES, "maybe")), "y.*'maybe'"),
    "no draw": (lambda: FITTED.sample_y(X, n_samples=0), "n_samples"),
    "counts below 0": (lambda: OF_COUNTS.score_samples(X, COUNTS - 100), "family='poisson'"),
    "sparse quantiles of NaN": (lambda: FITTED.predict(csr_matrix(X * np.nan)), "NaN"),
}
for q in (0, 1, -0.1, np.nan, [], [[0.1, 0.9]], "half", None):
    CALLS[f"quantile {q}"] = (lambda q=q: FITTED.predict_quantiles(X, q), r"\bq\b")


@pytest.mark.parametrize("case", CALLS)
def test_fitted_mixture_refuses(case):
    call, message = CALLS[case]
    refuses(case, f"(?s){message}", call)
