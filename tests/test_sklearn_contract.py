"""scikit-learn's own checks, without an exception and without a skip."""

import os
import re
import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.callbacks import FreezeRouter
from sklearn_moe.exceptions import ExpertCollapseWarning
from sklearn_moe.nn import BALANCES, LOSSES, NOISES, ROUTERS

BRIEF = {"n_experts": 3, "max_iter": 25}
NUMBERS = {"n_experts": 3, "max_iter": 100}  # the checks want some skill, and are few steps
OF_CLASSES = [name for name, spec in LOSSES.items() if spec.classes and name != "margin"]
OF_NUMBERS = [name for name, spec in LOSSES.items() if spec.regression]
# A vector is one patch: no other gate has a gradient, and there is no second one to pick.
NEEDS = {
    "patch_choice": {"gate": "sigmoid", "top_k": 1},
    "relu": {"max_iter": 100},  # slower than 25 epochs
}
ROUTING = [
    *({"router": router} | NEEDS.get(router, {}) for router in ROUTERS),
    *({"router": "top1", "balance": balance} for balance in BALANCES),
    *({"router": "top1", "router_noise": noise} for noise in NOISES),
    {"router": "top1", "router_noise": None, "max_iter": 100},  # finds its way more slowly
    {"router": "topk", "top_k": 2, "gate": "renormalized", "balance": "switch"},
    {"router_network": "mlp", "callbacks": [FreezeRouter(5)]},
]
SOLVING = [
    {"solver": "normalized_sgd", "learning_rate_init": 0.05},
    {"solver": "sgd", "momentum": 0.9, "learning_rate_init": 0.1, "activation": "tanh"},
    {"weight_decay": 1e-3},
]
FAST = [
    MoEClassifier(**BRIEF),
    MoEClassifier(n_experts=1, max_iter=50),
    MoERegressor(**NUMBERS),
    MoERegressor(loss="gaussian", **NUMBERS),
]
OTHERS = [
    MoEClassifier(),
    *(MoEClassifier(**(BRIEF | options)) for options in (*ROUTING, *SOLVING)),
    *(MoEClassifier(loss=loss, **BRIEF) for loss in OF_CLASSES),
    MoERegressor(),
    MoERegressor(**(NUMBERS | {"n_experts": 1})),
    *(MoERegressor(**(NUMBERS | {"router": name} | NEEDS.get(name, {}))) for name in ROUTERS),
    *(MoERegressor(loss=loss, **NUMBERS) for loss in OF_NUMBERS),
]


@pytest.fixture
def global_generators_untouched():
    """Replace our own fixture: scikit-learn's checks draw from NumPy's global generator."""


@parametrize_with_checks(FAST)
def test_check_estimator(estimator, check):
    with warnings.catch_warnings():
        # A few epochs on thirty samples converge nowhere, and the checks say nothing about it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", ExpertCollapseWarning)
        check(estimator)


@pytest.mark.slow
@pytest.mark.skipif(
    "SCIPY_ARRAY_API" not in os.environ,
    reason="SciPy reads SCIPY_ARRAY_API=1 at import; `make test` and .ci/run set it",
)
@pytest.mark.parametrize(
    "estimator", [*FAST, *OTHERS], ids=lambda e: re.sub(" at 0x.*?>", ">", str(e))
)
def test_nothing_fails_and_nothing_is_skipped(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_skip=None, on_fail=None)
    assert {result["status"] for result in results} == {"passed"}
