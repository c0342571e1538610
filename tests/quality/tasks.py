"""Tasks of the ledger: fits of the defaults, and what each row of data they have not seen loses.

A task yields an array of losses of rows for each of its fits, or of other units, such as
coefficients. Losses are positive, and less is better. Where the truth can be reached they are 1
plus the error, so that a change of rounding is none of a loss.
"""

from functools import cache, partial

import numpy as np
import pandas as pd
from made_up import counts, quadrants, shops, three_rules, two_lines, two_rules_of_classes
from scipy import stats
from sklearn import datasets, linear_model
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from sklearn_moe import MixtureClassifier, MixtureRegressor, MoEClassifier, MoERegressor
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.inspection import region_rules

TASKS = {}  # by family and name


# -- losses ------------------------------------------------------------------------------


def log_loss(model, X, y):
    proba = model.predict_proba(X)
    if y.ndim == 2:
        return -np.log(np.maximum(np.where(y, proba, 1 - proba), 1e-15)).mean(axis=1)
    return -np.log(np.maximum(proba[np.arange(len(y)), np.searchsorted(model.classes_, y)], 1e-15))


def squares(model, X, y):
    """Return squared errors over the variance: their mean is 1 - R2."""
    errors = (model.predict(X) - y) / np.std(y, axis=0)
    return (errors**2).reshape(len(y), -1).mean(axis=1)


def absolute(model, X, y):
    return np.abs(model.predict(X) - y) / np.std(y)


def deviance(model, X, y):
    mean = model.predict(X)
    return 2 * (mean - y + np.where(y > 0, y * np.log(np.maximum(y, 1) / mean), 0))


def inverse_likelihood(model, X, y):
    """Return the inverse of the geometric mean of the density of parts of the rows."""
    return np.exp([-part.mean() for part in np.array_split(model.score_samples(X, y), 10)])


def interval_score(model, X, y):
    """Return the width of intervals of 90 %, and twenty times what lies outside of them."""
    low, high = model.predict_quantiles(X, [0.05, 0.95]).T
    return (high - low + 20 * np.maximum(np.maximum(low - y, y - high), 0)) / np.std(y)


def coverage(model, X, y):
    """Return how far from 90 % the share of the rows in intervals of 90 % is, for parts of them."""
    low, high = model.predict_quantiles(X, [0.05, 0.95]).T
    held = np.array_split((low <= y) & (y <= high), 5)
    return np.array([0.2 + abs(part.mean() - 0.9) for part in held])


# -- data --------------------------------------------------------------------------------


def folds(load, most=600):
    """Yield the training and test rows of a table of scikit-learn."""
    X, y = (part[:most] for part in load(return_X_y=True))
    is_class = len(np.unique(y)) < 20
    splitter = (StratifiedKFold if is_class else KFold)(3, shuffle=True, random_state=0)
    for train, test in splitter.split(X, y):
        yield X[train], y[train], X[test], y[test]


def draws(draw, n_train=300, n_test=1000, seeds=3):
    """Yield training rows of a generator and new ones."""
    for seed in range(seeds):
        X, y = draw(n_train + n_test, seed)[:2]
        yield X[:n_train], y[:n_train], X[n_train:], y[n_train:]


def rings(n, seed):
    return datasets.make_gaussian_quantiles(n_samples=n, n_features=4, random_state=seed)


def five_classes(n, seed):
    options = {"n_informative": 5, "n_classes": 5, "flip_y": 0.05, "class_sep": 1.5}
    X, y = datasets.make_classification(3000, 8, random_state=0, **options)
    rows = np.random.default_rng(seed).permutation(3000)[:n]
    return X[rows], y[rows]


def rare_class(n, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    return X, (X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=n) > 2.5).astype(int)


def friedman(number, noise, n, seed):
    return getattr(datasets, f"make_friedman{number}")(n, noise=noise, random_state=seed)


def by_seed(draw, n, seed):
    return draw(seed, n)


def of_values(sizes, kind, n, seed):
    """Return columns of few values, or a category and a number, and an effect of each value."""
    effects = np.random.default_rng(0).normal(size=sizes)
    rng = np.random.default_rng(seed + 1)
    codes = tuple(rng.integers(size, size=n) for size in sizes)
    y = effects[codes] + 0.6 * rng.normal(size=n)
    if kind == "category":
        X = pd.DataFrame({"category": [f"c{code}" for code in codes[0]], "x": rng.normal(size=n)})
        return X, y + X["x"].to_numpy()
    return np.column_stack(codes).astype(float), (y > 0).astype(int) if kind == "class" else y


def several(kind, n, seed):
    X, y = datasets.make_friedman1(n, 6, noise=1, random_state=seed)
    Y = np.column_stack([y, 20 * X[:, 0] * X[:, 1], 10 * X[:, 2] - y])
    return X, (Y > [14, 5, -8]).astype(int) if kind == "labels" else Y


def rates(n, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    return X, rng.poisson(np.exp(0.5 + 0.6 * X[:, 0] - 0.4 * X[:, 1] * (X[:, 2] > 0))).astype(float)


def widening(n, seed):
    """Return numbers whose deviation grows with a column."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, 3))
    return X, np.sin(6 * X[:, 0]) + (0.1 + X[:, 1]) * rng.normal(size=n)


def steps(n, seed):
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, 2))
    return X, np.where(X[:, 0] > 0.5, 5, -5) + rng.normal(size=n)


def other_units(n, seed):
    X, y, _ = two_lines(n, seed)
    return X * [1e-6, 1e8], y


def pictures(n, seed):
    """Return bytes in which the place of a square says the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    X = rng.integers(40, 160, (n, 3, 9, 9))
    for x, place in zip(X, y, strict=True):
        x[:, 3 * place : 3 * place + 3, 3:6] += 30
    return X.astype(np.uint8), y


def patches(setting, n, seed):
    return make_cluster_patches(n, random_state=seed, **PAPER_SETTINGS[setting])


# -- fits --------------------------------------------------------------------------------


def add(family, name, model, rows, *losses):
    """Add a task for each loss of the same fits; the model is a function of the seed."""

    @cache
    def fitted():
        parts = enumerate(rows())
        return [(model(random_state=k).fit(X, y), *new) for k, (X, y, *new) in parts]

    for loss in losses:
        label = f"{name}, {loss.__name__}" if len(losses) > 1 else name
        TASKS[f"{family}: {label}"] = lambda loss=loss: [loss(*fit) for fit in fitted()]


def weighted():
    """Yield losses where half of the rows follow another rule, and have little weight."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X, wrong = rng.uniform(size=(1300, 3)), rng.random(300) < 0.5
        y = (
            4 * (X[:, 0] > 0.3) * (X[:, 1] > 0.6)
            + 2 * (X[:, 2] > 0.5)
            + 0.3 * rng.normal(size=1300)
        )
        seen = np.where(wrong, 6 - y[:300], y[:300])
        for expert in ("auto", "trees"):
            model = MoERegressor(expert=expert, random_state=seed)
            model.fit(X[:300], seen, np.where(wrong, 0.007, 1))
            yield squares(model, X[300:], y[300:])


def in_chunks():
    """Yield losses of models that see their rows in chunks, each of them three times."""
    for seed in range(2):
        X, y = five_classes(1600, seed)
        model = MoEClassifier(random_state=seed)
        for rows in [*np.array_split(np.arange(600), 6)] * 3:
            model.partial_fit(X[rows], y[rows], classes=range(5))
        yield log_loss(model, X[600:], y[600:])


def of_columns(columns, model):
    chosen = make_column_transformer((make_pipeline(SimpleImputer(), StandardScaler()), columns))
    return make_pipeline(chosen, model)


def trust_map(seed):
    """Yield losses of a stack of models of which one misses its columns in a third of the rows."""
    X, y = datasets.load_breast_cancer(return_X_y=True, as_frame=True)
    rng, worst = np.random.default_rng(seed), [name for name in X if name.startswith("worst")]
    X.loc[rng.uniform(size=len(X)) < 1 / 3, worst] = np.nan
    errors = [name for name in X if name.endswith("error")]
    models = [of_columns(worst, LogisticRegression()), of_columns(errors, GaussianNB())]
    forest = RandomForestClassifier(30, random_state=0)
    models.append(of_columns(["mean radius", "mean texture"], forest))
    train, test = np.split(rng.permutation(len(X)), [340])
    stack = MixtureClassifier(models, method="stack", random_state=seed)
    yield log_loss(stack.fit(X.iloc[train], y.iloc[train]), X.iloc[test], y.to_numpy()[test])


def trusted_by_region(seed):
    """Yield losses of a stack of models each of which is right where the other is wrong."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(2000, 3))
    odds = 5 * np.where(X[:, 2] > 0, X[:, 0], X[:, 1])
    y = (rng.random(2000) < 1 / (1 + np.exp(-odds))).astype(int)
    models = [of_columns([k], LogisticRegression()) for k in (0, 1)]
    stack = MixtureClassifier(models, method="stack", random_state=seed)
    yield log_loss(stack.fit(X[:400], y[:400]), X[400:], y[400:])


def stack_of_numbers(random_state):
    models = [Ridge(), DecisionTreeRegressor(min_samples_leaf=5, random_state=0)]
    return MixtureRegressor(models, method="stack", random_state=random_state)


def code_errors():
    """Yield 1 plus how far rules as Python are from the model, in deviations of its predictions."""
    for seed in range(3):
        X, y = shops(500, seed, ("shop", "flat", "barn", "mill"))
        X.loc[3::11, "kind"] = None
        model = MixtureRegressor(n_components="auto", random_state=seed).fit(X[:300], y[:300])
        scope, expected = {}, model.predict(X)
        exec(region_rules(model, X[:300], y[:300]).to_python(), scope)
        yield 1 + np.abs(scope["predict"](X) - expected) / expected.std()


def half_widths(power, expert):
    """Yield 1 plus the logarithm of half widths over those by a sandwich, 3 where there is none."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(300, 2))
        mean = np.exp(2 + 0.5 * X[:, 0])
        y = [rng.normal(mean), rng.poisson(mean), rng.gamma(4, mean / 4)][power]
        model = MixtureRegressor(expert, 1, random_state=0).fit(X, y)
        rules, mean, design = region_rules(model, X, y), model.predict(X), np.c_[X, np.ones(300)]
        score = (y - mean) * mean ** (1 - power) if power else y - mean
        curvature = mean ** (2 - power) if power else np.ones(300)
        inverse = np.linalg.inv(design.T * curvature @ design)
        leverage = curvature * (design @ inverse * design).sum(axis=1)
        variance = (design @ inverse).T ** 2 @ (score * (1 + leverage)) ** 2
        places = [rules.terms.index(name) for name in ("x0", "x1", "intercept")]
        ratio = rules.half_width[0, places] / stats.t.ppf(0.975, 297) / np.sqrt(variance)
        yield 1 + np.nan_to_num(np.abs(np.log(ratio)), nan=2)


def after_components(model, random_state):
    return make_pipeline(StandardScaler(), PCA(6), model(random_state=random_state))


# -- the tasks ---------------------------------------------------------------------------

CLASSES = {
    "iris": partial(folds, datasets.load_iris),
    "wine": partial(folds, datasets.load_wine),
    "breast cancer": partial(folds, datasets.load_breast_cancer),
    "digits": partial(folds, datasets.load_digits, 400),
    "rings": partial(draws, rings, seeds=2),
    "five classes": partial(draws, five_classes),
    "a rare class": partial(draws, rare_class),
    "two rules": partial(draws, two_rules_of_classes),
}
NUMBERS = {
    "diabetes": partial(folds, datasets.load_diabetes),
    "Friedman 1": partial(draws, partial(friedman, 1, 1), 200),
    "Friedman 2": partial(draws, partial(friedman, 2, 100)),
    "Friedman 3": partial(draws, partial(friedman, 3, 0.1), seeds=2),
    "three rules": partial(draws, partial(by_seed, three_rules), seeds=2),
    "quadrants": partial(draws, partial(by_seed, quadrants), seeds=2),
    "steps": partial(draws, steps, seeds=2),
}
ONE = {"n_experts": 1}
TRAINED = {"n_experts": 3, "router": "soft"}
for tables, MoE, loss in ((CLASSES, MoEClassifier, log_loss), (NUMBERS, MoERegressor, squares)):
    kind = "classes" if tables is CLASSES else "numbers"
    for name, rows in tables.items():
        add(f"pools of {kind}", name, MoE, rows, loss)
        if name not in ("iris", "digits", "two rules", "steps", "Friedman 3", "quadrants"):
            add("one expert", name, partial(MoE, **ONE), rows, loss)
            add("trained mixtures", name, partial(MoE, **TRAINED), rows, loss)

wide = partial(draws, widening, n_test=2000)
of_counts = partial(MoERegressor, loss="poisson")
gaussian, median = (partial(MoERegressor, loss=name) for name in ("gaussian", "absolute_error"))
add("losses", "counts", of_counts, partial(draws, rates), deviance, inverse_likelihood)
add("losses", "Gaussian", gaussian, wide, inverse_likelihood)
add("losses", "absolute", median, NUMBERS["diabetes"], absolute)
labels, outputs = (partial(several, kind) for kind in ("labels", "outputs"))
add("losses", "labels", MoEClassifier, partial(draws, labels, 200), log_loss)
add("losses", "outputs", MoERegressor, partial(draws, outputs, 200, seeds=2), squares)
TASKS["losses: weights"] = weighted
for name, rows in (("made up", wide), ("diabetes", NUMBERS["diabetes"])):
    add("intervals", name, MoERegressor, rows, interval_score, coverage, inverse_likelihood)

for name, sizes, kind, n in (
    ("hours", (24,), "number", 600),
    ("weekday and hour", (7, 24), "number", 1200),
    ("300 values", (300,), "number", 2000),
    ("30 categories", (30,), "category", 200),
    ("500 categories", (500,), "category", 2000),
):
    rows = partial(draws, partial(of_values, sizes, kind), n, seeds=2)
    add("repeated values", name, MoERegressor, rows, squares)
rows = partial(draws, partial(of_values, (24,), "class"), 600, seeds=2)
add("repeated values", "classes by hour", MoEClassifier, rows, log_loss)

for seed in (9, 10, 11):
    TASKS[f"stacks: trust map {seed}"] = partial(trust_map, seed)
TASKS["stacks: trusted by region"] = partial(trusted_by_region, 0)
add("stacks", "quadrants", stack_of_numbers, NUMBERS["quadrants"], squares)

line, two = LinearRegression(), {"n_components": 2, "gate": None, "n_init": 3}
exact = {"alpha": 0, "max_iter": 1000, "tol": 1e-8}
rate, gamma = linear_model.PoissonRegressor(**exact), linear_model.GammaRegressor(**exact)
for name, draw, expert in (
    ("two lines", two_lines, line),
    ("two lines in other units", other_units, line),
    ("Poisson", counts, rate),
):
    model = partial(MixtureRegressor, expert, **two)
    add("mixtures", name, model, partial(draws, draw), inverse_likelihood)
for label, options in (("", {}), (", auto", {"n_components": "auto"})):
    classes, numbers = (partial(kind, **options) for kind in (MixtureClassifier, MixtureRegressor))
    add("mixtures", f"two rules{label}", classes, CLASSES["two rules"], log_loss)
    for name in ("three rules", "quadrants", "steps"):
        add("mixtures", f"{name}{label}", numbers, NUMBERS[name], squares)

add("mixtures", "diabetes, auto", numbers, NUMBERS["diabetes"], squares)

TASKS["rules: Python"] = code_errors
for power, (name, expert) in enumerate([("linear", line), ("Poisson", rate), ("gamma", gamma)]):
    TASKS[f"rules: half widths, {name}"] = partial(half_widths, power, expert)

for setting in (1, 2, 3, 4):
    rows = partial(draws, partial(patches, setting), 400, 500, 1)
    add("patches", f"setting {setting}", partial(MoEClassifier, n_experts=4), rows, log_loss)
for name, options in (("trunk", {}), ("no trunk", {"trunk": None, "expert": "cnn"})):
    model = partial(MoEClassifier, n_experts=3, max_iter=20, **options)
    add("images", name, model, partial(draws, pictures, 150, 500, 2), log_loss)

for name, model, rows, loss in (
    ("components", MoEClassifier, CLASSES["breast cancer"], log_loss),
    ("components of numbers", MoERegressor, NUMBERS["diabetes"], squares),
):
    add("pipelines", name, partial(after_components, model), rows, loss)
TASKS["pipelines: chunks"] = in_chunks
